"""Which failed reads and writes are the user's to mend (exit 1), and which are bugs (exit 3)."""

from __future__ import annotations

import errno
import os
import ssl
import subprocess
import sys
from pathlib import Path
from typing import NoReturn

import pytest

from sdc.cli import patches
from sdc.ground import paths, storage
from sdc.ground.errors import FatalError
from sdc.ground.files import made, making, replacing, rewrite, sweep, write_text
from tests import rights
from tests.conftest import Sdc

NUMBERS = (
    *("EACCES", "EPERM", "EROFS", "ENOSPC", "EDQUOT", "EFBIG", "ENAMETOOLONG", "EISDIR", "ENOTDIR", "ELOOP"),
    *("EEXIST", "ENOENT", "EIO", "ESTALE", "EBUSY", "ENOTCONN", "ETIMEDOUT", "EMFILE", "EINVAL"),
)


@pytest.fixture
def failing(monkeypatch: pytest.MonkeyPatch) -> object:
    """`failing(error)`: from now on, `sdc status` ends with this error."""

    def arrange(error: Exception) -> None:
        def fail(*_: object) -> NoReturn:
            raise error

        monkeypatch.setattr(patches.clones, "statuses", fail)

    return arrange


def of(name: str, path: object = None) -> OSError:
    number = getattr(errno, name)
    return OSError(number, os.strerror(number), *([str(path)] if path else []))


@pytest.mark.parametrize("name", NUMBERS)
def test_of_a_path_that_the_user_chose_every_error_is_expected(name: str, failing: object, sdc: Sdc) -> None:
    failing(of(name, paths.upstream() / "dm" / "main_DM.py"))  # type: ignore[operator]
    outcome = sdc("status", "--json")
    assert outcome.code == 1, outcome
    assert f"{paths.upstream()}/dm" in outcome.json["error"]
    assert outcome.json["error"].endswith("SDC_UPSTREAM=DIR")
    assert "bug" not in outcome.err


@pytest.mark.parametrize(
    "path", [None, "/somewhere/else", paths.PACKAGE / "cli" / "show.py", paths.PATCHES / "x.patch"]
)
@pytest.mark.parametrize("name", ["EACCES", "ENOENT", "EBADF", "EROFS"])
def test_of_any_other_path_an_error_is_a_bug(name: str, path: object, failing: object, sdc: Sdc) -> None:
    failing(of(name, path))  # type: ignore[operator]
    outcome = sdc("status")
    assert outcome.code == 3
    assert "This is a bug in sdc" in outcome.err


@pytest.mark.parametrize("name", ["ENOSPC", "EDQUOT", "EFBIG", "EIO", "ESTALE"])
@pytest.mark.parametrize("path", [None, "/somewhere/else"])
def test_a_disk_that_fails_is_no_bug_wherever(name: str, path: object, failing: object, sdc: Sdc) -> None:
    failing(of(name, path))  # type: ignore[operator]
    outcome = sdc("status", "--json")
    assert (outcome.code, "bug" in outcome.err) == (1, False)


@pytest.mark.parametrize(
    ("words", "path", "way"),
    [
        (("--runs", "mine"), "mine/dm-digits/cell.json", "--runs DIR"),
        (("--runs=mine",), "mine/dm-digits/cell.json", "--runs DIR"),
        ((), "runs/dm-digits/cell.json", "--runs DIR"),
        (("--to", "fork"), "fork/main_DM.py", "--to DIR"),
        (("--out", "there"), "there/results.md", "--out PATH"),
        (("--html", "page.html"), "page.html", "--html FILE"),
        (("--report", "proof.md"), ".proof.md.0123abcd.partial", "--report FILE"),
        (("--out", "set.pt"), ".work.set.pt.0123abcd", "--out PATH"),
        (("--set", "init_from=images"), "images/train/cat/1.png", "another path in the command"),
        (("set.pt",), "set.pt", "another path in the command"),
    ],
)
def test_the_way_out_is_the_option_that_named_the_place(words: tuple[str, ...], path: str, way: str) -> None:
    from sdc.cli import chosen

    with storage.chosen(lambda: chosen.places(["run", *words])):
        found = storage.refusal(of("EROFS", Path(path).absolute()))
        with pytest.raises(FatalError, match=r"no space left") as full, storage.at(Path(path).absolute()):
            raise of("ENOSPC")
    assert found is not None
    assert str(found).endswith(f": {way}")
    assert str(full.value).endswith(f"or write elsewhere: {way}")
    assert ".partial" not in str(found)
    assert ".work" not in str(found)


def test_what_a_library_makes_of_an_error_is_told_all_the_same(tmp_path: Path) -> None:
    wrapped = ValueError("cannot close what is being written")
    wrapped.__context__ = of("EDQUOT")
    for error, said in (
        (wrapped, "the quota of the disk is used up"),
        (RuntimeError("I/O error: File too large (os error 27)"), "the limit on the size of files is reached"),
        (RuntimeError("[enforce fail] PytorchStreamWriter failed writing file data/0: file write failed"), "whole"),
        (FatalError("the script ended. OSError: [Errno 28] No space left on device"), "no space left on the disk"),
    ):
        with pytest.raises(FatalError) as told, storage.at(tmp_path / "set.pt"):
            raise error
        assert said in str(told.value)
        assert str(tmp_path / "set.pt") in str(told.value)
    for other in (ValueError("no number"), ssl.SSLError(errno.EIO, "of the network"), of("EPERM"), of("ECONNRESET")):
        with pytest.raises(type(other)) as same, storage.at(tmp_path):
            raise other
        assert same.value is other


@pytest.mark.parametrize("variable", ["SDC_UPSTREAM", "SDC_CACHE"])
@pytest.mark.parametrize("kind", ["a loop of links", "too long a name", "a file", "below a file", "no home"])
def test_a_variable_that_leads_nowhere(
    variable: str, kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sdc: Sdc
) -> None:
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    (tmp_path / "file").write_text("mine")
    places = {
        "a loop of links": tmp_path / "loop",
        "too long a name": tmp_path / ("long" * 100),
        "a file": tmp_path / "file",
        "below a file": tmp_path / "file" / "deeper",
        "no home": "~nobody-of-this-name/x",
    }
    monkeypatch.setenv(variable, str(places[kind]))
    command = ("apply", "dm") if variable == "SDC_UPSTREAM" else ("run", "dm", "--weight", 0, "--runs", tmp_path / "r")
    outcome = sdc(*command, "--json")
    assert outcome.code == 1, outcome
    assert f"{variable}=DIR" in outcome.json["error"], outcome


def test_nothing_is_left_of_what_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    for attempt in (lambda: made(tmp_path / "file"), lambda: made(tmp_path / "file" / "deeper")):
        with pytest.raises(FatalError, match=f"cannot be made: {tmp_path}/file is a file"):
            attempt()
    long = tmp_path / ("x" * 300)
    with pytest.raises(FatalError, match="File name too long"), replacing(long) as partial:
        partial.write_text("x")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "in it").touch()
    with pytest.raises(FatalError, match="folder cannot be"), replacing(tmp_path / "folder") as partial:
        partial.write_text("x")
    with pytest.raises(FatalError, match="folder cannot be"), making(tmp_path / "folder"):
        pass
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "folder"]


def test_a_name_as_long_as_names_may_be_is_written(tmp_path: Path) -> None:
    name = "n" * 255
    with replacing(tmp_path / name) as partial:
        partial.write_text("whole")
    rewrite(tmp_path / name, b"anew", b"whole")
    assert (tmp_path / name).read_text() == "anew"


def test_what_is_written_anew_keeps_its_mode_and_what_was_changed_meanwhile_stays(tmp_path: Path) -> None:
    file = tmp_path / "script.py"
    file.write_bytes(b"old")
    file.chmod(0o751)
    rewrite(file, b"new", b"old")
    assert (file.read_bytes(), file.stat().st_mode & 0o777) == (b"new", 0o751)
    with pytest.raises(FatalError, match="changed meanwhile"):
        rewrite(file, b"newer", b"old")
    with pytest.raises(FatalError, match="changed meanwhile"):
        rewrite(file, b"newer", None)
    assert [path.read_bytes() for path in tmp_path.iterdir()] == [b"new"]


def test_what_a_killed_process_left_is_swept_and_what_another_writes_is_not(tmp_path: Path) -> None:
    (tmp_path / ".script.py.0123abcd.partial").write_text("half")
    (tmp_path / ".mine.partial").write_text("the user's own")
    held = (
        "import sys; from pathlib import Path; from sdc.ground import files\n"
        "with files._beside(Path(sys.argv[1])) as (partial, file): print(partial.name, flush=True); input()"
    )
    command = [sys.executable, "-c", held, str(tmp_path / "script.py")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=paths.ROOT) as other:
        assert other.stdout
        name = other.stdout.readline().strip()
        sweep(tmp_path)
        assert {path.name for path in tmp_path.iterdir()} == {name, ".mine.partial"}
        other.kill()
        other.wait()
    sweep(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {".mine.partial"}


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full here")
def test_output_that_finds_no_room_is_said() -> None:
    command = [sys.executable, "-m", "sdc", "list", "--json"]
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(command, check=False, stdout=full, stderr=subprocess.PIPE, text=True, cwd=paths.ROOT)
    assert done.returncode == 1, done.stderr
    assert done.stderr.startswith("error: no space left on the disk while writing"), done.stderr
    assert "Traceback" not in done.stderr


def test_a_reader_that_has_gone_is_no_bug() -> None:
    command = f"{sys.executable} -m sdc list --json | true; exit ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", command], check=False, capture_output=True, text=True, cwd=paths.ROOT)
    assert (done.returncode, done.stderr) == (1, "")


def test_without_a_folder_for_passing_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folders = [Path("/tmp"), Path("/var/tmp"), paths.ROOT]  # noqa: S108 - those that Python tries
    monkeypatch.setenv("TMPDIR", str(tmp_path / "none"))
    done = subprocess.run(
        [*rights.read_only(*folders), sys.executable, "-m", "sdc", "verify", "dm", "--behaviour"],
        check=False,
        capture_output=True,
        text=True,
        cwd=paths.ROOT,
        env={**os.environ, "SDC_UPSTREAM": str(paths.ROOT / "none")},
    )
    assert done.returncode == 1, done.stderr
    assert "TMPDIR=DIR" in done.stderr


def test_what_is_no_file_is_told_the_report_and_stays(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with subprocess.Popen(["cat", tmp_path / "pipe"], stdout=subprocess.PIPE, text=True) as reader:
        write_text(tmp_path / "pipe", "all of it")
        assert reader.communicate(timeout=20)[0] == "all of it"
    assert [path.is_fifo() for path in tmp_path.iterdir()] == [True]

    for end in (">", ">>", "| cat >"):
        code = (
            "from pathlib import Path; from sdc.ground.files import write_text as w; w(Path('/dev/stdout'), 'report ')"
        )
        words = ["sh", "-c", f'{{ "$0" -c "{code}"; echo after; }} {end} out', sys.executable]
        (tmp_path / "out").write_text("")
        subprocess.run(words, check=True, cwd=tmp_path, env=os.environ | {"PYTHONPATH": str(paths.ROOT)})
        assert (tmp_path / "out").read_text().split() == ["report", "after"]
    assert Path("/dev/stdout").is_symlink()
    with pytest.raises(FatalError, match="no space left on the disk while writing /dev/full"):
        write_text(Path("/dev/full"), "more")
    assert Path("/dev/full").is_char_device()


def test_a_folder_on_the_way_to_what_was_named_is_named_likewise(tmp_path: Path, sdc: Sdc) -> None:
    (tmp_path / "file").write_text("mine")
    outcome = sdc("verify", "dm", "--report", tmp_path / "file" / "proof.md")
    assert outcome.code == 1
    assert outcome.err.endswith(f"{tmp_path}/file is a file\nName another place: --report FILE\n")


@pytest.mark.parametrize("library", ["pyarrow", "safetensors", "torch"])
def test_where_nothing_can_be_made_the_library_is_not_asked(library: str) -> None:
    import pyarrow as pa
    import pyarrow.parquet
    import torch
    from safetensors.torch import save_file

    deeds = {
        "pyarrow": lambda path: pyarrow.parquet.write_table(pa.table({"a": [1]}), path),
        "safetensors": lambda path: save_file({"a": torch.ones(1)}, path),
        "torch": lambda path: torch.save(torch.ones(1), path),
    }
    with pytest.raises(FatalError, match=r"^/proc/set cannot be "), replacing(Path("/proc/set")) as partial:
        deeds[library](partial)


@pytest.mark.parametrize(
    "command",
    [("theory", "figures"), ("difficulty", "--dataset", "digits", "--split", "easiest")],
    ids=["figures", "a part"],
)
def test_long_work_does_not_begin_where_its_outcome_cannot_go(
    command: tuple[str, ...], sdc: Sdc, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("mine")
    outcome = sdc(*command, "--out", tmp_path / "file" / "there")
    assert outcome.code == 1
    assert outcome.err.endswith("Name another place: --out PATH\n")
    assert not [line for line in outcome.err.splitlines() if "training" in line or "simulating" in line]


@pytest.mark.parametrize("command", [("theory", "figures"), ("report",)])
def test_where_a_command_writes_unless_told_is_told_by_its_option(command: tuple[str, ...]) -> None:
    from sdc.cli import chosen

    place = Path("theory" if command[0] == "theory" else "runs/report")
    with storage.chosen(lambda: chosen.places(list(command))), pytest.raises(FatalError) as told, storage.at(place):
        raise of("EROFS", place)
    assert str(told.value).endswith("\nName another place: --out PATH")

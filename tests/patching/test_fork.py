"""`--to DIR`: patches in people's own clones and forks, which nothing but our lines may change."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from sdc.ground import paths
from tests import fake
from tests.conftest import Sdc
from tests.patching.conftest import LF

CRLF = LF.replace(b"\n", b"\r\n")
FARTHER = (b"training begins", b"mine begins")
ADJACENT = (b"loss.backward()", b"loss.backward(retain_graph=False)")
NEAR = (b"    optimizer.zero_grad()\n", b"    optimizer.zero_grad(set_to_none=True)\n")


def patched(content: bytes) -> bytes:
    """The content with our lines behind theirs, each with the end of the line before it."""
    out = b""
    for line in content.splitlines(keepends=True):
        bare = line.rstrip(b"\r\n")
        out += line
        if (ours := fake.ADDED.get(bare.decode())) is not None:
            out += ours.encode() + line[len(bare) :]
    return out


@pytest.mark.parametrize("content", [LF, CRLF, LF.replace(*FARTHER), b"# mine\n" * 40 + CRLF], ids=range(4))
def test_our_lines_come_and_go_and_every_other_byte_stays(
    content: bytes, own: Callable[..., Path], sdc: Sdc, tmp_path: Path
) -> None:
    script, to = own(content), ("--to", tmp_path / "own")
    assert patched(content) != content

    applied = sdc("apply", "fake", *to)
    assert applied.code == 0, applied
    assert "pristine -> patched" in applied.out
    assert script.read_bytes() == patched(content)
    assert script.stat().st_mode & 0o777 == 0o755
    again = sdc("apply", "fake", *to, "--json").json["methods"][0]
    assert (again["before"], again["diff"], script.read_bytes()) == ("patched", "", patched(content))

    (row,) = sdc("status", "fake", *to, "--json").json["methods"]
    assert (row["state"], row["edited"]) == ("patched", content.replace(b"\r\n", b"\n") != LF)
    proof = sdc("verify", "fake", *to, "--json").json["methods"][0]
    assert (proof["ok"], proof["added"], proof["removed"], proof["functions"]) == (True, 3, 0, ["top level"])
    hashed = ["git", "hash-object", "--no-filters", script]
    assert proof["after"] == subprocess.run(hashed, capture_output=True, text=True).stdout.strip()

    reverted = sdc("revert", "fake", *to)
    assert (reverted.code, script.read_bytes()) == (0, content)
    assert sdc("revert", "fake", *to).out == "fake: pristine, no change\n"
    assert sdc("verify", "fake", *to).code == 1
    assert sorted(path.name for path in (tmp_path / "own" / "train").iterdir()) == ["distil.py", "helpers.py"]


def test_lines_that_were_committed_are_found_and_taken_out(own: Callable[..., Path], sdc: Sdc, tmp_path: Path) -> None:
    script = own(patched(LF.replace(*FARTHER)))

    assert sdc("apply", "fake", "--to", tmp_path / "own", "--json").json["methods"][0]["before"] == "patched"
    assert sdc("revert", "fake", "--to", tmp_path / "own").code == 0
    assert script.read_bytes() == LF.replace(*FARTHER)


def test_a_conflict_is_shown_with_its_place_and_changes_nothing(
    own: Callable[..., Path], sdc: Sdc, tmp_path: Path
) -> None:
    content = LF.replace(b"    loss = ((images", b"    loss = 2 * ((images")
    line = 1 + content[: content.index(b"    loss = 2")].count(b"\n")
    script, to = own(content), ("--to", tmp_path / "own")

    for command, words in (("apply", "is not applied, nothing was changed"), ("revert", "is not taken out")):
        outcome = sdc(command, "fake", *to)
        assert outcome.code == 1
        assert words in outcome.err
        assert f"{script}: changed where the patch adds lines: line {line}\n" in outcome.err
        assert script.read_bytes() == content
    status = sdc("status", "fake", *to)
    assert (status.code, "drifted" in status.out) == (1, True)
    assert "changed where the patch adds lines" in status.err


def test_work_that_is_not_committed_is_not_touched_without_being_told(
    own: Callable[..., Path], sdc: Sdc, tmp_path: Path
) -> None:
    script, to = own(LF), ("--to", tmp_path / "own")
    script.write_bytes(LF.replace(*FARTHER))

    refused = sdc("apply", "fake", *to)
    assert refused.code == 1
    assert "not committed" in refused.err
    assert "--uncommitted" in refused.err
    assert script.read_bytes() == LF.replace(*FARTHER)
    assert sdc("apply", "fake", *to, "--uncommitted").code == 0
    assert script.read_bytes() == patched(LF.replace(*FARTHER))
    assert sdc("revert", "fake", *to).code == 1
    assert sdc("revert", "fake", *to, "--uncommitted").code == 0
    assert script.read_bytes() == LF.replace(*FARTHER)


def test_edits_hidden_from_gits_status_count_as_uncommitted_too(
    own: Callable[..., Path], sdc: Sdc, tmp_path: Path
) -> None:
    script = own(LF)
    script.write_bytes(LF.replace(*FARTHER))
    hide = ["git", "-C", tmp_path / "own", "update-index", "--assume-unchanged", "train/distil.py"]
    subprocess.run(hide, check=True)

    assert sdc("apply", "fake", "--to", tmp_path / "own").code == 1
    assert script.read_bytes() == LF.replace(*FARTHER)


def test_line_ends_that_git_converts_are_no_work(own: Callable[..., Path], sdc: Sdc, tmp_path: Path) -> None:
    script = own(LF)
    script.write_bytes(CRLF)  # as a checkout with core.autocrlf leaves it

    assert sdc("apply", "fake", "--to", tmp_path / "own").code == 0
    assert script.read_bytes() == patched(CRLF)


def test_a_folder_that_no_repository_keeps_needs_the_word(own: Callable[..., Path], sdc: Sdc, tmp_path: Path) -> None:
    script, to = own(LF, commit=False), ("--to", tmp_path / "own")

    assert "is in no commit" in sdc("apply", "fake", *to).err
    assert script.read_bytes() == LF
    assert sdc("apply", "fake", *to, "--uncommitted").code == 0
    assert script.read_bytes() == patched(LF)


def test_what_is_no_folder_or_has_no_script_or_has_a_link_for_it_is_refused(
    own: Callable[..., Path], sdc: Sdc, tmp_path: Path
) -> None:
    assert "is no folder" in sdc("apply", "fake", "--to", tmp_path / "nowhere").err
    (tmp_path / "empty").mkdir()
    assert "distil.py does not exist" in sdc("apply", "fake", "--to", tmp_path / "empty").err
    script = own(LF)
    script.rename(tmp_path / "elsewhere.py")
    script.symlink_to(tmp_path / "elsewhere.py")
    refused = sdc("apply", "fake", "--to", tmp_path / "own", "--uncommitted")
    assert (refused.code, "a link" in refused.err) == (1, True)
    assert (tmp_path / "elsewhere.py").read_bytes() == LF
    assert sdc("apply", "--all", "--to", tmp_path / "own").code == 2
    assert sdc("status", "--to", tmp_path / "own").code == 2


def test_lines_that_are_partly_there_are_completed_or_taken_out(
    own: Callable[..., Path], sdc: Sdc, tmp_path: Path
) -> None:
    partly = patched(LF).replace(b"sdc.add_options(parser)\n", b"")
    script, to = own(partly), ("--to", tmp_path / "own")

    status = sdc("status", "fake", *to)
    assert (status.code, "some of the patch's lines are there" in status.err) == (1, True)
    assert sdc("apply", "fake", *to).code == 0
    assert script.read_bytes() == patched(LF)
    script.write_bytes(partly)
    assert sdc("revert", "fake", *to).code == 0
    assert script.read_bytes() == LF


def test_a_fork_is_verified_in_its_behaviour_too(own: Callable[..., Path], sdc: Sdc, tmp_path: Path) -> None:
    own(LF.replace(b"momentum=0.5", b"momentum=0.25"))
    sdc("apply", "fake", "--to", tmp_path / "own")
    outcome = sdc("verify", "fake", "--to", tmp_path / "own", "--behaviour", "--json")

    assert (outcome.code, outcome.json["ok"]) == (0, True), outcome
    assert len(outcome.json["methods"][0]["claims"]) == 3


@pytest.mark.parametrize("where", ["own", "ours"])
def test_a_vendored_copy_runs_without_this_package_and_is_taken_away_again(
    where: str, own: Callable[..., Path], sdc: Sdc, tmp_path: Path
) -> None:
    to = ("--to", tmp_path / "own") if where == "own" else ()
    script = own(LF) if where == "own" else paths.upstream() / "fake" / "train" / "distil.py"
    outcome = sdc("apply", "fake", "--vendor", *to)

    assert outcome.code == 0, outcome
    assert "with a copy of the plugin" in outcome.out
    copy = script.parent / "sdc.py"
    assert copy.read_bytes() == (paths.ROOT / "plugins" / "sdc.py").read_bytes()
    # Whatever the environment has, the import is answered by the script's own folder.
    (script.parent / "which.py").write_text("import sdc\nprint(sdc.__file__)\n")
    told = subprocess.run([sys.executable, "which.py"], cwd=script.parent, capture_output=True, text=True, check=True)
    assert Path(told.stdout.strip()) == copy
    (script.parent / "which.py").unlink()
    helped = subprocess.run([sys.executable, script, "--help"], capture_output=True, text=True, check=True)
    assert "--sdc_lambda" in helped.stdout
    for cache in script.parent.glob("__pycache__/*"):
        cache.unlink()

    (row,) = sdc("status", "fake", *to, "--json").json["methods"]
    assert (row["state"], row["vendored"]) == ("patched", True)
    assert sdc("verify", "fake", *to, "--json").json["methods"][0]["vendored"] is True
    assert sdc("apply", "fake", "--vendor", *to).code == 0
    assert sdc("revert", "fake", *to).code == 0
    assert not copy.exists()


VENDORED = pytest.mark.parametrize("vendor", [(), ("--vendor",)], ids=["plain", "vendored"])


@VENDORED
@pytest.mark.parametrize(
    "theirs",
    [
        "train/sdc.py",
        "train/sdc/__init__.py",
        "train/sdc/data.csv",
        "sdc.py",
        "sdc/core.py",
        "train/sdc.abi3.so",
        "lib/sdc.py",
        "lib/sdc/__init__.py",
    ],
)
def test_what_answers_to_the_imported_name_in_a_tree_is_left_alone(
    theirs: str, vendor: tuple[str, ...], own: Callable[..., Path], sdc: Sdc, tmp_path: Path
) -> None:
    script, file = own(LF), tmp_path / "own" / theirs
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("mine = True\n")
    before = tree(tmp_path / "own")
    outcome = sdc("apply", "fake", *vendor, "--to", tmp_path / "own")

    assert outcome.code == 1
    module = file.parent if file.parent.name == "sdc" else file
    assert (
        f"{module} is not the plugin's copy of this version, and `import sdc` in {script} would find it" in outcome.err
    )
    assert tree(tmp_path / "own") == before


@VENDORED
@pytest.mark.parametrize(
    ("line", "needs"),
    [
        (4, "import sys\nsys.path.append('lib')\nimport sdc\nsdc.their_own()\n"),
        (1, "from sdc import their_own\n"),
        (1, "import sdc.networks\n"),
        (1, "from sdc.networks import ConvNet\n"),
        (1, "from sdc import *\n"),
        (3, "def late():\n    import sdc as theirs\n    return theirs.their_own\n"),
    ],
    ids=range(6),
)
def test_a_tree_that_needs_another_module_of_that_name_is_left_alone(
    line: int, needs: str, vendor: tuple[str, ...], own: Callable[..., Path], sdc: Sdc, tmp_path: Path
) -> None:
    script = own(LF)
    other = tmp_path / "own" / "tools" / "other.py"
    other.parent.mkdir()
    other.write_text(needs)
    outcome = sdc("apply", "fake", *vendor, "--to", tmp_path / "own")

    assert outcome.code == 1
    assert f"{other} imports, in line {line}, an `sdc` that is not the plugin" in outcome.err
    assert (script.read_bytes(), (script.parent / "sdc.py").exists()) == (LF, False)


def test_other_modules_that_only_look_alike_are_no_obstacle(own: Callable[..., Path], sdc: Sdc, tmp_path: Path) -> None:
    own(LF)
    around = {
        "lib/sdc.py": "mine = True\n",
        "lib/__init__.py": "from .sdc import mine\nfrom lib import sdc\nprint(sdc.mine)\n",
        "loop.py": "import sdc\nfrom sdc import gradient_norm\nsdc.corrected\n",  # the term's own users
        "old.py": "import sdc.old\nprint 'no Python 3'\n",
        "notes/sdc/notes.txt": "no module",
        "venv/pyvenv.cfg": "",
        "venv/lib/sdc/cli.py": "from sdc.cli import main\n",
        ".hidden/x.py": "import sdc.x\n",
        "nested/.git/HEAD": "",
        "nested/x.py": "import sdc.x\n",
    }
    for name, text in around.items():
        (tmp_path / "own" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "own" / name).write_text(text)
    applied = sdc("apply", "fake", "--vendor", "--to", tmp_path / "own")
    assert applied.code == 0, applied
    assert sdc("verify", "fake", "--to", tmp_path / "own").code == 0


def test_a_module_of_that_name_that_comes_later_is_drift(own: Callable[..., Path], sdc: Sdc, tmp_path: Path) -> None:
    script, to = own(LF), ("--to", tmp_path / "own")
    assert sdc("apply", "fake", *to).code == 0
    (script.parent / "sdc.py").write_text("mine = True\n")

    status = sdc("status", "fake", *to)
    assert (status.code, "is not the plugin's copy" in status.err) == (1, True)
    proof = sdc("verify", "fake", *to)
    assert (proof.code, "is not the plugin's copy" in proof.err) == (1, True)
    assert sdc("revert", "fake", *to).code == 0
    assert (script.read_bytes(), (script.parent / "sdc.py").read_text()) == (LF, "mine = True\n")


@VENDORED
@pytest.mark.parametrize("theirs", ["plugins/__init__.py", "plugins.py"])
def test_a_fork_keeps_modules_of_its_own_that_are_called_as_our_rooms(
    theirs: str, vendor: tuple[str, ...], own: Callable[..., Path], sdc: Sdc, tmp_path: Path
) -> None:
    imports = b"from helpers import shrink\n"
    mine = b"import adapters\nimport plugins\nimport runner\nassert plugins.MINE == adapters.MINE == runner.MINE == 1\n"
    script, to = own(LF.replace(imports, mine + imports)), ("--to", tmp_path / "own")
    for name in (theirs, "adapters.py", "runner.py", "analysis.py"):
        (script.parent / name).parent.mkdir(exist_ok=True)
        (script.parent / name).write_text("MINE = 1\n")
    before = tree(script.parent)
    applied = sdc("apply", "fake", *vendor, *to)
    assert applied.code == 0, applied

    by_hand = subprocess.run(
        [sys.executable, script, "--help"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert (by_hand.returncode, "--sdc_lambda" in by_hand.stdout) == (0, True), by_hand.stderr
    for cached in script.parent.rglob("*.pyc"):
        cached.unlink()
    proof = sdc("verify", "fake", *to, "--behaviour", "--json")
    assert (proof.code, proof.json["ok"]) == (0, True), proof
    assert sdc("revert", "fake", *to).code == 0
    assert tree(script.parent) == before


def tree(folder: Path) -> dict[str, bytes]:
    """The content of every file below a folder, but for git's own."""
    files = (path for path in folder.rglob("*") if path.is_file() and ".git" not in path.relative_to(folder).parts)
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


def test_a_changed_copy_in_our_clone_is_drift(sdc: Sdc, fake_upstream: fake.Fake) -> None:
    sdc("apply", "fake", "--vendor")
    copy = paths.upstream() / "fake" / "train" / "sdc.py"
    copy.write_text(copy.read_text() + "# changed\n")

    assert sdc("status", "fake").code == 1
    assert sdc("apply", "fake").code == 1

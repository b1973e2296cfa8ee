"""Repositories and files that mean harm: none runs code, writes outside its place, or fills memory or disk."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import struct
import subprocess
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from sdc.adapters.registry import ADAPTERS
from sdc.ground import paths
from tests import fake
from tests.conftest import Sdc

CRLF = fake.SCRIPT.replace("\n", "\r\n").encode()


@pytest.fixture
def sprung(tmp_path: Path) -> Path:
    """What a trap leaves that was sprung."""
    return tmp_path / "sprung"


@pytest.fixture(autouse=True)
def _every_protocol(monkeypatch: pytest.MonkeyPatch) -> None:
    """As for users: no protocol is forbidden by the environment."""
    monkeypatch.delenv("GIT_ALLOW_PROTOCOL", raising=False)


def trap(folder: Path, sprung: Path) -> Path:
    """A program that leaves a mark when it is run."""
    folder.mkdir(parents=True, exist_ok=True)
    program = folder / "trap"
    program.write_text(f"#!/bin/sh\ntouch {sprung}\ncat\n")
    program.chmod(0o755)
    return program


def repin(made: fake.Fake, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pin what is the tip now."""
    upstream = dataclasses.replace(made.adapter.upstream, commit=fake._git(made.path, "rev-parse", "HEAD"))
    monkeypatch.setitem(ADAPTERS, "fake", dataclasses.replace(made.adapter, upstream=upstream))


def clone() -> Path:
    return paths.upstream() / "fake"


def test_the_users_hooks_and_templates_do_not_run(
    sdc: Sdc, fake_upstream: fake.Fake, tmp_path: Path, sprung: Path
) -> None:
    template = tmp_path / "template"
    for name in ("post-checkout", "post-merge", "reference-transaction", "pre-auto-gc", "post-index-change"):
        shutil.copy2(trap(tmp_path, sprung), trap(template / "hooks", sprung).with_name(name))
    with fake_upstream.git_config.open("a") as config:
        config.write(f"[core]\n\thooksPath = {template}/hooks\n\tfsmonitor = {tmp_path}/trap\n")
        config.write(f"[init]\n\ttemplateDir = {template}\n[diff]\n\texternal = {tmp_path}/trap\n")

    for command in ("apply", "verify", "status", "revert"):
        assert sdc(command, "fake").code == 0, command
    assert sdc("upstream", "check", "fake").code == 1
    assert not sprung.exists()
    assert not list((clone() / ".git").glob("hooks/*"))


def test_attributes_of_an_upstream_neither_run_filters_nor_rewrite(
    sdc: Sdc, fake_upstream: fake.Fake, tmp_path: Path, sprung: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    attributes = b"* filter=trap diff=trap merge=trap text eol=lf ident working-tree-encoding=UTF-16\n"
    (fake_upstream.path / ".git" / "info").mkdir(exist_ok=True)
    as_is = (
        "* -text -filter -ident -working-tree-encoding\n"  # for the author's own git: the blob has both ends of line
    )
    (fake_upstream.path / ".git" / "info" / "attributes").write_text(as_is)
    fake._commit(fake_upstream.path, {".gitattributes": attributes, "train/distil.py": CRLF})
    repin(fake_upstream, monkeypatch)
    program = trap(tmp_path, sprung)
    with fake_upstream.git_config.open("a") as config:
        config.write(f'[filter "trap"]\n\tsmudge = {program}\n\tclean = {program}\n\tprocess = {program}\n')
        config.write(
            f'[diff "trap"]\n\ttextconv = {program}\n\tcommand = {program}\n[merge "trap"]\n\tdriver = {program}\n'
        )

    assert sdc("apply", "fake").code == 0
    assert (clone() / "train" / "distil.py").read_bytes() == fake.patched(CRLF)
    assert sdc("verify", "fake").code == 0
    assert sdc("revert", "fake").code == 0
    assert not sprung.exists()


def test_links_out_of_the_tree_become_small_files_and_a_linked_script_is_refused(
    sdc: Sdc, fake_upstream: fake.Fake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "victim.py").write_text("untouched\n")
    fake._commit(fake_upstream.path, {"train/distil.py": CRLF})
    (fake_upstream.path / "victim.py").symlink_to(outside / "victim.py")
    (fake_upstream.path / "folder.py").symlink_to(outside)
    fake._commit(fake_upstream.path, {})
    repin(fake_upstream, monkeypatch)

    assert sdc("apply", "fake").code == 0
    for name in ("victim.py", "folder.py"):
        assert (clone() / name).is_file()
        assert not (clone() / name).is_symlink()
    assert (outside / "victim.py").read_text() == "untouched\n"
    script = clone() / "train" / "distil.py"
    script.rename(outside / "distil.py")
    script.symlink_to(outside / "distil.py")
    before = (outside / "distil.py").read_bytes()
    assert sdc("revert", "fake").code == 1
    assert (outside / "distil.py").read_bytes() == before


def test_a_tree_whose_paths_lead_outside_is_not_checked_out(
    sdc: Sdc, fake_upstream: fake.Fake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def git(*words: str, given: bytes = b"") -> str:
        command = ["git", "-C", str(fake_upstream.path), "-c", "user.name=x", "-c", "user.email=x", *words]
        return subprocess.run(command, input=given, capture_output=True, check=True).stdout.decode().strip()

    blob = git("hash-object", "-w", "--stdin", given=b"pass\n")
    inner = git("mktree", given=f"100644 blob {blob}\tescaped.py\n".encode())
    tree = git("mktree", given=f"040000 tree {inner}\t..\n040000 tree {inner}\t.git\n".encode())
    git("update-ref", "refs/heads/main", git("commit-tree", tree, "-m", "harm"))
    repin(fake_upstream, monkeypatch)

    assert sdc("apply", "fake").code == 1
    assert not list(tmp_path.rglob("escaped.py"))
    assert [path.name for path in paths.upstream().iterdir()] == [".fake.lock"]


def test_submodules_stay_empty(
    sdc: Sdc, fake_upstream: fake.Fake, tmp_path: Path, sprung: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    modules = f'[submodule "sub"]\n\tpath = sub\n\turl = ext::sh -c touch% {sprung}\n\tupdate = !touch {sprung}\n'
    fake._commit(fake_upstream.path, {"train/distil.py": CRLF, ".gitmodules": modules.encode()})
    pin = fake._git(fake_upstream.path, "rev-parse", "HEAD")
    fake._git(fake_upstream.path, "update-index", "--add", "--cacheinfo", f"160000,{pin},sub")
    user = ("-c", "user.name=fake", "-c", "user.email=fake@invalid")
    fake._git(fake_upstream.path, *user, "commit", "--quiet", "--message=sub")
    repin(fake_upstream, monkeypatch)
    with fake_upstream.git_config.open("a") as config:
        config.write("[submodule]\n\trecurse = true\n[fetch]\n\trecurseSubmodules = true\n")

    assert sdc("apply", "fake").code == 0
    assert sdc("status", "fake").code == 0
    assert not sprung.exists()
    assert not (clone() / "sub").exists() or not list((clone() / "sub").iterdir())


def test_an_address_that_leads_to_a_program_is_not_followed(sdc: Sdc, fake_upstream: fake.Fake, sprung: Path) -> None:
    fake_upstream.git_config.write_text(
        f'[url "ext::sh -c touch% {sprung}% "]\n\tinsteadOf = https://upstream.invalid/\n[protocol]\n\tallow = always\n'
    )

    for command in (("apply", "fake"), ("upstream", "check", "fake")):
        assert sdc(*command).code == 1
    assert not sprung.exists()


def test_a_stray_repository_in_an_upstreams_top_folder_is_not_taken_for_one(
    sdc: Sdc, fake_upstream: fake.Fake, sprung: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = f"#!/bin/sh\ntouch {sprung}\n".encode()
    stray = {"HEAD": b"ref: refs/heads/main\n", "config": f"[core]\n\tfsmonitor = touch {sprung}\n".encode()}
    stray |= {"hooks/post-checkout.py": program, "objects/x.py": b"", "refs/x.py": b""}
    fake._commit(fake_upstream.path, {"train/distil.py": CRLF, **stray})
    repin(fake_upstream, monkeypatch)

    assert sdc("apply", "fake").code == 0
    assert sdc("verify", "fake").code == 0
    assert not sprung.exists()


def test_the_configuration_of_a_users_own_folder_runs_nothing(
    sdc: Sdc, fake_upstream: fake.Fake, tmp_path: Path, sprung: Path
) -> None:
    own = tmp_path / "own"
    fake._commit(own, {"train/distil.py": CRLF, ".gitattributes": b"*.py filter=trap diff=trap\n"})
    program = trap(tmp_path, sprung)
    lost = fake._git(own, "rev-parse", "HEAD:train/distil.py")
    with (own / ".git" / "config").open("a") as config:
        config.write(f"[core]\n\tfsmonitor = {program}\n\thooksPath = {tmp_path}\n\tsshCommand = {program}\n")
        config.write(f"\tpager = {program}\n\trepositoryformatversion = 1\n[diff]\n\texternal = {program}\n")
        config.write(f'[filter "trap"]\n\tclean = {program}\n\tsmudge = {program}\n\trequired = true\n')
        config.write(f'[remote "origin"]\n\turl = {fake_upstream.path}\n\tpromisor = true\n\tuploadpack = {program}\n')
        config.write("[extensions]\n\tpartialClone = origin\n[protocol]\n\tallow = always\n")
    sprung.unlink(missing_ok=True)

    assert sdc("apply", "fake", "--to", own).code == 0
    assert sdc("verify", "fake", "--to", own).code == 0
    assert sdc("revert", "fake", "--to", own).code == 0
    with (own / "train" / "distil.py").open("ab") as script:
        script.write(b"# mine\r\n")  # what is not the pin's is looked for in the commit
    (own / ".git" / "objects" / lost[:2] / lost[2:]).unlink()  # git would ask the remote for it
    assert sdc("apply", "fake", "--to", own).code == 1
    assert not sprung.exists()


@pytest.mark.parametrize("flag", ["--upload-pack=touch sprung", "--exec=touch sprung", "-c", "--help"])
def test_arguments_that_look_like_gits_flags_do_not_reach_it(
    flag: str, sdc: Sdc, fake_upstream: fake.Fake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for command in (
        ("apply", "--", flag),
        ("apply", "fake", f"--to={flag}"),
        ("upstream", "check", "fake", f"--ref={flag}"),
        ("patch", "new", "mine", f"--upstream={flag}", "--commit", "0" * 40, "--script", "a.py"),
        ("patch", "new", "mine", f"--upstream={fake.URL}", f"--commit={flag}", "--script", "a.py"),
        ("patch", "new", "mine", f"--upstream={fake.URL}", "--commit", "0" * 40, f"--script={flag}"),
        ("patch", "new", "--upstream", fake.URL, "--commit", "0" * 40, "--script", "a.py", "--", flag),
    ):
        assert sdc(*command).code == 1, command
    assert not (tmp_path / "sprung").exists()


class _Trap:
    def __init__(self, sprung: Path) -> None:
        self._sprung = sprung

    def __reduce__(self) -> Any:
        return os.system, (f"touch {self._sprung}",)


def evaluated(sdc: Sdc, path: Path) -> str:
    outcome = sdc("evaluate", path, "--dataset", "digits", "--set", "epochs=0", "--networks", 1, "--json")
    assert outcome.code == 1, outcome
    return str(outcome.json["error"])


@pytest.mark.parametrize("name", ["images_1.pt", "res_DC_x.pt"])
def test_a_distilled_set_that_is_a_pickle_bomb_is_not_read(name: str, sdc: Sdc, tmp_path: Path, sprung: Path) -> None:
    torch.save({"data": [[_Trap(sprung), 0]]}, tmp_path / name)
    assert "tensors and numbers alone" in evaluated(sdc, tmp_path / name)
    torch.save(_Trap(sprung), tmp_path / name, _use_new_zipfile_serialization=False)
    assert "tensors and numbers alone" in evaluated(sdc, tmp_path / name)
    assert not sprung.exists()


def test_a_torch_file_that_grows_when_it_is_read_is_not_read(sdc: Sdc, tmp_path: Path) -> None:
    torch.save(torch.zeros(10, 3, 512, 512), tmp_path / "plain.pt")
    packed = tmp_path / "images_1.pt"
    with zipfile.ZipFile(tmp_path / "plain.pt") as plain, zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for part in plain.infolist():
            archive.writestr(part.filename, plain.read(part))
    assert packed.stat().st_size < 10**6

    assert "holds more than its size" in evaluated(sdc, packed)


def test_a_tensor_that_repeats_one_number_is_not_spread_out(sdc: Sdc, tmp_path: Path) -> None:
    torch.save(torch.zeros(1).expand(10**6, 3, 10**3, 10**3), tmp_path / "images_1.pt")
    torch.save(torch.arange(10), tmp_path / "labels_1.pt")

    assert "that repeats a few numbers" in evaluated(sdc, tmp_path / "images_1.pt")


@pytest.mark.parametrize(
    "content",
    [
        torch.zeros(10, 3),
        {"data": [[torch.zeros(10, 3, 32, 32)]]},
        {"data": [7]},
        {"data": [[torch.zeros(10, 3, 32, 32), ["0"] * 10]]},
        {"data": [[torch.zeros(0, 3, 32, 32), torch.zeros(0, dtype=torch.int64)]]},
    ],
    ids=["no images", "no labels", "a number", "words for labels", "none"],
)
def test_a_torch_file_of_another_shape_is_an_error_not_a_crash(content: Any, sdc: Sdc, tmp_path: Path) -> None:
    name = "images_1.pt" if isinstance(content, torch.Tensor) else "res_DC_x.pt"
    torch.save(content, tmp_path / name)
    torch.save(torch.arange(10), tmp_path / "labels_1.pt")

    assert str(tmp_path / name) in evaluated(sdc, tmp_path / name)


def _header(facts: dict[str, Any], size: int | None = None) -> bytes:
    text = json.dumps(facts).encode()
    return struct.pack("<Q", len(text) if size is None else size) + text


@pytest.mark.parametrize(
    "content",
    [
        _header({}, size=2**62),
        _header({"images": {"dtype": "F32", "shape": [10**6, 3, 10**4, 10**4], "data_offsets": [0, 4]}}) + bytes(4),
        _header({"images": {"dtype": "F32", "shape": [1], "data_offsets": [0, 2**60]}}) + bytes(4),
        _header({"images": {"dtype": "F32", "shape": [2**62, 8], "data_offsets": [0, 0]}}),
        b"\x80\x04cos\nsystem\n",
        b"",
    ],
    ids=["header", "shape", "offsets", "overflow", "pickle", "empty"],
)
def test_a_safetensors_file_that_lies_about_its_size_is_refused(content: bytes, sdc: Sdc, tmp_path: Path) -> None:
    (tmp_path / "x.safetensors").write_bytes(content)

    assert "is not a distilled set" in evaluated(sdc, tmp_path / "x.safetensors")


def test_metadata_of_another_kind_are_an_error_not_a_crash(sdc: Sdc, tmp_path: Path) -> None:
    tensors = {"images": torch.zeros(10, 3, 32, 32), "labels": torch.arange(10)}
    good = {
        "dataset": "digits",
        "classes": json.dumps([str(n) for n in range(10)]),
        "mean": "[0, 0, 0]",
        "std": "[1, 1, 1]",
        "protocol": json.dumps({"lr": 0.01, "epochs": 0}),
    }
    for name, bad in (("classes", "7"), ("mean", "{"), ("protocol", "[]"), ("protocol", '{"lr": 1e999, "epochs": 1}')):
        save_file(tensors, tmp_path / "x.safetensors", metadata=good | {name: bad})
        assert evaluated(sdc, tmp_path / "x.safetensors")


def test_an_archive_that_would_fill_the_disk_is_refused_before_it_is_decoded(
    sdc: Sdc, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for part in ("train", "test"):
        (tmp_path / "data" / part / "a").mkdir(parents=True)
        Image.new("L", (2000, 2000)).save(tmp_path / "data" / part / "a" / "0.png")
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=10**6))
    monkeypatch.setenv("SDC_CACHE", str(tmp_path / "cache"))
    outcome = sdc("run", "dm", "--weight", 0, "--data", tmp_path / "data", "--runs", tmp_path / "runs")

    assert outcome.code == 1
    assert "once prepared" in outcome.err
    assert not list((tmp_path / "cache").rglob("*.safetensors"))

"""sdc doctor: what it finds of this machine, what it calls wrong, what it keeps to itself, and that it ends well."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections import namedtuple
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import torchvision

from sdc.adapters.registry import ADAPTERS
from sdc.cli import doctor, finding, machine, surroundings
from sdc.cli.finding import Finding
from sdc.ground import cores, hardware
from sdc.ground.errors import FatalError
from tests import fake
from tests.conftest import Outcome, Sdc

SECTIONS = ["software", "torch", "device", "processor", "git", "folders", "methods", "slurm"]
Usage = namedtuple("Usage", "total used free")


@pytest.fixture(autouse=True)
def _bare(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No GPU, space enough, an empty cache, a folder to work in."""
    for name in (hardware.VARIABLE, *hardware.VISIBLE):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(hardware, "_FILES", ())
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(1 << 40, 0, 1 << 40))
    monkeypatch.setattr(cores, "_GROUPS", tmp_path)
    monkeypatch.setenv("SDC_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)


def of(outcome: Outcome, section: str, name: str) -> dict[str, Any]:
    (found,) = [each for each in outcome.json["findings"] if (each["section"], each["name"]) == (section, name)]
    return dict(found)


def test_a_machine_that_is_well(sdc: Sdc, fake_upstream: fake.Fake) -> None:
    told = sdc("doctor", "--json")

    assert (told.err, told.out.count("\n")) == ("", 1), told
    assert [each for each in told.json["findings"] if each["level"] == "wrong"] == []
    assert (told.code, told.json["ok"]) == (0, True)
    assert list(dict.fromkeys(each["section"] for each in told.json["findings"])) == SECTIONS
    assert all(set(each) == {"section", "name", "value", "level", "remedy"} for each in told.json["findings"])
    assert all(each["value"] for each in told.json["findings"])
    assert [each for each in told.json["findings"] if (each["level"] == "ok") == bool(each["remedy"])] == []
    assert of(told, "torch", "torch")["value"].startswith(f"{torch.__version__}, built for ")
    assert f"torch {torch.__version__.partition('+')[0]}" in of(told, "software", "libraries")["value"]
    assert of(told, "torch", "torchvision")["value"] == torchvision.__version__
    assert of(told, "device", "device")["value"].startswith("cpu (")
    assert of(told, "methods", "absent")["value"] == ", ".join(ADAPTERS)
    assert sdc("apply", "fake").code == 0
    assert of(sdc("doctor", "--json"), "methods", "patched")["value"] == "fake"


def test_the_page_has_a_line_a_finding_however_narrow(sdc: Sdc, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "30")
    told = sdc("doctor")
    assert told.code == 0, told
    lines = told.out.splitlines()
    assert [line for line in lines if not line.startswith(" ")][:-1] == SECTIONS
    assert lines[-1].startswith("nothing wrong, ")
    assert f"  platform: {of(sdc('doctor', '--json'), 'software', 'platform')['value']}" in lines


def test_without_git_the_rest_is_told(tmp_path: Path, sdc: Sdc, fake_upstream: fake.Fake) -> None:
    assert sdc("apply", "fake").code == 0
    (tmp_path / "empty").mkdir()
    (tmp_path / "upstream" / "fake").rename(tmp_path / "upstream" / "dm")  # a method that the process knows
    done = subprocess.run(
        [sys.executable, "-m", "sdc", "doctor", "--json"],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"PATH": str(tmp_path / "empty"), "PYTHONPATH": str(Path(finding.__file__).parents[2])},
    )
    told = Outcome(done.returncode, done.stdout, done.stderr)
    assert (told.code, told.json["ok"]) == (1, False), told
    git = of(told, "git", "version")
    assert git["value"] == "git was not found: upstreams cannot be cloned or checked"
    assert (git["level"], git["remedy"]) == ("wrong", "install it, for example: apt-get install git")
    methods = of(told, "methods", "state")
    assert (methods["level"], methods["value"].startswith("not known: git was not found.")) == ("note", True)
    assert of(told, "slurm", "commands")["value"] == "none on PATH: sdc bench works on this machine alone"


def test_a_git_that_does_not_start_is_not_called_missing(tmp_path: Path) -> None:
    (tmp_path / "broken").write_text("[url\n")
    done = subprocess.run(
        [sys.executable, "-m", "sdc", "doctor", "--json"],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ
        | {"GIT_CONFIG_GLOBAL": str(tmp_path / "broken"), "PYTHONPATH": str(Path(finding.__file__).parents[2])},
    )
    git = of(Outcome(done.returncode, done.stdout, done.stderr), "git", "version")
    assert "bad config line 1 in file" in git["value"]
    assert git["level"] == "wrong"


def test_tokens_and_passwords_are_not_printed(tmp_path: Path, sdc: Sdc, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "config").write_text(
        '[url "https://me:ghp_secret@mirror.invalid/gh/"]\n\tinsteadOf = https://github.com/\n'
        '[url "https://oauth2:p@ss/secret@other.invalid/x/?private_token=secret"]\n\tinsteadOf = https://github.com/own\n'
        f'[url "file://{tmp_path}/"]\n\tinsteadOf = https://git\n'
        '[url "ext::fetch --token secret %S"]\n\tinsteadOf = https://github.com/run/\n'
        '[url "git@third.invalid:"]\n\tinsteadOf = https://github.com/them/\n'
        '[url "https://secret@unused.invalid/"]\n\tinsteadOf = https://gitlab.com/\n'
    )
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(tmp_path / "config"))
    monkeypatch.setenv("GIT_CONFIG_NOSYSTEM", "1")
    monkeypatch.setenv("HTTPS_PROXY", "http://me:secret@proxy.invalid:3128")
    monkeypatch.setenv("no_proxy", "secret.invalid")
    told = sdc("doctor", "--json")
    mirrors = [
        "ext::fetch",
        "https://mirror.invalid/gh/",
        "https://other.invalid/x/",
        f"file://{tmp_path}/",
        "third.invalid:",
    ]
    assert of(told, "git", "mirrors")["value"] == ", ".join(sorted(mirrors))
    assert {"HTTPS_PROXY", "no_proxy"} <= set(of(told, "git", "proxies")["value"].split(", "))
    page = sdc("doctor")
    for text in (told.out, told.err, page.out, page.err):
        assert "secret" not in text
        assert "unused" not in text


def test_a_file_where_a_folder_should_be(tmp_path: Path, sdc: Sdc, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "runs").write_text("not a folder")
    (tmp_path / "file").touch()
    monkeypatch.setenv("SDC_CACHE", str(tmp_path / "file" / "cache"))
    told = sdc("doctor", "--json")
    assert told.code == 1
    runs, cache = of(told, "folders", "runs"), of(told, "folders", "cache")
    assert (runs["level"], runs["value"]) == ("wrong", f"{tmp_path / 'runs'}: {tmp_path / 'runs'} is no folder")
    assert runs["remedy"] == f"mv {tmp_path}/runs {tmp_path}/runs.old, or give commands --runs /another/folder"
    assert (cache["level"], cache["value"]) == ("wrong", f"{tmp_path}/file/cache: {tmp_path}/file is no folder")
    assert cache["remedy"] == "export SDC_CACHE=/another/folder"  # somebody needs that file
    assert of(told, "folders", "upstream")["level"] == "ok"
    page = sdc("doctor")
    assert page.out.splitlines()[-1] == "2 wrong, nothing to note"
    assert f"  runs: WRONG: {runs['value']}\n    remedy: {runs['remedy']}\n" in page.out


@pytest.fixture
def nobody() -> Iterator[None]:
    """Root may write anywhere, and is somebody without rights for the time of a test."""
    own = os.geteuid()
    if own == 0:
        os.seteuid(65534)
    yield
    os.seteuid(own)


def test_a_folder_of_somebody_elses(tmp_path: Path, sdc: Sdc, request: pytest.FixtureRequest) -> None:
    (tmp_path / "cache").mkdir(mode=0o555)
    request.getfixturevalue("nobody")
    found = of(sdc("doctor", "--json"), "folders", "cache")
    assert (found["level"], found["remedy"]) == ("wrong", "export SDC_CACHE=/another/folder")
    assert "Permission denied" in found["value"]


def test_a_full_disk(tmp_path: Path, sdc: Sdc, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(1 << 40, 0, 4 << 30))
    (tmp_path / "cache" / "data" / "cifar10").mkdir(parents=True)
    with (tmp_path / "cache" / "data" / "cifar10" / "images").open("wb") as file:
        file.truncate(3 << 29)
    told = sdc("doctor", "--json")
    cache = of(told, "folders", "cache")
    assert (cache["level"], cache["value"]) == ("wrong", f"{tmp_path / 'cache'}: writable, 4.0 GiB free")
    assert cache["remedy"] == "free some space, or export SDC_CACHE=/another/folder"
    assert of(told, "folders", "in the cache")["value"].startswith("data 1.50 GiB, experts 0.00 GiB, judges")


def test_very_many_files_are_not_all_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(surroundings, "_MOST_FILES", 3)
    for number in range(4):
        (tmp_path / f"{number}").touch()
    assert surroundings.size(tmp_path) == "over 0.00 GiB"


def test_a_drifted_clone(sdc: Sdc, fake_upstream: fake.Fake, tmp_path: Path) -> None:
    assert sdc("apply", "fake").code == 0
    script = tmp_path / "upstream" / "fake" / "train" / "distil.py"
    script.write_text("print('mine')\n")
    told = sdc("doctor", "--json")
    found = of(told, "methods", "fake")
    assert (told.code, found["level"]) == (1, "wrong")
    assert found["value"].startswith(f"drifted: {script}: expected ")
    assert found["remedy"] == f"keep what you need of it, then: rm -rf {tmp_path}/upstream/fake && sdc apply fake"


def test_a_driver_without_a_gpu(tmp_path: Path, sdc: Sdc, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "nvidia0").touch()
    monkeypatch.setattr(hardware, "_FILES", (str(tmp_path / "nvidia0"),))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "-1")
    told = sdc("doctor", "--json")
    found = of(told, "device", "GPU")
    assert (told.code, found["level"]) == (1, "wrong")
    assert found["value"] == f"{tmp_path / 'nvidia0'} is there, but CUDA_VISIBLE_DEVICES='-1' hides it"
    assert found["remedy"] == "Run: unset CUDA_VISIBLE_DEVICES. Where the CPU will do: export SDC_DEVICE=cpu"
    assert of(told, "device", "CUDA_VISIBLE_DEVICES")["value"] == "'-1'"
    monkeypatch.setenv("SDC_DEVICE", "cpu")
    chosen = sdc("doctor", "--json")
    assert (chosen.code, of(chosen, "device", "GPU")["level"]) == (0, "ok")


def test_apples_gpu_is_worth_a_note(sdc: Sdc, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    told = sdc("doctor", "--json")
    found = of(told, "device", "mps")
    assert (told.code, found["level"]) == (0, "note")
    assert "runs go to the CPU" in found["value"]


@pytest.mark.parametrize(("asked", "said"), [("cuda", "torch sees no GPU"), ("tpu", "give one of auto, cuda, cpu")])
def test_a_device_that_cannot_be_had(asked: str, said: str, sdc: Sdc, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SDC_DEVICE", asked)
    told = sdc("doctor", "--json")
    found = of(told, "device", "device")
    assert (told.code, found["level"], found["remedy"]) == (1, "wrong", "unset SDC_DEVICE")
    assert said in found["value"]


def card(monkeypatch: pytest.MonkeyPatch, major: int, minor: int, *architectures: str) -> Finding:
    """What is found of a GPU of this capability by a torch for these architectures."""
    made = SimpleNamespace(name="NVIDIA Card", total_memory=8 << 30, major=major, minor=minor)
    monkeypatch.setattr(torch.version, "hip", None)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda number: made)
    monkeypatch.setattr(torch.cuda, "get_arch_list", lambda: list(architectures))
    return machine.gpu(0)


def test_an_old_card(monkeypatch: pytest.MonkeyPatch) -> None:
    new = card(monkeypatch, 9, 0, "sm_75", "sm_80", "sm_90a", "sm_100", "compute_120")
    assert (new.level, new.value) == ("ok", "NVIDIA Card, 8.0 GiB, compute capability 9.0")
    unknown = card(monkeypatch, 6, 1, "sm_75", "sm_100")
    assert (unknown.level, unknown.value) == (
        "wrong",
        f"NVIDIA Card, 8.0 GiB, compute capability 6.1: torch {torch.__version__} cannot use it",
    )
    assert unknown.remedy.startswith("take a card of 7.5 or newer, or install a torch for CUDA 12.6: pip install ")
    known = card(monkeypatch, 6, 1, "sm_50", "sm_60", "sm_70")
    assert (known.level, known.remedy.startswith("keep a torch for CUDA 12.6: pip install ")) == ("note", True)
    assert machine.oldest(["gfx90a"]) == (7, 5)


def test_a_gpu_that_is_seen_must_compute(sdc: Sdc, monkeypatch: pytest.MonkeyPatch) -> None:
    card(monkeypatch, 9, 0)

    def broken(*size: int, device: str) -> torch.Tensor:
        raise RuntimeError(f"CUDA error: no kernel image is available on {device}")

    monkeypatch.setattr(torch, "ones", broken)
    for name, value in {
        "is_available": True,
        "device_count": 2,
        "get_device_name": "NVIDIA Card",
        "get_device_capability": (9, 0),
    }.items():
        monkeypatch.setattr(torch.cuda, name, lambda value=value: value)
    told = sdc("doctor", "--json")
    assert told.code == 1
    assert of(told, "device", "device")["value"] == "cuda (NVIDIA Card)"
    assert of(told, "device", "visible GPUs")["value"] == "2"
    assert of(told, "device", "GPU 1")["level"] == "ok"
    product = of(told, "device", "a product on it")
    assert (product["level"], product["value"]) == (
        "wrong",
        "RuntimeError: CUDA error: no kernel image is available on cuda",
    )


def test_libraries_that_are_missing_or_too_old(monkeypatch: pytest.MonkeyPatch) -> None:
    versions = {"torch": "2.10.1+cu126", "numpy": "2.1", "torchvision": "0.26.0a0+git"}
    monkeypatch.setattr(machine, "_version", lambda name: versions.get(name, ""))
    required = ["torch>=2.11", "numpy>=1.26,<3", "torchvision>=0.26.0a0", "kornia>=0.8", 'pytest>=8; extra == "dev"']
    listed, *wrong = machine.libraries(required)
    assert listed.value == "torch 2.10.1+cu126, numpy 2.1, torchvision 0.26.0a0+git"
    assert [(each.name, each.level, each.remedy) for each in wrong] == [
        ("torch", "wrong", 'pip install "torch>=2.11"'),
        ("kornia", "wrong", 'pip install "kornia>=0.8"'),
    ]
    assert [each.value for each in wrong] == ["2.10.1+cu126, sdc needs >=2.11", "missing, sdc needs >=0.8"]


def test_a_torchvision_for_another_torch(sdc: Sdc, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torchvision", None)  # to import it raises
    found = of(sdc("doctor", "--json"), "torch", "torchvision")
    assert (found["level"], found["remedy"]) == ("wrong", "pip install --force-reinstall torch torchvision")


def test_a_torch_that_does_not_load_keeps_nothing_from_being_told(sdc: Sdc, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    told = sdc("doctor", "--json")
    assert list(dict.fromkeys(each["section"] for each in told.json["findings"])) == SECTIONS
    assert of(told, "torch", "check")["remedy"] == "pip install --force-reinstall torch"
    assert of(told, "processor", "cores")["level"] == "ok"
    assert of(told, "folders", "cache")["level"] == "ok"


def test_more_threads_than_cores(tmp_path: Path, sdc: Sdc, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(64)))
    monkeypatch.setenv("OMP_NUM_THREADS", "64")
    assert of(sdc("doctor", "--json"), "processor", "threads")["level"] == "ok"
    (tmp_path / "cpu.max").write_text("150000 100000\n")
    told = sdc("doctor", "--json")
    found = of(told, "processor", "threads")
    assert (told.code, found["level"], found["remedy"]) == (0, "note", "export OMP_NUM_THREADS=2")
    monkeypatch.delenv("OMP_NUM_THREADS")
    assert of(sdc("doctor", "--json"), "processor", "threads")["value"] == "by the work of each process, 2 at most"


def test_half_of_slurm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "sbatch").write_text("#!/bin/sh\n")
    (tmp_path / "sbatch").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    (found,) = surroundings.slurm()
    assert (found.level, found.value) == ("note", "squeue, scancel not on PATH")


def test_a_check_that_raises_is_a_finding_and_the_others_go_on(sdc: Sdc, monkeypatch: pytest.MonkeyPatch) -> None:
    def first() -> Iterator[Finding]:
        yield Finding("first", "before", "kept")
        raise ZeroDivisionError("by design")

    def second_one() -> Iterator[Finding]:
        raise FatalError("a [red]message[/red] of ours\nin two lines, in \udcff letters")
        yield

    def third() -> Iterator[Finding]:
        yield Finding("third", "after", "told")

    monkeypatch.setattr(doctor, "CHECKS", (first, second_one, third))
    told = sdc("doctor", "--json")
    assert told.code == 1
    assert [(each["section"], each["value"], each["level"]) for each in told.json["findings"]] == [
        ("first", "kept", "ok"),
        ("first", "ZeroDivisionError: by design", "wrong"),
        ("second one", "a [red]message[/red] of ours\nin two lines, in \udcff letters", "wrong"),
        ("third", "told", "ok"),
    ]
    page = sdc("doctor")
    assert (page.code, page.err) == (1, "")
    assert "  check: WRONG: a [red]message[/red] of ours\n    in two lines, in \\udcff letters\n" in page.out


def test_a_folder_that_is_gone_is_a_finding(tmp_path: Path, sdc: Sdc, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    told = sdc("doctor", "--json")
    assert (told.code, of(told, "folders", "runs")["level"]) == (1, "wrong")
    assert of(told, "folders", "cache")["level"] == "ok"
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SDC_CACHE", "~nobody-of-this-name/cache")
    assert json.loads(sdc("doctor", "--json").out)["ok"] is False

"""Commands where nothing may be written: what is right already needs no right; else it is said what is not writable."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from sdc.adapters.registry import ADAPTERS
from tests import benches, fake, rights
from tests.conftest import Outcome, Sdc

Given = Callable[..., list[Outcome]]
SPEC = """\
methods = ["fake"]
datasets = ["digits"]
weights = [0]
recipe = "trial"
[evaluate]
floor = false
"""
TRIAL = ("--dataset", "digits", "--recipe", "trial")
EXPERTS = ("--dataset", "digits", "--set", "num_experts=2", "--set", "train_epochs=1", "--set", "limit_per_class=3")


@dataclass(frozen=True)
class Place:
    """Folders that another user fills: clones, cache, runs, a fork; `made` is the fake's."""

    top: Path
    made: Path

    @property
    def script(self) -> Path:
        return self.top / "upstream" / "fake" / "train" / "distil.py"

    def close(self) -> None:
        """Nobody may write here any more; not what locks were left, either: they could be opened."""
        for lock in self.top.rglob("*.lock"):
            lock.unlink()
        for path in (self.top, *self.top.rglob("*")):
            if not path.is_symlink():
                path.chmod(0o555 if path.is_dir() or path.stat().st_mode & 0o111 else 0o444)

    def open(self) -> None:
        for folder, _, _ in os.walk(self.top):
            Path(folder).chmod(0o755)


@pytest.fixture
def place(fake_upstream: fake.Fake, monkeypatch: pytest.MonkeyPatch) -> Iterator[Place]:
    """In a folder that every user may look into, which that of a test is not."""
    top = Path(tempfile.mkdtemp(prefix="shared-by-all-"))
    shutil.copytree(fake_upstream.git_config.parent, top / "fake")
    config = (top / "fake" / "gitconfig").read_text().replace(str(fake_upstream.git_config.parent), f"{top}/fake")
    (top / "fake" / "gitconfig").write_text(config + "[safe]\n\tdirectory = *\n")
    monkeypatch.setitem(ADAPTERS, "fake", fake.opened(top / "fake").adapter)
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(top / "fake" / "gitconfig"))
    monkeypatch.setenv("HOME", str(top))
    for name in ("upstream", "cache"):
        monkeypatch.setenv(f"SDC_{name.upper()}", str(top / name))
    found = Place(top, top / "fake")
    yield found
    found.open()
    shutil.rmtree(top)


@pytest.fixture(params=["another user's", "read-only"])
def closed(request: pytest.FixtureRequest, place: Place) -> Given:
    """`closed(*commands)`: give them where all that is there may be read, and nothing written."""

    def give(*commands: tuple[object, ...]) -> list[Outcome]:
        if request.param == "read-only":
            for lock in place.top.rglob("*.lock"):
                lock.unlink()
            before = rights.read_only(place.top)
        else:
            place.close()
            before = rights.another_user()
        return rights.give(place.made, commands, before)

    return give


def test_what_is_right_already_is_found_so(closed: Given, place: Place, sdc: Sdc) -> None:
    assert sdc("apply", "fake", "--vendor").code == 0
    before = rights.snapshot(place.top / "upstream")

    done = closed(
        ("apply", "fake", "--json"),
        ("apply", "fake", "--vendor"),
        ("status", "fake", "--json"),
        ("verify", "fake", "--json"),
        ("list", "--json"),
    )

    assert [each.code for each in done] == [0, 0, 0, 0, 0], done
    assert done[0].json["methods"][0]["before"] == "patched"
    assert done[2].json["methods"][0]["state"] == "patched"
    locks = {name for name in before if name.endswith(".lock")}
    now = rights.snapshot(place.top / "upstream")
    kept = before.keys() - locks - {str(place.top / "upstream")}  # whose locks were taken away
    assert {name: now.get(name) for name in kept} == {name: before[name] for name in kept}
    assert now.keys() == before.keys() - locks


def test_a_pristine_clone_is_reverted_already(closed: Given, sdc: Sdc) -> None:
    assert (sdc("apply", "fake").code, sdc("revert", "fake").code) == (0, 0)
    (done,) = closed(("revert", "fake"))
    assert (done.code, done.out) == (0, "fake: pristine, no change\n")


@pytest.mark.parametrize("state", ["absent", "pristine", "patched"])
def test_a_clone_that_would_change_is_named_with_the_way_out(state: str, closed: Given, place: Place, sdc: Sdc) -> None:
    place.top.joinpath("upstream").mkdir()
    for command in {"absent": [], "pristine": ["apply", "revert"], "patched": ["apply"]}[state]:
        assert sdc(command, "fake").code == 0
    before = place.script.read_bytes() if state != "absent" else b""

    done = closed(("revert" if state == "patched" else "apply", "fake", "--json"))[0]

    assert done.code == 1, done
    assert done.json["error"].startswith(f"{place.top}/upstream cannot be written: "), done
    assert done.json["error"].endswith("\nWrite elsewhere: SDC_UPSTREAM=DIR")
    assert "bug" not in done.err
    assert (place.script.read_bytes() if state != "absent" else b"") == before


def test_a_fork_that_is_right_and_one_that_would_change(closed: Given, place: Place, sdc: Sdc) -> None:
    for name in ("patched", "pristine"):
        folder = place.top / name / "train"
        folder.mkdir(parents=True)
        (folder / "distil.py").write_text(fake.SCRIPT)
        (folder / "helpers.py").write_text(fake.HELPERS)
        fake._commit(place.top / name, {})
    assert sdc("apply", "fake", "--to", place.top / "patched").code == 0

    right, vendored, wrong = closed(
        ("apply", "fake", "--to", place.top / "patched"),
        ("apply", "fake", "--to", place.top / "patched", "--vendor", "--json"),
        ("apply", "fake", "--to", place.top / "pristine", "--json"),
    )

    assert (right.code, right.out.splitlines()[0]) == (0, "fake: patched, no change"), right
    assert (vendored.code, wrong.code) == (1, 1)
    for done, file in ((vendored, "patched/train/sdc.py"), (wrong, "pristine/train/distil.py")):
        assert done.json["error"].startswith(f"{place.top / file} cannot be "), done
        assert done.json["error"].endswith("\nName another place: --to DIR")
    assert (place.top / "pristine" / "train" / "distil.py").read_text() == fake.SCRIPT


@pytest.mark.slow
def test_runs_that_are_complete_are_read_and_others_named(
    closed: Given, place: Place, sdc: Sdc, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(ADAPTERS, "matcher", fake.matcher(ADAPTERS["fake"]))
    runs, spec = place.top / "runs", place.top / "spec.toml"
    spec.write_text(SPEC)
    run: tuple[Any, ...] = ("run", "fake", "--weight", 0, *TRIAL, "--set", "history=0", "--runs", runs)
    train = ("experts", "train", "matcher", *EXPERTS)
    made = sdc(*run, "--json")
    assert made.code == 0, made
    benches.in_this_process(monkeypatch)
    assert sdc("bench", spec, "--runs", runs).code == 0
    assert sdc(*train).code == 0

    with tempfile.TemporaryDirectory(prefix="written-by-all-") as out:
        Path(out).chmod(0o777)
        right = closed(
            (*run, "--json"),
            ("bench", spec, "--runs", runs, "--json"),
            ("evaluate", made.json["run"], "--networks", 1, "--set", "epochs=1", "--json"),
            ("report", runs, "--out", out, "--no-difficulty", "--json"),
            ("experts", "--json"),
            (*train, "--json"),
        )
        wrong = {
            "--runs DIR": (*run, "--seed", 1),
            "SDC_CACHE=DIR": (*train, "--set", "expert_seed=1"),
            "--out PATH": ("report", runs, "--no-difficulty"),
            "--html FILE": ("report", runs, "--no-difficulty", "--out", out, "--html", place.top / "page.html"),
            "--report FILE": ("verify", "fake", "--report", place.top / "proof.md"),
        }
        failed = closed(*((*command, "--json") for command in wrong.values()))

    assert [each.code for each in right] == [0] * len(right), [each for each in right if each.code]
    assert right[0].json["accuracy"] == made.json["accuracy"]
    assert right[1].json["ran"] == 0
    for (way, command), done in zip(wrong.items(), failed, strict=True):
        assert done.code == 1, (command, done)
        assert "cannot be" in done.json["error"], done
        assert done.json["error"].endswith(f": {way}"), done


@pytest.mark.slow
def test_a_new_run_needs_to_write_to_its_own_folder_alone(place: Place, sdc: Sdc) -> None:
    """Clones and cache on a read-only file system, as in a container; not another user's: scripts are processes."""
    assert sdc("run", "fake", "--weight", 0, *TRIAL, "--set", "history=0", "--runs", place.top / "runs").code == 0
    with tempfile.TemporaryDirectory(prefix="written-by-all-") as out:
        run = ("run", "fake", "--weight", 2, *TRIAL, "--runs", Path(out) / "runs", "--json")
        (done,) = rights.give(place.made, [run], rights.read_only(place.top))
    assert (done.code, done.json["state"]) == (0, "complete"), done


def test_a_benchmark_that_cannot_keep_a_result_begins_nothing(closed: Given, place: Place, sdc: Sdc) -> None:
    assert sdc("apply", "fake").code == 0
    (place.top / "runs").mkdir()
    (place.top / "spec.toml").write_text(SPEC)
    assert sdc("bench", place.top / "spec.toml", "--dry-run").code == 0  # by which the data are there
    (done,) = closed(("bench", place.top / "spec.toml", "--runs", place.top / "runs", "--json"))
    assert done.code == 1, done
    assert done.json["error"].startswith(f"{place.top}/runs cannot be written: "), done
    assert done.json["error"].endswith("\nName another place: --runs DIR"), done

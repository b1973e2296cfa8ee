"""`--to DIR`: a user's own fork is run as it is. Its runs have keys of their own, and nothing is written into it."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import shlex
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from sdc.adapters.registry import ADAPTERS
from sdc.distillation import run
from sdc.evaluation import networks
from sdc.ground import paths
from sdc.ground.errors import FatalError
from sdc.ground.watch import Quiet
from sdc.patching import trees
from sdc.plan.request import Request, plan
from tests import fake
from tests.conftest import Outcome, Sdc
from tests.distillation.test_resume import start, steps, wait
from tests.forked import CHANGE, commit, edit, everything, fork, git, patched

BRIEF = ("--set", "limit_per_class=3", "--set", "steps=4", "--set", "networks=1", "--set", "epochs=1")
Run = Callable[..., Outcome]


@pytest.fixture
def own(fake_upstream: fake.Fake, sdc: Sdc, tmp_path: Path) -> Path:
    """A patched fork whose script has a change of its own; the patch is not committed."""
    return patched(fake_upstream, sdc, tmp_path / "own")


@pytest.fixture
def distil(sdc: Sdc, tmp_path: Path) -> Run:
    def short(*more: object, weight: object = 0.5, method: str = "fake", runs: str = "runs") -> Outcome:
        return sdc("run", method, "--weight", weight, *BRIEF, "--runs", tmp_path / runs, "--json", *more)

    return short


def done(outcome: Outcome) -> Outcome:
    assert outcome.code == 0, outcome
    return outcome


def images(outcome: Outcome) -> torch.Tensor:
    return load_file(Path(done(outcome).json["run"]) / "distilled.safetensors")["images"]


def told(outcome: Outcome, file: str = "cell.json") -> Any:
    return json.loads((Path(done(outcome).json["run"]) / file).read_text())


@pytest.mark.parametrize("weight", [0, 0.5])
def test_a_fork_does_what_an_upstream_does_that_always_had_its_change(
    weight: float, own: Path, distil: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = everything(own)
    outcome = distil("--to", own, weight=weight)
    assert everything(own) == before
    assert git(own, "status", "--porcelain") == "M train/distil.py"

    of_pin = images(distil(weight=weight)) if weight else None
    old, new = CHANGE["train/distil.py"]
    other = fake.build(tmp_path / "other", text=fake.SCRIPT.replace(old, new))
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(other.git_config))
    monkeypatch.setenv("SDC_UPSTREAM", str(tmp_path / "others"))
    monkeypatch.setitem(ADAPTERS, "fake", other.adapter)
    always = distil(weight=weight, runs="others")

    assert images(outcome).equal(images(always))
    assert of_pin is None or not images(outcome).equal(of_pin)
    assert outcome.json["accuracy"] == always.json["accuracy"]


def test_its_files_say_which_fork_it_was(own: Path, distil: Run, sdc: Sdc) -> None:
    outcome = distil("--to", own)

    head, script = git(own, "rev-parse", "HEAD"), own / "train" / "distil.py"
    for file in ("cell.json", "result.json"):
        fact = told(outcome, file)["fork"]
        assert fact["path"] == str(own)
        assert fact["commit"] == head
        assert fact["script"] == "train/distil.py"
        assert fact["script_sha256"] == hashlib.sha256(script.read_bytes()).hexdigest()
        assert fact["name"] == f"fork {head[:7]}"
    assert f"fake (fork {head[:7]}): {script} is run as it is" in outcome.err
    exported = done(sdc("export", outcome.json["run"], "--to", "folder", "--json")).json["path"]
    assert json.loads((Path(exported) / "metadata.json").read_text())["fork"] == f"fork {head[:7]}"
    assert done(distil("--to", own)).json["run"] == outcome.json["run"]


def test_a_key_of_the_pin_is_what_it_was(own: Path, distil: Run) -> None:
    cell = told(distil())
    names = ("method", "dataset", "ipc", "weight", "schedule", "model", "seed", "recipe", "settings", "upstream")
    names += ("commit", "patch_sha256", "data_sha256", "experts")
    assert "fork" not in cell
    text = json.dumps({name: cell[name] for name in names}, sort_keys=True)
    assert cell["key"] == hashlib.sha256(text.encode()).hexdigest()[:10]


def test_whatever_the_script_may_import_makes_another_key_and_nothing_else_does(own: Path, tmp_path: Path) -> None:
    def key(folder: Path = own) -> str:
        request = Request("fake", 0.5, "digits", changes=("limit_per_class=3",))
        found = trees.look(ADAPTERS["fake"], folder)
        return plan(dataclasses.replace(request, fork=found), Quiet()).cell.key()

    first, helper = key(), own / "train" / "helpers.py"
    (own / "notes.txt").write_text("of no matter")
    (own / "train" / "__pycache__").mkdir()
    (own / "train" / "__pycache__" / "helpers.cpython-311.pyc").write_bytes(b"what was compiled by hand")
    (own / ".venv").mkdir()
    (own / ".venv" / "thing.py").write_text("x = 1")
    shutil.copy(paths.PLUGIN, own / "train" / "sdc.py")
    assert key() == first
    shutil.copytree(own, tmp_path / "moved")
    assert key(tmp_path / "moved") == first

    seen = {first}

    def differs() -> bool:
        seen.add(key())
        return len(seen) == differing

    for differing, change in enumerate(
        (
            lambda: edit(helper, "0.5", "0.75"),
            lambda: edit(helper, "0.75", "0.25"),
            lambda: (own / "train" / "more.py").write_text("import helpers"),
            lambda: edit(own / "train" / "distil.py", "training begins", "mine begins"),
            lambda: (own / "elsewhere").symlink_to(tmp_path / "moved" / "experts"),
            lambda: edit(tmp_path / "moved" / "experts" / "trainer.py", "lr=0.01", "lr=0.02"),
            lambda: commit(own),
        ),
        start=2,
    ):
        change()
        assert differs(), differing


def test_a_fork_that_is_not_patched_is_refused_with_the_command_and_stays_as_it_is(
    fake_upstream: fake.Fake, distil: Run, sdc: Sdc, tmp_path: Path
) -> None:
    folder = fork(fake_upstream, tmp_path / "a fork")
    before = everything(folder)
    calls = (
        distil("--to", folder),
        distil("--to", folder, weight=0),
        sdc("calibrate", "fake", "--to", folder, *BRIEF, "--runs", tmp_path / "runs", "--json"),
    )
    for outcome in calls:
        assert outcome.code == 1
        assert f"Run: sdc apply fake --to '{folder}'" in outcome.json["error"]
    assert everything(folder) == before
    assert not (tmp_path / "runs").exists()


def test_what_cannot_be_run_is_refused_and_says_why(own: Path, distil: Run, tmp_path: Path) -> None:
    assert "--to" in distil("--to", tmp_path / "nowhere").json["error"]
    assert distil("--script", "train/other.py").code == 2

    (own / "sdc.py").write_text("import json\n")
    clash = distil("--to", own)
    assert clash.code == 1
    assert f"{own / 'sdc.py'} is not the plugin's copy" in clash.json["error"]
    (own / "sdc.py").unlink()

    edit(own / "train" / "distil.py", "sdc.add_options(parser)", "pass")
    partly = distil("--to", own)
    assert partly.code == 1
    assert f"sdc verify fake --to {own}" in partly.json["error"]
    assert not (tmp_path / "runs").exists()


def test_a_script_by_another_name_is_run_where_it_is_told(own: Path, distil: Run) -> None:
    usual = distil("--to", own)
    (own / "train" / "distil.py").rename(own / "train" / "mine.py")

    missing, renamed = distil("--to", own), distil("--to", own, "--script", "train/mine.py")

    assert missing.code == 1
    assert told(renamed)["fork"]["script"] == "train/mine.py"
    assert told(renamed)["key"] != told(usual)["key"]
    assert images(renamed).equal(images(usual))


def test_a_fork_that_is_changed_before_its_run_begins_fails_it_and_put_back_it_goes_on(
    own: Path, tmp_path: Path
) -> None:
    request = Request("fake", 0.5, "digits", changes=("limit_per_class=3", "steps=2", "networks=1", "epochs=1"))
    planned = plan(dataclasses.replace(request, fork=trees.look(ADAPTERS["fake"], own)), Quiet())
    helper = own / "train" / "helpers.py"
    edit(helper, "0.5", "0.75")
    with pytest.raises(FatalError, match="a Python file that its script may import was changed"):
        run.run(planned, tmp_path / "runs", Quiet())
    assert not list((tmp_path / "runs").glob("*/distilled.safetensors"))

    edit(helper, "0.75", "0.5")
    commit(own)  # what runs is the same, wherever it is committed
    assert run.run(planned, tmp_path / "runs", Quiet())["state"] == "complete"

    shutil.move(own, tmp_path / "gone")
    with pytest.raises(FatalError, match="has to see the fork under that path"):
        run.run(planned, tmp_path / "runs", Quiet(), again=True)


def test_a_run_that_is_cut_short_goes_on_and_ends_as_one_that_was_not(
    own: Path, fake_upstream: fake.Fake, sdc: Sdc, tmp_path: Path
) -> None:
    slow = ("limit_per_class=3", "end=slow", "steps=40", "snapshot_every=5", "networks=1", "epochs=1")
    asked = ("run", "fake", "--weight", 0.5, "--to", own, *(word for each in slow for word in ("--set", each)))
    whole = done(sdc(*asked, "--runs", tmp_path / "whole", "--json"))
    runs = tmp_path / "runs"
    child = start(fake_upstream, *asked, "--runs", runs)
    wait(lambda: any(len(steps(folder)) > 12 for folder in runs.glob("*/")), child)
    os.killpg(child.pid, signal.SIGINT)
    child.communicate(timeout=60)

    outcome = done(sdc(*asked, "--runs", runs, "--json"))

    assert [part["stage"] for part in outcome.json["resumed"]] == ["distil"]
    assert images(outcome).equal(images(whole))
    assert git(own, "status", "--porcelain") == "M train/distil.py"


def test_a_script_whose_loop_is_another_runs_all_the_same(own: Path, distil: Run) -> None:
    usual = images(distil("--to", own))
    edit(own / "train" / "distil.py", "in range(args.steps)", "in list(range(args.steps))")
    assert images(distil("--to", own)).equal(usual)


def test_a_calibration_is_of_the_fork(own: Path, sdc: Sdc, tmp_path: Path) -> None:
    asked = ("calibrate", "fake", *BRIEF, "--updates", 2, "--runs", tmp_path / "runs", "--json")
    of_pin, of_fork = done(sdc(*asked)).json, done(sdc(*asked, "--to", own)).json
    assert of_pin["file"] != of_fork["file"]
    assert of_fork["fork"]["path"] == str(own)
    kept = json.loads(Path(of_fork["file"]).read_text())
    assert kept["cell"]["fork"]["commit"] == git(own, "rev-parse", "HEAD")


# --- experts

TRAINER = Path("experts") / "trainer.py"


@pytest.fixture
def matching(
    own: Path, fake_upstream: fake.Fake, sdc: Sdc, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., dict[str, Any]]:
    """`matching(*words)`: the facts of the experts that these words name, trained if they are not there."""
    monkeypatch.setitem(ADAPTERS, "matcher", fake.matcher(fake_upstream.adapter))
    monkeypatch.setenv("SDC_CACHE", str(tmp_path / "cache"))

    def train(*words: object) -> dict[str, Any]:
        few = ("limit_per_class=3", "num_experts=2", "model=ConvNetD1")
        settings = (word for each in few for word in ("--set", each))
        outcome = done(sdc("experts", "train", "matcher", *settings, *words, "--json"))
        return outcome.json | {"said": outcome.err}

    return train


def experts_in(facts: dict[str, Any]) -> list[torch.Tensor]:
    file = Path(facts["folder"]) / "made" / "replay_buffer_0.pt"
    return [part for expert in torch.load(file, weights_only=True) for state in expert for part in state]


def test_experts_are_the_pins_where_what_trains_them_is(own: Path, matching: Callable[..., dict[str, Any]]) -> None:
    pin = matching()
    trainer = own / TRAINER
    assert matching("--to", own)["key"] == pin["key"]
    trainer.write_bytes(b"# mine\n" + trainer.read_bytes().replace(b'"--pace"', b"'--pace'").replace(b"\n", b"\r\n"))
    assert matching("--to", own)["key"] == pin["key"]
    trainer.unlink()
    without = matching("--to", own)
    assert without["key"] == pin["key"]
    assert "has no experts/trainer.py: its runs match the experts of the pin" in without["said"]


def test_experts_are_the_forks_where_what_trains_them_is_its_own(
    own: Path, matching: Callable[..., dict[str, Any]], distil: Run
) -> None:
    pin = matching()
    edit(own / TRAINER, "lr=0.01", "lr=0.02")
    before = everything(own)
    own_ones = matching("--to", own)
    assert own_ones["key"] != pin["key"]
    assert own_ones["fork"]["path"] == str(own)
    assert "its runs match experts of its own" in own_ones["said"]
    assert not all(one.equal(other) for one, other in zip(experts_in(own_ones), experts_in(pin), strict=True))
    assert everything(own) == before
    assert matching()["key"] == pin["key"]

    few = ("--set", "num_experts=2", "--set", "model=ConvNetD1")
    for words, key in ((("--to", own), own_ones["key"]), ((), pin["key"])):
        cell = told(distil(*few, *words, method="matcher"))
        assert cell["experts"] == key


def test_experts_that_were_trained_elsewhere_are_taken_in_as_the_forks(
    own: Path, matching: Callable[..., dict[str, Any]], sdc: Sdc, tmp_path: Path
) -> None:
    edit(own / TRAINER, "lr=0.01", "lr=0.02")
    state = [part.detach() for part in networks.build("ConvNetD1", 3, 10, 32, seed=0).parameters()]
    (theirs := tmp_path / "theirs").mkdir()
    torch.save([[state] * 3] * 2, theirs / "replay_buffer_0.pt")
    few = ("--set", "limit_per_class=3", "--model", "ConvNetD1")

    counted = sdc("experts", "import", theirs, "matcher", *few, "--set", "num_experts=3", "--to", own).err
    command = shlex.split(" ".join(counted[counted.index("sdc experts import") :].split()))
    taken = done(sdc(*command[1:], "--unchecked", "--json")).json

    assert taken["fork"]["path"] == str(own)
    assert taken["imported_from"] == str(theirs)
    assert matching("--to", own)["imported_from"] == str(theirs)
    pin = done(sdc("experts", "import", theirs, "matcher", *few, "--set", "num_experts=2", "--unchecked", "--json"))
    assert pin.json["key"] != taken["key"]


def test_options_and_defaults_of_its_own_are_told_for_the_script_is_told_others(
    own: Path, distil: Run, tmp_path: Path
) -> None:
    assert "its script" not in done(distil("--to", own)).err
    added = '"--ipc", type=int)\r\nparser.add_argument("--tau", type=float, default=0.1)'
    edit(own / "train/distil.py", '"--ipc", type=int)', added)
    edit(own / "train/distil.py", '"--rate", type=float)', '"--rate", type=float, default=7.0)')

    told_others = distil("--to", own)

    assert "to have them: --set rate=7.0" in told_others.err
    assert "stay at their defaults there: tau" in told_others.err
    with_them = distil("--to", own, "--set", "rate=7.0")
    assert not images(with_them).equal(images(told_others))

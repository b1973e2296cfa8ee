"""What every adapter, patch and recipe must keep to."""

from __future__ import annotations

import hashlib
import itertools
import re
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from sdc.adapters.base import Adapter, Job, Slot, Upstream
from sdc.adapters.registry import ADAPTERS
from sdc.evaluation import networks
from sdc.evaluation.protocol import from_dict
from sdc.ground import paths
from sdc.patching.scaffold import UNFILLED
from sdc.plan.settings import resolve

SHAPES = {
    **dict.fromkeys(("mnist", "fashionmnist"), (10, 1, 28)),
    **dict.fromkeys(("svhn", "cifar10"), (10, 3, 32)),
    "cifar100": (100, 3, 32),
    "tinyimagenet": (200, 3, 64),
    "digits": (10, 1, 32),
}
"""Classes, channels and size of the datasets known by name."""

FEWER = {"dsac": {200}}
"""Numbers of classes that a script knows no dataset of."""

every = pytest.mark.parametrize("adapter", ADAPTERS.values(), ids=ADAPTERS.keys())


def jobs(adapter: Adapter, recipe: str) -> list[tuple[str, Job]]:
    """Every job that a recipe promises to cover, by the dataset's name."""
    stored: dict[str, Any] = adapter.recipes[recipe]
    found = []
    for name, ipc in itertools.product(stored.get("datasets", SHAPES), stored.get("ipc", [1, 10])):
        fitting = [slot for slot in adapter.slots if slot.classes == SHAPES[name][0]]
        if not fitting and "datasets" not in stored:
            continue  # the script knows no dataset of so many classes, and a run is refused with the reason
        settings = resolve(adapter, recipe, name, ipc, [])
        slot = next((slot for slot in fitting if slot.name == adapter.datasets.get(name)), fitting[0])
        found.append((name, Job(slot, ipc, settings.model, settings.options, settings.experts)))
    return found


def told(adapter: Adapter, job: Job) -> dict[str, str]:
    """What the script is told by its command line, and by the file that this names; a flag alone is told as 1."""
    words = adapter.argv(job)
    found = pairs(words)
    for text in adapter.files(job).values():
        stored = yaml.safe_load(text)
        found |= {name: str(int(value) if isinstance(value, bool) else value) for name, value in stored.items()}
    return found


def pairs(words: list[str]) -> dict[str, str]:
    """`--name value` as a pair, and `--name` alone with the value 1."""
    assert all(isinstance(word, str) for word in words)
    after = [*words[1:], "--"]
    return {
        word.removeprefix("--"): "1" if value.startswith("--") else value
        for word, value in zip(words, after, strict=True)
        if word.startswith("--")
    }


@every
def test_a_method_is_registered_under_its_name_with_a_full_pin(adapter: Adapter) -> None:
    assert ADAPTERS[adapter.method] is adapter
    assert adapter.title
    assert UNFILLED not in str(adapter)
    assert re.fullmatch(r"[0-9a-f]{40}", adapter.upstream.commit)


@pytest.mark.parametrize(("url", "commit"), [("git@host:a/b", "0" * 40), ("https://host/a/b", "main")])
def test_an_upstream_is_an_https_address_at_a_full_hash(url: str, commit: str) -> None:
    with pytest.raises(ValueError, match=re.escape(repr(url if commit != "main" else commit))):
        Upstream(url, commit, licence=None)


def breaches(content: bytes, script: str) -> list[str]:
    """Where a patch file breaks our rules: one file, additive, zero context, bare hunk headers, six lines at most."""
    lines = content.decode().split("\n")
    body = lines[next(n for n, line in enumerate(lines) if line.startswith("--- ")) :]
    found = [] if body[:2] == [f"--- a/{script}", f"+++ b/{script}"] else [f"files {body[:2]}"]
    hunks = [line for line in body[2:] if line.startswith("@@")]
    added = [line for line in body[2:] if line.startswith("+")]
    found += [f"hunk {line}" for line in hunks if not re.fullmatch(r"@@ -\d+,0 \+\d+(,\d+)? @@", line)]
    found += [f"line {line}" for line in body[2:] if line and not line.startswith(("@@", "+"))]
    return found + ([] if 0 < len(added) <= 6 else [f"{len(added)} lines"])


@every
def test_a_patch_adds_a_few_lines_to_one_script_and_holds_nothing_else(adapter: Adapter) -> None:
    content = (paths.PATCHES / adapter.patch.file).read_bytes()

    assert breaches(content, adapter.patch.script) == []
    assert hashlib.sha256(content).hexdigest() == adapter.patch.sha256


def test_the_rules_catch_what_breaks_them() -> None:
    head = b"--- a/s.py\n+++ b/s.py\n"
    assert breaches(head + b"@@ -3,0 +4 @@\n+ours\n", "s.py") == []
    assert breaches(head + b"@@ -3,0 +4 @@\n+ours\n", "t.py") != []
    assert breaches(head + b"@@ -3 +3 @@\n-theirs\n+ours\n", "s.py") == ["hunk @@ -3 +3 @@", "line -theirs"]
    assert breaches(head + b"@@ -3,0 +4 @@ def theirs():\n+ours\n", "s.py") == ["hunk @@ -3,0 +4 @@ def theirs():"]
    assert breaches(head + b"@@ -3,0 +4 @@\n theirs\n+ours\n", "s.py") == ["line  theirs"]
    assert breaches(head + b"@@ -3,0 +4,7 @@\n" + b"+ours\n" * 7, "s.py") == ["7 lines"]


def test_git_leaves_the_line_ends_of_patches_alone() -> None:
    files = sorted(path.relative_to(paths.ROOT).as_posix() for path in paths.PATCHES.glob("*.patch"))
    asked = ["git", "-C", paths.ROOT, "check-attr", "text", "--", *files]
    told = subprocess.run(asked, check=True, capture_output=True, text=True).stdout.splitlines()

    assert {Path(name).name for name in files} == {adapter.patch.file for adapter in ADAPTERS.values()}
    assert told == [f"{name}: text: unset" for name in files]


@every
@pytest.mark.parametrize("recipe", ["quick", "paper", "trial"])
def test_a_recipe_names_its_source_and_holds_for_all_it_covers(adapter: Adapter, recipe: str) -> None:
    stored = adapter.recipes[recipe]
    assert all(part["source"] for part in (stored, *stored.get("case", [])))
    assert UNFILLED not in str(stored)

    for name, job in jobs(adapter, recipe):
        if adapter.refuse(job) and recipe in ("quick", "trial"):
            continue  # quick is for any dataset; what the script cannot do is refused with the reason
        assert adapter.refuse(job) is None, name
        said = told(adapter, job)
        assert adapter.steps(job) > 0
        learned = {"lr": 0.01} if adapter.experts else {}
        assert not set(learned) & set(adapter.evaluation(job))
        from_dict(learned | dict(adapter.evaluation(job)))
        for option, value in job.options.items():
            if option == "batch_syn" and value == 0:
                assert said.get(option) in (None, str(job.slot.classes * job.ipc))  # all of them
            elif isinstance(value, float):
                assert float(said[option]) == value
            else:
                assert said.get(option, "0") == str(value)
        assert (said["dataset"], said["ipc"], said["model"]) == (job.slot.name, str(job.ipc), job.model)


@every
@pytest.mark.parametrize("recipe", ["quick", "paper"])
def test_experts_are_trained_as_the_settings_say_and_a_match_ends_within_them(adapter: Adapter, recipe: str) -> None:
    if adapter.experts is None:
        assert not adapter.loss
        assert not any(job.experts for _, job in jobs(adapter, recipe))
        return
    for name, job in jobs(adapter, recipe):
        said = pairs(adapter.experts.argv(job))
        count = int(job.experts["num_experts"])
        assert (said["dataset"], said["model"], said["num_experts"]) == (job.slot.name, job.model, str(count)), name
        assert said["save_interval"] == "1"
        assert int(job.experts["num_experts"]) % adapter.experts.files(job) == 0
        assert int(job.experts["num_experts"]) // adapter.experts.files(job) <= 10
        assert said["train_epochs"] == str(job.experts["train_epochs"])
        assert float(said["lr_teacher"]) == job.experts["expert_lr"]
        assert said.get("zca", "0") == str(job.options["zca"])
        assert "expert_seed" not in said
        too_late = {**job.options, "max_start_epoch": 10**6, "current_max_start_epoch": 10**6}
        options = {name: value for name, value in too_late.items() if name in adapter.options}
        assert "of an expert" in (adapter.refuse(replace(job, options=options)) or "")


def test_methods_that_name_the_same_experts_train_them_by_the_same_command() -> None:
    kinds = {"sgd": ("mtt", "tesla"), "flat": ("ftd", "datm")}
    assert {m: a.experts.kind for m, a in ADAPTERS.items() if a.experts} == {
        method: kind for kind, methods in kinds.items() for method in methods
    }
    for first, second in kinds.values():
        other = ADAPTERS[second].experts
        assert other is ADAPTERS[first].experts
        assert other is not None
        assert other.method in (first, second)
        assert other.script != ADAPTERS[first].patch.script


@every
def test_every_dataset_has_a_slot_of_its_number_of_classes_and_a_named_one_is_of_its_shape(adapter: Adapter) -> None:
    slots = {slot.name: slot for slot in adapter.slots}
    assert len(slots) == len(adapter.slots)
    lacking = FEWER.get(adapter.method, set())
    assert {slot.classes for slot in adapter.slots} == {shape[0] for shape in SHAPES.values()} - lacking
    for name, own in adapter.datasets.items():
        assert _shape(slots[own]) == SHAPES[name]
    assert len(adapter.datasets) == (3 if adapter.experts else 6) - len(lacking)


def _shape(slot: Slot) -> tuple[int, int, int]:
    return slot.classes, slot.channels, slot.size


@every
def test_every_model_can_be_evaluated_where_it_can_be_distilled_with(adapter: Adapter) -> None:
    name, job = jobs(adapter, "quick")[0]
    for model, slot in itertools.product(adapter.models, adapter.slots):
        if adapter.refuse(replace(job, model=model, slot=slot)) is None:
            network = networks.build(model, slot.channels, slot.classes, slot.size, seed=0)
            assert sum(parameter.numel() for parameter in network.parameters()) > 0, (name, model, slot)


@pytest.mark.parametrize("method", ["dc", "dsa", "dm"])
def test_ipc_that_the_loops_do_not_know_are_refused_with_those_they_do(method: str) -> None:
    adapter = ADAPTERS[method]
    _, job = jobs(adapter, "quick")[0]
    for ipc in (2, 5, 100):
        assert "ipc 1, 10, 20, 30, 40, 50 only" in (adapter.refuse(replace(job, ipc=ipc)) or "")


@every
def test_what_to_do_without_memory_names_options_and_models_of_the_method(adapter: Adapter) -> None:
    advice = [adapter.advice["memory"], *([adapter.experts.advice["memory"]] if adapter.experts else [])]
    for text in advice:
        options = re.findall(r"--set (\w+)=", text)
        assert options
        assert set(options) <= set(adapter.settings())
        assert set(re.findall(r"--model (\w+)", text)) <= set(adapter.models)

"""Several sets scored by one call: those of one kind share stacks, and none depends on the others."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from sdc.evaluation import scoring, stacked
from sdc.evaluation import training as evaluation
from sdc.evaluation.protocol import UNIFORM, Protocol, override
from sdc.evaluation.training import Score, Trial, evaluate_all
from tests.conftest import Sdc
from tests.evaluation.test_training import stripes

SHORT = Protocol(lr=0.02, epochs=3, batch=4, networks=3)


def trial(seed: int, *, shown: int = 6, **changes: object) -> Trial:
    """A set of its own with networks of their own, tested on noise, of which each network thinks what it likes."""
    noise = torch.randn(60, 1, 16, 16, generator=torch.Generator().manual_seed(100 + seed))
    return Trial(*stripes(shown, seed), noise, torch.arange(60) % 3, override(SHORT, changes), seed)


def results(scores: Sequence[Score]) -> list[tuple[int, float]]:
    return [(score.seed, score.accuracy) for score in scores]


@pytest.fixture
def stacks(monkeypatch: pytest.MonkeyPatch) -> list[list[float]]:
    """The rates of the members of each stack that was trained: they tell whose these are."""
    true, found = stacked.train, list[list[float]]()

    def train(members: Sequence[stacked.Member], *others: Any) -> None:
        found.append([member.lr for member in members])
        true(members, *others)

    monkeypatch.setattr(stacked, "train", train)
    return found


def together(trials: Sequence[Trial], **options: Any) -> list[list[Score]]:
    return evaluate_all(trials, "ConvNetW32", device="cpu", stack=True, **options)


def alone(each: Trial) -> list[Score]:
    """Every network by itself, one at a time."""
    ((*found,),) = evaluate_all([each], "ConvNetW32", device="cpu", stack=False)
    return found


# The evaluator


def test_networks_of_several_sets_share_stacks_and_each_scores_what_it_does_alone(
    stacks: list[list[float]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stacked, "fitting", lambda *_: 4)
    trials = [trial(1), trial(2, lr=0.005), trial(3, lr=0.01, networks=1)]

    found = together(trials)

    assert stacks == [[0.02] * 3 + [0.005], [0.005, 0.005, 0.01]]
    assert [results(of_set) for of_set in found] == [results(alone(each)) for each in trials]
    assert [len(of_set) for of_set in found] == [3, 3, 1]
    assert len({score.accuracy for of_set in found for score in of_set}) > 2


@pytest.mark.parametrize(
    "other",
    [
        trial(2, shown=7),
        trial(2, epochs=2),
        trial(2, augment=UNIFORM.augment),
        replace(trial(2), labels=torch.randn(6, 3, generator=torch.Generator().manual_seed(0))),
    ],
    ids=["another number of images", "another protocol", "an augmentation", "soft labels"],
)
def test_sets_of_another_kind_have_a_turn_of_their_own(other: Trial, stacks: list[list[float]]) -> None:
    trials = [trial(1, networks=2), replace(other, protocol=override(other.protocol, {"lr": 0.01, "networks": 2}))]

    found = together([*trials, trial(3, networks=2)])

    assert sorted(stacks) == [[0.01] * 2, [0.02] * 4]
    assert results(found[1]) == results(alone(trials[1]))


def test_each_set_goes_on_behind_its_own_networks_and_hears_of_its_own(stacks: list[list[float]]) -> None:
    first, second = trial(1), trial(2, lr=0.005)
    whole, heard, seen = together([first, second]), {1: list[Score](), 2: list[Score]()}, list[tuple[int, int]]()
    stacks.clear()

    again = together(
        [
            replace(first, scored=whole[0][:2], on_score=heard[1].append),
            replace(second, scored=whole[1][1:2], on_score=heard[2].append),
        ],
        on_progress=lambda *done: seen.append(done),
    )

    assert [results(of_set) for of_set in again] == [results(of_set) for of_set in whole]
    assert stacks == [[0.02] * 3 + [0.005] * 3]  # as before, or they would round otherwise
    assert {name: results(scores) for name, scores in heard.items()} == {
        1: results(whole[0][2:]),
        2: results([whole[1][0], whole[1][2]]),
    }
    assert seen == [(done, 24) for done in (15, 18, 21, 24)]  # six networks of four epochs; three at once are to come


def test_without_a_stack_every_bit_is_that_of_a_set_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    true, trained = evaluation.tested, list[Tensor]()

    def tested(network: torch.nn.Module, *shown: Tensor) -> float:
        trained.append(torch.cat([parameter.detach().flatten() for parameter in network.parameters()]))
        return true(network, *shown)

    monkeypatch.setattr(evaluation, "tested", tested)
    trials = [trial(1, networks=2), trial(2, networks=2)]
    evaluate_all(trials, "ConvNetW32", device="cpu")
    apart = list(trained)
    trained.clear()
    for each in trials:
        alone(each)
    assert torch.stack(apart).equal(torch.stack(trained))


# The command


def write(path: Path, seed: int, lr: float, std: float = 0.5) -> Path:
    """A set of digits made elsewhere."""
    images = torch.randn(10, 3, 32, 32, generator=torch.Generator().manual_seed(seed))
    facts = {
        "dataset": "digits",
        "classes": json.dumps([str(digit) for digit in range(10)]),
        "mean": "[0.5, 0.5, 0.5]",
        "std": json.dumps([std] * 3),
        "protocol": json.dumps({"lr": lr, "epochs": 2, "networks": 2}),
    }
    save_file({"images": images, "labels": torch.arange(10)}, path, facts)
    return path


@pytest.fixture
def sets(tmp_path: Path) -> list[Path]:
    return [write(tmp_path / f"{n}.safetensors", n, 0.01 / n, std) for n, std in ((1, 0.5), (2, 0.5), (3, 0.2))]


def test_several_paths_give_a_list_of_what_each_gives_alone(sets: list[Path], sdc: Sdc) -> None:
    each = [sdc("evaluate", path, "--model", "MLP", "--json").json for path in sets]

    outcome = sdc("evaluate", *sets, "--model", "MLP", "--json")

    assert outcome.code == 0, outcome
    assert set(outcome.json) == {"state", "sets"}
    assert outcome.json["state"] == "complete"
    assert [_facts(found) for found in outcome.json["sets"]] == [_facts(found) for found in each]
    assert [found["run"] for found in outcome.json["sets"]] == [str(path) for path in sets]
    assert len({found["mean"] for found in each}) == 3
    table = sdc("evaluate", *sets, "--model", "MLP", "--networks", 1).out
    rows = [line.split("│")[1:-1] for line in table.splitlines() if line.startswith("│")]
    assert [row[0].strip() for row in rows if row[0].strip()] == ["MLP"] * 3
    assert "".join(row[-1].strip() for row in rows) == "".join(map(str, sets))  # folded, but whole


def _facts(found: dict[str, Any]) -> dict[str, Any]:
    """All but times and memory."""
    return {name: value for name, value in found.items() if name != "stages"}


def test_where_stacks_pay_they_are_trained_together_on_as_few_copies_of_the_test_images_as_there_are_views(
    sets: list[Path], sdc: Sdc, stacks: list[list[float]], monkeypatch: pytest.MonkeyPatch
) -> None:
    true, made = scoring.normalised, 0

    def normalised(*given: Any) -> Tensor:
        nonlocal made
        made += 1
        return true(*given)

    each = [sdc("evaluate", path, "--model", "MLP", "--json").json for path in sets]
    monkeypatch.setattr(scoring, "normalised", normalised)
    monkeypatch.setattr(stacked, "drawback", lambda _: "")

    found = sdc("evaluate", *sets, "--model", "MLP", "--json").json["sets"]

    assert stacks == [[0.01, 0.01, 0.005, 0.005, 0.01 / 3, 0.01 / 3]]
    assert made == 2
    for one, other in zip(found, each, strict=True):
        assert one["mean"] == pytest.approx(other["mean"], abs=1 / 360)


@pytest.mark.parametrize("broken", ["missing", "of other classes"])
def test_a_set_that_cannot_be_evaluated_is_told_before_any_is(
    broken: str, sets: list[Path], sdc: Sdc, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bad = tmp_path / "bad.safetensors"
    if broken == "of other classes":
        facts = {"dataset": "digits", "classes": '["a"]', "mean": "[0, 0, 0]", "std": "[1, 1, 1]"}
        protocol = {"protocol": json.dumps({"lr": 0.01, "epochs": 2})}
        save_file({"images": torch.zeros(1, 3, 32, 32), "labels": torch.zeros(1).long()}, bad, facts | protocol)
    monkeypatch.setattr(scoring, "evaluate_all", never)

    outcome = sdc("evaluate", *sets, bad, "--json")

    assert outcome.code == 1
    assert outcome.json["error"].startswith(f"{bad}: ")
    assert {"missing": "does not exist", "of other classes": "the set has 1 classes"}[broken] in outcome.json["error"]


never: Callable[..., None] = lambda *_, **__: pytest.fail("networks were trained")  # noqa: E731

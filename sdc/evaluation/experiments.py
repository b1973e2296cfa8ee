"""The scores of several experiments of one file: each one's own, and those of all their networks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sdc.evaluation.training import Score, summary

Scores = Mapping[int, dict[str, Any]]
"""What each experiment's set came to (`sdc.evaluation.scoring.evaluate_sets`), by its number."""


def said(found: Scores) -> str:
    """Each experiment's mean and number of networks, in words."""
    each = (f"{number}: {100 * result['mean']:.2f} % (n {result['n']})" for number, result in found.items())
    return f"mean accuracy by experiment: {', '.join(each)}"


def merged(found: Scores) -> dict[str, Any]:
    """One result over the networks of all experiments, with each one's own mean."""
    accuracy = [{**score, "experiment": number} for number, each in found.items() for score in each["accuracy"]]
    scores = [Score(score["model"], score["seed"], score["accuracy"], 0.0) for score in accuracy]
    first = next(iter(found.values()))
    own = [
        {"experiment": number, **{name: each[name] for name in ("mean", "std", "n", "by_model")}}
        for number, each in found.items()
    ]
    stages = [each["stages"]["evaluate"] for each in found.values()]
    seconds = round(sum(stage["seconds"] for stage in stages), 2)
    return {
        "accuracy": accuracy,
        **summary(scores),
        "by_model": {model: summary([s for s in scores if s.model == model]) for model in first["by_model"]},
        "experiments": own,
        "protocol": first["protocol"],
        "stages": {"evaluate": stages[0] | {"seconds": seconds}},
    }

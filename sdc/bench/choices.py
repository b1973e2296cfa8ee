"""A weight chosen on images held out of the training data. No test image has a say in it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from sdc.bench.spec import Weight
from sdc.distillation import run
from sdc.evaluation.scoring import Result
from sdc.evaluation.stats import Difference, paired, spread
from sdc.ground.files import write_text
from sdc.plan.request import Request


@dataclass(frozen=True)
class Candidate:
    """A weight, the spec's word for it, and the folders of its runs, one a seed."""

    asked: Weight
    weight: float
    folders: tuple[str, ...]


@dataclass(frozen=True)
class Choice:
    """Which candidate is taken for a method on a dataset, and what all of them reached."""

    request: Request
    validation: int
    seeds: tuple[int, ...]
    candidates: tuple[Candidate, ...]
    """Weight 0 first."""
    results: tuple[tuple[Result, ...], ...]
    """Of each candidate's runs."""

    @property
    def chosen(self) -> Candidate:
        """The one whose networks have the highest mean accuracy, weight 0 aside; of equals the smallest weight."""
        ranked = sorted(
            range(1, len(self.candidates)),
            key=lambda n: (-spread(self._accuracies(n)).mean, self.candidates[n].weight),
        )
        return self.candidates[ranked[0]]

    def difference(self, number: int) -> Difference | None:
        """What a candidate's runs reach more than those at weight 0, paired by seed."""
        return paired(self._by_seed(0), self._by_seed(number))

    def record(self, runs: Path) -> Path:
        """Write it down in `runs`, for the report."""
        key = hashlib.sha256(json.dumps([c.folders for c in self.candidates]).encode()).hexdigest()[:10]
        file = runs / "choices" / f"{self.request.method}-{self.request.dataset}-ipc{self.request.ipc}-{key}.json"
        text = json.dumps(self._facts(), indent=1) + "\n"
        if not (file.is_file() and file.read_text() == text):
            write_text(file, text)
        return file

    def _by_seed(self, number: int) -> dict[int, list[float]]:
        results = zip(self.seeds, self.results[number], strict=True)
        return {seed: [float(score["accuracy"]) for score in result["accuracy"]] for seed, result in results}

    def _accuracies(self, number: int) -> list[float]:
        return [accuracy for of_seed in self._by_seed(number).values() for accuracy in of_seed]

    def _facts(self) -> dict[str, object]:
        first = self.results[0][0]
        return {
            **{name: first[name] for name in ("method", "dataset", "ipc", "model", "recipe")},
            **({"fork": first["fork"]} if "fork" in first else {}),
            "schedule": self.request.schedule,
            "validation": self.validation,
            "seeds": list(self.seeds),
            "candidates": [self._row(number) for number in range(len(self.candidates))],
            "chosen": {"asked": str(self.chosen.asked), "weight": self.chosen.weight},
        }

    def _row(self, number: int) -> dict[str, object]:
        candidate, found = self.candidates[number], self.difference(number) if number else None
        return {
            "asked": str(candidate.asked),
            "weight": candidate.weight,
            **asdict(spread(self._accuracies(number))),
            "difference": found and found.mean,
            "low": found and found.low,
            "high": found and found.high,
            "runs": list(candidate.folders),
        }


def decide(
    request: Request, validation: int, seeds: Sequence[int], candidates: Sequence[Candidate], runs: Path
) -> Choice | None:
    """The choice among candidates, weight 0 first, whose runs are all complete in `runs`; None until they are."""
    results = []
    for candidate in candidates:
        found = [result for folder in candidate.folders if (result := run.complete(runs / folder))]
        if len(found) < len(candidate.folders):
            return None
        results.append(tuple(found))
    return Choice(request, validation, tuple(seeds), tuple(candidates), tuple(results))

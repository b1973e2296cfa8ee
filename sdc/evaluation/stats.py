"""The statistics of a comparison, as pure functions of accuracies in [0, 1]."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

CONFIDENCE = 0.95
HIGHER, LOWER, NOT_SHOWN = "higher", "lower", "no difference shown"
ONE_SEED, NO_SEED = "one seed: no interval", "no seed in common"


@dataclass(frozen=True)
class Spread:
    """Mean and population standard deviation, as the field's tables have it, of `n` networks."""

    mean: float
    std: float
    n: int


@dataclass(frozen=True)
class Difference:
    """The mean of paired differences, a seed each, their sample deviation, and the ends of the mean's 95% interval.

    `std`, `low` and `high` are None where one seed gives none.
    """

    mean: float
    std: float | None
    low: float | None
    high: float | None
    seeds: tuple[int, ...]


def spread(accuracies: Sequence[float]) -> Spread:
    """Pool networks, whatever their seed; at least one."""
    return Spread(statistics.fmean(accuracies), statistics.pstdev(accuracies), len(accuracies))


def paired(base: Mapping[int, Sequence[float]], other: Mapping[int, Sequence[float]]) -> Difference | None:
    """Compare two sides by seed: the mean of each seed's networks there, minus that here. None: no seed in common.

    The interval is Student's t over the seeds, which are what was drawn anew; networks of one seed share their set.
    """
    seeds = tuple(sorted(base.keys() & other.keys()))
    if not seeds:
        return None
    differences = [statistics.fmean(other[seed]) - statistics.fmean(base[seed]) for seed in seeds]
    mean = statistics.fmean(differences)
    if len(seeds) == 1:
        return Difference(mean, None, None, None, seeds)
    from scipy.special import stdtrit  # Student's t quantile. Slow to import: only where there is an interval

    std = statistics.stdev(differences)
    half = float(stdtrit(len(seeds) - 1, (1 + CONFIDENCE) / 2)) * std / math.sqrt(len(seeds))
    return Difference(mean, std, mean - half, mean + half, seeds)


def claim(difference: Difference | None) -> str:
    """What a difference shows, in a word: an interval that contains 0 shows nothing."""
    if difference is None:
        return NO_SEED
    if difference.low is None or difference.high is None:
        return ONE_SEED
    if difference.low > 0:
        return HIGHER
    return LOWER if difference.high < 0 else NOT_SHOWN

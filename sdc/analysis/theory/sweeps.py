"""The theory over many settings, and simulations beside it, shared between processes."""

from __future__ import annotations

import functools
import multiprocessing
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass, replace
from typing import NamedTuple, TypeVar

import numpy as np

from sdc.analysis.theory.margins import Keep, Pruning, Vector
from sdc.analysis.theory.perceptron import Simulated, Size, simulate
from sdc.analysis.theory.saddle import Solution, curve
from sdc.ground.cores import cores
from sdc.ground.errors import FatalError
from sdc.ground.watch import Watch

_Made = TypeVar("_Made")
KEEPS: tuple[Keep, ...] = ("easy", "hard")


@dataclass(frozen=True)
class Grid:
    """What is swept: the settings of the curves, of the simulations beside them, and of the maps."""

    thetas: tuple[float, ...]
    fractions: tuple[float, ...]
    alphas: tuple[float, ...]
    simulated: tuple[float, ...]
    size: Size
    map_fractions: tuple[float, ...]
    map_alphas: tuple[float, ...]


@dataclass(frozen=True)
class Curve:
    """Solutions at several alpha_tot."""

    pruning: Pruning
    alphas: tuple[float, ...]
    solutions: tuple[Solution, ...]

    @property
    def errors(self) -> Vector:
        """The test errors."""
        return np.array([solution.error for solution in self.solutions])


@dataclass(frozen=True)
class Beside:
    """What was simulated at one setting."""

    pruning: Pruning
    alpha: float
    simulated: Simulated


class Turn(NamedTuple):
    """At this fraction and alpha_tot neither keeping wins; the `number`th such place, from few examples to many."""

    number: int
    fraction: float
    alpha: float


@dataclass(frozen=True)
class Map:
    """Test errors [fractions, alphas] at one theta, of keeping the easy and the hard."""

    theta: float
    fractions: tuple[float, ...]
    alphas: tuple[float, ...]
    easy: Vector
    hard: Vector
    boundary: tuple[Turn, ...] = ()

    @property
    def advantage(self) -> Vector:
        """log2(hard / easy): above 0 where keeping the easy gives the lower error."""
        return np.asarray(np.log2(self.hard / self.easy))


@dataclass(frozen=True)
class Sweep:
    """All that was solved and simulated."""

    grid: Grid
    curves: tuple[Curve, ...]
    beside: tuple[Beside, ...]
    maps: tuple[Map, ...]


MOST_THETAS = 4
"""More angles than this would not be told apart in one figure."""


def full(thetas: Sequence[float], size: Size) -> Grid:
    """For a paper."""
    return Grid(
        thetas=_distinct(thetas),
        fractions=(0.6, 0.3, 0.1),
        alphas=_spaced(0.1, 50, 41),
        simulated=(0.3, 1.0, 3.0, 10.0, 30.0),
        size=size,
        map_fractions=tuple(np.linspace(0.02, 0.98, 41).tolist()),
        map_alphas=_spaced(0.1, 50, 33),
    )


def quick(thetas: Sequence[float], size: Size) -> Grid:
    """To look at in seconds."""
    return Grid(
        thetas=_distinct(thetas),
        fractions=(0.6, 0.2),
        alphas=_spaced(0.1, 50, 11),
        simulated=(1.0, 4.0),
        size=size,
        map_fractions=tuple(np.linspace(0.05, 0.95, 7).tolist()),
        map_alphas=_spaced(0.1, 50, 9),
    )


def _distinct(thetas: Sequence[float]) -> tuple[float, ...]:
    found = tuple(sorted(set(thetas)))
    if not 0 < len(found) <= MOST_THETAS:
        raise FatalError(f"{len(found)} angles of the probe are asked for: one set of figures shows 1 to {MOST_THETAS}")
    return found


def _spaced(first: float, last: float, count: int) -> tuple[float, ...]:
    return tuple(np.geomspace(first, last, count).tolist())


def sweep(grid: Grid, workers: int, watch: Watch) -> Sweep:
    """Solve and simulate all of a grid, on so many processes (1: in this one; 0: one a core)."""
    shown = [
        pruning
        for theta in grid.thetas
        for pruning in (
            Pruning(1.0, theta, "random"),
            *(Pruning(fraction, theta, keep) for fraction in grid.fractions for keep in (*KEEPS, "random")),
        )
    ]
    told = [shown[0], *(pruning for pruning in shown if not pruning.blind)]  # all kept is the same for every probe
    mapped = [
        Pruning(fraction, theta, keep) for theta in grid.thetas for keep in KEEPS for fraction in grid.map_fractions
    ]
    simulations = [
        functools.partial(_beside, pruning, alpha, grid.size)
        for alpha in sorted(grid.simulated, reverse=True)  # the longest first, or one process ends behind the others
        for pruning in told
    ]
    curves = [functools.partial(_curve, pruning, grid.alphas) for pruning in shown]
    rows = [functools.partial(_curve, pruning, grid.map_alphas) for pruning in mapped]
    watch.stage("simulating", len(simulations))
    beside = _all(simulations, workers, watch)
    watch.stage("solving", len(curves) + len(rows))
    solved = _all([*curves, *rows], workers, watch)
    found = {row.pruning: row.errors for row in solved[len(curves) :]}
    maps = [_map(grid, theta, found) for theta in grid.thetas]
    turns = [(each.theta, job) for each in maps for job in _turns(each)]
    watch.stage("finding where the better keeping turns", len(turns))
    turned = _all([job for _, job in turns], workers, watch)
    where = list(zip([theta for theta, _ in turns], turned, strict=True))
    maps = [replace(each, boundary=tuple(turn for theta, turn in where if theta == each.theta)) for each in maps]
    return Sweep(grid, tuple(solved[: len(curves)]), tuple(beside), tuple(maps))


def _curve(pruning: Pruning, alphas: tuple[float, ...]) -> Curve:
    return Curve(pruning, alphas, tuple(curve(alphas, pruning)))


def _beside(pruning: Pruning, alpha: float, size: Size) -> Beside:
    return Beside(pruning, alpha, simulate(alpha, pruning, size))


def _map(grid: Grid, theta: float, found: dict[Pruning, Vector]) -> Map:
    easy, hard = (np.stack([found[Pruning(each, theta, keep)] for each in grid.map_fractions]) for keep in KEEPS)
    return Map(theta, grid.map_fractions, grid.map_alphas, easy, hard)


def _turns(found: Map) -> Iterator[Callable[[], Turn]]:
    """For each place between two points of a map at which the better keeping turns, the job that finds it."""
    for fraction, row in zip(found.fractions, found.advantage, strict=True):
        for number, at in enumerate(np.flatnonzero(row[:-1] * row[1:] < 0)):
            bounds = found.alphas[at], found.alphas[at + 1]
            yield functools.partial(_turn, number, fraction, found.theta, bounds)


def _turn(number: int, fraction: float, theta: float, bounds: tuple[float, float]) -> Turn:
    """Solved at a few more points between the bounds, and taken on the line between the two around it."""
    alphas = _spaced(*bounds, 9)
    easy, hard = (_curve(Pruning(fraction, theta, keep), alphas).errors for keep in KEEPS)
    ratio = np.log(hard / easy)
    at = int(np.flatnonzero(ratio[:-1] * ratio[1:] <= 0)[0])
    part = ratio[at] / (ratio[at] - ratio[at + 1])
    return Turn(number, fraction, alphas[at] * (alphas[at + 1] / alphas[at]) ** float(part))


def _all(jobs: Sequence[Callable[[], _Made]], workers: int, watch: Watch) -> list[_Made]:
    """What the jobs return, in their order."""
    made: dict[int, _Made] = {}
    for number, found in _in_any_order(jobs, workers):
        made[number] = found
        watch.progress(len(made))
    return [made[number] for number in range(len(jobs))]


def _in_any_order(jobs: Sequence[Callable[[], _Made]], workers: int) -> Iterator[tuple[int, _Made]]:
    """The number of each job and what it returns, as they end."""
    most = workers or cores()
    if most == 1:
        yield from ((number, job()) for number, job in enumerate(jobs))
        return
    # Spawned, not forked: the parent has threads, which draw its progress.
    pool = ProcessPoolExecutor(most, multiprocessing.get_context("spawn"))
    try:
        numbers = {pool.submit(job): number for number, job in enumerate(jobs)}
        for done in as_completed(numbers):
            yield numbers[done], done.result()
    finally:
        pool.shutdown(cancel_futures=True)  # where one failed, or Ctrl-C came, the others are not begun

"""The perceptron of theory.py at finite size: examples are drawn, scored, pruned and separated, exactly.

The separator of largest margin is a quadratic programme; its dual is a non-negative least squares problem (Lawson and
Hanson 1974, chapter 23: least distance programming), which SciPy solves by an active set: exactly, in finitely many
steps.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy.optimize import nnls

from sdc.analysis.theory.margins import Pruning, Vector
from sdc.ground.errors import FatalError

DIMENSION, REPETITIONS, SEED = 200, 20, 0
SLACK = 1e-8
"""What the conditions of optimality may be off by, in parts of the margin."""
_AT_ONCE = 3
"""Examples of so many per dimension are separated at once: more take longer than several rounds."""
_MOST = 2 * 10**7  # numbers in the kept examples of one repetition: 160 MB, twice


@dataclass(frozen=True)
class Simulated:
    """Test error over `n` repetitions: its mean and the standard error of that."""

    mean: float
    stderr: float
    n: int


@dataclass(frozen=True)
class Size:
    """Of a simulation: dimension N, repetitions, and the seed of them all."""

    dimension: int = DIMENSION
    repetitions: int = REPETITIONS
    seed: int = SEED


def simulate(alpha_tot: float, pruning: Pruning, size: Size) -> Simulated:
    """The test error of students of size.dimension * alpha_tot examples, pruned; each repetition draws its own.

    Raises FatalError where nothing would be kept, or more than fits.
    """
    if size.dimension < 2 or size.repetitions < 2:
        raise FatalError("a simulation takes at least 2 dimensions and 2 repetitions")
    examples = round(alpha_tot * size.dimension)
    kept = round(pruning.fraction * examples)
    if not 0 < kept * size.dimension <= _MOST:
        raise FatalError(
            f"{kept} of {examples} examples of {size.dimension} dimensions would be kept: it takes at least 1, and at "
            f"most {_MOST:.0e} numbers in all. Change --dimension"
        )
    seeds = np.random.SeedSequence(size.seed).spawn(size.repetitions)
    errors = [_error(examples, kept, pruning, size.dimension, np.random.default_rng(seed)) for seed in seeds]
    return Simulated(float(np.mean(errors)), float(np.std(errors, ddof=1) / math.sqrt(len(errors))), len(errors))


def _error(examples: int, kept: int, pruning: Pruning, dimension: int, rng: np.random.Generator) -> float:
    """Test error of one student. The teacher is the first axis, the probe lies in the plane of the first two."""
    plane = rng.standard_normal((examples, 2))
    theta = math.radians(pruning.theta)
    order = np.abs(plane @ (math.cos(theta), math.sin(theta)))
    if pruning.keep == "easy":
        order = -order
    chosen = plane[:kept] if pruning.keep == "random" else plane[np.argsort(order)[:kept]]
    others = rng.standard_normal((kept, dimension - 2))  # say nothing about label and score: drawn for the kept alone
    labels = np.where(chosen[:, :1] > 0, 1.0, -1.0)
    student = separator(labels * np.hstack([chosen, others]))
    return math.acos(student[0] / float(np.linalg.norm(student))) / math.pi


def separator(examples: Vector) -> Vector:
    """The shortest w [N] of all with examples @ w >= 1; `examples` [n, N] carry their labels as signs.

    Its margin is 1 / |w|. Few examples are at the margin, so it is sought among some, then among those of them that
    carry weight and those that it violates most, until it violates none: |w| grows each time, so this ends. Raises
    FatalError where there is none, or none that meets the conditions of optimality: no example below the margin, w a
    sum of examples with weights >= 0, weights only for those at the margin.
    """
    count, dimension = examples.shape
    among = np.arange(min(count, _AT_ONCE * dimension))
    while True:
        student, weights = _among(examples[among])
        slack = examples @ student - 1
        below = np.setdiff1d(np.flatnonzero(slack < -SLACK), among)
        if not below.size:
            break
        worst_first = below[np.argsort(slack[below])]
        among = np.append(among[weights > 0], worst_first[: (_AT_ONCE - 1) * dimension])
    worst = max(float(-slack.min()), float(np.abs(slack[among][weights > 0]).max()))
    if worst > SLACK:
        raise FatalError(f"the separator is off by {worst:.1e} of its margin, which is more than {SLACK:.0e}")
    return student


def _among(examples: Vector) -> tuple[Vector, Vector]:
    """The shortest w for these, and its weights of them."""
    system = np.vstack([examples.T, np.ones(len(examples))])
    target = np.append(np.zeros(examples.shape[1]), 1.0)
    weights, _ = nnls(system, target)
    left = 1.0 - weights.sum()  # 1 / (1 + |w|^2), which is 0 where there is no w
    if left <= SLACK:
        raise FatalError("no plane through the origin separates these examples")
    weights = weights / left
    return examples.T @ weights, weights

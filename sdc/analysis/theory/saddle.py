"""Test error of a max-margin perceptron trained on pruned data, in the limit of many dimensions.

The model is that of Sorscher et al. 2022 (arXiv 2206.14486, appendix A.2): examples x ~ N(0, I_N), P = alpha_tot N of
them, labelled y = sign(teacher.x). A probe at the angle theta to the teacher scores them by their distance to its own
boundary; a fraction f is kept, the nearest ("hard"), the farthest ("easy") or any ("random"). The student is the
separator of the kept examples with the largest margin kappa; N and P go to infinity together. The teacher is a
separator, so there always is one, and kappa > 0.

Least norm at given margins is a convex problem in the student's part in the plane of teacher and probe and the length
of its part outside, `outside`: what is stationary is the solution, and there is one. With alpha = f alpha_tot, t the
margins of the kept examples and [.]+ = max(., 0),

    alpha <[kappa - t]+^2> = outside^2,    the part in the plane = alpha (pull_u teacher + pull_zeta probe),

where the pulls are <[kappa - t]+> at the bounds of u and zeta alone (margins.py; Stein's lemma). That is three
equations in R, rho and kappa. The three of the appendix hold at the solution; they are singular at theta = 0, these
are not: there the two pulls become one.
"""

from __future__ import annotations

import cmath
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import root

from sdc.analysis.theory.margins import Pruning, Student, Vector, below
from sdc.ground.errors import FatalError

LEAST, MOST = 1e-3, 1e3
"""The alpha_tot that are solved."""
RESIDUAL = 1e-9
"""What the conditions may be off by, in parts of their terms."""
_FEW = math.log(1e-2)  # of alpha: where a first guess is good enough
_SMALLEST_STEP = 1e-4
_STEP = math.log(2)  # of alpha, from one solution to the next


_Known = tuple[float, Vector]


@dataclass(frozen=True)
class Solution:
    """A student: test error, overlap R with the teacher and rho with the probe, margin, and what is left to solve."""

    error: float
    overlap: float
    rho: float
    kappa: float
    residual: float


def solve(alpha_tot: float, pruning: Pruning) -> Solution:
    """The student of so many examples a dimension, counted before pruning.

    Raises FatalError for an alpha_tot outside of LEAST to MOST, and where the conditions are not met to RESIDUAL.
    """
    return curve([alpha_tot], pruning)[0]


def curve(alphas_tot: Sequence[float], pruning: Pruning) -> list[Solution]:
    """The students at several alpha_tot, in ascending order; quicker than one by one."""
    for alpha_tot in alphas_tot:
        if not LEAST <= alpha_tot <= MOST:
            raise FatalError(f"alpha_tot is {alpha_tot:g}: it has to be from {LEAST:g} to {MOST:g}")
    return list(_followed([math.log(pruning.fraction * each) for each in alphas_tot], pruning))


def _followed(targets: Sequence[float], pruning: Pruning) -> Iterator[Solution]:
    """The solutions at `targets`, logarithms of alpha, on one path from few examples to many.

    Each next point is sought on the line through the last two; where that is too far off, a nearer point comes first.
    """
    at = min(targets[0], _FEW)
    found = _solved(at, _first_guess(at, pruning), pruning)
    if found is None:
        raise _unsolved(at, pruning)
    before, last = None, (at, found)
    for target in targets:
        step = _STEP
        while last[0] < target:
            ahead = min(last[0] + step, target)
            found = _solved(ahead, _on_line(before, last, ahead), pruning)
            if found is not None:
                before, last = last, (ahead, found)
            elif step < _SMALLEST_STEP:
                raise _unsolved(ahead, pruning)
            else:
                step /= 2
        yield _solution(last[1], math.exp(target), pruning)


def _unsolved(at: float, pruning: Pruning) -> FatalError:
    return FatalError(
        f"no solution was found at alpha_tot = {math.exp(at) / pruning.fraction:.6g}, fraction {pruning.fraction:g}, "
        f"theta {pruning.theta:g}, {pruning.keep}. A value close by may well have one: please report this one"
    )


def _first_guess(at: float, pruning: Pruning) -> Vector:
    """Of few examples, which are nearly orthogonal, the student is the sum: it is next to orthogonal to the teacher."""
    alpha, kappa = math.exp(at), math.exp(-at / 2)
    theta = _angle(pruning)
    found = below(kappa, Student(1 / kappa, 1.0, 0.0, theta), pruning)
    pull = found.pull_u + found.pull_zeta * cmath.exp(1j * theta)  # the teacher lies along the real axis
    unknowns = [-math.log(alpha * abs(pull)), math.log(kappa)]
    return np.array([*unknowns, cmath.phase(pull) / theta] if theta else unknowns)


def _on_line(before: _Known | None, last: _Known, ahead: float) -> Vector:
    if before is None:
        return last[1]
    return last[1] + (last[1] - before[1]) * (ahead - last[0]) / (last[0] - before[0])


def _angle(pruning: Pruning) -> float:
    """Between teacher and probe, where it matters to the student."""
    return 0.0 if pruning.blind else math.radians(pruning.theta)


def _student(unknowns: Vector, pruning: Pruning) -> tuple[float, Student]:
    """Margin and student of the logarithms of outside / inside and of kappa, and psi / theta; psi is 0 if theta is."""
    tangent, kappa = math.exp(unknowns[0]), math.exp(unknowns[1])
    inside = 1 / math.hypot(1.0, tangent)
    theta = _angle(pruning)
    return kappa, Student(inside, tangent * inside, theta * float(unknowns[2]) if theta else 0.0, theta)


def _conditions(unknowns: Vector, alpha: float, pruning: Pruning) -> Vector:
    """What the conditions are off by: the first, and the second along and across the student's part in the plane."""
    kappa, student = _student(unknowns, pruning)
    found = below(kappa, student, pruning)
    to_teacher, to_probe = student.psi, student.psi - student.theta
    along = found.pull_u * math.cos(to_teacher) + found.pull_zeta * math.cos(to_probe)
    off = [alpha * found.square / student.outside**2 - 1, alpha * along / student.inside - 1]
    if student.theta:
        across = found.pull_u * math.sin(to_teacher) + found.pull_zeta * math.sin(to_probe)
        small = math.hypot(math.sin(to_teacher), math.sin(student.theta))  # as both terms are where both angles are
        off.append(alpha * across / student.inside / small)
    return np.array(off)


def _solved(at: float, guess: Vector, pruning: Pruning) -> Vector | None:
    """The unknowns at a logarithm of alpha, if they are found from there."""
    try:
        with np.errstate(all="raise", under="ignore"):
            found = root(_conditions, guess, (math.exp(at), pruning), options={"xtol": 1e-11, "factor": 0.1})
    except (ArithmeticError, ValueError):  # lost its way to where nothing can be computed
        return None
    return np.asarray(found.x) if np.abs(found.fun).max() < RESIDUAL else None


def _solution(unknowns: Vector, alpha: float, pruning: Pruning) -> Solution:
    kappa, student = _student(unknowns, pruning)
    overlap = student.overlap
    rho = overlap * math.cos(math.radians(pruning.theta)) if pruning.blind else student.rho
    residual = float(np.abs(_conditions(unknowns, alpha, pruning)).max())
    return Solution(math.atan2(student.spread_u, overlap) / math.pi, overlap, rho, kappa, residual)

"""The margins of pruned examples, as a student sees them: how they are distributed, and means over those below kappa.

Seen from its label y an example has the coordinates u = y teacher.x > 0 and zeta = y probe.x, and the margin
t = y student.x; all vectors have length one. But for u > 0 and the bounds on |zeta| by which examples are kept, the
three are standard normal with the vectors' overlaps as correlations. So their density n(t) over the kept is that of t
times the chance of a Gaussian pair, (u, zeta) given t, to be in the bounds: Owen's T function.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr, ndtri, owens_t

from sdc.ground.errors import FatalError

Keep = Literal["easy", "hard", "random"]
Vector = NDArray[np.float64]

LEAST_FRACTION = 0.005
_NODES = 16
_REACH = 9.0  # standard deviations beyond which a Gaussian is nothing in double precision
_AROUND = (-6.0, -2.0, 2.0, 6.0)  # in its widths, where panels end around a place at which the density changes fast


class HalfLine(NamedTuple):
    """From `edge` to the right (`side` 1) or to the left (-1); `sign` -1 takes it away from another."""

    edge: float
    side: float
    sign: float


@dataclass(frozen=True)
class Pruning:
    """How much is kept of the data, which, and by how good a probe: `theta` degrees off the teacher."""

    fraction: float
    theta: float
    keep: Keep

    def __post_init__(self) -> None:
        if not LEAST_FRACTION <= self.fraction <= 1:
            raise FatalError(f"the fraction kept is {self.fraction:g}: it has to be from {LEAST_FRACTION:g} to 1")
        if not 0 <= self.theta <= 90:
            raise FatalError(
                f"theta is {self.theta:g} degrees: it has to be from 0 to 90. A probe at an obtuse angle keeps what "
                "its opposite keeps: give 180 - theta"
            )

    @property
    def blind(self) -> bool:
        """Whether what is kept depends on no probe."""
        return self.keep == "random" or self.fraction == 1

    @property
    def angle(self) -> float:
        """Theta in radians."""
        return math.radians(self.theta)

    @functools.cached_property
    def edge(self) -> float:
        """The |zeta| that parts what is kept from what is not; for probes that see."""
        return float(-ndtri((1 - self.fraction) / 2 if self.keep == "hard" else self.fraction / 2))

    @property
    def kept(self) -> tuple[HalfLine, ...]:
        """Which zeta are kept: the sum of half lines, of which one may be taken away."""
        if self.blind:
            return (HalfLine(-math.inf, 1.0, 1.0),)
        if self.keep == "hard":
            return HalfLine(-self.edge, 1.0, 1.0), HalfLine(self.edge, 1.0, -1.0)
        return HalfLine(-self.edge, -1.0, 1.0), HalfLine(self.edge, 1.0, 1.0)


@dataclass(frozen=True)
class Student:
    """A student in relation to teacher and probe, which are `theta` radians apart.

    Its part in their plane has the length `inside` and is turned from the teacher by `psi` towards the probe; the part
    outside has the length `outside`. No property is a difference of nearly equal numbers, however good the student.
    """

    inside: float
    outside: float
    psi: float
    theta: float

    @property
    def overlap(self) -> float:
        """With the teacher: R."""
        return self.inside * math.cos(self.psi)

    @property
    def rho(self) -> float:
        """The overlap with the probe."""
        return self.inside * math.cos(self.psi - self.theta)

    @property
    def spread_u(self) -> float:
        """Standard deviation of u given t: sqrt(1 - R^2)."""
        return math.hypot(self.outside, self.inside * math.sin(self.psi))

    @property
    def spread_zeta(self) -> float:
        """Standard deviation of zeta given t: sqrt(1 - rho^2)."""
        return math.hypot(self.outside, self.inside * math.sin(self.psi - self.theta))

    @property
    def covariance(self) -> float:
        """Of u and zeta given t: cos(theta) - rho R."""
        teacher, probe = self.psi, self.psi - self.theta
        return self.outside**2 * math.cos(teacher) * math.cos(probe) + math.sin(teacher) * math.sin(probe)

    @property
    def volume(self) -> float:
        """Lambda, the root of the determinant of that covariance matrix."""
        return self.outside * math.sin(self.theta)

    @property
    def zeta_slope(self) -> float:
        """rho - R cos(theta)."""
        return self.inside * math.sin(self.theta) * math.sin(self.psi)

    @property
    def u_slope(self) -> float:
        """R - rho cos(theta)."""
        return self.inside * math.sin(self.theta) * math.sin(self.theta - self.psi)


@dataclass(frozen=True)
class Below:
    """Means over all kept examples of what those with a margin below kappa have, and 0 for the others."""

    square: float
    """(kappa - t)^2"""
    pull_u: float
    """(kappa - t) times the density of the bound u > 0."""
    pull_zeta: float
    """(kappa - t) times the densities of the bounds of zeta, those where the kept end counted as negative."""


def below(kappa: float, student: Student, pruning: Pruning) -> Below:
    """The means below the margin `kappa`, to about 1e-12."""
    t, weights = _nodes(kappa, student, pruning)
    given = _seen if pruning.blind or student.theta == 0 else _scored
    chance, at_u, at_zeta = given(t, student, pruning)
    gaps = 2 / (1.0 if pruning.blind else pruning.fraction) * weights * _density(t) * (kappa - t)
    return Below(float((gaps * (kappa - t)) @ chance), float(gaps @ at_u), float(gaps @ at_zeta))


def _seen(t: Vector, student: Student, pruning: Pruning) -> tuple[Vector, Vector, Vector]:
    """For a probe that is the teacher, or none: the chance that u is in the bounds given t, its density at them, 0."""
    chance, at_u = np.zeros_like(t), np.zeros_like(t)
    for edge, side, sign in pruning.kept:
        if side > 0:  # what is left of 0 is not there
            h = (student.overlap * t - max(edge, 0.0)) / student.spread_u
            chance, at_u = chance + sign * ndtr(h), at_u + sign * _density(h) / student.spread_u
    return chance, at_u, np.zeros_like(t)


def _scored(t: Vector, student: Student, pruning: Pruning) -> tuple[Vector, Vector, Vector]:
    """For any other probe: the chance that both are in the bounds given t, the densities at those of u and of zeta."""
    spread_u, spread_zeta, volume = student.spread_u, student.spread_zeta, student.volume
    h = student.overlap * t / spread_u
    chance, zeta_kept, at_zeta = np.zeros_like(t), np.zeros_like(t), np.zeros_like(t)
    for edge, side, sign in pruning.kept:
        k = side * (student.rho * t - edge) / spread_zeta
        a = side * (student.zeta_slope * t - edge * spread_u**2) / (spread_u * volume)  # of zeta where u = 0
        b = (student.u_slope * t + edge * student.covariance) / (spread_zeta * volume)  # of u where zeta = edge
        chance = chance + sign * _both(h, k, a / h, b / k)
        zeta_kept = zeta_kept + sign * ndtr(a)
        at_zeta = at_zeta + sign * side * _density(k) / spread_zeta * ndtr(b)
    return chance, _density(h) / spread_u * zeta_kept, at_zeta


def _both(h: Vector, k: Vector, slope_h: Vector, slope_k: Vector) -> Vector:
    """The chance that two standard normals are below `h` and `k`, exact to parts of itself where it is small.

    Owen (1956), with the slopes (k / h - r) / sqrt(1 - r^2) and (h / k - r) / sqrt(1 - r^2) of the correlation r.
    """
    alike = (ndtr(h) + ndtr(k)) / 2
    apart = (ndtr(np.minimum(h, k)) - ndtr(-np.maximum(h, k))) / 2
    return np.asarray(np.where(h * k < 0, apart, alike) - owens_t(h, slope_h) - owens_t(k, slope_k))


def _nodes(kappa: float, student: Student, pruning: Pruning) -> tuple[Vector, Vector]:
    """Gauss-Legendre nodes and weights for t up to kappa, in panels that are narrow where the density changes fast."""
    low = -_REACH * (student.spread_u if student.overlap > 0 else 1.0)  # below, u > 0 has no chance
    high = min(kappa, _REACH)
    places = np.array([place for centre, width in _changes(student, pruning) for place in _panel_ends(centre, width)])
    within = np.sort(places[(places > low) & (places < high)])
    ends = np.concatenate(([low], within, [high]))
    half, middle = np.diff(ends) / 2, (ends[1:] + ends[:-1]) / 2
    nodes, weights = _legendre()
    return (middle[:, None] + half[:, None] * nodes).ravel(), (half[:, None] * weights).ravel()


def _panel_ends(centre: float, width: float) -> list[float]:
    return [centre + width * each for each in _AROUND]


def _changes(student: Student, pruning: Pruning) -> Iterator[tuple[float, float]]:
    """Where over t the density changes, and within which width: itself, and the chances of u and zeta."""
    yield 0.0, 1.0
    yield from _change(student.overlap, 0.0, student.spread_u)
    scored = not pruning.blind and student.theta > 0
    for edge, _, _ in pruning.kept:
        yield from _change(student.rho, edge, student.spread_zeta)
        if scored:
            yield from _change(student.zeta_slope, edge * student.spread_u**2, student.spread_u * student.volume)
            yield from _change(student.u_slope, -edge * student.covariance, student.spread_zeta * student.volume)


def _change(slope: float, offset: float, spread: float) -> Iterator[tuple[float, float]]:
    """Where Phi((slope t - offset) / spread) changes, if it does so anywhere near."""
    if abs(offset) < 1e3 * _REACH * abs(slope):
        yield offset / slope, abs(spread / slope)


def _density(x: Vector) -> Vector:
    return np.exp(-(x**2) / 2) / math.sqrt(2 * math.pi)


@functools.cache
def _legendre() -> tuple[Vector, Vector]:
    nodes, weights = np.polynomial.legendre.leggauss(_NODES)
    return nodes, weights

"""The scaling law: what is known of it, the published equations written anew, simulations, and the commands."""

from __future__ import annotations

import csv
import itertools
import math
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import ndtr, ndtri

from sdc.analysis.theory import sweeps
from sdc.analysis.theory.margins import Keep, Pruning
from sdc.analysis.theory.perceptron import Size, separator, simulate
from sdc.analysis.theory.saddle import Solution, curve, solve
from sdc.ground.errors import FatalError
from sdc.ground.watch import Quiet
from tests.conftest import Sdc

Vector = NDArray[np.float64]

CHECKED: list[tuple[float, float, float, Keep, float]] = [
    (0, 2, 1, "easy", 0.1885),
    (0, 1, 0.5, "hard", 0.4057),
    (0, 1, 0.5, "easy", 0.2502),
    (0, 4, 0.5, "hard", 0.1361),
    (0, 4, 0.5, "easy", 0.1173),
    (0, 8, 0.3, "hard", 0.0715),
    (0, 8, 0.3, "easy", 0.0830),
    (10, 4, 0.5, "hard", 0.1471),
    (10, 4, 0.5, "easy", 0.1293),
]
"""theta, alpha_tot, fraction, keep, test error."""


@pytest.mark.parametrize(("theta", "alpha_tot", "fraction", "keep", "error"), CHECKED)
def test_known_values_are_solved_and_simulated(
    theta: float, alpha_tot: float, fraction: float, keep: Keep, error: float
) -> None:
    pruning = Pruning(fraction, theta, keep)
    assert solve(alpha_tot, pruning).error == pytest.approx(error, abs=1e-4)
    seen = simulate(alpha_tot, pruning, Size(dimension=120, repetitions=20, seed=0))
    assert abs(seen.mean - error) < 3 * seen.stderr < 0.03


# The equations as they were published


def panels(low: float, high: float, count: int) -> tuple[Vector, Vector]:
    """Gauss-Legendre nodes and weights in so many panels of eight."""
    x, w = np.polynomial.legendre.leggauss(8)
    ends = np.linspace(low, high, count + 1)
    half = np.diff(ends)[:, None] / 2
    return ((ends[:-1, None] + half) + half * x).ravel(), (half * w).ravel()


def kept_nodes(fraction: float, keep: Keep, count: int) -> tuple[Vector, Vector]:
    """z and weights of its kept density."""
    edge = -ndtri((1 - fraction) / 2 if keep == "hard" else fraction / 2)
    parts = [panels(-edge, edge, count)] if keep == "hard" else [panels(edge, 9, count), panels(-9, -edge, count)]
    z, w = (np.concatenate(each) for each in zip(*parts, strict=True))
    return z, w * np.exp(-(z**2) / 2) / math.sqrt(2 * math.pi) / fraction


def saddle_point(alpha: float, pruning: Pruning, found: Solution, count: int = 60) -> list[float]:
    """What the appendix's three equations are off by, for theta > 0: two-dimensional integrals over z and t."""
    r, rho, kappa = found.overlap, found.rho, found.kappa
    sin, cos = math.sin(math.radians(pruning.theta)), math.cos(math.radians(pruning.theta))
    z, over_z = kept_nodes(pruning.fraction, pruning.keep, count)
    t, over_t = panels(max(-9.0, kappa - 18), kappa, count)
    z, over = z[:, None], over_z[:, None] * over_t
    lam = math.sqrt(sin**2 - r**2 - rho**2 + 2 * rho * r * cos)
    gamma = z * (rho * r - cos) - t * (r - rho * cos)
    delta = z**2 * (rho**2 + cos**2 - 2 * rho * r * cos) + 2 * t * z * (r * cos - rho) + t**2 * sin**2
    free = 1 - rho**2
    g = np.exp(-((t - rho * z) ** 2) / (2 * free)) / math.sqrt(2 * math.pi * free)
    tail, bell, gap = ndtr(-gamma / (math.sqrt(free) * lam)), np.exp(-delta / (2 * lam**2)), kappa - t
    third = g * tail * (z - rho * t) / free * gap + bell / (2 * math.pi * lam) * (rho * r - cos) / free * gap
    return [
        (r - rho * cos) / sin**2 - alpha / (math.pi * lam) * (over * bell * gap).sum(),
        1 - (rho**2 + r**2 - 2 * rho * r * cos) / sin**2 - 2 * alpha * (over * g * tail * gap**2).sum(),
        (rho - r * cos) / sin**2 - 2 * alpha * (over * third).sum(),
    ]


@pytest.mark.parametrize("keep", ["easy", "hard"])
@pytest.mark.parametrize(
    ("theta", "alpha_tot", "fraction"),
    [(10, 4, 0.5), (5, 1, 0.8), (20, 8, 0.3), (30, 20, 0.1), (45, 2, 0.02), (60, 0.2, 0.4), (90, 5, 0.6)],
)
def test_the_published_equations_hold(theta: float, alpha_tot: float, fraction: float, keep: Keep) -> None:
    pruning = Pruning(fraction, theta, keep)
    found = solve(alpha_tot, pruning)
    assert saddle_point(fraction * alpha_tot, pruning, found) == pytest.approx([0, 0, 0], abs=1e-5)
    nudged = Solution(found.error, found.overlap + 1e-3, found.rho, found.kappa, 0)
    assert max(map(abs, saddle_point(fraction * alpha_tot, pruning, nudged))) > 1e-4


@pytest.mark.parametrize("keep", ["easy", "hard"])
@pytest.mark.parametrize(("alpha_tot", "fraction"), [(0.3, 0.2), (4, 0.5), (30, 0.1)])
def test_the_two_that_remain_for_a_perfect_probe_hold(alpha_tot: float, fraction: float, keep: Keep) -> None:
    found = solve(alpha_tot, Pruning(fraction, 0, keep))
    r, spread, alpha = found.overlap, math.sqrt(1 - found.overlap**2), fraction * alpha_tot
    z, over_z = kept_nodes(fraction, keep, 100)
    g, over_g = panels(-9, 9, 400)
    gap = np.maximum(found.kappa - r * np.abs(z)[:, None] - spread * g, 0)
    over = over_z[:, None] * over_g * np.exp(-(g**2) / 2) / math.sqrt(2 * math.pi)
    assert alpha * (over * gap**2).sum() == pytest.approx(1 - r**2, rel=1e-6)
    pull = gap * (np.abs(z)[:, None] - r * g / spread)
    assert alpha * (over * pull).sum() == pytest.approx(r, rel=1e-6)
    assert found.rho == r


# What has to be so


@pytest.mark.parametrize("keep", ["easy", "hard"])
def test_a_nearly_perfect_probe_is_nearly_as_good(keep: Keep) -> None:
    for alpha_tot, fraction in ((0.3, 0.1), (4, 0.5), (30, 0.3)):
        perfect = solve(alpha_tot, Pruning(fraction, 0, keep))
        for theta in (1, 0.1, 0.01, 1e-4, 1e-8):
            off = solve(alpha_tot, Pruning(fraction, theta, keep)).error - perfect.error
            assert abs(off) < 1e-2 * theta**2 + 1e-12
        assert solve(alpha_tot, Pruning(fraction, 40, keep)).error != pytest.approx(perfect.error, rel=1e-2)


@pytest.mark.parametrize("theta", [0, 25, 90])
def test_keeping_all_is_no_pruning(theta: float) -> None:
    for alpha_tot in (0.2, 3, 40):
        random, easy, hard = (solve(alpha_tot, Pruning(1, theta, keep)) for keep in ("random", "easy", "hard"))
        assert random == easy == hard
        assert random.rho == pytest.approx(random.overlap * math.cos(math.radians(theta)))
        for keep in ("easy", "hard"):
            nearly = solve(alpha_tot, Pruning(1 - 1e-7, theta, keep))
            assert nearly.error == pytest.approx(random.error, abs=1e-5)
            assert nearly.rho == pytest.approx(random.rho, abs=1e-5)


def test_keeping_at_random_is_to_have_fewer_and_so_is_a_probe_that_knows_nothing() -> None:
    fewer = solve(2, Pruning(1, 0, "random"))
    for theta in (0, 10, 70):
        random = solve(5, Pruning(0.4, theta, "random"))
        assert (random.error, random.kappa) == pytest.approx((fewer.error, fewer.kappa), rel=1e-9)
    for keep in ("easy", "hard"):
        blind = solve(5, Pruning(0.4, 90, keep))
        assert (blind.error, blind.kappa) == pytest.approx((fewer.error, fewer.kappa), rel=1e-9)
        assert blind.rho == pytest.approx(0, abs=1e-9)


def test_with_many_examples_the_error_falls_as_their_number_grows() -> None:
    """Opper and Kinzel: 0.5005 / alpha without pruning."""
    assert 1000 * solve(1000, Pruning(1, 0, "random")).error == pytest.approx(0.5005, abs=2e-4)


def test_every_setting_is_solved_alone_or_on_the_way_to_others() -> None:
    alphas = [0.05, 3.0, 50.0, 1000.0]
    for fraction, theta, keep in itertools.product((0.005, 0.3, 0.99), (0, 1e-6, 20), sweeps.KEEPS):
        found = curve(alphas, Pruning(fraction, theta, keep))
        assert max(each.residual for each in found) < 1e-9
        assert all(0 < each.error < 0.5 and each.kappa > 0 for each in found)
    assert found[1].error == pytest.approx(solve(3.0, Pruning(0.99, 20, "hard")).error, abs=1e-10)


# The simulation


def labelled(count: int, dimension: int, seed: int) -> Vector:
    """Examples that the first axis separates, with their labels as signs."""
    drawn = np.random.default_rng(seed).standard_normal((count, dimension))
    return np.where(drawn[:, :1] > 0, 1.0, -1.0) * drawn


@pytest.mark.parametrize(("count", "dimension"), [(4, 6), (12, 4), (60, 5)])
def test_the_separator_is_the_shortest(count: int, dimension: int) -> None:
    examples = labelled(count, dimension, seed=count)
    found = separator(examples)
    constraints = {"type": "ineq", "fun": lambda w: examples @ w - 1, "jac": lambda w: examples}
    start = np.eye(dimension)[0] / examples[:, 0].min()
    other = minimize(
        lambda w: w @ w / 2, start, method="SLSQP", jac=lambda w: w, constraints=constraints, options={"ftol": 1e-10}
    )
    assert other.success
    np.testing.assert_allclose(found, other.x, rtol=1e-4, atol=1e-4)


def test_the_separator_meets_the_conditions_of_optimality() -> None:
    examples = labelled(600, 40, seed=1)
    found = separator(examples)
    margins = examples @ found
    at_margin = examples[np.abs(margins - 1) < 1e-8]
    weights = np.linalg.lstsq(at_margin.T, found, rcond=None)[0]
    assert margins.min() > 1 - 1e-8
    assert 1 < len(at_margin) <= 40
    assert weights.min() > 0
    np.testing.assert_allclose(at_margin.T @ weights, found, atol=1e-8)


def test_what_no_plane_separates_is_refused() -> None:
    examples = labelled(20, 5, seed=0)
    with pytest.raises(FatalError, match=r"^no plane through the origin separates"):
        separator(np.vstack([examples, -examples[:1]]))


def test_a_simulation_repeats_by_its_seed() -> None:
    pruning = Pruning(0.5, 20, "hard")
    first, again, other = (simulate(2, pruning, Size(30, 4, seed)) for seed in (1, 1, 2))
    assert first == again != other


# The commands

POINT = ("theory", "point", "--alpha-tot", 4, "--fraction", 0.5, "--theta", 10, "--keep", "easy")


def test_a_point_as_json(sdc: Sdc) -> None:
    found = solve(4, Pruning(0.5, 10, "easy"))
    plain = sdc(*POINT, "--json")
    assert plain.code == 0
    assert plain.json == {"error": found.error, "R": found.overlap, "rho": found.rho, "kappa": found.kappa}
    with_simulation = sdc(*POINT, "--simulate", "--dimension", 60, "--repetitions", 5, "--seed", 3, "--json").json
    seen = simulate(4, Pruning(0.5, 10, "easy"), Size(60, 5, 3))
    assert with_simulation == plain.json | {"simulated": {"mean": seen.mean, "stderr": seen.stderr, "n": 5}}


def test_a_point_for_people(sdc: Sdc) -> None:
    outcome = sdc(*POINT, "--simulate", "--dimension", 60, "--repetitions", 5)
    assert outcome.code == 0
    first, second, third = outcome.out.splitlines()
    assert first == "test error 12.93 %"
    assert second.startswith("R 0.918677   rho 0.93284")
    assert third.startswith("simulated 1")


@pytest.mark.parametrize(
    ("option", "value", "code", "says"),
    [
        ("--theta", 91, 1, "error: theta is 91 degrees: it has to be from 0 to 90"),
        ("--fraction", 0, 1, "error: the fraction kept is 0: it has to be from 0.005 to 1"),
        ("--fraction", "nan", 1, "error: the fraction kept is nan: it has to be from 0.005 to 1"),
        ("--alpha-tot", 0, 1, "error: alpha_tot is 0: it has to be from 0.001 to 1000"),
        ("--alpha-tot", 0.002, 1, "error: 0 of 0 examples of 200 dimensions would be kept"),
        ("--keep", "best", 2, "'best' is not one of"),
        ("--dimension", 1, 2, "Invalid value for '--dimension'"),
    ],
)
def test_what_cannot_be_is_refused(option: str, value: object, code: int, says: str, sdc: Sdc) -> None:
    outcome = sdc(*POINT, "--simulate", option, value)
    assert outcome.code == code
    assert says in outcome.err
    assert outcome.out == ""


def rows(file: Path) -> list[dict[str, str]]:
    with file.open(encoding="utf-8") as lines:
        return list(csv.DictReader(lines))


def test_figures_with_the_numbers_behind_them(tmp_path: Path, sdc: Sdc) -> None:
    out = tmp_path / "figures"
    small = ("--quick", "--workers", 1, "--dimension", 30, "--repetitions", 3)
    outcome = sdc("theory", "figures", "--out", out, "--theta", 0, "--theta", 20, *small, "--json")
    assert outcome.code == 0
    names = {"error-theta-0", "error-theta-20", "winner", "boundary"}
    pictures = {f"{name}.{ending}" for name in names for ending in ("svg", "png")}
    numbers = {"curves.csv", "simulated.csv", "map.csv", "boundary.csv", "figures.md"}
    assert {file.name for file in out.iterdir()} == pictures | numbers
    assert sorted(outcome.json["files"]) == sorted(str(file) for file in out.iterdir())
    assert all((out / f"{name}.png").read_bytes().startswith(b"\x89PNG") for name in names)
    assert all("</svg>" in (out / f"{name}.svg").read_text() for name in names)

    last = rows(out / "curves.csv")[-1]
    keep: Keep = "random"
    assert last["keep"] == keep
    again = solve(float(last["alpha_tot"]), Pruning(float(last["fraction"]), float(last["theta_degrees"]), keep))
    assert float(last["error"]) == pytest.approx(again.error, abs=1e-9)
    for row in rows(out / "map.csv")[::31]:
        easy, hard = (
            solve(float(row["alpha_tot"]), Pruning(float(row["fraction"]), float(row["theta_degrees"]), keep)).error
            for keep in ("easy", "hard")
        )
        assert (float(row["error_easy"]), float(row["error_hard"])) == pytest.approx((easy, hard), abs=1e-9)
    assert {row["n"] for row in rows(out / "simulated.csv")} == {"3"}
    turns = rows(out / "boundary.csv")
    assert {row["theta_degrees"] for row in turns} == {"0.0", "20.0"}
    for row in turns:
        easy, hard = (
            solve(float(row["alpha_tot"]), Pruning(float(row["fraction"]), float(row["theta_degrees"]), keep)).error
            for keep in ("easy", "hard")
        )
        assert easy == pytest.approx(hard, rel=0.02)


@pytest.mark.parametrize(
    ("more", "says"),
    [
        (("--theta", 0, "--theta", 95), "theta is 95 degrees"),
        ([each for theta in range(5) for each in ("--theta", theta)], "5 angles of the probe are asked for"),
        (("--theta", 0, "--dimension", 10**7), "Change --dimension"),
    ],
)
def test_figures_that_cannot_be_leave_nothing(more: tuple[object, ...], says: str, tmp_path: Path, sdc: Sdc) -> None:
    outcome = sdc("theory", "figures", "--quick", "--workers", 1, "--out", tmp_path / "figures", *more)
    assert outcome.code == 1
    assert says in outcome.err
    assert not (tmp_path / "figures").exists()


def test_two_processes_find_what_one_finds() -> None:
    grid = sweeps.Grid((10.0,), (0.5,), (1.0, 2.0), (1.0,), Size(20, 2, 0), (0.3, 0.6), (1.0, 10.0))
    one, two = (sweeps.sweep(grid, workers, Quiet()) for workers in (1, 2))
    assert one.curves == two.curves
    assert one.beside == two.beside
    assert [each.boundary for each in one.maps] == [each.boundary for each in two.maps] != [()]
    assert np.array_equal(one.maps[0].advantage, two.maps[0].advantage)

"""The figures of the theory, and the numbers behind them: error curves, which keeping wins, and where that turns."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.lines import Line2D
from matplotlib.patheffects import withStroke

from sdc.analysis.theory.margins import Keep
from sdc.analysis.theory.sweeps import Beside, Curve, Grid, Map, Sweep, sweep
from sdc.ground import drawing
from sdc.ground.drawing import PLAIN, Drawn
from sdc.ground.files import replacing, writable, write_text
from sdc.ground.watch import Watch

EASY, HARD = "#0072b2", "#d55e00"
_LOOK: dict[Keep, tuple[str, str, str]] = {
    "easy": (EASY, "-", "o"),
    "hard": (HARD, "--", "s"),
    "random": (PLAIN, ":", ""),
}
_LINES = ("-", "--", "-.", ":")
_FOLD = 1.0  # log2 of the ratio of errors at which the colours of a map end
_ALPHA = "examples per dimension before pruning, \N{GREEK SMALL LETTER ALPHA}_tot"
_HALO = [withStroke(linewidth=2.5, foreground="white")]
_WINS = LinearSegmentedColormap.from_list("wins", [HARD, "#ffffff", EASY])


@dataclass(frozen=True)
class Table:
    """Numbers behind the figures: the name of their file, columns, rows."""

    name: str
    columns: tuple[str, ...]
    rows: list[tuple[object, ...]]


def make(grid: Grid, out: Path, workers: int, watch: Watch) -> list[Path]:
    """Compute a grid, draw it, and write pictures, numbers and captions into `out`; return the files."""
    writable(out)  # or minutes of computing are for nothing
    found = sweep(grid, workers, watch)
    drawn = list(figures(found))
    files = []
    for each in drawn:
        for ending, content in (("svg", each.svg), ("png", each.png)):
            files.append(out / f"{each.name}.{ending}")
            with replacing(files[-1]) as partial:
                partial.write_bytes(content)
    for table in tables(found):
        files.append(out / f"{table.name}.csv")
        write_text(files[-1], _csv(table))
    files.append(out / "figures.md")
    write_text(files[-1], _page(drawn))
    return files


def figures(found: Sweep) -> Iterator[Drawn]:
    """All figures of a sweep."""
    with drawing.style():
        for theta in found.grid.thetas:
            yield errors(theta, found)
        yield winners(found.maps)
        if len(found.maps) > 1:
            yield boundaries(found.maps)


def errors(theta: float, found: Sweep) -> Drawn:
    """Error against alpha_tot at one angle, a panel a fraction: lines are the theory, points the simulation."""
    grid = found.grid
    curves = [each for each in found.curves if each.pruning.theta == theta]
    points = [each for each in found.beside if each.pruning.theta == theta]
    all_kept = next(each for each in curves if each.pruning.fraction == 1)
    figure, axes = drawing.panels(len(grid.fractions), sharey=True, size=(2.75, 2.75))
    for axis, fraction in zip(axes, grid.fractions, strict=True):
        axis.plot(all_kept.alphas, 100 * all_kept.errors, color="#000000", lw=1)
        _points(axis, [each for each in found.beside if each.pruning.fraction == 1], "#000000", "D")
        for each in curves:
            if each.pruning.fraction == fraction:
                colour, line, _ = _LOOK[each.pruning.keep]
                axis.plot(each.alphas, 100 * each.errors, color=colour, ls=line, lw=1.5)
        for keep in ("easy", "hard"):
            kept = [each for each in points if (each.pruning.fraction, each.pruning.keep) == (fraction, keep)]
            _points(axis, kept, _LOOK[keep][0], _LOOK[keep][2])
        axis.set_title(f"{100 * fraction:g}% kept")
        axis.set_xscale("log")
        axis.set_yscale("log")
        _plain_ticks(axis, grid.alphas)
    axes[0].set_yticks(ticks := [1, 2, 5, 10, 20, 50], [str(tick) for tick in ticks])
    axes[0].set_yticks([], minor=True)
    axes[0].set_ylabel("test error (%)")
    figure.supxlabel(_ALPHA, fontsize=9)
    handles = [
        Line2D([], [], color="#000000", lw=1, marker="D", mfc="white", ms=3.5, label="all kept"),
        *(
            Line2D([], [], color=colour, ls=line, lw=1.5, marker=sign, mfc="white", ms=4, label=f"{keep} kept")
            for keep, (colour, line, sign) in _LOOK.items()
        ),
    ]
    figure.legend(handles=handles, loc="outside upper center", ncols=4, handlelength=3.2)
    size = grid.size
    caption = (
        f"Test error of a max-margin perceptron, {_probe(theta)}. Lines: theory, infinitely many dimensions. Points: "
        f"simulation in {size.dimension} dimensions, mean and standard error (often within the mark) of "
        f"{size.repetitions} repetitions. Dotted: as many examples as are kept of the others, at random."
    )
    return drawing.finish(figure, f"error-theta-{theta:g}", f"Error after pruning, {_probe(theta)}", caption)


def winners(maps: Sequence[Map]) -> Drawn:
    """Which keeping has the lower error, over alpha_tot and the fraction kept, a panel an angle."""
    figure, axes = drawing.panels(len(maps), sharey=True, size=(2.75, 2.75))
    mesh = None
    for axis, each in zip(axes, maps, strict=True):
        percent = 100 * np.array(each.fractions)
        mesh = axis.pcolormesh(
            each.alphas,
            percent,
            each.advantage,
            cmap=_WINS,
            vmin=-_FOLD,
            vmax=_FOLD,
            shading="gouraud",
            rasterized=True,
        )
        _line(axis, each, "black", "-")
        for name, wins in (("easy", each.advantage > 0), ("hard", each.advantage < 0)):
            if (place := _middle(np.where(wins, np.abs(each.advantage), 0.0))) is not None:
                axis.text(each.alphas[place[1]], percent[place[0]], name, ha="center", path_effects=_HALO)
        axis.set_title(f"probe {each.theta:g}° off" if each.theta else "the probe is the teacher")
        axis.set_xlim(each.alphas[0], each.alphas[-1])
        axis.set_ylim(percent[0], percent[-1])
        axis.set_xscale("log")
        axis.grid(visible=False)
        _plain_ticks(axis, each.alphas)
    axes[0].set_ylabel("kept (%)")
    figure.supxlabel(_ALPHA, fontsize=9)
    if mesh is not None:
        ticks = [-1.0, -0.5, 0.0, 0.5, 1.0]
        bar = figure.colorbar(mesh, ax=axes, extend="both", ticks=ticks, pad=0.02)
        bar.set_ticklabels([f"{2**tick:.2g}" for tick in ticks])
        bar.set_label("error, hard kept / easy kept")
    caption = (
        "Which keeping has the lower test error: blue the easy, orange the hard examples; colours end at a ratio of 2. "
        "Black: where neither wins."
    )
    return drawing.finish(figure, "winner", "Which examples to keep", caption)


def boundaries(maps: Sequence[Map]) -> Drawn:
    """Where the better keeping turns, a line an angle."""
    figure, (axis,) = drawing.panels(1, size=(3.9, 2.75))
    shades = ("#000000", EASY, HARD, "#009e73")
    for each, colour, line in zip(maps, shades, _LINES, strict=False):
        _line(axis, each, colour, line)
    handles = [
        Line2D([], [], color=colour, ls=line, lw=1.5, label=f"{each.theta:g}°")
        for each, colour, line in zip(maps, shades, _LINES, strict=False)
    ]
    axis.set_xscale("log")
    axis.set_xlim(maps[0].alphas[0], maps[0].alphas[-1])
    axis.set_ylim(0, 100)
    _plain_ticks(axis, maps[0].alphas)
    axis.set_xlabel(_ALPHA)
    axis.set_ylabel("kept (%)")
    axis.text(0.05, 0.5, "keep the easy", transform=axis.transAxes)
    axis.text(0.97, 0.5, "keep the hard", transform=axis.transAxes, ha="right")
    figure.legend(
        handles=handles, loc="outside upper center", ncols=4, title="probe off the teacher by", handlelength=3
    )
    caption = "Left of a line keeping the easy examples gives the lower test error, right of it the hard ones."
    return drawing.finish(figure, "boundary", "Where the better keeping turns", caption)


def tables(found: Sweep) -> list[Table]:
    """The numbers behind all figures."""
    setting = ("theta_degrees", "keep", "fraction", "alpha_tot")
    return [
        Table("curves", (*setting, "error", "R", "rho", "kappa"), list(_curve_rows(found.curves))),
        Table(
            "simulated",
            (*setting, "mean", "stderr", "n", "dimension", "seed"),
            [_beside_row(each, found.grid) for each in found.beside],
        ),
        Table(
            "map", ("theta_degrees", "fraction", "alpha_tot", "error_easy", "error_hard"), list(_map_rows(found.maps))
        ),
        Table(
            "boundary",
            ("theta_degrees", "fraction", "alpha_tot"),
            [(each.theta, turn.fraction, turn.alpha) for each in found.maps for turn in each.boundary],
        ),
    ]


def _curve_rows(curves: Iterable[Curve]) -> Iterator[tuple[object, ...]]:
    for each in curves:
        kept = each.pruning
        for alpha, solved in zip(each.alphas, each.solutions, strict=True):
            yield kept.theta, kept.keep, kept.fraction, alpha, solved.error, solved.overlap, solved.rho, solved.kappa


def _beside_row(each: Beside, grid: Grid) -> tuple[object, ...]:
    kept, seen = each.pruning, each.simulated
    setting = (kept.theta, kept.keep, kept.fraction, each.alpha)
    return *setting, seen.mean, seen.stderr, seen.n, grid.size.dimension, grid.size.seed


def _map_rows(maps: Iterable[Map]) -> Iterator[tuple[object, ...]]:
    for each in maps:
        for row, fraction in enumerate(each.fractions):
            for column, alpha in enumerate(each.alphas):
                yield each.theta, fraction, alpha, float(each.easy[row, column]), float(each.hard[row, column])


def _line(axis: Axes, found: Map, colour: str, line: str) -> None:
    """The boundary of a map."""
    for number in {turn.number for turn in found.boundary}:
        turns = [turn for turn in found.boundary if turn.number == number]
        fractions = [100 * turn.fraction for turn in turns]
        axis.plot([turn.alpha for turn in turns], fractions, color=colour, ls=line, lw=1.5)


def _points(axis: Axes, points: Sequence[Beside], colour: str, sign: str) -> None:
    at = [each.alpha for each in points]
    mean = [100 * each.simulated.mean for each in points]
    half = [100 * each.simulated.stderr for each in points]
    axis.errorbar(at, mean, yerr=half, fmt=sign, color=colour, mfc="white", ms=4, lw=1, capsize=2)


def _plain_ticks(axis: Axes, alphas: Sequence[float]) -> None:
    """1, 10 rather than powers of ten: the range is small."""
    within = [tick for tick in (0.1, 0.3, 1, 3, 10, 30) if alphas[0] * 0.999 <= tick <= alphas[-1]]
    axis.set_xticks(within, [f"{tick:g}" for tick in within])
    axis.set_xticks([], minor=True)


def _middle(weights: np.ndarray[tuple[int, ...], np.dtype[np.float64]]) -> tuple[int, int] | None:
    """The point of a grid around which most lies; None where nothing does."""
    total = weights.sum()
    if not total:
        return None
    row, column = (math.floor(float((index * weights).sum() / total)) for index in np.indices(weights.shape))
    return row, column


def _probe(theta: float) -> str:
    return f"probe {theta:g}° off the teacher" if theta else "the probe is the teacher"


def _csv(table: Table) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(table.columns)
    writer.writerows(table.rows)
    return text.getvalue()


def _page(drawn: Sequence[Drawn]) -> str:
    return "\n".join(f"## {each.title}\n\n![{each.title}]({each.name}.svg)\n\n{each.caption}\n" for each in drawn)

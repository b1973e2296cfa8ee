"""The figures of a report: what is drawn of which rows, under which caption. A figure for each dataset and ipc."""

from __future__ import annotations

import functools
import multiprocessing
import statistics
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from sdc.ground import drawing
from sdc.ground.cores import cores
from sdc.ground.drawing import FLOOR, HATCHES, PLAIN, PUBLISHED, SDC, STAGES, Drawn
from sdc.report import curves, tables
from sdc.report.compare import Comparison, Row, Side
from sdc.report.curves import Curve
from sdc.report.grids import images
from sdc.report.load import Choice, Run
from sdc.report.places import LINES, PANELS, PICKED, SEEDS, Place, picked, places

PLACES = {"accuracy": 12, "weights": 12, "loss": 4, "difficulty": 4, "cost": 4, "images": 4}
"""The kinds of figures, and for how many datasets and ipc each is drawn at most."""
MANY = 9  # figures from which other processes are worth their start
_OF_PROCESS: list[Callable[[], Drawn | str]] = []
"""What a process that was begun for it can draw."""


@dataclass(frozen=True)
class Figures:
    """What was drawn, and what was not, with the reason."""

    drawn: tuple[Drawn, ...]
    skipped: tuple[str, ...]


def figures(compared: Comparison, choices: Sequence[Choice], on_drawn: Callable[[int, int], None]) -> Figures:
    """All figures of a comparison; `on_drawn` is told how many of how many are done."""
    found = places(compared.test)
    jobs = [(kind, place) for kind, most in PLACES.items() for place in found[:most]]
    drawn: list[Drawn] = []
    skipped = [
        f"{kind}: only the first {most} of {len(found)} datasets and ipc are drawn"
        for kind, most in PLACES.items()
        if len(found) > most
    ]
    for done, ((kind, place), made) in enumerate(zip(jobs, _all_drawn(jobs, choices), strict=True), start=1):
        if isinstance(made, Drawn):
            drawn.append(made)
        else:
            skipped.append(f"{kind}, {place.title()}: {made}")
        on_drawn(done, len(jobs))
    return Figures(tuple(drawn), tuple(skipped))


def _all_drawn(jobs: Sequence[tuple[str, Place]], choices: Sequence[Choice]) -> Iterator[Drawn | str]:
    """The figures in order; many are shared between processes, since drawing takes longer than all else."""
    most = cores()
    if len(jobs) < MANY or most == 1:
        yield from map(functools.partial(_drawn, choices), jobs)
        return
    # Spawned, not forked: the parent has threads, which draw its progress. The rows of a place are in several figures,
    # and take a process longer to get than to draw one: so each gets them once.
    spawned = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(min(most, 8), spawned, _begin, (jobs, choices)) as pool:
        yield from pool.map(_nth, range(len(jobs)))


def _begin(jobs: Sequence[tuple[str, Place]], choices: Sequence[Choice]) -> None:
    """Begin a process that draws some of these figures."""
    _OF_PROCESS.extend(functools.partial(_drawn, choices, job) for job in jobs)


def _nth(number: int) -> Drawn | str:
    return _OF_PROCESS[number]()


def _drawn(choices: Sequence[Choice], job: tuple[str, Place]) -> Drawn | str:
    """One figure, or why there is none."""
    kind, place = job
    with drawing.style():
        if kind == "accuracy":
            return accuracy(place, choices)
        if kind == "weights":
            return weights(place)
        if kind == "cost":
            return cost(place, choices)
        return images(place, choices) if kind == "images" else progress(place, choices, kind)


def accuracy(place: Place, choices: Sequence[Choice]) -> Drawn | str:
    """A line a row: accuracy without and with the term, with the floor and the published figure where known."""
    lines = [(label, row) for label, rows in place.groups for row in rows]
    if fewer := len(lines) > LINES:
        lines = [(label, picked(rows, choices)) for label, rows in place.groups][:LINES]
    figure, (axis,) = drawing.panels(1)
    figure.set_size_inches(6.6, 1.35 + 0.24 * len(lines))
    for y, (_, row) in enumerate(lines):
        for side, colour, sign, shift in ((row.base, PLAIN, "o", -0.14), (row.sdc, SDC, "s", 0.14)):
            if side:
                mean, std = 100 * side.spread.mean, 100 * side.spread.std
                face = "white" if sign == "o" else colour
                axis.errorbar(mean, y + shift, xerr=std, fmt=sign, color=colour, mfc=face, ms=4.5, lw=1.1, capsize=2)
        for known, colour, sign in ((row.floor, FLOOR, "|"), (row.published, PUBLISHED, "D")):
            if known:
                axis.plot(100 * known.mean, y, sign, color=colour, mfc="none", ms=9 if sign == "|" else 5, mew=1.6)
    named = [f"{label}, weight {tables.arm(row)}" if row.weight else label for label, row in lines]
    axis.set_yticks(range(len(lines)), named)
    axis.set_ylim(len(lines) - 0.4, -0.6)
    axis.set_xlabel("test accuracy (%), mean ± std over networks")
    axis.grid(axis="y", visible=False)
    _legend(figure, [("weight 0", PLAIN, "o"), ("+SDC", SDC, "s"), *_more_marks([row for _, row in lines])])
    more = f" {PICKED} The others are in the table." if fewer else ""
    apart = " Published: by the papers' own settings." if any(row.published for _, row in lines) else ""
    caption = f"{_counts([row for _, row in lines])} Bars: standard deviation (population).{apart}{more}"
    return drawing.finish(figure, place.name("accuracy"), f"Accuracy: {place.title()}", caption)


def weights(place: Place) -> Drawn | str:
    """The paired difference against the weight, a panel a group, a line a schedule."""
    swept = [(label, rows) for label, rows in place.groups if len({row.weight for row in rows if row.difference}) > 1]
    if not swept:
        return "no group with two weights that are paired with weight 0"
    figure, axes = drawing.panels(len(swept[:PANELS]), sharey=True)
    for axis, (label, rows) in zip(axes, swept, strict=False):
        axis.axhline(0, color=PLAIN, lw=1)
        axis.plot(0, 0, "D", color=PLAIN, mfc="white", ms=5)
        schedules = sorted({row.schedule for row in rows})
        for schedule, sign in zip(schedules, ("o-", "s--", "^:"), strict=False):
            _weight_line(axis, [row for row in rows if row.schedule == schedule], sign, schedule)
        drawing.weight_scale(axis, sorted({row.weight for row in rows}))
        axis.set_title(label)
        if len(schedules) > 1:
            axis.legend()
    figure.supxlabel("weight of the term (logarithmic, 0 at its left end)", fontsize=9)
    figure.supylabel("difference (percentage points)", fontsize=9)
    caption = (
        f"Accuracy with the term minus without, paired by seed; {_counts([r for _, rows in swept for r in rows])} "
        "Bars: 95% interval (Student's t over seeds); hollow: one seed, no interval. A bar that crosses 0 shows no "
        f"difference.{Place(place.dataset, place.ipc, tuple(swept)).left_out()}"
    )
    return drawing.finish(figure, place.name("weights"), f"Difference by weight: {place.title()}", caption)


def progress(place: Place, choices: Sequence[Choice], kind: str) -> Drawn | str:
    """Loss or difficulty over the steps, without and with the term: thin lines are seeds, thick ones their mean."""
    found = [(label, _both_curves(picked(rows, choices), kind)) for label, rows in place.groups]
    known = [(label, row, both) for label, (row, both) in found if any(both)]
    if not known:
        return f"no run there has its {kind} recorded"
    figure, axes = drawing.panels(len(known[:PANELS]))
    for axis, (label, row, both) in zip(axes, known, strict=False):
        for of_seeds, colour, line in zip(both, (PLAIN, SDC), ("--", "-"), strict=True):
            for steps, values in of_seeds if len(of_seeds) > 1 else ():
                axis.plot(steps, values, color=colour, lw=0.6, alpha=0.4)
            if of_seeds:
                axis.plot(*curves.mean(of_seeds), color=colour, ls=line, lw=1.6)
        axis.set_title(f"{label}, weight {tables.arm(row)}" if row.weight else label)
    figure.supxlabel("step (update of the images)", fontsize=9)
    figure.supylabel({"loss": "loss, as the script has it", "difficulty": "mean gradient norm"}[kind], fontsize=9)
    _legend(figure, [("weight 0", PLAIN, "--"), ("+SDC", SDC, "-")])
    most = max(len(of_seeds) for _, _, both in known for of_seeds in both)
    caption = (
        f"Thin: seeds, at most {SEEDS} (here {most}); thick: their mean. {PICKED}{place.left_out()} {_of(kind, known)}"
    )
    title = {"loss": "Loss", "difficulty": "Difficulty"}[kind]
    return drawing.finish(figure, place.name(kind), f"{title} over the steps: {place.title()}", caption)


def cost(place: Place, choices: Sequence[Choice]) -> Drawn | str:
    """Time of each stage and peak memory, without and with the term."""
    sides = [
        (f"{label}, {name}", side)
        for label, rows in place.groups[: 2 * PANELS]
        for row in (picked(rows, choices),)
        for name, side in (("weight 0", row.base), (f"weight {tables.arm(row)}", row.sdc))
        if side
    ]
    figure, (time, memory) = drawing.panels(2, sharey=True)
    figure.set_size_inches(7.6, 1.35 + 0.22 * len(sides))
    for y, (_, side) in enumerate(sides):
        left = 0.0
        for stage, colour in STAGES.items():
            seconds = _mean_of(side, stage, "seconds")
            time.barh(y, seconds, left=left, color=colour, hatch=HATCHES[stage], edgecolor="white", height=0.7)
            left += seconds
        peaks = [_mean_of(side, stage, "peak_memory_mib") for stage in STAGES]
        memory.barh(y, max(peaks), color=PLAIN, height=0.7)
    time.set_yticks(range(len(sides)), [name for name, _ in sides])
    time.set_ylim(len(sides) - 0.4, -0.6)
    time.set_xlabel("seconds, mean over runs")
    memory.set_xlabel("peak memory (MiB)")
    for axis in (time, memory):
        axis.grid(axis="y", visible=False)
    patches = [Patch(fc=STAGES[name], hatch=HATCHES[name], ec="white", label=name) for name in STAGES]
    figure.legend(handles=patches, loc="outside upper center", ncols=3)
    runs = [len(side.runs) for _, side in sides]
    caption = (
        f"Means over {_range(runs)} seeds. Experts are trained once and shared by all runs that match them. Memory: "
        f"of the stage that takes most. {PICKED}"
    )
    return drawing.finish(figure, place.name("cost"), f"Time and memory: {place.title()}", caption)


def _weight_line(axis: Axes, rows: Sequence[Row], sign: str, label: str) -> None:
    points = sorted((row.weight, row.difference) for row in rows if row.difference)
    at = [weight for weight, _ in points]
    middle = [100 * d.mean for _, d in points]
    half = [100 * (d.mean - d.low) if d.low is not None else 0.0 for _, d in points]
    faces = "white" if any(d.low is None for _, d in points) else SDC
    axis.errorbar(at, middle, yerr=half, fmt=sign, color=SDC, mfc=faces, ms=4, lw=1.2, capsize=2, label=label)


def _both_curves(row: Row, kind: str) -> tuple[Row, tuple[list[Curve], list[Curve]]]:
    """The curves of a row's seeds, without and with the term."""
    base, sdc = ([c for run in _some(side) if (c := _curve(run, kind))] for side in (row.base, row.sdc))
    return row, (base, sdc)


def _curve(run: Run, kind: str) -> Curve | None:
    if kind == "loss":
        return curves.losses(run)
    found = curves.difficulties(run)
    return found[0] if found else None


def _some(side: Side | None) -> tuple[Run, ...]:
    return side.runs[:SEEDS] if side else ()


def _of(kind: str, known: Sequence[tuple[str, Row, object]]) -> str:
    """What a curve is of, in words."""
    if kind == "loss":
        return "Where a script's own loss holds the term, so does this curve."
    runs = [run for _, row, _ in known for side in (row.base, row.sdc) for run in _some(side)]
    return "Over " + "; ".join(sorted({found[1] for run in runs if (found := curves.difficulties(run))})) + "."


def _mean_of(side: Side, stage: str, what: str) -> float:
    known = [run.stages[stage].get(what) for run in side.runs if stage in run.stages]
    numbers = [float(value) for value in known if isinstance(value, int | float)]
    return statistics.fmean(numbers) if numbers else 0.0


def _legend(figure: Figure, entries: Sequence[tuple[str, str, str]]) -> None:
    """A legend over the figure: name, colour, and a marker or a line style."""
    handles = [_handle(*entry) for entry in entries]
    figure.legend(handles=handles, loc="outside upper center", ncols=len(handles))


def _handle(name: str, colour: str, sign: str) -> Line2D:
    if sign in ("-", "--"):
        return Line2D([], [], color=colour, ls=sign, label=name)
    face, size = "none" if sign in "oD" else colour, 9 if sign == "|" else 5
    return Line2D([], [], color=colour, marker=sign, mfc=face, ms=size, mew=1.5, ls="", label=name)


def _more_marks(rows: Sequence[Row]) -> Iterator[tuple[str, str, str]]:
    if any(row.floor for row in rows):
        yield "random real images", FLOOR, "|"
    if any(row.published for row in rows):
        yield "published", PUBLISHED, "D"


def _counts(rows: Sequence[Row]) -> str:
    """n and seeds of the sides of these rows, in words."""
    sides = [side for row in rows for side in (row.base, row.sdc) if side]
    networks, seeds = [side.spread.n for side in sides], [len(side.by_seed) for side in sides]
    return f"n = {_range(networks)} networks of {_range(seeds)} seeds a point."


def _range(counts: Sequence[int]) -> str:
    return str(min(counts)) if min(counts) == max(counts) else f"{min(counts)} to {max(counts)}"

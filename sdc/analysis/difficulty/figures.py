"""The figures of difficulty."""

from __future__ import annotations

import statistics
import textwrap
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.lines import Line2D
from torch import Tensor

from sdc.ground import drawing
from sdc.ground.drawing import PLAIN, SDC, Drawn
from sdc.ground.files import replacing

_POINTS, _ROWS = 200, 40
_CLASSES, _IMAGES = 20, 8
_CHARACTERS = 80
"""Of a panel's title, in a line."""
_BLUES = ("#9ecae1", "#4292c6", "#0072b2", "#08519c", "#08306b")
"""Weights, the smallest first."""


@dataclass(frozen=True)
class Line:
    """Mean difficulty at the updates `steps` of one run, of a group of runs and a weight, over which networks."""

    group: str
    weight: float
    steps: Sequence[int]
    mean: Sequence[float]
    networks: str


@dataclass(frozen=True)
class Fall:
    """How difficulty changes with the weight, in one group of runs: a value for each seed, relative to `weights[0]`."""

    group: str
    weights: Sequence[float]
    values: Mapping[str, Sequence[Sequence[float]]]
    """By kind of networks."""


def distribution(sources: Sequence[tuple[str, Tensor, str]]) -> Drawn:
    """A panel for each kind of networks, with a row a label: box and samples of its GraDN [N], its sources pooled.

    Values over different networks are no measure of each other, so they share no axis.
    """
    pooled: dict[str, dict[str, list[Tensor]]] = defaultdict(lambda: defaultdict(list))
    for label, gradn, networks in sorted(sources, key=lambda source: not _is_real(source[0])):
        pooled[networks][label].append(gradn)
    shown = {networks: list(rows.items())[:_ROWS] for networks, rows in pooled.items()}
    with drawing.style():
        heights = [len(rows) + 1.6 for rows in shown.values()]
        figure = Figure(figsize=(7.4, 0.3 + 0.29 * sum(heights)), layout=ConstrainedLayoutEngine(w_pad=0.15))
        axes = list(figure.subplots(len(shown), 1, squeeze=False, height_ratios=heights).flat)
        for axis, (networks, rows) in zip(axes, shown.items(), strict=True):
            for y, (label, parts) in enumerate(rows):
                _row(axis, y, torch.cat(parts), PLAIN if _is_real(label) else SDC)
            axis.set_yticks(range(len(rows)), [f"{label} (n = {sum(map(len, parts))})" for label, parts in rows])
            axis.set_ylim(len(rows) - 0.4, -0.6)
            axis.grid(axis="y", visible=False)
            axis.set_title(textwrap.fill(f"over {networks}", _CHARACTERS), fontsize=7.5, loc="right")
        axes[-1].set_xlabel("GraDN of a sample")
        left = sum(map(len, pooled.values())) - sum(map(len, shown.values()))
        caption = (
            "Each dot a sample, at most 200 of a row drawn; boxes: quartiles and median, whiskers: 5 to 95 % of the "
            f"samples; seeds are pooled.{f' {left} more rows are not drawn.' if left else ''}"
        )
        return drawing.finish(figure, "distribution", "Difficulty of the samples", caption)


def _is_real(label: str) -> bool:
    return label.startswith("real images")


def _row(axis: Axes, y: int, values: Tensor, colour: str) -> None:
    drawn = torch.Generator().manual_seed(0)
    some = values[torch.randperm(len(values), generator=drawn)[:_POINTS]]
    at = y + 0.36 * (torch.rand(len(some), generator=drawn) - 0.5)
    axis.plot(some.numpy(), at.numpy(), "o", ms=2.2, color=colour, alpha=0.35, mew=0)
    thin, thick = {"color": colour, "lw": 0.9}, {"color": colour, "lw": 1.8}
    axis.boxplot(
        values.numpy(),
        positions=[y],
        widths=0.5,
        orientation="horizontal",
        whis=(5, 95),
        showfliers=False,
        manage_ticks=False,
        medianprops=thick,
        boxprops=thin,
        whiskerprops=thin,
        capprops=thin,
    )


def courses(lines: Sequence[Line]) -> list[Drawn]:
    """Mean difficulty over the updates, a panel a group: thin lines are seeds, thick ones their mean."""
    by_group: dict[str, list[Line]] = defaultdict(list)
    for line in lines:
        by_group[line.group].append(line)
    with drawing.style():
        figure, axes = drawing.panels(len(by_group))
        colours = dict[float, str]()
        for axis, (group, members) in zip(axes, by_group.items(), strict=True):
            weights = sorted({line.weight for line in members})
            for weight in weights:
                colour, style = _colour(weight, weights)
                _of_weight(axis, [line for line in members if line.weight == weight], colour, style)
                axis.plot([], [], color=colour, ls=style, lw=1.6, label=f"{weight:g}")
                colours[weight] = colour
            axis.set_title(group)
            axis.legend(
                title="weight", title_fontsize=7.5, fontsize=7.5, handlelength=1.4, frameon=True, edgecolor="none"
            )
        figure.supxlabel("step (update of the images)", fontsize=9)
        figure.supylabel("mean GraDN", fontsize=9)
        most = max(_seeds(members) for members in by_group.values())
        caption = f"Thin: seeds (at most {most}); thick: their mean. {_over([line.networks for line in lines])}"
        return [drawing.finish(figure, "steps", "Difficulty over the distillation", caption)]


def extremes(images: Tensor, labels: Tensor, gradn: Tensor, classes: Sequence[str], networks: str) -> Drawn:
    """The easiest and the hardest of the real images uint8 [N,C,H,W], the extreme ones outside, a row a class."""
    present = sorted(set(labels.tolist()))
    size, gap = images.shape[-1], 2
    with drawing.style():
        rows = []
        for label in present[:_CLASSES]:
            of_class = (labels == label).nonzero()[:, 0]
            ranked = of_class[gradn[of_class].argsort()]
            count = min(_IMAGES, len(ranked) // 2 or 1)
            rows.append((classes[label], ranked[:count], ranked[-count:]))
        step = size + gap
        canvas = np.full((len(rows) * step, (2 * _IMAGES + 1) * step, 3), 255, dtype=np.uint8)
        for y, (_, easy, hard) in enumerate(rows):
            places = [*enumerate(easy.tolist()), *((2 * _IMAGES + 1 - len(hard) + n, i) for n, i in enumerate(hard))]
            for x, index in places:
                shown = images[index].expand(3, -1, -1).permute(1, 2, 0).numpy()
                canvas[y * step : y * step + size, x * step : x * step + size] = shown
        figure = Figure(figsize=(8.2, 0.6 + 0.4 * len(rows)), layout="constrained")
        axis = figure.subplots()
        axis.imshow(canvas, interpolation="nearest", aspect="auto")
        axis.set_yticks([(y + 0.5) * step for y in range(len(rows))], [name for name, *_ in rows])
        axis.set_xticks([_IMAGES * step / 2, (1.5 * _IMAGES + 1) * step], ["easiest", "hardest"])
        axis.xaxis.tick_top()
        axis.tick_params(length=0)
        axis.grid(visible=False)
        for side in axis.spines.values():
            side.set_visible(False)
        more = f" The first {_CLASSES} classes." if len(present) > _CLASSES else ""
        caption = (
            f"Of the {len(images)} real images measured, by GraDN, from the easiest (left) to the hardest (right) of "
            f"each class. Over {networks}.{more}"
        )
        return drawing.finish(figure, "extremes", "The easiest and the hardest real images of each class", caption)


def trend(falls: Sequence[Fall], said: Mapping[str, str]) -> Drawn:
    """Difficulty against the weight, relative to the smallest weight: a panel a group, a line a kind of networks."""
    looks = {"fresh": (SDC, "o-"), "experts": ("#d55e00", "s-"), "trained": (PLAIN, "^--")}
    with drawing.style():
        figure, axes = drawing.panels(len(falls))
        for axis, fall in zip(axes, falls, strict=True):
            axis.axhline(1, color="#bbbbbb", lw=0.8)
            for kind, of_weights in fall.values.items():
                colour, look = looks[kind]
                middle = [statistics.fmean(seeds) for seeds in of_weights]
                bars = [statistics.pstdev(seeds) for seeds in of_weights]
                axis.errorbar(fall.weights, middle, yerr=bars, fmt=look, color=colour, ms=4, lw=1.2, capsize=2)
            drawing.weight_scale(axis, fall.weights)
            axis.set_title(fall.group)
        figure.supxlabel("weight of the term (logarithmic, 0 at its left end)", fontsize=9)
        figure.supylabel("mean GraDN / that at weight 0", fontsize=9)
        kinds = [kind for kind in looks if any(kind in fall.values for fall in falls)]
        handles = [
            Line2D(
                [], [], color=looks[kind][0], marker=looks[kind][1][0], ls=looks[kind][1][1:], ms=5, label=said[kind]
            )
            for kind in kinds
        ]
        figure.legend(handles=handles, loc="outside upper center", ncols=len(handles))
        caption = "Each point the mean of the seeds' ratios, bars: their standard deviation (population)."
        return drawing.finish(figure, "trend", "Difficulty of the distilled set by the weight of the term", caption)


def write(drawn: Sequence[Drawn], out: Path) -> list[Path]:
    """Each figure as SVG, PNG, and its caption as text."""
    made = []
    for figure in drawn:
        for ending, content in (
            ("svg", figure.svg),
            ("png", figure.png),
            ("txt", f"{figure.title}\n\n{figure.caption}\n".encode()),
        ):
            made.append(out / f"{figure.name}.{ending}")
            with replacing(made[-1]) as partial:
                partial.write_bytes(content)
    return made


def _of_weight(axis: Axes, lines: Sequence[Line], colour: str, style: str) -> None:
    for line in lines if len(lines) > 1 else ():
        axis.plot(line.steps, line.mean, color=colour, ls=style, lw=0.6, alpha=0.4)
    by_step = [dict(zip(line.steps, line.mean, strict=True)) for line in lines]
    shared = sorted(set.intersection(*(set(each) for each in by_step)))
    axis.plot(
        shared, [statistics.fmean(each[step] for each in by_step) for step in shared], color=colour, ls=style, lw=1.6
    )


def _colour(weight: float, weights: Sequence[float]) -> tuple[str, str]:
    """Grey and dashed at weight 0, else a blue: the darker, the larger."""
    if not weight:
        return PLAIN, "--"
    positive = [each for each in weights if each]
    if len(positive) == 1:
        return SDC, "-"
    return _BLUES[positive.index(weight) * (len(_BLUES) - 1) // (len(positive) - 1)], "-"


def _seeds(lines: Sequence[Line]) -> int:
    return max(sum(other.weight == line.weight for other in lines) for line in lines)


def _over(networks: Sequence[str]) -> str:
    """Over which networks, in words."""
    return f"Over {'; '.join(dict.fromkeys(networks))}."

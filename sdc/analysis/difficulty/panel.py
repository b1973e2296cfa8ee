"""What is asked of `sdc difficulty`, and the networks that judge each source."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from sdc.analysis.difficulty import judges
from sdc.analysis.difficulty.judges import EPOCHS, NETWORKS, SEED, Judges, Kind
from sdc.analysis.difficulty.samples import Source
from sdc.data import sets
from sdc.data.reading import reader, stem
from sdc.data.sets import Dataset
from sdc.evaluation import shown
from sdc.evaluation.protocol import UNIFORM, override
from sdc.ground.errors import FatalError
from sdc.ground.watch import Watch

MOST = 100
"""Real images of each class that are measured, if not said."""
MODEL = "ConvNet"
BATCH = 64
"""Of networks that are trained on real images: small, since these are trained for a few epochs only."""


@dataclass(frozen=True)
class Request:
    """What a user asks for. `networks`: `auto` takes states of the experts for a run that matches experts, fresh
    networks for any other set, and networks trained on them for real images without a set."""

    paths: tuple[Path, ...] = ()
    dataset: str | None = None
    data: Path | None = None
    networks: Literal["auto", "fresh", "trained", "experts"] = "auto"
    count: int = NETWORKS
    epochs: int = EPOCHS
    model: str | None = None
    seed: int = SEED
    limit: int = 0
    """Training images of each class that there are at all, for networks too; 0: all."""
    most: int = MOST
    steps: bool = False


class Panel:
    """Finds the networks that judge a source, and each of them once."""

    def __init__(self, request: Request, watch: Watch) -> None:
        self._request, self._watch, self._read = request, watch, reader(watch)
        self._known: dict[tuple[object, ...], Judges] = {}

    def data(self) -> Dataset | None:
        """The real images that the user names."""
        r = self._request
        if not (r.dataset or r.data):
            return None
        return self._read(r.dataset or stem(r.data or Path()), r.data, 0, r.limit)

    def places(self) -> Tensor:
        """Of each training image of `data`, its place in the whole dataset, int64 [n]."""
        r = self._request
        if not (r.dataset or r.data):
            return torch.arange(0)
        whole = self._read(r.dataset or stem(r.data or Path()), r.data, 0, 0)
        return sets.first(whole, r.limit) if r.limit else torch.arange(len(whole.train.labels))

    def of(self, source: Source, kind: Kind | None = None) -> Judges:
        """The judges of a source, of the kind that is asked for if none is said here."""
        kind, model, view, r = kind or self.kind(source), self.model(source), source.view, self._request
        matched = source.cell.matched if source.cell else None
        data = self._data_of(source) if kind == "trained" else None
        seen = (view.channels, view.size, len(view.classes), view.mean, view.std, id(view.whitening))
        key = (kind, model, seen, matched if kind == "experts" else None, data.sha256 if data else None)
        if key not in self._known:
            if kind == "experts":
                if not matched:
                    raise FatalError(f"{source.name} matches no experts. Give --networks fresh or --networks trained")
                self._known[key] = judges.of_experts(model, view, matched, r.count)
            elif data:
                shown.say(self._watch, shown.viewed(data, view))
                protocol = override(UNIFORM, {"epochs": r.epochs - 1, "batch": BATCH, "augment": ""})
                self._known[key] = judges.trained(model, data, view, protocol, r.count, r.seed, self._watch)
            else:
                self._known[key] = judges.untrained(model, view, r.count, r.seed)
        return self._known[key]

    def kind(self, source: Source) -> Kind:
        """Of the judges of a source, as asked."""
        if self._request.networks != "auto":
            return self._request.networks
        if source.cell and source.cell.matched:
            return "experts"
        return "trained" if source.index is not None else "fresh"

    def model(self, source: Source) -> str:
        """The network's name."""
        return self._request.model or source.model or MODEL

    def _data_of(self, source: Source) -> Dataset:
        """The real images that networks are trained on: those that the user names, or else the run's own."""
        if named := self.data():
            return named
        if source.cell is None:
            raise FatalError(
                f"networks for {source.name} are to be trained on real images, and nothing says on which: "
                "give --dataset NAME or --data PATH, or --networks fresh"
            )
        cell = source.cell
        return self._read(cell.dataset, cell.data, cell.validation, self._request.limit or cell.limit)

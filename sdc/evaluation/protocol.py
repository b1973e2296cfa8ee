"""How a distilled set is trained on: numbers only, so that it can be stored beside the scores that it gave."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sdc.ground.errors import FatalError

AUGMENTATIONS: dict[str, tuple[str, ...]] = {
    "dc": ("crop", "noise", "rotate", "scale"),
    "dsa": ("color", "crop", "cutout", "flip", "rotate", "scale"),
}


@dataclass(frozen=True)
class Protocol:
    """Settings of one evaluation: SGD over the distilled set, one drop of the rate, one test at the end.

    `epochs` is the E of the field's code, which trains for E + 1. `augment` is "" for none, or a family and its
    strategies, as in "dsa:color_crop_cutout_flip_scale_rotate" or "dc:crop_scale_rotate".
    Raises FatalError for a value that cannot be trained with.
    """

    lr: float
    epochs: int
    batch: int = 256
    momentum: float = 0.9
    weight_decay: float = 5e-4
    augment: str = ""
    networks: int = 5

    def __post_init__(self) -> None:
        _need(0 < self.lr < float("inf"), "lr", self.lr, "a positive number, for example 0.01")
        _need(self.epochs >= 0, "epochs", self.epochs, "0 or more, for example 300")
        _need(self.batch >= 1, "batch", self.batch, "1 or more, for example 256")
        _need(0 <= self.momentum < 1, "momentum", self.momentum, "at least 0 and below 1, for example 0.9")
        _need(0 <= self.weight_decay < float("inf"), "weight_decay", self.weight_decay, "0 or more, as 5e-4")
        _need(self.networks >= 1, "networks", self.networks, "1 or more, for example 5")
        strategies(self.augment)


def strategies(augment: str) -> tuple[str, tuple[str, ...]]:
    """Split a protocol's `augment` into its family and its strategies, both empty for none."""
    if not augment:
        return "", ()
    family, _, listed = augment.partition(":")
    names = tuple(listed.split("_"))
    if family not in AUGMENTATIONS or not set(names) <= set(AUGMENTATIONS[family]):
        forms = " or ".join(f"{key}:{'_'.join(known)}" for key, known in AUGMENTATIONS.items())
        raise FatalError(f"protocol: augment is {augment!r}. Give '' for none, or a choice out of {forms}")
    return family, names


def to_dict(protocol: Protocol) -> dict[str, float | int | str]:
    """The protocol as JSON-able scalars; `from_dict` takes them back."""
    return dataclasses.asdict(protocol)


def from_dict(values: Mapping[str, object]) -> Protocol:
    """The protocol of stored scalars. Raises FatalError for a name that is none of ours, or a missing one."""
    if missing := [name for name in ("lr", "epochs") if name not in values]:
        raise FatalError(f"protocol: no {' and no '.join(missing)} given. Known: {', '.join(_TYPES)}")
    return Protocol(**_converted(values))


def override(protocol: Protocol, changes: Mapping[str, object]) -> Protocol:
    """`protocol` with `changes`, whose values may be text as typed on a command line."""
    return dataclasses.replace(protocol, **_converted(changes))


_TYPES: dict[str, type[float] | type[int] | type[str]] = {
    "lr": float,
    "epochs": int,
    "batch": int,
    "momentum": float,
    "weight_decay": float,
    "augment": str,
    "networks": int,
}


_WORDS = {float: "number", int: "whole number", str: "text"}


def _converted(values: Mapping[str, object]) -> dict[str, Any]:
    if unknown := sorted(set(values) - set(_TYPES)):
        raise FatalError(f"protocol: unknown {', '.join(unknown)}. Known: {', '.join(_TYPES)}")
    return {name: _scalar(name, value) for name, value in values.items()}


def _scalar(name: str, value: object) -> float | int | str:
    wanted = _TYPES[name]
    try:
        return wanted(str(value))
    except ValueError:
        raise FatalError(f"protocol: {name} is {value!r}, which is no {_WORDS[wanted]}") from None


def _need(holds: bool, name: str, value: object, wanted: str) -> None:
    if not holds:
        raise FatalError(f"protocol: {name} is {value!r}. Give {wanted}")


# The same for every method: what DSA and DM, which learn no rate, are evaluated with.
UNIFORM = Protocol(lr=0.01, epochs=1000, augment="dsa:color_crop_cutout_flip_scale_rotate")

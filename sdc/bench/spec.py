"""What a benchmark asks for: one TOML file, read and checked before anything is run."""

from __future__ import annotations

import math
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sdc.adapters.base import Value
from sdc.adapters.registry import ADAPTERS
from sdc.evaluation import networks
from sdc.ground.errors import FatalError, unknown
from sdc.plan import schedule

Weight = float | str
"""A number; `auto:F`, the weight at which the penalty's image gradient is F times as long as the matching loss's; or
`chosen`, the candidate of [choose] that did best on images held out of the training data."""
AUTO, CHOSEN = "auto:", "chosen"
_LISTS: dict[str, type | tuple[type, ...]] = {
    "methods": str,
    "datasets": str,
    "ipc": int,
    "weights": (int, float, str),
    "schedules": str,
    "models": str,
    "seeds": int,
    "init_from": str,
}
_DEFAULTS: dict[str, list[Any]] = {
    "ipc": [1],
    "weights": [0],
    "schedules": ["constant"],
    "models": [""],
    "seeds": [0],
    "init_from": [""],
}
_OTHERS = {"recipe", "set", "method", "data", "evaluate", "choose"}
_OVERRIDES = ("weights", "schedules", "models", "recipe", "set")
_OF_FORK = ("clone", "script")
_EVALUATE = ("models", "protocol", "networks", "floor", "together")


@dataclass(frozen=True)
class Part:
    """What holds for one method: its own word where the spec has one, else the spec's."""

    weights: tuple[Weight, ...]
    schedules: tuple[str, ...]
    models: tuple[str, ...]
    recipe: str
    settings: Mapping[str, Value]
    clone: Path | None = None
    """The user's own fork, whose scripts are run; None: the pin's are."""
    script: str = ""
    """The path of the script that distils there; empty: the upstream's."""


@dataclass(frozen=True)
class Choose:
    """The candidates for the weight `chosen`, and the percentage of the training images that they are tried on."""

    weights: tuple[Weight, ...] = ()
    validation: int = 20


@dataclass(frozen=True)
class Spec:
    """A benchmark's lists, and how its distilled sets are evaluated beside what each run does itself."""

    methods: tuple[str, ...]
    datasets: tuple[str, ...]
    ipc: tuple[int, ...]
    seeds: tuple[int, ...]
    parts: Mapping[str, Part]
    """By method."""
    data: Mapping[str, Path] = field(default_factory=dict)
    """Folders or archives of datasets, by name."""
    models: tuple[str, ...] = ()
    """Further networks that each set is evaluated with."""
    protocol: str = "upstream"
    networks: int = 0
    floor: bool = True
    """Whether random real images, as many, are evaluated, too."""
    together: bool | None = None
    """Whether runs whose sets are of one kind are evaluated together; None: where it pays."""
    choose: Choose = Choose()
    starts: tuple[Path | None, ...] = (None,)
    """Images that the first synthetic ones are drawn from; None: the script makes its own."""


def read(path: Path) -> Spec:
    """The spec in a file. Raises FatalError for what is missing, unknown or of the wrong kind, naming it."""
    try:
        found = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise FatalError(f"cannot read {path}: {error}\nexamples/quick.toml shows what a spec looks like") from error
    return _spec(found, path)


def _spec(found: Mapping[str, Any], path: Path) -> Spec:
    where = str(path)
    _only(found, {*_LISTS, *_OTHERS}, where)
    lists = {name: _list(found, name, where) for name in _LISTS}
    for method in lists["methods"]:
        if method not in ADAPTERS:
            raise unknown(f"method in {where}", method, sorted(ADAPTERS))
    own = _table(found, "method", where)
    if strangers := sorted(set(own) - set(lists["methods"])):
        raise FatalError(f"{where}: [method.{strangers[0]}] is of none of its methods: {', '.join(lists['methods'])}")
    evaluate = _table(found, "evaluate", where)
    _only(evaluate, set(_EVALUATE), f"{where}: [evaluate]")
    if (protocol := evaluate.get("protocol", "upstream")) not in ("upstream", "uniform"):
        raise unknown(f"protocol in {where}", str(protocol), ["upstream", "uniform"])
    for model in evaluate.get("models", []):
        networks.known(str(model))
    return Spec(
        methods=tuple(lists["methods"]),
        datasets=tuple(lists["datasets"]),
        ipc=tuple(lists["ipc"]),
        seeds=tuple(lists["seeds"]),
        parts={method: _part(found, own.get(method, {}), path, method) for method in lists["methods"]},
        data={name: _beside(path, str(place)) for name, place in _table(found, "data", where).items()},
        models=tuple(_texts(evaluate.get("models", []), f"{where}: evaluate.models")),
        protocol=protocol,
        networks=_whole(evaluate.get("networks", 0), f"{where}: evaluate.networks"),
        floor=_yes_or_no(evaluate.get("floor", True), f"{where}: evaluate.floor"),
        together=_yes_or_no(evaluate["together"], f"{where}: evaluate.together") if "together" in evaluate else None,
        choose=_choose(_table(found, "choose", where), f"{where}: [choose]"),
        starts=tuple(_beside(path, place) if place else None for place in lists["init_from"]),
    )


def _choose(found: Mapping[str, Any], where: str) -> Choose:
    _only(found, {"weights", "validation"}, where)
    if not found:
        return Choose()
    weights = tuple(_weight(weight, where) for weight in _list(found, "weights", where))
    if CHOSEN in weights or 0 in weights:
        raise FatalError(f"{where}: weights are candidates: numbers above 0, or auto:F")
    validation = _whole(found.get("validation", Choose.validation), f"{where}: validation")
    if not 0 < validation < 100:
        raise FatalError(f"{where}: validation is {validation}; give a percentage of the training images, such as 20")
    return Choose(weights, validation)


def _weight(value: Any, where: str) -> Weight:  # noqa: ANN401 - whatever the file holds
    """A weight in the spec's words; `auto:0.30` and `auto:0.3` are one."""
    if value == CHOSEN:
        return CHOSEN
    text = str(value)
    try:
        number = float(text.removeprefix(AUTO))
    except ValueError:
        number = math.nan
    if not (math.isfinite(number) and number >= 0) or (text.startswith(AUTO) and number == 0):
        raise FatalError(
            f"{where}: weight {value!r}: give a number of 0 or more, auto:F with a fraction F above 0, or chosen"
        )
    return f"{AUTO}{number:g}" if text.startswith(AUTO) else number


def _part(found: Mapping[str, Any], own: Mapping[str, Any], path: Path, method: str) -> Part:
    where = f"{path}: [method.{method}]"
    _only(own, {*_OVERRIDES, *_OF_FORK}, where)
    merged = {**found, **own}
    settings = {**_table(found, "set", where), **_table(own, "set", where)}
    if "init_from" in settings:
        raise FatalError(f'{where}: init_from is a list of the spec, not a setting: init_from = ["", "easiest"]')
    for name, value in settings.items():
        if not isinstance(value, int | float | str):
            raise FatalError(f"{where}: set.{name} is {value!r}; give a number or a text")
    weights = tuple(_weight(weight, where) for weight in _list(merged, "weights", where))
    if CHOSEN in weights and not found.get("choose"):
        raise FatalError(
            f'{where}: the weight "chosen" needs candidates: [choose] with weights = ["auto:0.1", "auto:0.3"]'
        )
    for word in _list(merged, "schedules", where):
        schedule.options(word)
    return Part(
        weights=weights,
        schedules=tuple(_list(merged, "schedules", where)),
        models=tuple(_list(merged, "models", where)),
        recipe=str(merged.get("recipe", "quick")),
        settings=settings,
        **_fork(own, path, where),
    )


def _fork(own: Mapping[str, Any], path: Path, where: str) -> dict[str, Any]:
    """Where a method's fork is, and its script there."""
    if strange := [name for name in _OF_FORK if name in own and not (isinstance(own[name], str) and own[name])]:
        raise FatalError(f"{where}: {strange[0]} is {own[strange[0]]!r}; give a path")
    if "script" in own and "clone" not in own:
        raise FatalError(f'{where}: script is a path in a fork of yours: say where that is, clone = "DIR"')
    return {"clone": _beside(path, own["clone"]), "script": own.get("script", "")} if "clone" in own else {}


def _list(found: Mapping[str, Any], name: str, where: str) -> list[Any]:
    """A list of the spec: not empty, of one kind, nothing twice."""
    values = found.get(name, _DEFAULTS.get(name))
    kind = _LISTS[name]
    sound = isinstance(values, list) and values and all(isinstance(v, kind) and not isinstance(v, bool) for v in values)
    if not sound or len(set(values)) < len(values):
        given = "is missing" if values is None else f"is {values!r}"
        raise FatalError(f"{where}: {name} {given}; give a list such as {_EXAMPLES[name]}, nothing twice")
    return list(values)


_EXAMPLES = {
    "methods": '["dc", "dm"]',
    "datasets": '["digits"]',
    "ipc": "[1, 10]",
    "weights": '[0, 0.5, "auto:0.3"]',
    "schedules": '["constant"]',
    "models": '["ConvNetW32"]',
    "seeds": "[0, 1, 2]",
    "init_from": '["", "easiest"]',
}


def _table(found: Mapping[str, Any], name: str, where: str) -> dict[str, Any]:
    value = found.get(name, {})
    if not isinstance(value, dict):
        raise FatalError(f"{where}: {name} is {value!r}; give a table")
    return value


def _texts(values: Any, where: str) -> Sequence[str]:  # noqa: ANN401 - whatever the file holds
    if not isinstance(values, list) or not all(isinstance(value, str) for value in values):
        raise FatalError(f"{where} is {values!r}; give a list of names")
    return values


def _whole(value: Any, where: str) -> int:  # noqa: ANN401
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise FatalError(f"{where} is {value!r}; give a whole number, 0 for the protocol's own")
    return value


def _yes_or_no(value: Any, where: str) -> bool:  # noqa: ANN401
    if not isinstance(value, bool):
        raise FatalError(f"{where} is {value!r}; give true or false")
    return value


def _beside(spec: Path, place: str) -> Path:
    """A path of the spec is relative to the spec's folder."""
    return (spec.parent / Path(place).expanduser()).resolve()


def _only(found: Mapping[str, Any], known: set[str], where: str) -> None:
    for name in found:
        if name not in known:
            raise FatalError(f"{where}: unknown {name!r}. Known: {', '.join(sorted(known))}")

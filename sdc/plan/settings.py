"""Hyper-parameters of a run: the script's defaults, then the recipe's, then what `--set` says."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from sdc.adapters.base import Adapter, Option, Value
from sdc.ground.errors import FatalError, unknown

COMMON = {
    "model": Option("ConvNet", "network of the distillation, and of its evaluation"),
    "limit_per_class": Option(0, "training images of each class that are used; 0 for all"),
    "validation": Option(
        0, "percent of each class's training images that are held out and tested on, in place of the test images"
    ),
    "networks": Option(5, "networks trained on the distilled set to evaluate it", positive=True),
    "epochs": Option(0, "epochs of each of them; 0 for the protocol's own number"),
    "snapshot_every": Option(100, "updates of the images between two snapshots"),
    "init_from": Option("", "a folder or archive of images, from which the first synthetic images are drawn"),
    "gpus": Option(1, "GPUs that the script sees; more than one, and it spreads its batches, which changes the bits"),
    "history": Option(8, "states of the images kept on the way, for difficulty over the steps; 0 for none"),
}
"""What can be set for every method, beside its script's options."""


@dataclass(frozen=True)
class Settings:
    """Resolved hyper-parameters. `options` are the script's, complete, `experts` those of the experts it matches.

    `source` says where the recipe's come from.
    """

    options: Mapping[str, Value]
    experts: Mapping[str, Value]
    model: str
    limit_per_class: int
    validation: int
    networks: int
    epochs: int
    snapshot_every: int
    gpus: int
    history: int
    init_from: str
    source: str


def resolve(adapter: Adapter, recipe: str, dataset: str, ipc: int, changes: Iterable[str]) -> Settings:
    """The settings of one cell. `changes` are `key=value`. Raises FatalError for an unknown recipe, key or value."""
    known = dict(COMMON) | dict(adapter.settings())
    given, source = _recipe(adapter, recipe, dataset, ipc)
    for change in changes:
        key, equals, text = change.partition("=")
        if not equals:
            raise FatalError(f"--set {change}: give key=value, for example --set networks=5")
        given[key] = text
    values = {name: option.default for name, option in known.items()}
    for key, chosen in given.items():
        if key not in known:
            raise unknown(f"setting of {adapter.method}", key, sorted(known))
        values[key] = _value(key, chosen, known[key])
    common: dict[str, Any] = {name: values[name] for name in COMMON}
    trained = adapter.experts.options if adapter.experts else {}
    options, experts = ({name: values[name] for name in names} for names in (adapter.options, trained))
    return Settings(options, experts, source=source, **common)


def _recipe(adapter: Adapter, name: str, dataset: str, ipc: int) -> tuple[dict[str, Value], str]:
    """What a recipe sets for a dataset and ipc, later cases over earlier, and its source."""
    if name not in adapter.recipes:
        raise unknown(f"recipe of {adapter.method}", name, sorted(adapter.recipes))
    recipe = adapter.recipes[name]
    if not _covers(recipe, dataset, ipc):
        raise FatalError(
            f"recipe {name} of {adapter.method} has no settings for {dataset} at ipc {ipc}: it covers "
            f"{', '.join(recipe.get('datasets', ['any dataset']))} at ipc {recipe.get('ipc', 'any')}.\n"
            "Take --recipe quick and give the others by --set key=value; "
            "for a copy of a published dataset say which one it is: --dataset NAME --data PATH"
        )
    parts = [recipe, *(case for case in recipe.get("case", []) if _covers(case, dataset, ipc))]
    values: dict[str, Value] = {}
    for part in parts:
        values |= part["set"]
    return values, "; ".join(part["source"] for part in parts)


def _covers(part: Mapping[str, Any], dataset: str, ipc: int) -> bool:
    return dataset in part.get("datasets", [dataset]) and ipc in part.get("ipc", [ipc])


def _value(key: str, value: Value, option: Option) -> Value:
    """`value` as the type of the option's default, checked against what the option takes."""
    kind = type(option.default)
    try:
        converted = kind(str(value) if kind is int else value)  # int() would cut a fraction off
    except ValueError:
        wanted = {int: "a whole number", float: "a number"}[kind]
        raise _unfit(key, value, option, f"{wanted}, such as {option.default}") from None
    if option.choices and converted not in option.choices:
        raise unknown(f"value of {key}", str(value), [str(choice) for choice in option.choices])
    if option.words and not _joined(str(converted), option.words):
        raise _unfit(key, value, option, f"none, or some of {', '.join(option.words)}, joined by _")
    if isinstance(converted, (int, float)) and not 0 <= converted < float("inf"):
        raise _unfit(key, value, option, "a finite number, 0 or more")
    if option.positive and not converted:
        raise _unfit(key, value, option, f"a number above 0, such as {option.default}")
    return converted


def _joined(text: str, words: tuple[str, ...]) -> bool:
    return text in ("none", "None") or set(text.split("_")) <= set(words)


def _unfit(key: str, value: Value, option: Option, wanted: str) -> FatalError:
    return FatalError(f"--set {key}={value}: {key} ({option.help}) takes {wanted}")

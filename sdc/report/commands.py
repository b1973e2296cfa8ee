"""The command that makes a run again, and in what its settings differ from its recipe's."""

from __future__ import annotations

import functools
import shlex
from collections.abc import Mapping
from dataclasses import asdict

from sdc.adapters.base import Value
from sdc.adapters.registry import ADAPTERS
from sdc.ground.errors import FatalError
from sdc.patching.methods import find
from sdc.plan.settings import resolve
from sdc.report.load import Run


def changes(run: Run) -> tuple[str, ...]:
    """What `--set` has to say beyond the recipe, as `key=value`; all settings where the recipe is not known here."""
    usual = _recipe(run.method, run.recipe, run.dataset, run.ipc)
    return tuple(f"{name}={value}" for name, value in sorted(run.settings.items()) if usual.get(name) != value)


def again(run: Run) -> str:
    """The shell command of a run."""
    words = ["sdc", "run", run.method, "--dataset", run.dataset]
    words += ["--data", run.data] if run.data else []
    words += ["--ipc", str(run.ipc), "--weight", number(run.weight)]
    words += ["--schedule", run.schedule] if run.schedule != "constant" else []
    words += ["--seed", str(run.seed), "--recipe", run.recipe]
    words += ["--model", run.model] if other_model(run) else []
    words += ["--to", run.fork.path, *_script(run)] if run.fork else []
    return shlex.join([*words, *(word for change in changes(run) for word in ("--set", change))])


def _script(run: Run) -> list[str]:
    """The option for the script of a fork, where it is not the upstream's."""
    known = ADAPTERS.get(run.method)
    if run.fork is None or (known and known.patch.script == run.fork.script):
        return []
    return ["--script", run.fork.script]


def other_model(run: Run) -> bool:
    """Whether the network is not the recipe's."""
    return _recipe(run.method, run.recipe, run.dataset, run.ipc).get("model") != run.model


def number(weight: float) -> str:
    """A weight in as few digits as give it back exactly."""
    return repr(weight).removesuffix(".0")


@functools.cache
def _recipe(method: str, recipe: str, dataset: str, ipc: int) -> Mapping[str, Value]:
    """Every setting of a recipe, with its model; nothing where the method or the recipe is not known here."""
    try:
        values = asdict(resolve(find(method), recipe, dataset, ipc, ()))
    except FatalError:
        return {}
    return {**values.pop("options"), **values.pop("experts"), **values}

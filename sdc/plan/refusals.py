"""Why a method does not distil with a network, and what to do about it."""

from __future__ import annotations

from collections.abc import Sequence

from sdc.adapters.base import Adapter, Job, Slot
from sdc.adapters.registry import ADAPTERS
from sdc.data import canonical
from sdc.evaluation import networks
from sdc.ground.errors import FatalError, unknown
from sdc.plan.settings import Settings, resolve


def resolved(adapter: Adapter, recipe: str, dataset: str, ipc: int, changes: Sequence[str]) -> Settings:
    """The settings of a run, as `resolve` finds them. Raises FatalError for a network that the method does not take."""
    found = resolve(adapter, recipe, dataset, ipc, changes)
    if found.model not in adapter.models:
        raise _no_model(adapter, found.model, dataset, ipc)
    return found


def _no_model(adapter: Adapter, name: str, dataset: str, ipc: int) -> FatalError:
    """Why a method does not distil with this network, and what to do about it."""
    if name not in networks.NAMES:
        return unknown(f"model of {adapter.method}", name, list(adapter.models))
    slots = _slots(adapter, dataset)
    others = [other.method for other in ADAPTERS.values() if _distils_with(other, name, dataset, ipc)]
    reason = _because(adapter, name, slots)
    lines = [f"{adapter.method} does not distil with {name}{reason}. It knows: {', '.join(adapter.models)}"]
    if others:
        lines.append(f"Methods that distil with {name}: {', '.join(others)}")
    if all(networks.takes(name, slot.channels, slot.classes, slot.size) for slot in slots):
        lines.append(f"To judge by {name} what another made: sdc evaluate RUN --model {name}")
    return FatalError("\n".join(lines))


def _slots(adapter: Adapter, dataset: str) -> list[Slot]:
    """Those that a dataset may be shown in, as far as its name tells."""
    named = [slot for slot in adapter.slots if slot.name == adapter.datasets.get(dataset)]
    classes = len(canonical.SPELLINGS.get(dataset, ()))
    return named or [slot for slot in adapter.slots if classes in (0, slot.classes)]


def _distils_with(adapter: Adapter, model: str, dataset: str, ipc: int) -> bool:
    """Whether a method takes this network for a dataset, as far as the dataset's name tells."""
    if model not in adapter.models:
        return False
    settings = resolve(adapter, "quick", dataset, ipc, [f"model={model}"])
    jobs = [Job(slot, ipc, model, settings.options, settings.experts) for slot in _slots(adapter, dataset)]
    return any(adapter.refuse(job) is None for job in jobs)


def _because(adapter: Adapter, name: str, slots: Sequence[Slot]) -> str:
    small = [slot.size for slot in slots if not networks.takes(name, slot.channels, slot.classes, slot.size)]
    if reason := adapter.without.get(name):
        return f": {reason}"
    if name.endswith("BN"):
        return ": batch norm mixes the samples of a batch, and the term is taken on networks without it"
    if small:
        return f": images of {min(small)}x{min(small)} pixels, as it shows them, are too small for that"
    known = any(name in other.models for other in ADAPTERS.values())
    return ": it is not among the networks that its script is run with here" if known else ", no method here does"

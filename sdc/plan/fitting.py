"""Whether a method can do what is asked, why not, and what can: another setting, another model, another method."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

from sdc.adapters import base
from sdc.adapters.base import Adapter, Slot
from sdc.adapters.registry import ADAPTERS
from sdc.data.sets import Dataset
from sdc.ground.errors import FatalError
from sdc.plan.refusals import resolved
from sdc.plan.settings import COMMON, Settings


@dataclass(frozen=True)
class Asked:
    """What is asked of a method, whichever it is."""

    name: str
    """The dataset's."""
    read: Callable[[int, int], Dataset]
    """Gives its images by the percentage that is held out, and the limit per class."""
    ipc: int
    recipe: str
    changes: tuple[str, ...]
    start: Dataset | None
    """The images that the first synthetic ones are drawn from; None: the script makes its own."""

    def dataset(self, settings: Settings) -> Dataset:
        """The images that these settings leave."""
        return self.read(settings.validation, settings.limit_per_class)


def job_of(adapter: Adapter, settings: Settings, asked: Asked) -> base.Job:
    """The job in the words of the script. Raises FatalError with the reason, and with what can do it, if it cannot."""
    if (reason := _refusal(adapter, settings, asked)) is None:
        return _job(adapter, settings, asked)
    raise FatalError("\n".join([reason, *_instead(adapter, settings, asked)]))


def choose_slot(adapter: Adapter, name: str, dataset: Dataset) -> Slot | None:
    """The dataset the script is told it has: the one of that name, else one of that shape, else of as many classes."""
    classes, (channels, size) = len(dataset.classes), (dataset.train.images.shape[1], dataset.train.images.shape[-1])
    fitting = [slot for slot in adapter.slots if slot.classes == classes]
    named = [slot for slot in fitting if slot.name == adapter.datasets.get(name)]
    same_shape = [slot for slot in fitting if (slot.channels, slot.size) == (channels, size)]
    return next(iter(named or same_shape or fitting), None)


def few(classes: tuple[str, ...]) -> str:
    """The first names of classes, and how many more there are."""
    more = f" and {len(classes) - 5} more" if len(classes) > 5 else ""
    return ", ".join(classes[:5]) + more


def _job(adapter: Adapter, settings: Settings, asked: Asked) -> base.Job:
    slot = choose_slot(adapter, asked.name, asked.dataset(settings))
    if slot is None:
        raise ValueError(f"{adapter.method} has no slot for {asked.name}")
    return base.Job(slot, asked.ipc, settings.model, settings.options, settings.experts, given=asked.start is not None)


def _refusal(adapter: Adapter, settings: Settings, asked: Asked) -> str | None:
    """Why a method cannot do it; None if it can."""
    dataset = asked.dataset(settings)
    if choose_slot(adapter, asked.name, dataset) is None:
        classes = dataset.classes
        return (
            f"{adapter.method} takes datasets of {_class_counts(adapter)} classes; {asked.name} has {len(classes)}: "
            f"{few(classes)}."
        )
    if reason := adapter.refuse(_job(adapter, settings, asked)):
        return f"{adapter.method} cannot do this: {reason}"
    return _shortage_of_start(settings, asked) or _shortage(adapter, settings, asked)


def _class_counts(adapter: Adapter) -> str:
    return " or ".join(str(n) for n in sorted({slot.classes for slot in adapter.slots}))


def _shortage_of_start(settings: Settings, asked: Asked) -> str | None:
    """Why a class has too few of the images that are given to start from; None if it has enough, or none are given."""
    if asked.start is None:
        return None
    label, fewest = _fewest(asked.start)
    if fewest >= asked.ipc:
        return None
    apart = " beside those that are held out to be tested on" if settings.validation else ""
    return (
        f"--set init_from={settings.init_from}: class {asked.start.classes[label]} has {fewest} training images "
        f"there{apart}, and --ipc {asked.ipc} needs as many"
    )


def _fewest(dataset: Dataset) -> tuple[int, int]:
    """The class with the fewest training images, and how many it has."""
    counts = dataset.train.labels.bincount(minlength=len(dataset.classes))
    return int(counts.argmin()), int(counts.min())


def _shortage(adapter: Adapter, settings: Settings, asked: Asked) -> str | None:
    """Why a class has too few real images to start from; None if it has enough, or none is needed."""
    if adapter.start and settings.options[adapter.start] == "noise":
        return None
    dataset = asked.dataset(settings)
    label, fewest = _fewest(dataset)
    if fewest >= asked.ipc:
        return None
    whole = int((asked.read(0, 0).train.labels == label).sum())
    at_work = [f"--set {key}={value}" for key, value in _parts(settings).items() if value]
    left = f", what {' and '.join(at_work)} leaves of {whole}" if whole > fewest else ""
    start = f"--set {adapter.start}={settings.options[adapter.start]}" if adapter.start else adapter.method
    return (
        f"--ipc {asked.ipc}: class {dataset.classes[label]} of {dataset.name} has only {fewest} training images to "
        f"start from{left} ({start} takes as many real images of each class)"
    )


def _parts(settings: Settings) -> dict[str, int]:
    return {"validation": settings.validation, "limit_per_class": settings.limit_per_class}


def _instead(adapter: Adapter, settings: Settings, asked: Asked) -> Iterator[str]:
    """What can be done instead, each tried: changes to the command, and other methods."""
    if changes := [words for words, changed in _changes(adapter, settings, asked) if _able(adapter, changed)]:
        yield f"Give {', or '.join(changes)}"
    dropped, plain = _without_own(asked)
    if others := _others(adapter, asked):
        yield f"Take another method: {', '.join(others)}"
    elif changes:
        return
    elif dropped and _able(adapter, plain):
        yield f"{adapter.method} can without {dropped}"
    elif dropped and (others := _others(adapter, plain)):
        yield f"Take another method, without {dropped}: {', '.join(others)}"
    else:
        yield _none(adapter, settings, asked)


def _changes(adapter: Adapter, settings: Settings, asked: Asked) -> Iterator[tuple[str, Asked]]:
    """Changes to one option each that may let this method do it, in words and carried out."""
    for model in adapter.models:
        if model != settings.model:
            yield f"--model {model}", _changed(asked, f"model={model}")
            if _able(adapter, _changed(asked, f"model={model}")):
                break
    for ipc in range(asked.ipc - 1, 0, -1):
        if _able(adapter, replace(asked, ipc=ipc)):
            yield f"--ipc {ipc}", replace(asked, ipc=ipc)
            break
    if adapter.start and settings.options[adapter.start] != "noise":
        yield f"--set {adapter.start}=noise", _changed(asked, f"{adapter.start}=noise")
    if settings.limit_per_class:
        yield "--set limit_per_class=0", _changed(asked, "limit_per_class=0")


def _changed(asked: Asked, change: str) -> Asked:
    return replace(asked, changes=(*asked.changes, change))


def _others(adapter: Adapter, asked: Asked) -> list[str]:
    return [name for name, other in ADAPTERS.items() if name != adapter.method and _able(other, asked)]


def _able(adapter: Adapter, asked: Asked) -> bool:
    """Whether a method can do it, with the settings as they are given."""
    try:
        settings = resolved(adapter, asked.recipe, asked.name, asked.ipc, asked.changes)
        return _refusal(adapter, settings, asked) is None
    except FatalError:
        return False


def _without_own(asked: Asked) -> tuple[str, Asked]:
    """The same without the recipe, the model and the settings of a script; what is left out, in words."""
    kept = tuple(change for change in asked.changes if _key(change) in COMMON and _key(change) != "model")
    own = [change for change in asked.changes if change not in kept]
    words = [f"--model {change[6:]}" if _key(change) == "model" else f"--set {change}" for change in own]
    words += [f"--recipe {asked.recipe}"] if asked.recipe != "quick" else []
    return " and ".join(words), replace(asked, recipe="quick", changes=kept)


def _key(change: str) -> str:
    return change.partition("=")[0]


def _none(adapter: Adapter, settings: Settings, asked: Asked) -> str:
    classes = len(asked.dataset(settings).classes)
    if any(slot.classes == classes for other in ADAPTERS.values() for slot in other.slots):
        return "No method here can"
    return f"No method here takes {classes}. Leave out classes, or add some, until there are {_class_counts(adapter)}"

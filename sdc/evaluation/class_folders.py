"""Which classes of a dataset the folders of a set's images stand for."""

from __future__ import annotations

import re
from collections.abc import Sequence

import torch
from torch import Tensor

from sdc.data import canonical
from sdc.data.sets import Dataset
from sdc.ground.errors import FatalError


def numbered(folders: Sequence[str], dataset: Dataset, name: str, where: str) -> tuple[Tensor, str]:
    """The label of each folder, int64 [folders], and how its name was read.

    By the names of the classes, in any spelling that the dataset known as `name` takes; else by numbers (`00000`,
    `new003`, `class_7`), if there is one for each class from 0 on. Raises FatalError for other names.
    """
    known = _known(dataset, name)
    labels = [canonical.label_of(known, folder) for folder in folders]
    if None not in labels:
        _refuse_twice(folders, labels, dataset, where)
        return torch.tensor(labels), f"by the names of the folders: {_told(folders, labels)}"
    numbers = _numbers(folders)
    if numbers and set(numbers) == set(range(len(known))):
        return torch.tensor(numbers), f"the numbers of the folders, {folders[0]} to {folders[-1]}"
    numbers = numbers if numbers and max(numbers) < 10 * len(known) else []  # wnids are numbers, too
    raise _strange(folders, labels, numbers, known, dataset, where)


def are_numbers(folders: Sequence[str], dataset: Dataset, name: str) -> bool:
    """Whether folders are read by their numbers, which leaves open which class each number means."""
    known = _known(dataset, name)
    return any(canonical.label_of(known, folder) is None for folder in folders)


def _known(dataset: Dataset, name: str) -> canonical.Spellings:
    """What each class is called: by the dataset that is known by name, if this is it, and by this data itself."""
    known = canonical.SPELLINGS.get(name, ())
    if len(known) != len(dataset.classes):
        return tuple((each,) for each in dataset.classes)
    return tuple((*spellings, own) for spellings, own in zip(known, dataset.classes, strict=True))


def _numbers(folders: Sequence[str]) -> list[int]:
    """The numbers that folders end in, if all are called alike but for them; none otherwise."""
    found = [re.fullmatch(r"(\D*)(\d+)", folder) for folder in folders]
    if not all(found) or len({match[1] for match in found if match}) > 1:
        return []
    return [int(match[2]) for match in found if match]


def _refuse_twice(folders: Sequence[str], labels: Sequence[int | None], dataset: Dataset, where: str) -> None:
    for folder, label in zip(folders, labels, strict=True):
        if label is not None and (other := folders[labels.index(label)]) != folder:
            raise FatalError(f"folders {other!r} and {folder!r} of {where} both stand for {dataset.classes[label]!r}")


def _told(folders: Sequence[str], labels: Sequence[int | None]) -> str:
    pairs = [f"{folder} = {label}" for folder, label in zip(folders, labels, strict=True)]
    return ", ".join(pairs[:3]) + (", ..." if len(pairs) > 3 else "")


def _strange(
    folders: Sequence[str],
    labels: Sequence[int | None],
    numbers: list[int],
    known: canonical.Spellings,
    dataset: Dataset,
    where: str,
) -> FatalError:
    if numbers:
        found = f"folders numbered {min(numbers)} to {max(numbers)}, {len(numbers)} of them"
        wanted = f"numbers 0 to {len(known) - 1}, one for each class, or the names of the classes"
        from_one = ". They seem to count from 1" if min(numbers) == 1 and max(numbers) == len(known) else ""
    else:
        found = canonical.few([folder for folder, label in zip(folders, labels, strict=True) if label is None])
        wanted, from_one = canonical.few([spellings[0] for spellings in known]), ""
    return FatalError(
        f"the folders of {where} are not the classes of {dataset.name}: found {found}, expected {wanted}{from_one}\n"
        "Name the data that the set was made of (--dataset NAME or --data PATH), or rename the folders."
    )

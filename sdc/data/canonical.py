"""The classes of the datasets known by name, in the order of their labels, found again in the names of folders."""

from __future__ import annotations

import re
from collections.abc import Sequence

from sdc.data.tiny_classes import WNIDS, WORDS
from sdc.ground.errors import FatalError

Spellings = tuple[tuple[str, ...], ...]
"""What each class is called, by label: the first is its usual name."""

_NUMBERS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
DIGITS = tuple("0123456789")
_DIGITS: Spellings = tuple(zip(DIGITS, _NUMBERS, strict=True))
FASHION = ("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot")
CIFAR10 = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
_CIFAR100 = """
apple aquarium_fish baby bear beaver bed bee beetle bicycle bottle bowl boy bridge bus butterfly camel can castle
caterpillar cattle chair chimpanzee clock cloud cockroach couch crab crocodile cup dinosaur dolphin elephant
flatfish forest fox girl hamster house kangaroo keyboard lamp lawn_mower leopard lion lizard lobster man maple_tree
motorcycle mountain mouse mushroom oak_tree orange orchid otter palm_tree pear pickup_truck pine_tree plain plate
poppy porcupine possum rabbit raccoon ray road rocket rose sea seal shark shrew skunk skyscraper snail snake spider
squirrel streetcar sunflower sweet_pepper table tank telephone television tiger tractor train trout tulip turtle
wardrobe whale willow_tree wolf woman worm
"""
CIFAR100 = tuple(_CIFAR100.split())


def _only(names: Sequence[str]) -> Spellings:
    return tuple((name,) for name in names)


SPELLINGS: dict[str, Spellings] = {
    "cifar10": _only(CIFAR10),
    "cifar100": _only(CIFAR100),
    "digits": _DIGITS,
    "fashionmnist": _only(FASHION),
    "mnist": _DIGITS,
    "svhn": _DIGITS,
    "tinyimagenet": tuple(
        (words, words[:60], words.split(",")[0], wnid) for wnid, words in zip(WNIDS, WORDS, strict=True)
    ),
}


def same(dataset: str, other: str) -> bool:
    """Whether two datasets known by name have the same classes, as MNIST and SVHN do."""
    return SPELLINGS[dataset] == SPELLINGS[other]


def of(name: str, classes: Sequence[str]) -> str | None:
    """The dataset known by name whose classes these are, label by label: the one of that name, else one that fits."""
    if len(SPELLINGS.get(name, ())) == len(classes):
        return name
    fitting = (
        other
        for other, known in SPELLINGS.items()
        if len(known) == len(classes) and all(label_of(known, each) == label for label, each in enumerate(classes))
    )
    return next(fitting, None)


def arranged(dataset: str, found: Sequence[str], where: str) -> list[str]:
    """The class names `found` in the order of the dataset's labels, if it is known by name and has as many classes.

    They may differ from its own names in case, spaces and punctuation, and begin with a number (`0 - zero`); of Tiny
    ImageNet they may be wnids, words (all, the first, or as many as fit into the name of a folder). They may also all
    be the labels themselves, as numbers. As they are given if the dataset is not known or has another number of
    classes. Raises FatalError if they are other names.
    """
    known = SPELLINGS.get(dataset)
    if known is None or len(known) != len(found):
        return list(found)
    if _labels(found) == set(range(len(found))):
        return sorted(found, key=int)
    by_label = {label: name for name in found if (label := label_of(known, name)) is not None}
    if len(by_label) < len(known):
        raise _others(dataset, known, found, where)
    return [by_label[label] for label in range(len(known))]


def how(dataset: str, classes: Sequence[str]) -> str:
    """In which order these class names of folders stand after `arranged`, for people."""
    known = SPELLINGS.get(dataset)
    if known is None or len(known) != len(classes):
        return "its classes are sorted by the names of their folders"
    if _labels(classes) and label_of(known, classes[0]) is None:
        return f"the names of its folders are taken for the labels of {dataset}, where 0 is {known[0][0]}"
    return f"its classes are those of {dataset}, in the order of {dataset}"


def told(classes: Sequence[str]) -> str:
    """`label 0 = airplane, 1 = automobile, ...`, the last one, too; at most ten are named."""
    named = [f"{label} = {name}" for label, name in enumerate(classes)]
    shown = named if len(named) <= 10 else [*named[:8], "...", named[-1]]
    return f"label {', '.join(shown)}"


def labels(dataset: str, found: Sequence[str], *, numbers: bool = True) -> list[int] | None:
    """The label of each of the class names `found` in `dataset`; None unless they are its classes, in any spelling.

    `numbers`: whether names that are all the labels themselves count as such.
    """
    known = SPELLINGS.get(dataset)
    if known is None or len(known) != len(found):
        return None
    if numbers and _labels(found) == set(range(len(found))):
        return [int(name) for name in found]
    return places(known, found)


def places(known: Spellings, found: Sequence[str]) -> list[int] | None:
    """The label that each of the class names `found` has among `known`; None unless they are those, each once."""
    there = [place for name in found if (place := label_of(known, name)) is not None]
    return there if len(known) == len(found) == len(set(there)) else None


def label(dataset: str, name: str) -> int | None:
    """The label of the class of a dataset known by name that is called so, in any spelling; None if none is."""
    return label_of(SPELLINGS[dataset], name)


def plain(name: str) -> str:
    """A name without what spellings differ in."""
    return re.sub(r"[\W_]+", "", name).casefold()


def _labels(names: Sequence[str]) -> set[int]:
    """The names as numbers; none unless all are."""
    return {int(name) for name in names} if all(name.isascii() and name.isdigit() for name in names) else set()


def label_of(known: Spellings, name: str) -> int | None:
    """The class that a name stands for in any spelling, beginning with a number or not; None if it stands for none."""
    either = {plain(name), plain(re.sub(r"^\d+[\s_.-]+(?=.*[^\W\d])", "", name))}
    for label_, spellings in enumerate(known):
        if either & {plain(spelling) for spelling in spellings}:
            return label_
    return None


def _others(dataset: str, known: Spellings, found: Sequence[str], where: str) -> FatalError:
    strange = [name for name in found if label_of(known, name) is None]
    missing = sorted(set(range(len(known))) - {label_of(known, name) for name in found})
    return FatalError(
        f"the classes of {where} are not those of {dataset}: found {few(strange or found)}, "
        f"where {dataset} has {few([known[label][0] for label in missing])}\n"
        f"Rename the folders, or give the images a name of their own: --dataset NAME, any but {', '.join(SPELLINGS)}."
    )


def few(names: Sequence[str]) -> str:
    """At most five names, and how many more there are."""
    more = f" and {len(names) - 5} more" if len(names) > 5 else ""
    return ", ".join(map(repr, names[:5])) + more

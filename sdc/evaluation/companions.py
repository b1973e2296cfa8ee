"""Files that belong to a file of images: its labels and its learning rate, whatever scripts call them."""

from __future__ import annotations

import re
from pathlib import Path

from sdc.evaluation.held import beside
from sdc.ground.errors import FatalError

LABELS, RATE = "labels", "lr"
_OF_IMAGES = {"images", "image", "imgs", "img", "x", "xs", "data", "inputs", "pixels", "samples"}
_WORDS = {
    LABELS: {"labels", "label", "y", "ys", "target", "targets", "logits", "probabilities", "probs"},
    RATE: {"lr", "lrs"},
}
"""Of the words of a file's name, one of these says what it holds."""
_MORE = {"ema", "soft", "hard", "syn", "synthetic", "distilled", "learned", "zca"}
"""Words that may stand in one of two names that belong together."""
_ENDS = (".pt", ".pth")


def of(images: Path, what: str) -> Path | None:
    """The file of labels, or of the rate, that belongs to a file of images; None if there is none.

    That of the same step, else the one whose name says the same but for what it holds (`x_syn.pt` and `y_syn.pt`,
    `images.pt` and `soft_labels.pt`). Raises FatalError where several may be it.
    """
    usual = beside(images, what)
    if usual != images and usual.is_file():
        return usual
    own = _rest(images)
    there = [file for file in all_of(images, what) if file.suffix.lower() in _ENDS]
    same = [file for file in there if _rest(file) == own]
    alike = same or [file for file in there if _rest(file) - _MORE == own - _MORE]
    if len(alike) > 1:
        raise FatalError(
            f"{images} may have its {what} in {' or '.join(file.name for file in alike)}: move all but the one that is "
            "meant to another folder"
        )
    return alike[0] if alike else None


def all_of(images: Path, what: str) -> list[Path]:
    """All files in the folder of images that hold labels, or a rate, by their names."""
    return sorted(file for file in images.parent.iterdir() if file != images and file.is_file() and kind(file) == what)


def kind(file: Path) -> str:
    """What a file of tensors holds by its name: labels, lr, or neither, which is empty."""
    words = _words(file)
    if not file.suffix.lower().startswith((".pt", ".np", ".safetensors")) or words & _OF_IMAGES:
        return ""
    return next((what for what, known in _WORDS.items() if words & known), "")


def _rest(file: Path) -> set[str]:
    """The words of a name but for those that say what is held."""
    return _words(file) - _OF_IMAGES - _WORDS[LABELS] - _WORDS[RATE]


def _words(file: Path) -> set[str]:
    return set(re.split(r"[\W_]+", file.stem.lower())) - {""}

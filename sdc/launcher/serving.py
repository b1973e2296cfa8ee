"""Data bridge: the dataset names a script knows are served from one prepared file, in memory."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from safetensors.torch import load_file
from torch import Tensor
from torch.utils.data import Dataset

from sdc.launcher.job import Job
from sdc.launcher.light import torchvision

transforms = torchvision.transforms

_BLOCK = 2**20
"""Bytes of images transformed in one go: they stay in the processor's cache."""


class Served(Dataset[tuple[Any, int]]):
    """A torchvision-style dataset over uint8 images [N, C, H, W] in memory.

    The usual transform, ToTensor then Normalize, is done once for all images, with the same operations and so the same
    bits; any other runs image by image as it would have. Its items are views, since copies would double the time of a
    script's first pass: no script writes into them.
    """

    def __init__(
        self, images: Tensor, labels: Tensor, classes: list[str], transform: Callable[..., Any] | None
    ) -> None:
        self.data, self.targets, self.classes = images, labels.tolist(), classes
        self.transform = transform
        self._ready = _transformed(images, transform) if _is_usual(transform) else None

    def __len__(self) -> int:
        return len(self.targets)

    def __getitem__(self, index: int) -> tuple[Any, int]:
        if self._ready is not None:
            return self._ready[index], self.targets[index]
        picture: Any = _picture(self.data[index])
        return self.transform(picture) if self.transform else picture, self.targets[index]


def install(job: Job) -> None:
    """Make torchvision's dataset called `job.slot` (or Tiny ImageNet's file) come from `job.data`.

    The class behaves as torchvision's: `train=` or `split=` chooses the part, `transform=` is honoured, nothing is
    downloaded. What normalisation the script applied is written to `job.view`.
    """
    if job.slot == "TinyImageNet":
        _serve_tiny_imagenet_file(job)
        return
    if job.slot == "Tiny":
        _serve_tiny_imagenet_folder(job)
        return

    def served(
        root: object = None,  # noqa: ARG001 - nothing is read from there
        train: bool | str | None = None,
        transform: Any = None,
        *_: object,
        **more: Any,
    ) -> Served:
        asked = more.get("split", "train") if train is None else train
        part = "train" if asked in (True, "train") else "test"
        return _serve(job, part, transform)

    setattr(torchvision.datasets, job.slot, served)


def _serve(job: Job, part: str, transform: Any) -> Served:
    tensors = _tensors(job)
    _write_view(job, tensors["train_images"], transform)
    return Served(tensors[f"{part}_images"], tensors[f"{part}_labels"], list(job.classes), transform)


def _tensors(job: Job) -> dict[str, Tensor]:
    """What is in `job.data`, with no more test images than the script is to see."""
    tensors = load_file(job.data)
    if job.test_per_class:
        labels = tensors["test_labels"]
        of_class = [(labels == label).nonzero()[: job.test_per_class, 0] for label in range(len(job.classes))]
        kept = torch.cat(of_class).sort().values
        tensors |= {name: tensors[name][kept] for name in ("test_images", "test_labels")}
    return tensors


def _serve_tiny_imagenet_folder(job: Job) -> None:
    """Scripts read Tiny ImageNet as two folders, and TESLA the members of each class from a file in its own."""

    def served(root: object, transform: Any = None, *_: object, **__: object) -> Served:
        return _serve(job, "train" if Path(str(root)).name == "train" else "test", transform)

    torchvision.datasets.ImageFolder = served
    labels = load_file(job.data)["train_labels"]
    members = np.empty(len(job.classes), dtype=object)
    members[:] = [(labels == label).nonzero()[:, 0].tolist() for label in range(len(job.classes))]
    Path("indices").mkdir(exist_ok=True)
    np.save("indices/tiny_indices_class.npy", members, allow_pickle=True)


def _serve_tiny_imagenet_file(job: Job) -> None:
    """Scripts read Tiny ImageNet from `tinyimagenet.pt` with torch.load, and normalise it with ImageNet's constants."""
    real = torch.load

    def load(file: Any, *arguments: Any, **options: Any) -> Any:
        if Path(str(file)).name != "tinyimagenet.pt":
            return real(file, *arguments, **options)
        tensors = _tensors(job)
        imagenet = transforms.Normalize(mean=[0.485, 0.456, 0.406], std=[0.229, 0.224, 0.225])
        _write_view(job, tensors["train_images"], imagenet)
        names = {
            f"{key}_{part}": tensors[f"{ours}_{key}"]
            for part, ours in (("train", "train"), ("val", "test"))
            for key in ("images", "labels")
        }
        return {"classes": list(job.classes), **names}

    torch.load = load  # type: ignore[assignment]


def _write_view(job: Job, images: Tensor, transform: Any) -> None:
    """Record how the script is shown the images: channels, size, the constants of its Normalize (else 0 and 1)."""
    steps = getattr(transform, "transforms", [transform])
    normalize = next((step for step in steps if isinstance(step, transforms.Normalize)), None)
    channels = images.shape[1]
    mean, std = (list(normalize.mean), list(normalize.std)) if normalize else ([0.0] * channels, [1.0] * channels)
    facts = {"channels": channels, "size": images.shape[-1], "mean": mean, "std": std}
    Path(job.view).write_text(json.dumps(facts))


def _is_usual(transform: Any) -> bool:
    kinds = [type(step) for step in transform.transforms] if type(transform) is transforms.Compose else []
    return kinds in ([transforms.ToTensor], [transforms.ToTensor, transforms.Normalize])


def _transformed(images: Tensor, transform: Any) -> list[Tensor]:
    """ToTensor and Normalize of a whole set, image by image: the same divisions and subtractions, a block at a time."""
    dtype = torch.get_default_dtype()
    constants = [
        [torch.as_tensor(values, dtype=dtype).view(-1, 1, 1) for values in (step.mean, step.std)]
        for step in transform.transforms[1:]
    ]
    ready: list[Tensor] = []
    for block in torch.split(images, max(1, _BLOCK // (images[0].numel() * dtype.itemsize))):
        scaled = block.to(dtype).div_(255)
        for mean, std in constants:
            scaled.sub_(mean).div_(std)
        ready.extend(scaled.unbind())
    return ready


def _picture(image: Tensor) -> Image.Image:
    pixels = image.permute(1, 2, 0).numpy()
    return Image.fromarray(pixels[:, :, 0] if pixels.shape[2] == 1 else pixels)

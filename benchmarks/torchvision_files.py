"""CIFAR-10 as torchvision keeps it, made of other copies of its images, and believed to be the published files."""

from __future__ import annotations

import hashlib
import json
import pickle
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from runner.data.sets import Dataset

HASHES = "hashes.json"


def as_torchvision_keeps_cifar10(dataset: Dataset, folder: Path) -> None:
    """Write the images as the pickled batches that torchvision reads, in `cifar-10-batches-py` of `folder`."""
    batches = folder / "cifar-10-batches-py"
    batches.mkdir()
    train, test = dataset.train, dataset.test
    parts = {f"data_batch_{n + 1}": (train.images[n::5], train.labels[n::5]) for n in range(5)}
    for name, (images, labels) in (parts | {"test_batch": (test.images, test.labels)}).items():
        batch = {"data": images.reshape(len(images), -1).numpy(), "labels": labels.tolist()}
        (batches / name).write_bytes(pickle.dumps(batch))
    (batches / "batches.meta").write_bytes(pickle.dumps({"label_names": list(dataset.classes)}))
    hashes = {
        file.name: hashlib.md5(file.read_bytes(), usedforsecurity=False).hexdigest() for file in batches.iterdir()
    }
    (batches / HASHES).write_text(json.dumps(hashes))


def trust(batches: Path) -> None:
    """Tell torchvision the hashes of these files instead of the published ones; all else of it stays as it is."""
    from torchvision.datasets import CIFAR10

    hashes = json.loads((batches / HASHES).read_text())
    CIFAR10.train_list = [[name, hashes[name]] for name in (f"data_batch_{n}" for n in range(1, 6))]
    CIFAR10.test_list = [["test_batch", hashes["test_batch"]]]
    CIFAR10.meta = CIFAR10.meta | {"md5": hashes["batches.meta"]}

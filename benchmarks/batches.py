"""CIFAR-10's images as the files that torchvision keeps, for scripts that read them by their own means."""

from __future__ import annotations

import hashlib
import json
import pickle
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sdc.data.sets import Dataset

FOLDER = "cifar-10-batches-py"
_HASHES = "md5.json"


def write(dataset: Dataset, folder: Path) -> None:
    """Write the images to `folder` as the pickled batches that torchvision reads, and their hashes."""
    batches = folder / FOLDER
    batches.mkdir(parents=True)
    train, test = dataset.train, dataset.test
    parts = {f"data_batch_{n + 1}": (train.images[n::5], train.labels[n::5]) for n in range(5)}
    for name, (images, labels) in (parts | {"test_batch": (test.images, test.labels)}).items():
        batch = {"data": images.reshape(len(images), -1).numpy(), "labels": labels.tolist()}
        (batches / name).write_bytes(pickle.dumps(batch))
    (batches / "batches.meta").write_bytes(pickle.dumps({"label_names": list(dataset.classes)}))
    hashes = {
        file.name: hashlib.md5(file.read_bytes(), usedforsecurity=False).hexdigest() for file in batches.iterdir()
    }
    (folder / _HASHES).write_text(json.dumps(hashes))


def trust(folder: Path) -> None:
    """Tell torchvision the hashes of these files instead of the published ones; all else of it stays as it is."""
    from torchvision.datasets import CIFAR10

    hashes = json.loads((folder / _HASHES).read_text())
    CIFAR10.train_list = [[f"data_batch_{n}", hashes[f"data_batch_{n}"]] for n in range(1, 6)]
    CIFAR10.test_list = [["test_batch", hashes["test_batch"]]]
    CIFAR10.meta = CIFAR10.meta | {"md5": hashes["batches.meta"]}

"""The bridges change a whole process, so each script runs in a child, once for all tests and all workers."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from filelock import FileLock
from safetensors.torch import load_file, save_file
from torch import Tensor

from sdc.ground import paths
from sdc.launcher.job import Job

CLASSES = ("heron", "otter", "newt")
TIMEOUT = 120.0


def _strictly(constant: str) -> None:
    raise AssertionError(f"{constant} is no JSON")


@dataclass(frozen=True)
class Child:
    """A script that ran, or will run, under the launcher, and what it left in its folder `work`."""

    folder: Path

    @property
    def job(self) -> Job:
        return Job.read(self.folder / "job.json")

    @property
    def work(self) -> Path:
        return self.folder / "work"

    @property
    def output(self) -> Path:
        return Path(self.job.output)

    @property
    def snapshot(self) -> Path:
        return Path(self.job.snapshot)

    @property
    def ended(self) -> dict[str, Any]:
        """Its exit code, what it said on stderr, and the real time before and after it."""
        ended: dict[str, Any] = json.loads((self.folder / "ended.json").read_text())
        return ended

    @property
    def code(self) -> int:
        return int(self.ended["code"])

    @property
    def said(self) -> str:
        return str(self.ended["said"])

    @property
    def found(self) -> dict[str, Any]:
        """What the script wrote to found.json."""
        found: dict[str, Any] = json.loads((self.work / "found.json").read_text())
        return found

    @property
    def tensors(self) -> dict[str, Tensor]:
        """What the script wrote to found.safetensors."""
        return load_file(self.work / "found.safetensors")

    def lines(self, kind: str) -> list[dict[str, Any]]:
        """The lines of the metrics file of this kind, each of them JSON in the strict sense."""
        texts = Path(self.job.metrics).read_text().splitlines()
        lines: list[dict[str, Any]] = [json.loads(text, parse_constant=_strictly) for text in texts]
        return [line for line in lines if line["kind"] == kind]

    @property
    def command(self) -> list[str]:
        return [sys.executable, "-P", "-m", "sdc.launcher", str(self.folder / "job.json")]

    def start(self, *before: str) -> subprocess.Popen[str]:
        """Start the launcher, as a group of its own, behind the command `before` if there is one."""
        ours = {"PYTHONPATH": str(paths.ROOT), "PYTHONDONTWRITEBYTECODE": "1", "CUDA_VISIBLE_DEVICES": ""}
        return subprocess.Popen(
            [*before, *self.command],
            cwd=self.work,
            env=os.environ | ours,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )


def pixels(count: int, channels: int, start: int) -> Tensor:
    """uint8 images of 16x16 pixels in which every channel of every image holds each of the 256 values once."""
    random = torch.Generator().manual_seed(start)
    planes = [torch.randperm(256, generator=random) for _ in range(count * channels)]
    return torch.stack(planes).to(torch.uint8).view(count, channels, 16, 16)


def served(channels: int) -> dict[str, Tensor]:
    """The data a script is given: six training and three test images of three classes."""
    return {
        "train_images": pixels(6, channels, start=1),
        "train_labels": torch.tensor([2, 0, 1, 1, 0, 2]),
        "test_images": pixels(3, channels, start=2),
        "test_labels": torch.tensor([1, 2, 0]),
    }


def written(
    folder: Path, script: str, *, seed: int, slot: str, channels: int, beside: dict[str, str], **more: Any
) -> Child:
    """A script in a tree of its own, modules `beside` it or elsewhere, its data, and its job."""
    (folder / "work").mkdir(parents=True)
    for name, text in {"tree/script.py": script, **beside}.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(text)
    save_file(served(channels), folder / "data.safetensors")
    Job(
        script=str(folder / "tree" / "script.py"),
        argv=(slot, "--elsewhere", str(folder / "elsewhere")),
        seed=seed,
        device="cpu",
        slot=slot,
        data=str(folder / "data.safetensors"),
        classes=CLASSES,
        output=str(folder / "work" / "final.safetensors"),
        snapshot=str(folder / "work" / "snapshot.safetensors"),
        metrics=str(folder / "work" / "metrics.jsonl"),
        view=str(folder / "work" / "view.json"),
        snapshot_every=2,
        tree=str(folder / "tree"),
        **more,
    ).write(folder / "job.json")
    return Child(folder)


Launch = Callable[..., Child]
"""`launch("name", script)`: the child called so, run to its end."""


@pytest.fixture
def write(tmp_path: Path) -> Launch:
    """`write(script)`: a child that is ready to start."""

    def make(script: str) -> Child:
        return written(tmp_path / "child", script, seed=0, slot="CIFAR10", channels=3, beside={})

    return make


@pytest.fixture(scope="session")
def launch(shared: Path) -> Launch:
    def run(
        name: str,
        script: str,
        *,
        seed: int = 0,
        slot: str = "CIFAR10",
        channels: int = 3,
        beside: dict[str, str] | None = None,
        **more: Any,
    ) -> Child:
        folder = shared / "launcher" / name
        folder.parent.mkdir(exist_ok=True)
        with FileLock(f"{folder}.lock"):
            if not folder.exists():
                child = written(folder, script, seed=seed, slot=slot, channels=channels, beside=beside or {}, **more)
                began = time.time()
                process = child.start()
                try:
                    _, said = process.communicate(timeout=TIMEOUT)
                finally:
                    process.kill()
                ended = {"code": process.returncode, "said": said, "began": began, "over": time.time()}
                (folder / "ended.json").write_text(json.dumps(ended))
        return Child(folder)

    return run

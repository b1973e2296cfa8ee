"""Start: given images take the place of those that a script would begin from.

Every script makes its first images, and then builds an optimizer over them before it uses them for anything. There
their values are overwritten, shown as the script shows real images. No random number is drawn.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

from sdc.launcher.job import Job
from sdc.launcher.tap import synthetic


def install(job: Job) -> None:
    """From now on, the first SGD over synthetic images finds those of `job.start` in them, if there are any."""
    if not job.start:
        return
    built = torch.optim.SGD.__init__
    begun = False

    def init(optimizer: torch.optim.SGD, *arguments: Any, **options: Any) -> None:
        nonlocal begun
        built(optimizer, *arguments, **options)
        images = synthetic(optimizer).get("images")
        if images is None or begun:
            return
        begun = True
        given = shown(job)
        if given.shape != images.shape:
            raise ValueError(f"the script begins from images {list(images.shape)}, and {list(given.shape)} are given")
        with torch.no_grad():
            images.copy_(given)

    torch.optim.SGD.__init__ = init  # type: ignore[method-assign, assignment]


def shown(job: Job) -> Tensor:
    """The images of `job.start` as the script shows real ones to its networks: float32 [N, C, H, W]."""
    view = json.loads(Path(job.view).read_text())
    images = load_file(job.start)["images"].float().div(255)
    mean, std = (torch.tensor(view[name]).view(1, -1, 1, 1) for name in ("mean", "std"))
    images = images.sub_(mean).div_(std)
    if not job.whiten:
        return images
    fitted = load_file(job.whitening)
    return torch.mm(images.flatten(1) - fitted["mean"], fitted["matrix"]).view_as(images)

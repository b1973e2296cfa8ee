"""Kernels that give the same bits each time, while networks are trained and tested on a GPU."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch.backends import cudnn
from torch.utils import deterministic

VARIABLE = "CUBLAS_WORKSPACE_CONFIG"


@contextmanager
def kernels(device: torch.device) -> Iterator[None]:
    """Within, a CUDA device uses repeatable kernels where there are any; afterwards all is set as it was before.

    What has none is warned of, not refused. Of that, an evaluation needs nothing: the backward of grid_sample (DSA's
    rotate and scale) would reach the images, which are constants; the one of max pools adds up what windows share, and
    those of the networks here share nothing.
    """
    if device.type != "cuda":
        yield
        return
    before = (cudnn.deterministic, cudnn.benchmark, torch.get_deterministic_debug_mode())
    filled, workspace = deterministic.fill_uninitialized_memory, os.environ.get(VARIABLE)  # type: ignore[attr-defined]
    os.environ.setdefault(VARIABLE, ":4096:8")  # cuBLAS reads it when it is first used; a choice of the user's stays
    _set(True, False, "warn")
    # It would fill each new tensor, to be written over.
    deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    try:
        yield
    finally:
        _set(*before)
        deterministic.fill_uninitialized_memory = filled  # type: ignore[attr-defined]
        if workspace is None:
            del os.environ[VARIABLE]


def _set(repeatable: bool, benchmark: bool, mode: int | str) -> None:
    cudnn.deterministic, cudnn.benchmark = repeatable, benchmark
    # torch.use_deterministic_algorithms would import the compiler, to tell it: seconds.
    torch.set_deterministic_debug_mode(mode)

"""How much memory this process has needed."""

from __future__ import annotations

import resource

import torch


def reset() -> None:
    """Begin a new count of the GPU's memory; the machine's cannot be reset."""
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()


def peak_mib() -> int:
    """The most memory this process held: the GPU's since `reset` if there is one, else its own since its start."""
    if torch.cuda.is_available():
        return int(torch.cuda.max_memory_allocated()) // 2**20
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 2**10

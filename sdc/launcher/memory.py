"""How much memory this process has needed."""

from __future__ import annotations

import resource
import sys
from pathlib import Path

import torch


def reset() -> None:
    """Begin a new count of the GPU's memory; the machine's cannot be reset."""
    if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        torch.cuda.reset_peak_memory_stats()


def peak_mib() -> int:
    """The most memory this process held: the GPU's since `reset` if it uses one, else its own since its start."""
    if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        return int(torch.cuda.max_memory_allocated()) // 2**20
    status = Path("/proc/self/status")
    if status.is_file():  # getrusage would count the process that started this one, too
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) // 2**10
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 2 ** (20 if sys.platform == "darwin" else 10)

"""Clock and seeds: the same seed gives the same run, bit for bit, and another seed another run."""

from __future__ import annotations

import os
import random
import sys
import time
from collections.abc import Callable
from hashlib import sha256
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import torch

_SPAN = 10**9


def seed_everything(seed: int, tree: Path) -> None:
    """Seed Python, numpy and torch, ask torch for repeatable kernels, and make the script's clock a function of `seed`.

    The upstreams reseed torch from `int(time.time() * 1000) % 100000`. A clock that ticked from the seed would give
    neighbouring seeds the same networks, so every reading is drawn anew by a hash of the seed and a count. Only code
    under `tree` reads this clock; libraries keep the real one. A script that seeds Python or numpy with a number of its
    own (DATM: 0, always) gets another for each seed of ours.
    """
    os.environ["CUBLAS_WORKSPACE_CONFIG"] = ":4096:8"
    random.seed(seed)
    np.random.seed(_draw(seed, -1) % 2**32)
    torch.manual_seed(seed)
    torch.backends.cudnn.benchmark = False
    torch.backends.cudnn.deterministic = True
    torch.use_deterministic_algorithms(True, warn_only=True)
    real, readings, inside = time.time, count(), str(tree) + os.sep

    def clock() -> float:
        if sys._getframe(1).f_code.co_filename.startswith(inside):
            return _draw(seed, next(readings)) % _SPAN / 1000
        return real()

    time.time = clock
    random.seed, np.random.seed = _mixed(random.seed, seed, inside), _mixed(np.random.seed, seed, inside)


def _mixed(real: Callable[..., Any], seed: int, inside: str) -> Callable[..., Any]:
    """A seeding function that, called from under `inside`, takes the run's seed into account."""

    def seeded(value: Any = None, *more: Any) -> Any:
        ours = value is None or not sys._getframe(1).f_code.co_filename.startswith(inside)
        return real(value if ours else _draw(seed, int(value)) % 2**32, *more)

    return seeded


def _draw(seed: int, reading: int) -> int:
    """A number of 64 bits that depends on both arguments alone."""
    return int.from_bytes(sha256(f"{seed}/{reading}".encode()).digest()[:8])

"""Clock and seeds: the same seed gives the same run, bit for bit, and another seed another run."""

from __future__ import annotations

import math
import os
import random
import sys
import time
from collections.abc import Callable, Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

_SPAN = 10**9
_CUDA = "random.cuda"


class Clock:
    """The time that a script reads, a function of the seed, and all the random numbers that it draws.

    The upstreams reseed torch from `int(time.time() * 1000) % 100000`. A clock that ticked from the seed would give
    neighbouring seeds the same networks, so every reading is drawn anew by a hash of the seed and a count. Only code
    under `tree` reads this clock; libraries keep the real one. A script that seeds Python or numpy with a number of its
    own (DATM: 0, always) gets another for each seed of ours.
    """

    def __init__(self, seed: int, tree: Path) -> None:
        self._seed, self._inside, self._readings = seed, str(tree) + os.sep, 0
        # The environment of a user's own tree may lie in it: what is installed there is a library all the same.
        self._installed = tuple(place + os.sep for place in _environments() if place.startswith(self._inside))
        self._seed_python, self._seed_numpy = random.seed, np.random.seed

    def install(self) -> None:
        """Seed Python, numpy and torch, ask torch for repeatable kernels, and become the script's clock."""
        os.environ["CUBLAS_WORKSPACE_CONFIG"] = ":4096:8"
        torch.backends.cudnn.benchmark = False
        torch.backends.cudnn.deterministic = True
        os.environ["TORCHINDUCTOR_DETERMINISTIC"] = "1"
        torch.set_deterministic_debug_mode("warn")  # use_deterministic_algorithms would import the compiler, to tell it
        # No script reads memory that it has not written; each new tensor would be filled, a kernel more.
        torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
        self.begin(self._seed)
        real = time.time

        def clock() -> float:
            return self._read() if self._asked_from_inside() else real()

        time.time = clock
        random.seed, np.random.seed = self._mixed(random.seed), self._mixed(np.random.seed)

    def begin(self, seed: int) -> None:
        """Start all random numbers, and the clock, from a seed."""
        self._seed, self._readings = seed, 0
        self._seed_python(seed)
        self._seed_numpy(_draw(seed, -1) % 2**32)
        torch.manual_seed(seed)

    def part(self, seed: int, number: int) -> None:
        """Start them for one part of a job, so that it comes out the same whatever was done before it."""
        self.begin(_draw(seed, -2 - number))

    def state(self) -> dict[str, Tensor]:
        """Where the clock and all random numbers are, as tensors."""
        _, python, gauss = random.getstate()
        _, numpy, position, has_gauss, cached = np.random.get_state(legacy=True)
        state = {
            "random.torch": torch.get_rng_state(),
            "random.python": torch.tensor(python, dtype=torch.int64),
            "random.numpy": torch.from_numpy(np.asarray(numpy).astype(np.int64)),
            "random.more": torch.tensor(
                [math.nan if gauss is None else gauss, position, has_gauss, cached, self._readings], dtype=torch.float64
            ),
        }
        if torch.cuda.is_available():
            state |= {f"{_CUDA}{n}": each for n, each in enumerate(torch.cuda.get_rng_state_all())}
        return state

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Put them where `state` has them."""
        gauss, position, has_gauss, cached, readings = state["random.more"].tolist()
        random.setstate((3, tuple(state["random.python"].tolist()), None if math.isnan(gauss) else gauss))
        numbers = state["random.numpy"].numpy().astype(np.uint32)
        np.random.set_state(("MT19937", numbers, int(position), int(has_gauss), cached))
        torch.set_rng_state(state["random.torch"])
        devices = sorted(name for name in state if name.startswith(_CUDA))
        if torch.cuda.is_available() and len(devices) == torch.cuda.device_count():
            torch.cuda.set_rng_state_all([state[name] for name in devices])
        self._readings = int(readings)

    def _read(self) -> float:
        self._readings += 1
        return _draw(self._seed, self._readings - 1) % _SPAN / 1000

    def _asked_from_inside(self) -> bool:
        file = sys._getframe(2).f_code.co_filename
        return file.startswith(self._inside) and not file.startswith(self._installed)

    def _mixed(self, real: Callable[..., Any]) -> Callable[..., Any]:
        """A seeding function that, called from inside, takes the run's seed into account."""

        def seeded(value: Any = None, *more: Any) -> Any:
            ours = value is None or not self._asked_from_inside()
            return real(value if ours else _draw(self._seed, int(value)) % 2**32, *more)

        return seeded


def _environments() -> set[str]:
    """The folders of the Python that runs, each by the name it was started by and by its own."""
    return {str(way) for folder in (sys.prefix, sys.base_prefix) for way in (Path(folder), Path(folder).resolve())}


def _draw(seed: int, reading: int) -> int:
    """A number of 64 bits that depends on both arguments alone."""
    return int.from_bytes(sha256(f"{seed}/{reading}".encode()).digest()[:8])

"""The engine: Parsl hands cells to workers, experts before the cells that match them. What is done it reads from files.

Nothing rests on Parsl's own memory: a benchmark that is killed, or runs elsewhere, goes on from its run folders.
"""

from __future__ import annotations

import fcntl
import os
import re
import shlex
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from parsl import python_app
from parsl.config import Config
from parsl.dataflow.dflow import DataFlowKernel
from parsl.executors import HighThroughputExecutor
from parsl.executors.high_throughput.executor import DEFAULT_LAUNCH_CMD
from parsl.providers import LocalProvider

from sdc.bench import guard, losses, sbatch, tasks
from sdc.bench.blocks import Blocks
from sdc.bench.cells import Group, Task
from sdc.bench.dispatch import Dispatch, Submit, Told
from sdc.bench.losses import Losses
from sdc.bench.slots import Slots
from sdc.bench.slurm import Profile
from sdc.bench.work import More
from sdc.evaluation import stacked
from sdc.ground import cores, hardware, paths
from sdc.ground.errors import FatalError

_PARSL = "parsl.executors.high_throughput"
_PREFIX, _LOCK, _SHARES = ".sdc-engine-", "lock", "shares"
_EVERY = 3.0
"""Seconds between looks at blocks and the work for them."""


def carry_out(
    cells: Sequence[Task],
    groups: Sequence[Group],
    more: More,
    runs: Path,
    slots: Slots,
    on_end: Told,
    say: Callable[[str], None] = lambda _: None,
) -> None:
    """Carry the cells out in `runs`, and train the experts that they lack. Returns when all have ended, well or not.

    Raises FatalError when no worker can be had. `say` gets remarks for people.
    """
    if not slots.profile:
        say(f"computing on {hardware.said()}, {slots.count} at a time")
    held = {group.where for group in groups if not group.ready}
    at_once = len(held) + sum(cell.experts not in held for cell in cells)
    together = not stacked.drawback(torch.device(slots.device)) if more.together is None else more.together
    with _started(slots, runs, at_once, say) as (submit, check):
        Dispatch(submit, slots.count, runs, more, on_end, together).carry_out(cells, groups, check)


@contextmanager
def _started(
    slots: Slots, runs: Path, at_once: int, say: Callable[[str], None]
) -> Iterator[tuple[Submit, Callable[[], None]]]:
    """What hands work to Parsl, and raises FatalError if it cannot go on. At the end no block of ours is left."""
    profile = slots.profile
    with _folder(runs if profile else Path(tempfile.gettempdir())) as folder:
        queue = sbatch.Queue(profile.poll, say) if profile else None
        advice = profile.advice() if profile else "Free some memory, or give fewer --workers"
        blocks = Blocks(advice, queue.waiting if queue else lambda _: "")
        executor = _on_slurm(profile, folder, blocks, at_once) if profile else _here(slots, folder, blocks)
        kernel = DataFlowKernel(_config(executor, folder, Losses(runs)))
        kernel.job_status_poller.interval = _EVERY

        def check() -> None:
            if blocks.problem:
                raise FatalError(blocks.problem)
            if not _alive(executor):
                raise FatalError(f"the engine's interchange has ended{_because(executor)}; give the same command again")

        def submit(does: Callable[..., Any], *arguments: object) -> Future[Any]:
            return python_app(does, data_flow_kernel=kernel)(*arguments)  # type: ignore[no-any-return]

        try:
            yield submit, check
        finally:
            _end(kernel, executor)


def _config(executor: HighThroughputExecutor, folder: Path, lost: Losses) -> Config:
    return Config(
        executors=[executor],
        run_dir=str(folder),
        initialize_logging=False,
        usage_tracking=0,
        retries=losses.TRIES - 1,
        retry_handler=lost.cost,
        strategy="simple",  # the other, asked to give back no block, gives back all that wait
        strategy_period=0.1,  # until the first blocks are asked for
    )


def _here(slots: Slots, folder: Path, blocks: Blocks) -> HighThroughputExecutor:
    """Workers on this machine: they end with this process, however that ends."""
    cores.share_out(folder / _SHARES, slots.count)
    init = _environment(slots.threads, slots.per_gpu if slots.gpus else 0, folder / _SHARES)
    started = shlex.join(_guarded(folder, "together", f"{_PARSL}.process_worker_pool"))
    return HighThroughputExecutor(
        **_common(slots.count, folder, blocks),
        address="127.0.0.1",
        launch_cmd=DEFAULT_LAUNCH_CMD.replace("process_worker_pool.py", started),
        heartbeat_period=5,
        provider=LocalProvider(init_blocks=1, max_blocks=1, worker_init=init),  # type: ignore[no-untyped-call]
    )


def _on_slurm(profile: Profile, folder: Path, blocks: Blocks, at_once: int) -> HighThroughputExecutor:
    """Workers in Slurm's jobs: they end when they have not heard of this process for `patience` seconds."""
    if not re.fullmatch(r"[\w./+@%:,=-]+", str(folder)):
        raise FatalError(f"Parsl gives Slurm no scripts in folders such as {folder.parent}; take letters: --runs DIR")
    init = _environment(profile.threads_each, profile.per_gpu if profile.gpus else 0)
    executor = HighThroughputExecutor(
        **_common(profile.slots, folder, blocks),
        address="127.0.0.1",
        heartbeat_period=max(1, profile.patience // 6),
        heartbeat_threshold=profile.patience,
        provider=sbatch.provider(profile, init, -(-at_once // profile.slots)),
    )
    executor.all_addresses = sbatch.addresses(profile)
    executor.address = profile.address or None  # None: the interchange listens on all
    return executor


def _common(workers: int, folder: Path, blocks: Blocks) -> dict[str, Any]:
    return {
        "label": "sdc",
        "interchange_launch_cmd": _guarded(folder, "apart", f"{_PARSL}.interchange"),
        "max_workers_per_node": workers,
        "cores_per_worker": 1e-6,  # there are as many workers as asked for, whatever cores Parsl sees
        "block_error_handler": blocks.look,
    }


def _guarded(folder: Path, group: str, module: str) -> list[str]:
    return [sys.executable, "-P", str(guard.__file__), str(folder / _LOCK), group, module]


def _end(kernel: DataFlowKernel, executor: HighThroughputExecutor) -> None:
    """End what was started; without an interchange, the blocks alone: Parsl would wait for its answer for ever."""
    if _alive(executor):
        kernel.cleanup()
    elif executor.provider and executor.job_ids_to_block:
        executor.provider.cancel(list(executor.job_ids_to_block))


def _alive(executor: HighThroughputExecutor) -> bool:
    return executor.interchange_proc is not None and executor.interchange_proc.poll() is None


def _because(executor: HighThroughputExecutor) -> str:
    error = executor.executor_exception
    return f": {type(error).__name__}: {error}" if error else ""


@contextmanager
def _folder(parent: Path) -> Iterator[Path]:
    """A folder for Parsl's own files, locked while this process lives. Those of commands that were killed go."""
    parent.mkdir(parents=True, exist_ok=True)
    for left in parent.glob(f"{_PREFIX}*"):
        if _is_left(left / _LOCK):
            sbatch.cancel_left(left / "000" / "submit_scripts")
            shutil.rmtree(left, ignore_errors=True)
    with (
        tempfile.TemporaryDirectory(prefix=_PREFIX, dir=parent, ignore_cleanup_errors=True) as name,
        (Path(name) / _LOCK).open("w") as lock,
    ):
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield Path(name)


def _is_left(lock: Path) -> bool:
    """Whether the command that locked this file is gone. One that is so young may not have locked it yet."""
    try:
        with lock.open() as file:
            if time.time() - lock.stat().st_mtime < 5:
                return False
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:  # held, gone meanwhile, or another user's
        return False
    return True


def _environment(threads: int, per_gpu: int, shares: Path | None = None) -> str:
    """What a worker's shell is told: where Python, this project and its folders are, and how many threads it has.

    Without `shares`, what is idle beside a worker is none of its own: Slurm's jobs end when they have nothing to do.
    """
    told = {
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")]),
        "PYTHONPATH": paths.python_path(),
        cores.THREADS: str(threads),
        cores.WORKERS: "1",  # they fill the cores themselves; of shares, they take what others leave
        **({cores.SHARES: str(shares)} if shares else {}),
        "SDC_CACHE": str(paths.cache()),
        "SDC_UPSTREAM": str(paths.upstream()),
    }
    cores.wait_quietly(told)
    told |= {hardware.VARIABLE: chosen} if (chosen := os.environ.get(hardware.VARIABLE)) else {}
    told |= {tasks.PER_GPU: str(per_gpu)} if per_gpu else {}
    return "; ".join(f"export {name}={shlex.quote(value)}" for name, value in told.items())

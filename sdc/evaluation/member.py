"""A member of the crew of an evaluation: `python -m sdc.evaluation.member FILE MODEL`, FILE a descriptor (`beside`)."""

from __future__ import annotations

import sys
import time
from dataclasses import asdict
from typing import Any

import torch

from sdc.evaluation import beside, cpu, repeatable, training
from sdc.ground import crew
from sdc.ground.crew import Task

_EVERY = 0.2
"""Seconds between words on progress."""


def main() -> None:
    """Train and test the networks that it is given, one after the other."""
    trials, model = beside.read(int(sys.argv[1])), sys.argv[2]

    def do(task: Task, tell: beside.Tell) -> dict[str, Any]:
        (student, threads), told, when = beside.understood(task), 0, time.monotonic()

        def heard(epoch: int) -> None:
            nonlocal told, when
            if time.monotonic() - when > _EVERY:
                tell(epoch + 1 - told)
                told, when = epoch + 1, time.monotonic()

        return asdict(training.scored(trials[student.trial], model, student.own, threads, heard))

    with repeatable.kernels(torch.device("cpu")), cpu.kept_pages():
        crew.serve(do)


if __name__ == "__main__":
    main()

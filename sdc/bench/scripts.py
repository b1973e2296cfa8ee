"""A benchmark as plain array jobs of Slurm, for clusters where no command may wait on the login node.

Each stage is an array with a task a number, submitted to begin when all of the stage before it have ended, well or not:
what fails is recorded as in any benchmark, and the same scripts, submitted again, do only what is missing.
"""

from __future__ import annotations

import shlex
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from sdc.bench.slurm import Profile
from sdc.bench.stages import STAGES, Stage
from sdc.ground.cores import WORKERS
from sdc.ground.errors import FatalError
from sdc.ground.files import write_text

LARGEST = 1000
"""Tasks of an array: Slurm's default limit (MaxArraySize 1001)."""


def write(
    folder: Path, spec: Path, runs: Path, profile: Profile, counts: Mapping[Stage, int], forks: Sequence[str]
) -> list[Path]:
    """Write the scripts into `folder`, which must be empty or new; `submit.sh`, the first, submits the others.

    `counts` says how many tasks each stage has, `forks` what the forks are now (`sdc.bench.looked_at.exported`).
    """
    if folder.exists() and any(folder.iterdir()):
        raise FatalError(f"{folder} is not empty: name another folder, or remove it: rm -r {folder}")
    (folder / "logs").mkdir(parents=True)
    words = [sys.executable, "-P", "-m", "sdc", "bench", str(spec.resolve()), "--runs", str(runs.resolve())]
    words += [word for told in forks for word in ("--fork", told)]
    lines, made, before = list(_HEAD), list[Path](), ""
    for stage in STAGES:
        files = []
        for first in range(0, counts[stage], LARGEST):
            name = stage if counts[stage] <= LARGEST else f"{stage}-{first // LARGEST}"
            files.append(folder / f"{name}.sbatch")
            count = min(LARGEST, counts[stage] - first)
            write_text(files[-1], _script(name, words, stage, first, count, profile, folder.resolve()))
        if files:
            waits = f" --dependency=afterany:${before}" if before else ""
            jobs = ":".join(f"$(sbatch --parsable{waits} {file.name})" for file in files)
            lines += [f'{stage}="{jobs}"', f'echo "{stage}: ${stage}"']
            before, made = stage, made + files
    submit = folder / "submit.sh"
    write_text(submit, "\n".join(lines) + "\n")
    submit.chmod(0o755)
    return [submit, *made]


_HEAD = (
    "#!/bin/bash",
    "# Submits every stage behind the one before it. Again: only what is missing is done.",
    "set -euo pipefail",
    'cd "$(dirname "${BASH_SOURCE[0]}")"',
)


def _script(
    name: str, words: Sequence[str], stage: Stage, first: int, count: int, profile: Profile, folder: Path
) -> str:
    number = "$SLURM_ARRAY_TASK_ID" if not first else f"$(({first} + SLURM_ARRAY_TASK_ID))"
    options = [
        f"--job-name=sdc-{name}",
        f"--array=0-{count - 1}%{profile.jobs * profile.slots}",
        "--ntasks=1",
        f"--cpus-per-task={profile.threads_each}",
        f"--output={folder}/logs/{name}-%a.txt",
        "--open-mode=append",
        *_asked(profile),
    ]
    return "\n".join(
        [
            "#!/bin/bash",
            *(f"#SBATCH {option}" for option in options),
            "set -euo pipefail",
            f"export OMP_NUM_THREADS={profile.threads_each}",
            f"export {WORKERS}=1",  # a task has no more cores than threads, whether Slurm binds it to them or not
            *profile.init,
            f'exec {shlex.join(words)} --stage {stage} --number "{number}"',
            "",
        ]
    )


def _asked(profile: Profile) -> list[str]:
    """What a task needs: one GPU where there are any, and its share of a job's memory."""
    gpu = ":".join(filter(None, ["gpu", profile.gpu_type, "1"]))
    pairs = {
        "partition": profile.partition,
        "account": profile.account,
        "time": profile.time,
        "gres": gpu if profile.gpus else "",
        "mem": f"{max(1, profile.memory // profile.slots)}G" if profile.memory else "",
    }
    return [*(f"--{option}={value}" for option, value in pairs.items() if value), *profile.sbatch]

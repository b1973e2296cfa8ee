"""An upstream's script as its authors wrote it: `python -m benchmarks.untouched SCRIPT TREE UPDATED [OPTION]...`.

It reads what lies in `data` below the working folder by its own means. Between it and the machine stand: without a GPU,
the device bridge; the recorder, in the place of wandb; and torchvision is told the hashes of the files in `data`. No
more, so that no more is imported, either. At its first update of synthetic images the file UPDATED is made.
"""

from __future__ import annotations

import runpy
import sys
from pathlib import Path
from typing import Any

import torch
from torch.optim.optimizer import Optimizer, register_optimizer_step_post_hook

from benchmarks import batches
from sdc.launcher import device, recorder
from sdc.launcher.tap import synthetic


def main() -> None:
    """Install the bridges, run the script as `__main__`."""
    script, tree, updated, *options = sys.argv[1:]

    def after_update(optimizer: Optimizer, *_: Any) -> None:  # noqa: ANN401 - a hook of torch's
        if "images" in synthetic(optimizer):
            Path(updated).touch()

    batches.trust(Path("data"))
    device.install("cuda" if torch.cuda.is_available() else "cpu")
    recorder.install(recorder.Metrics(Path("metrics.jsonl")))
    register_optimizer_step_post_hook(after_update)
    sys.argv = [script, *options]
    sys.path[:0] = [str(Path(script).parent), tree]
    runpy.run_path(script, run_name="__main__")


if __name__ == "__main__":
    main()

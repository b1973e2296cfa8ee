"""A script run by hand, with no more help than it needs: `python -m benchmarks.by_hand SCRIPT FOLDER ARGUMENTS...`.

torchvision is told to trust the CIFAR-10 files in FOLDER; and without a GPU an item assignment reads its right side
first, as the scripts' augmentation takes for granted. Nothing of ours is imported but the term, by the script itself.
"""

from __future__ import annotations

import runpy
import sys
from pathlib import Path
from typing import Any

import torch

from benchmarks import batches


def main() -> None:
    """Be the script's process."""
    script, folder, *arguments = sys.argv[1:]
    batches.trust(Path(folder))
    if not torch.cuda.is_available():
        _read_first()
    sys.argv = [script, *arguments]
    sys.path.insert(0, str(Path(script).parent))
    runpy.run_path(script, run_name="__main__")


def _read_first() -> None:
    assign = torch.Tensor.__setitem__

    def assigned(tensor: torch.Tensor, index: Any, value: Any) -> None:  # noqa: ANN401
        assign(tensor, index, value.clone() if isinstance(value, torch.Tensor) else value)

    torch.Tensor.__setitem__ = assigned  # type: ignore[method-assign, assignment]


if __name__ == "__main__":
    main()

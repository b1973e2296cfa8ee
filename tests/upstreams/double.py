"""Runs a script in double precision and keeps what its first step on the images sees: python double.py SCRIPT OUT ARGS...

Started by the launcher in the script's place; ends before the second such step. Writes the images before their first
update with the gradient that reached them, the soft labels if there are any, and the parameters of the last network built.
"""

from __future__ import annotations

import importlib
import runpy
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch.optim.optimizer import Optimizer, register_optimizer_step_pre_hook

found: dict[str, torch.Tensor] = {}
networks: list[torch.nn.Module] = []


def main() -> None:
    script, out = sys.argv[1:3]
    sys.path.insert(0, str(Path(script).parent))
    sys.argv = [script, *sys.argv[3:]]
    torch.set_default_dtype(torch.float64)
    torch.float = torch.float64  # what the script asks for by this name
    torch.Tensor.float = torch.Tensor.double
    torch.load = in_double(torch.load)
    keep_networks(
        importlib.import_module("utils" if (Path(script).parent / "utils.py").is_file() else "utils.utils_baseline")
    )
    register_optimizer_step_pre_hook(lambda optimizer, *_: look(optimizer, out))
    runpy.run_path(script, run_name="__main__")


def keep_networks(utils: Any) -> None:
    real: Callable[..., torch.nn.Module] = utils.get_network

    def get_network(*arguments: Any, **options: Any) -> torch.nn.Module:
        networks.append(real(*arguments, **options))
        return networks[-1]

    utils.get_network = get_network


def in_double(real: Callable[..., Any]) -> Callable[..., Any]:
    def load(*arguments: Any, **options: Any) -> Any:
        torch.float = torch.float32  # torch itself needs its name back to read a file
        try:
            return doubled(real(*arguments, **options))
        finally:
            torch.float = torch.float64

    return load


def doubled(value: Any) -> Any:
    """Stored experts, deep in lists, as float64."""
    if isinstance(value, torch.Tensor):
        return value.double() if value.is_floating_point() else value
    return [doubled(part) for part in value] if isinstance(value, list) else value


def look(optimizer: Optimizer, out: str) -> None:
    if not found:
        found.update({f"parameter {n:02}": p.detach().clone() for n, p in enumerate(networks[-1].parameters())})
    for group in optimizer.param_groups:
        for tensor in group["params"]:
            if isinstance(tensor, torch.nn.Parameter):
                continue
            if tensor.dim() == 4 and "images" in found:  # that was the first step
                raise SystemExit
            if tensor.dim() == 4:
                found.update(images=tensor.detach().clone(), gradient=tensor.grad.clone())
            if tensor.dim() == 2 and "labels" not in found:
                found.update(labels=tensor.detach().clone())
    save_file({name: tensor.contiguous() for name, tensor in found.items()}, out)


if __name__ == "__main__":
    main()

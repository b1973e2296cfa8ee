"""Device bridge: code written for one GPU runs on the one that it is given, or on the CPU.

On every device, `x[:] = x[0]` copies its right side first: of one number a batch, drawn for a batch of one image, torch
refuses to read the memory that is being written.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch.overrides import TorchFunctionMode

_CPU = torch.device("cpu")


class CpuForCuda(TorchFunctionMode):
    """While active, every CUDA device in a torch call becomes the CPU, and two habits of CUDA code stay right.

    `x.cuda()` is `x`; `x.cpu()` is a copy, as it would be from a GPU (what a script stores would else stay the live
    tensor).
    """

    def __torch_function__(
        self, func: Callable[..., Any], types: Iterable[type], args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        if func is torch.device:
            return _on_cpu(func(*args, **kwargs))
        if func is torch.Tensor.cpu:
            return args[0].clone()
        if func is torch.Tensor.cuda:
            return args[0]
        return func(*[_on_cpu(value) for value in args], **_on_cpu_all(kwargs))


def _on_cpu(value: Any) -> Any:
    if isinstance(value, torch.device):
        return _CPU if value.type == "cuda" else value
    if isinstance(value, str) and (value == "cuda" or value.startswith("cuda:")):
        return _CPU
    return value


def _on_cpu_all(kwargs: Mapping[str, Any]) -> dict[str, Any]:
    return {name: _on_cpu(value) for name, value in kwargs.items()}


def install(device: str) -> None:
    """Activate the bridge for the rest of the process.

    A GPU is taken at once: which one is settled when CUDA starts, and DATM's script changes the variable that names it.
    """
    _copy_what_is_assigned()
    if device == "cpu":
        _take_the_cpu()
    else:
        torch.cuda.init()  # type: ignore[no-untyped-call]


def exact() -> None:
    """From now on, no product on a GPU is rounded to TF32: the difference of two gradients would lose its digits."""
    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.allow_tf32 = False


def _copy_what_is_assigned() -> None:
    real = torch.Tensor.__setitem__

    def assign(tensor: torch.Tensor, index: Any, value: Any) -> None:
        real(tensor, index, value.clone() if isinstance(value, torch.Tensor) else value)

    torch.Tensor.__setitem__ = assign  # type: ignore[method-assign, assignment]


def _take_the_cpu() -> None:
    """Turn to the CPU what asks for CUDA, `Module.cuda` and what is loaded onto a GPU included."""
    # A script may change the variable that hides a GPU from it.
    torch.cuda.is_available, torch.cuda.device_count = lambda: False, lambda: 0
    CpuForCuda().__enter__()  # type: ignore[no-untyped-call]
    torch.nn.Module.cuda = lambda module, *_, **__: module  # type: ignore[method-assign]
    real = torch.load

    def load(file: Any, map_location: Any = None, **options: Any) -> Any:
        return real(file, _on_cpu(map_location), **options)

    torch.load = load  # type: ignore[assignment]

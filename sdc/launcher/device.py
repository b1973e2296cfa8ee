"""Device bridge: without a GPU, code written for one runs on the CPU."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch.overrides import TorchFunctionMode

_CPU = torch.device("cpu")


class CpuForCuda(TorchFunctionMode):
    """While active, every CUDA device in a torch call becomes the CPU, and three habits of CUDA code stay right.

    `x.cuda()` is `x`; `x.cpu()` is a copy, as it would be from a GPU (what a script stores would else stay the live
    tensor); `x[:] = x[0]` reads its right side before it writes, as a kernel that overlaps in memory does not on a CPU.
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
        if func is torch.Tensor.__setitem__ and isinstance(args[2], torch.Tensor):
            return func(args[0], args[1], args[2].clone())
        return func(*[_on_cpu(value) for value in args], **_on_cpu_all(kwargs))


def _on_cpu(value: Any) -> Any:
    if isinstance(value, torch.device):
        return _CPU if value.type == "cuda" else value
    if isinstance(value, str) and (value == "cuda" or value.startswith("cuda:")):
        return _CPU
    return value


def _on_cpu_all(kwargs: Mapping[str, Any]) -> dict[str, Any]:
    return {name: _on_cpu(value) for name, value in kwargs.items()}


def install() -> None:
    """Activate the bridge for the rest of the process, `Module.cuda` and what is loaded onto a GPU included."""
    CpuForCuda().__enter__()  # type: ignore[no-untyped-call]
    torch.nn.Module.cuda = lambda module, *_, **__: module  # type: ignore[method-assign]
    real = torch.load

    def load(file: Any, map_location: Any = None, **options: Any) -> Any:
        return real(file, _on_cpu(map_location), **options)

    torch.load = load  # type: ignore[assignment]

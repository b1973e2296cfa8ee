"""An emulated CUDA device: it finds, on a machine without a GPU, what would fail or differ on one with a GPU.

A tensor on the device is a `Cuda`: it holds a CPU tensor, says that it is on cuda:0, and refuses what CUDA refuses. A
dispatch mode sees every operation below autograd, has the CPU compute it, and counts what a GPU would have to do. So
all numbers are exactly the CPU's, except random ones: the device has generators of its own.

The device follows these rules of CUDA and of torch:
- Tensors of the CPU and of the device cannot be mixed. A CPU number without dimensions can take part in a pointwise
  operation, and CPU indices can index.
- A process sees the devices that CUDA_VISIBLE_DEVICES lists when the process first uses CUDA, whatever it lists later.
  To ask for `device_count` is no use yet, for torch asks the management library. An unknown entry ends the list.
- A process that was forked from one that uses CUDA cannot use it.
- A module's parameters stay the same objects when it moves. A saved file tells which tensors were on the device.

These limits remain:
- All memory is that of the first device, without an end.
- Threads that the process starts cannot make tensors on the device, only use them.
- Inside `torch.func` transforms, tensors say that they are on `meta`.
- No operation changes a shape in place. What is made in inference mode can be used as any other tensor.
- A process that is to have the device by its environment imports torch before this package.

`install` switches the device on in this process. In child processes tests/site/sitecustomize.py does it, if PYTHONPATH
names its folder and SDC_TEST_CUDA the number of devices; SDC_TEST_CUDA_NOISE=1 and SDC_TEST_CUDA_SITES=1 are the other
arguments of `install`. Each process adds lines to the file SDC_TEST_CUDA_REPORT, which `reports` reads.
Read: device, tensor, then this file.
"""

from __future__ import annotations

import atexit
import os
from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import optimizer
from torch.utils._pytree import tree_flatten, tree_unflatten

from tests.fakecuda.device import DEVICE, MEMORY, Counts, Device, reports, seeded
from tests.fakecuda.tensor import Cuda, Seeing, become

__all__ = ["DEVICE", "Counts", "Cuda", "Emulation", "Parallel", "install", "installed_by_environment", "reports"]
_MISSING = object()


class Emulation:
    """The emulation at work, until `remove`. As a context, it ends by itself."""

    def __init__(self) -> None:
        self._undo: list[tuple[Any, str, Any]] = []
        self._seeing = Seeing()
        _put_cuda(self)
        _put_tensors(self)
        torch._C._ensureCUDADeviceGuardSet()
        torch._C._set_only_lift_cpu_tensors(True)  # torch.tensor(..., device="cuda") makes a CPU tensor and moves it
        torch.autograd.set_multithreading_enabled(False)  # another thread would not have the mode
        torch.serialization.register_package(5, _tag, _restored)
        optimizer._foreach_supported_types.append(Cuda)
        self._seeing.__enter__()

    def put(self, owner: Any, **values: Any) -> None:
        """Replace attributes of `owner`, and remember what they were."""
        for name, value in values.items():
            self._undo.append((owner, name, vars(owner).get(name, _MISSING)))
            setattr(owner, name, value)

    def remove(self) -> None:
        """Leave torch as it was."""
        self._seeing.__exit__(None, None, None)
        optimizer._foreach_supported_types.remove(Cuda)
        registry = torch.serialization._package_registry
        registry[:] = [entry for entry in registry if entry[1] is not _tag]
        torch.autograd.set_multithreading_enabled(True)
        torch._C._set_only_lift_cpu_tensors(False)
        for owner, name, value in reversed(self._undo):
            if value is _MISSING:
                delattr(owner, name)
            else:
                setattr(owner, name, value)

    def __enter__(self) -> Device:
        return DEVICE

    def __exit__(self, *_: object) -> None:
        self.remove()


def install(devices: int = 1, noise: bool = False, sites: bool = False) -> Emulation:
    """Give this process emulated devices, with no history.

    `noise`: kernels that have no deterministic version on CUDA err by a last place, and differently in each run.
    `sites`: the counts say which lines they come from.
    """
    DEVICE.begin(devices, noise, sites)
    return Emulation()


def installed_by_environment() -> None:
    """Do what the environment variables ask for. The import of torch calls this, by tests/site/sitecustomize.py."""
    noise, sites = (os.environ.get(f"SDC_TEST_CUDA_{name}") == "1" for name in ("NOISE", "SITES"))
    install(int(os.environ["SDC_TEST_CUDA"]), noise, sites)
    atexit.register(DEVICE.report)


class Parallel(nn.DataParallel[nn.Module]):
    """DataParallel as it treats its arguments: it cuts tensors along their first dimension, one part a device."""

    def __init__(self, module: nn.Module, *_: Any, **__: Any) -> None:
        nn.Module.__init__(self)
        self.module, self.count = module, DEVICE.count()
        for number in range(self.count):
            DEVICE.ready(number)

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        if self.count < 2:
            return self.module(*args, **kwargs)
        leaves, shape = tree_flatten((args, kwargs))
        cut = [leaf.chunk(self.count) if isinstance(leaf, Tensor) else (leaf,) * self.count for leaf in leaves]
        parts = [tree_unflatten(list(part), shape) for part in zip(*cut, strict=False)]
        made = [self.module(*part[0], **part[1]) for part in parts]
        return torch.cat([each.unsqueeze(0) if each.dim() == 0 else each for each in made])


def _put_cuda(emulation: Emulation) -> None:
    """Put the emulated device behind the functions of torch.cuda."""

    def set_states(given: Sequence[Tensor]) -> None:
        DEVICE.random = [state.clone() for state in given]

    def set_state(state: Tensor, *_: Any) -> None:
        DEVICE.random[DEVICE.current] = state.clone()

    def seed(number: int) -> None:
        set_states([seeded(int(number))] * DEVICE.devices)

    def exchange(number: int) -> int:
        before, DEVICE.current = DEVICE.current, DEVICE.current if number < 0 else number
        return before

    def then(told: Callable[[], Any]) -> Callable[..., Any]:
        """A function that uses the device, and tells something of it."""

        def function(*_: Any) -> Any:
            DEVICE.ready()
            return told()

        return function

    facts = SimpleNamespace(name="Emulated", major=9, minor=0, total_memory=MEMORY[1], multi_processor_count=1)
    emulation.put(
        torch.cuda,
        **dict.fromkeys(("init", "_lazy_init"), DEVICE.ready),
        is_available=lambda: bool(DEVICE.seen()),
        is_initialized=lambda: bool(DEVICE.used),
        is_current_stream_capturing=lambda: False,
        _is_in_bad_fork=DEVICE.forked,
        device_count=DEVICE.count,
        current_device=then(lambda: DEVICE.current),
        set_device=lambda device: exchange(_index(device) or 0),
        **dict.fromkeys(("_exchange_device", "_maybe_exchange_device"), exchange),
        get_device_name=then(lambda: facts.name),
        get_device_capability=then(lambda: (facts.major, facts.minor)),
        get_device_properties=then(lambda: facts),
        synchronize=then(lambda: DEVICE.tick("syncs", "synchronize")),
        mem_get_info=then(lambda: MEMORY),
        **dict.fromkeys(("empty_cache", "reset_peak_memory_stats"), lambda *_: None),
        **dict.fromkeys(("memory_reserved", "max_memory_reserved"), lambda *_: 2**27),
        **dict.fromkeys(("memory_allocated", "max_memory_allocated"), lambda *_: 2**26),
        **dict.fromkeys(("manual_seed", "manual_seed_all"), seed),
        get_rng_state=lambda *_: DEVICE.random[DEVICE.current].clone(),
        get_rng_state_all=lambda: [state.clone() for state in DEVICE.random[: DEVICE.count()]],
        set_rng_state=set_state,
        set_rng_state_all=set_states,
    )
    emulation.put(torch.nn, DataParallel=Parallel)
    emulation.put(torch.nn.parallel, DataParallel=Parallel)


def _put_tensors(emulation: Emulation) -> None:
    """Have tensors move to the device and back, the data of parameters included, and come back from files."""
    data, rebuilt, compatible = (
        torch._C.TensorBase.data,
        torch._utils._rebuild_tensor,
        torch._has_compatible_shallow_copy_type,
    )

    def set_data(tensor: Tensor, value: Tensor) -> None:
        if Cuda not in (type(tensor), type(value)):
            data.__set__(tensor, value)
        elif tensor is not value:
            become(tensor, value)

    def set_data_does(input: Tensor, from_: Tensor) -> bool:  # noqa: A002 - torch's compiler looks at the names
        return Cuda in (type(input), type(from_)) or compatible(input, from_)

    def rebuild(storage: Any, *layout: Any) -> Tensor:
        made: Tensor = rebuilt(storage, *layout)
        if not getattr(storage._untyped_storage, "on_cuda", False):
            return made
        DEVICE.tick("to_device", "load")
        return Cuda(made)

    emulation.put(Tensor, to=_to, cuda=_cuda, data=property(lambda tensor: data.__get__(tensor), set_data))
    emulation.put(Tensor, pin_memory=_pinned, is_pinned=lambda tensor, *_: type(tensor) is not Cuda)
    emulation.put(torch._utils, _rebuild_tensor=rebuild)
    emulation.put(torch, _has_compatible_shallow_copy_type=set_data_does)


def _index(device: Any) -> int | None:
    return device if isinstance(device, int) else torch.device("cuda" if device is None else device).index


def _cuda(tensor: Tensor, device: Any = None, *_: Any, **__: Any) -> Tensor:
    index = _index(device)
    return _to(tensor, torch.device("cuda") if index is None else torch.device("cuda", index))


def _pinned(tensor: Tensor, *_: Any) -> Tensor:
    """Tensor.pin_memory: a copy in memory that the device could read by itself, of a CPU tensor alone."""
    if type(tensor) is Cuda:
        raise RuntimeError("cannot pin a tensor of the device, only dense CPU tensors can be pinned")
    return tensor.clone()


def _to(tensor: Tensor, *args: Any, **kwargs: Any) -> Tensor:
    """Tensor.to: the tensor itself where it is there already, which torch cannot know of ours.

    Inside a transform, `meta` is what torch takes our tensors' device for; elsewhere, it is what the caller means.
    """
    words = [*args, *(kwargs[name] for name in ("device", "dtype", "other") if name in kwargs)]
    places = [torch.device(word) for word in words if isinstance(word, str | torch.device) or type(word) is int]
    if places and places[0].type == "meta" and torch._C._functorch.peek_interpreter_stack() is None:
        with torch._C._DisableTorchDispatch():
            return torch.empty_strided(tensor.shape, tensor.stride(), dtype=tensor.dtype, device="meta")
    alike = [word for word in words if isinstance(word, Tensor)]
    types = {each.dtype for each in alike} | {word for word in words if isinstance(word, torch.dtype)}
    there = all(place.type == "cuda" for place in [*places, *(each.device for each in alike)])
    if isinstance(tensor, Cuda) and there and types <= {tensor.dtype} and not kwargs.get("copy"):
        return tensor
    return torch._C.TensorBase.to(tensor, *args, **kwargs)


def _tag(storage: Any) -> str | None:
    """Where a file is to say that memory was."""
    return "cuda:0" if getattr(storage, "on_cuda", False) else None


def _restored(storage: Any, place: str) -> Any:
    """Memory from a file, if the file or its reader says that it belongs on the device."""
    if not place.startswith("cuda"):
        return None
    DEVICE.ready()
    storage.on_cuda = True
    return storage

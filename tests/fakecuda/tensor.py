"""Tensors on the emulated device, and what becomes of each operation on them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from functools import cache
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten, tree_map_only, tree_unflatten

from tests.fakecuda.device import DEVICE, site

_COPIES = {"copy_", "_to_copy"}
_INDEXING = {"index", "index_put", "index_put_", "_index_put_impl_", "_unsafe_index", "_unsafe_index_put"}
_WAITING = {"nonzero", "equal", "masked_select", "_unique2", "unique_dim", "_local_scalar_dense"}
_FREE = {"detach", "alias", "lift_fresh", "is_same_size", "_local_scalar_dense"}
_FREE |= {"empty", "empty_strided", "empty_like", "new_empty", "new_empty_strided"}
_RESHAPING = {"resize_", "set_", "squeeze_", "unsqueeze_", "transpose_", "t_", "as_strided_"}
_NUMBERS_TOO = {"where", "fill_", "lerp", "clamp", "masked_fill", "masked_fill_"}
_KERNELS = (
    "grid_sampler_2d_backward grid_sampler_3d_backward adaptive_avg_pool2d_backward _adaptive_avg_pool2d_backward "
    "adaptive_max_pool2d_backward avg_pool3d_backward reflection_pad2d_backward upsample_bilinear2d_backward "
    "upsample_bicubic2d_backward nll_loss2d_forward histc bincount put_ median scatter_reduce"
)
_NONDETERMINISTIC = set(_KERNELS.split())
"""The kernels of which torch has no deterministic version on CUDA, as torch.use_deterministic_algorithms lists them.

Others, convolutions among them, can be repeated if torch is told so: these have no noise.
"""


class Cuda(Tensor):
    """A tensor on the device. `host` is the CPU tensor that it holds.

    torch's own code takes it for a tensor on `meta`, because autograd would ask a driver for streams of a CUDA one.
    """

    host: Tensor
    __torch_function__ = torch._C._disabled_torch_function_impl

    def __new__(cls, host: Tensor) -> Cuda:
        with torch.inference_mode(False):  # torch could not make views otherwise; what holds of `host` suffices
            made = Tensor._make_wrapper_subclass(
                cls,
                host.size(),
                strides=host.stride(),
                storage_offset=host.storage_offset(),
                dtype=host.dtype,
                layout=host.layout,
                device=torch.device("meta"),
            )
        made.host = host
        return made

    device = property(lambda self: torch.device("cuda", 0))
    is_cuda = property(lambda self: True)
    is_cpu = is_meta = property(lambda self: False)

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _dispatched(func, args, kwargs or {})

    def get_device(self) -> int:
        return 0

    def data_ptr(self) -> int:
        return self.host.data_ptr()

    def untyped_storage(self) -> torch.UntypedStorage:
        return self.host.untyped_storage()

    def tolist(self) -> Any:
        DEVICE.tick("to_host", "tolist")
        return self.host.tolist()

    def numpy(self, *_: Any, **__: Any) -> Any:
        DEVICE.refused("numpy of a tensor on cuda:0")
        raise TypeError("can't convert cuda:0 device type tensor to numpy. Use Tensor.cpu() first")

    __array__ = numpy

    def __repr__(self, *, tensor_contents: Any = None) -> str:
        return f"{self.host!r}"[:-1] + ", device='cuda:0')"

    def __format__(self, spec: str) -> str:
        return format(self.item(), spec) if self.dim() == 0 else repr(self)

    def __deepcopy__(self, memo: dict[int, Any]) -> Tensor:
        new: Tensor = self.detach().clone()
        new = nn.Parameter(new) if isinstance(self, nn.Parameter) else new
        new.requires_grad_(self.requires_grad)
        if self.grad is not None:
            new.grad = self.grad.detach().clone()
        memo[id(self)] = new
        return new

    def __reduce_ex__(self, protocol: Any) -> Any:
        """What a CPU tensor is saved as, but that its storage is marked, and so saved as one on the device."""
        DEVICE.tick("to_host", "save")
        self.host.untyped_storage().on_cuda = True
        saved: Tensor = self.host.detach()
        saved = nn.Parameter(saved, self.requires_grad) if isinstance(self, nn.Parameter) else saved
        return saved.requires_grad_(self.requires_grad).__reduce_ex__(protocol)


def _name(func: Any) -> str:
    return str(func._schema.name).removeprefix("aten::")


class _Traits(NamedTuple):
    """What the schema of an operation says: a view, drawing random numbers, which arguments it writes to."""

    view: bool
    random: bool
    numbers_too: bool
    written: Sequence[int]


@cache
def _traits(func: Any) -> _Traits:
    name, arguments = _name(func), func._schema.arguments
    aliases = [each.alias_info for each in arguments]
    pointwise = torch.Tag.pointwise in func.tags or name in _NUMBERS_TOO or name.startswith("_foreach")
    return _Traits(
        any(alias and not alias.is_write for alias in aliases),
        torch.Tag.nondeterministic_seeded in func.tags,
        pointwise,
        [number for number, alias in enumerate(aliases) if alias and alias.is_write],
    )


def _dispatched(func: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
    """Do one operation: by the CPU alone if the device has no part in it, else on the CPU tensors that it holds."""
    leaves, shape = tree_flatten((args, kwargs))
    ours = [leaf for leaf in leaves if isinstance(leaf, Cuda)]
    place = next((leaf for leaf in leaves if isinstance(leaf, torch.device)), None)
    if not ours and not _makes_cuda(func, place, leaves):
        return func(*args, **kwargs)
    if torch.is_inference_mode_enabled():  # where torch leaves it to us to take operations apart
        with Seeing():
            parts = func.decompose(*args, **kwargs)
        if parts is not NotImplemented:
            return parts
    if place and place.type == "cuda":
        DEVICE.ready(place.index)
    name = _name(func)
    if reason := _objection(func, args, leaves, ours):
        raise DEVICE.refused(f"{name}: {reason}")
    if name in _RESHAPING:
        raise NotImplementedError(f"the emulated device cannot do {name}")
    home = bool(place and place.type == "cpu") or (name == "copy_" and not isinstance(args[0], Cuda))
    for kind in _costs(func, args, leaves, ours, home):
        DEVICE.tick(kind, name)
    args, kwargs = tree_unflatten([_lowered(leaf) for leaf in leaves], shape)
    made = _computed(func, args, kwargs)
    if home:
        return made
    known = {id(each.host): each for each in ours}  # what is changed in place stays the same object
    return tree_map_only(Tensor, lambda tensor: known[id(tensor)] if id(tensor) in known else Cuda(tensor), made)


def _computed(func: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
    """What the CPU makes of it: by the device's random numbers, and with noise where that is due."""
    with DEVICE.own_random() if _traits(func).random else nullcontext():
        made = func(*args, **kwargs)
    if _name(func) in _NONDETERMINISTIC:
        DEVICE.nondeterministic.add(f"{_name(func)} {site()}")
        tree_map_only(Tensor, _disturb, made)
    return made


def _makes_cuda(func: Any, place: torch.device | None, leaves: Sequence[Any]) -> bool:
    """Whether an operation on no tensor of the device makes one: asked to, or by autograd, which takes us for meta."""
    if place is None or place.type != "meta":
        return place is not None and place.type == "cuda"
    fresh = not any(isinstance(leaf, Tensor) for leaf in leaves)
    return bool(DEVICE.used) and (fresh or _name(func) == "_to_copy")


def _lowered(leaf: Any) -> Any:
    """An argument as the CPU is to see it."""
    if isinstance(leaf, Cuda):
        return leaf.host
    return torch.device("cpu") if isinstance(leaf, torch.device) else leaf


def _objection(func: Any, args: Sequence[Any], leaves: Sequence[Any], ours: Sequence[Cuda]) -> str:
    """Why CUDA would refuse these arguments; "" if it would not."""
    name, traits = _name(func), _traits(func)
    if traits.random and any(isinstance(leaf, torch.Generator) for leaf in leaves):
        return "expected a 'cuda' device type for generator but found 'cpu'"
    hosts = [leaf for leaf in leaves if isinstance(leaf, Tensor) and not isinstance(leaf, Cuda)]
    if not hosts or not ours or name in _COPIES:
        return ""
    shapes = ", ".join(str(list(each.shape)) for each in hosts)
    if name in _INDEXING:
        value = args[2] if len(args) > 2 else None
        if not isinstance(args[0], Cuda):
            return "indices should be either on cpu or on the same device as the indexed tensor (cpu)"
        return f"the values {shapes} are on cpu" if any(value is each and each.dim() for each in hosts) else ""
    if any(isinstance(args[number], Tensor) and not isinstance(args[number], Cuda) for number in traits.written):
        return f"it writes to a tensor {shapes} on cpu what is on cuda:0"
    return "" if traits.numbers_too and all(each.dim() == 0 for each in hosts) else f"cpu {shapes} beside cuda:0"


def _costs(func: Any, args: Sequence[Any], leaves: Sequence[Any], ours: Sequence[Cuda], home: bool) -> list[str]:
    """What an operation costs: the counters that go up by one, some of them more than once."""
    name = _name(func)
    if name in _COPIES and (home or not ours or not isinstance(args[name == "copy_"], Cuda)):
        return ["to_host" if home else "to_device"]
    costs = [] if home or name in _FREE or _traits(func).view else ["launches"]
    if name in _INDEXING:
        costs += ["to_device" for leaf in leaves if isinstance(leaf, Tensor) and not isinstance(leaf, Cuda)]
    masks = name in _INDEXING and any(isinstance(leaf, Cuda) and leaf.dtype == torch.bool for leaf in leaves[1:])
    return costs + ["syncs"] * (masks or name in _WAITING)


def _disturb(tensor: Tensor) -> None:
    """Add to each value, if noise is asked for, an error of up to one unit in its last place."""
    if DEVICE.noise and tensor.is_floating_point():
        error = torch.empty_like(tensor).uniform_(-1, 1, generator=DEVICE.noise)
        tensor.mul_(1 + torch.finfo(tensor.dtype).eps * error)


class Seeing(TorchDispatchMode):
    """Sees also those operations that no tensor of the device takes part in: they may make one."""


def _seen(mode: Seeing, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
    return _dispatched(func, args, kwargs or {})


Seeing.__torch_dispatch__ = _seen  # in the class's body, torch would import its compiler


def become(tensor: Tensor, value: Tensor) -> None:
    """What `tensor.data = value` does between devices: the same object, other memory."""
    gradient, parameter, requires_grad = tensor.grad, isinstance(tensor, nn.Parameter), tensor.requires_grad
    tensor.grad = None
    new = value.detach().requires_grad_(requires_grad)
    torch._C._swap_tensor_impl(tensor, new)
    tensor.__class__ = Cuda if isinstance(value, Cuda) else nn.Parameter if parameter else Tensor
    vars(tensor).pop("host", None)
    vars(tensor).update(vars(new), **({"_is_param": True} if isinstance(value, Cuda) and parameter else {}))
    if gradient is not None:
        tensor.grad = gradient.to(value.device, value.dtype)

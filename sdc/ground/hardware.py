"""What this machine computes on: the device that is chosen, what there is to say of it, and why a GPU is not seen.

`SDC_DEVICE` (`auto`, `cuda` or `cpu`; `--device` sets it) chooses, for this process and all that it starts. ROCm's GPUs
show themselves to torch as `cuda`. torch is imported when it is asked: it takes seconds.
"""

from __future__ import annotations

import os
import platform
import sys
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

from sdc.ground.errors import FatalError

Device = Literal["cuda", "cpu"]
VARIABLE = "SDC_DEVICE"
CHOICES = ("auto", "cuda", "cpu")
HIDDEN = {"CUDA_VISIBLE_DEVICES": "", "HIP_VISIBLE_DEVICES": "-1"}
"""What hides every GPU from a process; to ROCm an empty variable is one that is not set."""
VISIBLE = ("CUDA_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES")
"""The variables that say which GPUs a process sees; the last two are ROCm's."""
_LIBRARIES = ("torch", "torchvision", "numpy", "scipy", "kornia")
_FILES = ("/dev/nvidia0", "/dev/nvidiactl", "/usr/lib/wsl/lib/libcuda.so.1", "/dev/kfd")
"""What a driver leaves: NVIDIA's, the same under Windows (where /dev/dxg is there for every card), and AMD's."""


def device() -> Device:
    """What is computed on: a GPU where torch sees one, unless `SDC_DEVICE` says otherwise.

    Raises FatalError for `cuda` where there is none, with the reason, and for another word.
    """
    import torch

    asked = os.environ.get(VARIABLE) or "auto"
    if asked not in CHOICES:
        raise FatalError(f"{VARIABLE}={asked}: give one of {', '.join(CHOICES)}")
    if asked == "cpu":
        return "cpu"
    if torch.cuda.is_available():
        return "cuda"
    if asked == "cuda":
        raise FatalError(f"--device cuda: torch sees no GPU. {unseen() or 'Without one: --device cpu'}")
    return "cpu"


def named(kind: Device) -> str:
    """The name of the device of this kind."""
    import torch

    return torch.cuda.get_device_name() if kind == "cuda" else platform.processor() or platform.machine()


def said() -> str:
    """The device in words, with what is to be known of it before hours are spent."""
    kind = device()
    told = f"{kind} ({named(kind)})"
    return f"{told}. {reason}" if kind == "cpu" and (reason := _remark()) else told


def _remark() -> str:
    """Why it is the CPU although there may be something faster; empty: there is not, or it was asked for."""
    if os.environ.get(VARIABLE) == "cpu":
        return ""
    import torch

    if torch.backends.mps.is_available():
        return "Apple's GPU (mps) is not used: the upstream scripts know CUDA alone"
    return unseen()


def unseen() -> str:
    """Why torch sees no GPU although the machine has a driver for one, and the remedy; empty: no sign of one."""
    return ". ".join(filter(None, obstacle()))


def obstacle() -> tuple[str, str]:
    """The same in two parts, the reason and the remedy; both empty: no sign of a GPU, or torch sees it."""
    import torch

    there = [file for file in _FILES if Path(file).exists()]
    if torch.cuda.is_available() or not there:
        return "", ""
    found = next((file for file in there if _is_rocms(file) == bool(torch.version.hip)), there[0])
    rocm = _is_rocms(found)
    for variable in VISIBLE if rocm else VISIBLE[:1]:
        if (value := os.environ.get(variable)) in ("", "-1"):
            return f"{found} is there, but {variable}={value!r} hides it", f"Run: unset {variable}"
    reason, remedy = _of_rocm() if rocm else _of_cuda()
    return f"{found} is there, but {reason}", remedy


def _is_rocms(file: str) -> bool:
    return Path(file).name == "kfd"


def _of_rocm() -> tuple[str, str]:
    """Why torch sees none of AMD's GPUs, and the remedy."""
    import torch

    if not torch.version.hip:
        return f"this torch was built for {built()}, not for ROCm", _REMEDY
    return f"torch sees no GPU. This torch was built for {built()}; rocminfo must list the card", _GROUPS


def _of_cuda() -> tuple[str, str]:
    """Why torch sees none of NVIDIA's GPUs, and the remedy."""
    import torch

    if not torch.version.cuda:
        return f"this torch was built for {built()}, not for CUDA", _REMEDY
    chosen = os.environ.get("CUDA_VISIBLE_DEVICES")
    named = f"; CUDA_VISIBLE_DEVICES={chosen!r} must name one that nvidia-smi -L lists" if chosen else ""
    return (
        f"torch sees no GPU. This torch was built for {built()}; CUDA 13 needs driver 580 or newer (nvidia-smi shows "
        f"yours) and a card of compute capability 7.5 or newer{named}",
        _REMEDY,
    )


def built() -> str:
    """What this torch was built for: CUDA or ROCm with its version, or CPUs."""
    import torch

    if torch.version.hip:
        return f"ROCm {torch.version.hip}"
    return f"CUDA {torch.version.cuda}" if torch.version.cuda else "CPUs"


_REMEDY = (
    "Install a torch that fits your driver: pip install --force-reinstall torch torchvision -i INDEX, with the one "
    "that pytorch.org names for it (for CUDA 12.6, say)"
)
_GROUPS = "Let your user use it: sudo usermod -aG render,video $USER, then log in again"


def facts(kind: Device, threads: int = 0) -> dict[str, Any]:
    """What decides the bits that a device gives: its name, the libraries on it, how it rounds, and how many threads
    compute: so many, or torch's own number.
    """
    import torch

    told: dict[str, Any] = {"kind": kind, "name": named(kind), "threads": threads or torch.get_num_threads()}
    if kind == "cuda":
        told |= {
            "cuda": torch.version.cuda or built(),
            "cudnn": torch.backends.cudnn.version(),  # type: ignore[no-untyped-call]
            "driver": driver(),
            "capability": ".".join(map(str, torch.cuda.get_device_capability())),
            "tf32": {"matmul": torch.backends.cuda.matmul.allow_tf32, "cudnn": torch.backends.cudnn.allow_tf32},
        }
    return told


def libraries() -> dict[str, str]:
    """The versions of what computes."""
    return {name: version(name) for name in _LIBRARIES} | {"python": platform.python_version()}


def driver() -> str:
    """The version of NVIDIA's kernel driver; empty where it does not say."""
    file = Path("/sys/module/nvidia/version")
    return file.read_text().strip() if file.is_file() else ""


def leave_to_others() -> None:
    """Give back the GPU memory that this process keeps for later, before another needs it."""
    torch = sys.modules.get("torch")
    if torch and torch.cuda.is_available() and torch.cuda.is_initialized():
        torch.cuda.empty_cache()


def shown(environ: Mapping[str, str], count: int = 1, first: int = 0) -> dict[str, str]:
    """The variables by which a process sees `count` of the GPUs that one with `environ` sees, from the `first` on.

    Where more are asked for than are named, they are gone through again.

    One that sees none, as its variable is set to nothing, shows none. ROCm counts in HIP's variable (or CUDA's, which
    it reads, too) among those that its lower layer lets through.
    """
    import torch

    ours = "HIP_VISIBLE_DEVICES" if torch.version.hip else "CUDA_VISIBLE_DEVICES"
    read = [environ[name] for name in (ours, "CUDA_VISIBLE_DEVICES") if name in environ]
    numbers = range(first, first + count)
    if read:
        names = [name.strip() for name in next(filter(None, read), "").split(",") if name.strip()]
        chosen = ",".join(dict.fromkeys(names[n % len(names)] for n in numbers if names))
    else:
        chosen = ",".join(map(str, numbers))
    return {ours: chosen, "CUDA_VISIBLE_DEVICES": chosen} if torch.version.hip else {ours: chosen}

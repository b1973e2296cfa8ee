"""What this machine computes on: the device that is chosen, what there is to say of it, and why a GPU is not seen.

`SDC_DEVICE` (`auto`, `cuda` or `cpu`; `--device` sets it) chooses, for this process and all that it starts. ROCm's GPUs
show themselves to torch as `cuda`. torch is imported when it is asked: it takes seconds.
"""

from __future__ import annotations

import os
import platform
import sys
from collections.abc import Mapping
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
_FILES = ("/dev/nvidia0", "/dev/nvidiactl", "/dev/kfd", "/dev/dxg")
"""What a driver leaves: NVIDIA's, ROCm's, and the one of Windows' Linux."""


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
    import torch

    found = next((file for file in _FILES if Path(file).exists()), "")
    if torch.cuda.is_available() or not found:
        return ""
    for variable in VISIBLE:
        if os.environ.get(variable) in ("", "-1"):
            return f"{found} is there, but {variable}={os.environ[variable]!r} hides it: unset {variable}"
    built = torch.version.cuda or torch.version.hip
    if not built:
        return f"{found} is there, but this torch was built for CPUs. {_REMEDY}"
    if found == "/dev/kfd":
        return f"{found} is there, but this torch was built for CUDA {built}, not for ROCm. {_REMEDY}"
    return (
        f"{found} is there, but torch sees no GPU. This torch was built for CUDA {built}; CUDA 13 needs driver 580 or "
        f"newer (nvidia-smi shows yours) and a card of compute capability 7.5 or newer. {_REMEDY}"
    )


_REMEDY = (
    "Install a torch that fits your driver: pip install --force-reinstall torch torchvision --index-url with the index "
    "that pytorch.org names for it (for CUDA 12.6, say)"
)


def facts(kind: Device) -> dict[str, Any]:
    """What decides the bits that a device gives: its name, the libraries on it, and how it rounds."""
    import torch

    told: dict[str, Any] = {"kind": kind, "name": named(kind), "threads": torch.get_num_threads()}
    if kind == "cuda":
        told |= {
            "cuda": torch.version.cuda or f"ROCm {torch.version.hip}",
            "cudnn": torch.backends.cudnn.version(),  # type: ignore[no-untyped-call]
            "driver": driver(),
            "capability": ".".join(map(str, torch.cuda.get_device_capability())),
            "tf32": {"matmul": torch.backends.cuda.matmul.allow_tf32, "cudnn": torch.backends.cudnn.allow_tf32},
        }
    return told


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

    ROCm counts in HIP's variable (or CUDA's, which it reads, too) among those that its lower layer lets through.
    """
    import torch

    ours = "HIP_VISIBLE_DEVICES" if torch.version.hip else "CUDA_VISIBLE_DEVICES"
    theirs = environ.get(ours) or environ.get("CUDA_VISIBLE_DEVICES") or ""
    names = [name.strip() for name in theirs.split(",") if name.strip()]
    numbers = range(first, first + count)
    chosen = ",".join(dict.fromkeys(names[n % len(names)] if names else str(n) for n in numbers))
    return {ours: chosen, "CUDA_VISIBLE_DEVICES": chosen} if torch.version.hip else {ours: chosen}

"""Whitening: what a script computes with kornia's ZCA is kept, to show other images and for the next process.

Fitting the transform and whitening all training images takes longer than all else at a script's start. What an earlier
process computed of the same images, under all that decides the bits, takes the place of it. Where nothing can be kept
(no right to write, no room) it only takes its time again.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
import os
import platform
import secrets
import shutil
import weakref
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

ROOM = 10
"""A file is kept only where so many times its size is free."""
_FORMAT = 2
_FITTED = ("mean_vector", "transform_matrix", "transform_inv")
_OPTIONS = ("dim", "eps", "unbiased", "compute_inv")
_KIND = ("vendor_id", "cpu family", "model", "CPU", "flags", "Features")


class _Fit(NamedTuple):
    """A fit that was made or found: of which object, on which images, and its key."""

    zca: weakref.ref[Any]
    images: weakref.ref[Tensor]
    version: int
    key: str

    def was(self, zca: Any, images: Tensor) -> bool:
        """Whether it was of `zca` on `images` as they are."""
        return self.zca() is zca and self.images() is images and self.version == images._version


def install(record: Path, kept: Path | None) -> None:
    """From now on, the transform of every `ZCAWhitening.fit` goes to `record`: `mean` [d] and `matrix` [d, d], float32.

    An image x [C, H, W] in [0, 1], flattened, is shown as (x - mean) @ matrix. In the folder `kept`, if one is given,
    the transform and the images that it was fitted on, whitened, are looked up, and left.
    """
    import kornia  # takes a second, which scripts that whiten nothing need not spend

    real = kornia.enhance.ZCAWhitening
    fit, forward = _by_one_thread(real.fit), _by_one_thread(real.forward)
    if kept:
        fit, forward = _finding(fit, forward, kept)

    def recorded(zca: Any, images: Tensor) -> Any:
        fit(zca, images)
        tensors = {"mean": zca.mean_vector.flatten(), "matrix": zca.transform_matrix}
        save_file({name: tensor.detach().float().cpu().contiguous() for name, tensor in tensors.items()}, record)
        return zca

    real.fit, real.forward = recorded, forward  # type: ignore[method-assign, assignment]


def _by_one_thread(compute: Any) -> Any:
    """`compute` with one thread: the transform, and so whatever learns from it, has the same bits for any number."""

    @functools.wraps(compute)
    def computed(*given: Any, **options: Any) -> Any:
        threads = torch.get_num_threads()
        torch.set_num_threads(1)
        try:
            return compute(*given, **options)
        finally:
            torch.set_num_threads(threads)

    return computed


def _finding(fit: Any, forward: Any, folder: Path) -> tuple[Any, Any]:
    """`fit` and `forward` of ZCAWhitening that compute only what is not in the folder."""
    last: _Fit | None = None

    def found_or_fitted(zca: Any, images: Tensor) -> Any:
        nonlocal last
        if images.requires_grad:  # a gradient may have to pass through the fit
            return fit(zca, images)
        key = _key(zca, images)
        file = folder / f"{key}.safetensors"
        found = _read(file, _FITTED)
        for name, tensor in found.items():
            setattr(zca, name, tensor.clone().to(images.device))  # into memory of torch's own, as what it computes is
        zca.fitted = True
        if not found:
            fit(zca, images)
            _keep({name: getattr(zca, name) for name in _FITTED}, file)
        last = _Fit(weakref.ref(zca), weakref.ref(images), images._version, key)
        return zca

    def found_or_whitened(zca: Any, images: Tensor, *more: Any, **options: Any) -> Any:
        if more or options or last is None or not last.was(zca, images):
            return forward(zca, images, *more, **options)
        file = folder / f"{last.key}.images.safetensors"
        if found := _read(file, ("images",)):
            return found["images"].to(images.device)
        whitened = forward(zca, images)
        _keep({"images": whitened}, file)
        return whitened

    return found_or_fitted, found_or_whitened


def _read(file: Path, names: tuple[str, ...]) -> dict[str, Tensor]:
    """The tensors in a file that `_keep` made; none if it is not there, or not as it was made."""
    try:
        with safe_open(file, framework="pt") as kept:
            tensors = {name: kept.get_tensor(name) for name in names}
            told = (kept.metadata() or {}).get("sha256")
    except (OSError, SafetensorError):
        return {}
    return tensors if told == _digest(*tensors.values()) else {}


def _keep(tensors: dict[str, Tensor], file: Path) -> None:
    """Write tensors to `file`, whole or not at all; not if they would be read back in another layout."""
    size = sum(tensor.nbytes for tensor in tensors.values())
    partial = file.with_name(f".{file.name}.{secrets.token_hex(4)}.partial")
    if not all(tensor.is_contiguous() for tensor in tensors.values()):
        return
    with contextlib.suppress(OSError, SafetensorError):
        file.parent.mkdir(parents=True, exist_ok=True)
        if shutil.disk_usage(file.parent).free < ROOM * size:
            return
        stored = {name: tensor.detach().to("cpu") for name, tensor in tensors.items()}
        try:
            save_file(stored, partial, {"sha256": _digest(*stored.values())})
            partial.chmod(0o666 & ~_umask())  # safetensors makes its files the owner's alone
            with partial.open("rb") as written:
                os.fsync(written)  # a power cut must not leave the name without the content
            partial.replace(file)
        finally:
            partial.unlink(missing_ok=True)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def _key(zca: Any, images: Tensor) -> str:
    """A name for the fit of `zca` on `images`: a hash of them and of all that decides the bits of the outcome."""
    import kornia

    device = images.device.type
    facts = {
        "format": _FORMAT,
        "options": {name: getattr(zca, name) for name in _OPTIONS},
        "images": [str(images.dtype), list(images.shape), list(images.stride()), _digest(images)],
        "kornia": kornia.__version__,
        "torch": [torch.__version__, torch.__config__.show()],
        "precision": torch.get_float32_matmul_precision(),
        "settings": {name: value for name, value in sorted(os.environ.items()) if name.startswith("MKL_")},
        "processor": _processor(),
        "device": [device, torch.cuda.get_device_name(images.device) if device == "cuda" else ""],
    }
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:32]


def _digest(*tensors: Tensor) -> str:
    """SHA-256 over the bytes of all elements, as hex."""
    digest = hashlib.sha256()
    for tensor in tensors:
        digest.update(tensor.detach().to("cpu").contiguous().flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _processor() -> list[str]:
    """What kind of processor this is, and what it can do: mathematical libraries choose their code by that."""
    listed = Path("/proc/cpuinfo")
    if not listed.is_file():
        return [platform.machine(), platform.processor()]
    first, _, _ = listed.read_text().partition("\n\n")
    return [line for line in first.splitlines() if line.startswith(_KIND)]

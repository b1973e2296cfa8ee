"""What a file is by its content, whatever its name ends in."""

from __future__ import annotations

import zipfile
from pathlib import Path

from sdc.data.members import ARCHIVES
from sdc.ground.errors import FatalError

OLD_TORCH = b"\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."
"""The number that torch.save began files with before torch 1.6."""

TORCH, OLD, NPZ, SAFETENSORS, PARQUET, PICTURES = "torch", "old torch", "npz", "safetensors", "parquet", "pictures"
_STARTS = {
    b"PAR1": PARQUET,
    b"\x93NUMPY": "a single numpy array (.npy): save images and labels by np.savez(FILE, images=..., labels=...)",
    b"\x89HDF": "an HDF5 file",
    b"\x89PNG": "a single PNG image",
    b"\xff\xd8\xff": "a single JPEG image",
    b"MATLAB": "a MATLAB file",
    b"version https://git-lfs": "the pointer that git leaves of a large file: fetch the file itself (git lfs pull)",
    b"<": "a web page, perhaps of a download that failed",
}
_PICKLES = tuple(bytes((0x80, number)) for number in range(2, 6))


def kind(path: Path) -> str:
    """One of the kinds above. Raises FatalError that says what the file looks like if it is none of them."""
    try:
        with path.open("rb") as file:
            start = file.read(64)
            size = path.stat().st_size
    except OSError as error:
        raise FatalError(f"{path} cannot be read: {error.strerror}") from error
    if start.startswith(b"PK"):
        return _zip(path)
    if OLD_TORCH in start[:32]:
        return OLD
    if is_safetensors(start, size):
        return SAFETENSORS
    if path.name.lower().endswith(ARCHIVES):
        return PICTURES
    found = next((words for begins, words in _STARTS.items() if start.startswith(begins)), "")
    if found == PARQUET:
        return PARQUET
    raise unlike(path, found or _looks(start))


def is_safetensors(start: bytes, size: int) -> bool:
    """Whether a file of so many bytes that starts so has the header of a safetensors file."""
    return len(start) > 8 and start[8:9] == b"{" and int.from_bytes(start[:8], "little") <= size - 8


def unlike(path: Path, looks: str) -> FatalError:
    """The error for a file that is no distilled set, but something else."""
    return FatalError(f"{path} is no distilled set of a layout known here: it looks like {looks}. {LAYOUTS}")


LAYOUTS = (
    "Known: one file with images and labels under `data` (res_*.pt of DC, DSA, DM); images_*.pt beside labels_*.pt, "
    "with lr_*.pt if there is one (MTT, FTD, TESLA, DATM; FTD's averages begin with ema_), or a folder of them; "
    "images and labels as a pair or under their names in one torch, .npz or .safetensors file; a folder of images, a "
    "folder a class; what sdc export writes"
)


def _looks(start: bytes) -> str:
    if not start:
        return "an empty file"
    if start.startswith(_PICKLES):
        return (
            "a Python pickle that is no torch file of tensors and numbers alone. A pickle can run code, so it is not "
            "read; where you trust it, save its images and labels: "
            "np.savez('plain.npz', images=..., labels=...)"
        )
    if b"ustar" in start or start.startswith((b"\x1f\x8b", b"\xfd7zXZ")):
        return f"an archive under another name: end it in one of {' '.join(ARCHIVES)}"
    return "no file of tensors (not a torch file of tensors and numbers alone, nor .npz, .safetensors or .parquet)"


def _zip(path: Path) -> str:
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError) as error:
        raise unlike(path, f"a damaged zip archive ({error}), so no torch file of tensors and numbers alone") from error
    ends = {name.split("/", 1)[-1] for name in names}
    if "constants.pkl" in ends:
        raise unlike(path, "a TorchScript program, which is a network and no images")
    if "data.pkl" in ends:
        return TORCH
    if names and all(name.endswith(".npy") for name in names):
        return NPZ
    if path.name.lower().endswith(".zip"):
        return PICTURES
    raise unlike(path, f"a zip archive of {', '.join(names[:3]) or 'nothing'}{', ...' if len(names) > 3 else ''}")

"""Files of tensors that mean harm, are damaged, or are something else: each is refused with what it is."""

from __future__ import annotations

import io
import json
import os
import pickle
import resource
import struct
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.data import TensorDataset

from sdc.data import store
from sdc.evaluation import foreign
from sdc.evaluation.foreign import Stated
from sdc.ground.errors import FatalError

IMAGES, LABELS = torch.randn(10, 3, 8, 8, generator=torch.Generator().manual_seed(0)), torch.arange(10)
MAGIC = 0x1950A86A20F9469CFC6C
"""What torch before 1.6 began its files with."""


def refused(path: Path) -> str:
    with pytest.raises(FatalError) as caught:
        foreign.load(path, store.load("digits", None), "digits", Stated())
    assert str(path) in str(caught.value)
    return str(caught.value)


@contextmanager
def memory_of_at_most(more: int) -> Iterator[None]:
    """Whoever asks for more than that gets none."""
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    before = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (used + more, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)


class _Claim:
    """A storage of which a file holds less than it says."""


class _Tensor:
    def __init__(self, shape: tuple[int, ...]) -> None:
        self.shape = shape

    def __reduce__(self) -> Any:
        stride = tuple(int(np.prod(self.shape[place + 1 :])) for place in range(len(self.shape)))
        return torch._utils._rebuild_tensor_v2, (_Claim(), 0, self.shape, stride, False, {})


def content(count: object, shape: tuple[int, ...] = (10, 3, 8, 8)) -> bytes:
    """The pickle of a pair of tensors of one storage that claims `count` numbers."""
    held = io.BytesIO()
    pickler = pickle.Pickler(held, 2)
    pickler.persistent_id = lambda each: (  # type: ignore[method-assign]
        ("storage", torch.FloatStorage, "0", "cpu", count, None) if isinstance(each, _Claim) else None
    )
    pickler.dump([_Tensor(shape), _Tensor((10,))])
    return held.getvalue()


def old(path: Path, count: object, numbers: int, shape: tuple[int, ...] = (10, 3, 8, 8)) -> Path:
    """A file of before torch 1.6, put together by hand."""
    system = {"protocol_version": 1001, "little_endian": True, "type_sizes": {"short": 2, "int": 4, "long": 4}}
    parts = [pickle.dumps(each, 2) for each in (MAGIC, 1001, system)]
    data = struct.pack("<q", numbers) + np.arange(numbers, dtype="<f4").tobytes()
    path.write_bytes(b"".join([*parts, content(count, shape), pickle.dumps(["0"], 2), data]))
    return path


def test_an_old_file_put_together_by_hand_is_read(tmp_path: Path) -> None:
    (found,) = foreign.load(
        old(tmp_path / "a.pt", 1920, 1920), store.load("digits", None), "digits", Stated(range="normalised")
    )
    assert found.made.images.flatten().equal(torch.arange(1920.0))
    assert found.made.labels.equal(LABELS)


@pytest.mark.parametrize("count", [10**6, 10**10, 2**62])
def test_a_file_that_claims_more_than_it_holds_is_refused_before_memory_is_taken(count: int, tmp_path: Path) -> None:
    shape = (count // 192, 3, 8, 8)
    with memory_of_at_most(2**31):
        assert "holds more than its size" in refused(old(tmp_path / "old.pt", count, 1920, shape))
        with zipfile.ZipFile(tmp_path / "new.pt", "w") as archive:
            archive.writestr("x/data.pkl", content(count, shape))
            archive.writestr("x/version", "3\n")
            archive.writestr("x/byteorder", "little")
            archive.writestr("x/data/0", np.arange(1920, dtype="<f4").tobytes())
        assert "holds more than its size" in refused(tmp_path / "new.pt")


@pytest.mark.parametrize("count", [-1, "7", 1.5, None, True])
def test_a_storage_without_a_size_is_refused(count: object, tmp_path: Path) -> None:
    assert "not a torch file of tensors and numbers alone" in refused(old(tmp_path / "old.pt", count, 1920))


def test_an_old_file_whose_tensor_repeats_a_few_numbers_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.pt"
    torch.save([torch.zeros(1).expand(10**6, 3, 10**3, 10**3), LABELS], path, _use_new_zipfile_serialization=False)
    assert "that repeats a few numbers" in refused(path)


@pytest.mark.parametrize("is_old", [False, True])
def test_a_file_cut_short_anywhere_is_refused(is_old: bool, tmp_path: Path) -> None:
    torch.save([IMAGES, LABELS], tmp_path / "whole.pt", _use_new_zipfile_serialization=not is_old)
    whole = (tmp_path / "whole.pt").read_bytes()
    for size in (0, 1, 5, 20, 60, 200, 400, len(whole) // 2, len(whole) - 1):
        (tmp_path / "cut.pt").write_bytes(whole[:size])
        assert refused(tmp_path / "cut.pt")


class _Trap:
    def __reduce__(self) -> Any:
        return os.system, ("touch sprung",)


@pytest.mark.parametrize("is_old", [False, True])
@pytest.mark.parametrize(
    ("held", "named"),
    [
        (_Trap(), "an object of type system (posix.system)"),
        ({"images": IMAGES, "labels": _Trap()}, "an object of type system (posix.system)"),
        (TensorDataset(IMAGES, LABELS), "an object of type TensorDataset (torch.utils.data.dataset.TensorDataset)"),
        (torch.nn.Linear(2, 2), "an object of type Linear (torch.nn.modules.linear.Linear)"),
        ({"images": IMAGES.numpy()}, "a numpy array ("),
        (Path("x"), "an object of type PosixPath (pathlib"),
    ],
)
def test_an_object_is_named_with_a_way_to_convert_it(
    held: Any, named: str, is_old: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save(held, tmp_path / "a.pt", _use_new_zipfile_serialization=not is_old)
    error = refused(tmp_path / "a.pt")
    assert f"it holds {named}" in error
    assert "only tensors and numbers are read" in error
    assert "Convert it where you trust it" in error
    for advice in ("two options", "weights_only", "Weights only", "add_safe_globals", "arbitrary code", "\x1b"):
        assert advice not in error
    assert not (tmp_path / "sprung").exists()


def test_the_way_to_convert_works(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save({"images": IMAGES.numpy(), "labels": LABELS.numpy()}, tmp_path / "a.pt")
    program = refused(tmp_path / "a.pt").split('python -c "')[1].rstrip('"')
    exec(program, {})  # noqa: S102 - what a user is told to run
    (found,) = foreign.load(tmp_path / "plain.pt", store.load("digits", None), "digits", Stated())
    assert found.made.images.equal(IMAGES)
    assert found.made.labels.equal(LABELS)


def test_other_protocols_of_pickle_are_told(tmp_path: Path) -> None:
    torch.save([IMAGES, LABELS], tmp_path / "a.pt", pickle_protocol=4)
    assert "another pickle protocol than torch.save's own" in refused(tmp_path / "a.pt")


@pytest.mark.parametrize(
    ("content", "looks"),
    [
        (b"", "an empty file"),
        (pickle.dumps({"images": [1]}, 4), "a Python pickle"),
        (b"<!DOCTYPE html>", "a web page"),
        (b"\x89PNG\r\n\x1a\n", "a single PNG image"),
        (b"version https://git-lfs.github.com/spec/v1\n", "the pointer that git leaves of a large file"),
        (b"\x89HDF\r\n\x1a\n" + bytes(99), "an HDF5 file"),
        (b"\x93NUMPY\x01\x00", "a single numpy array"),
        (b"\x1f\x8b" + bytes(99), "an archive under another name"),
        (b"PK\x03\x04", "a damaged zip archive"),
        (b"anything at all", "no file of tensors"),
    ],
)
@pytest.mark.parametrize("name", ["x.pt", "images_1.pth", "x.npz", "x.bin"])
def test_a_file_of_another_kind_is_refused_with_what_it_looks_like(
    content: bytes, looks: str, name: str, tmp_path: Path
) -> None:
    (tmp_path / name).write_bytes(content)
    error = refused(tmp_path / name)
    assert f"it looks like {looks}" in error
    assert "Known: one file with images and labels under `data`" in error


def npz(path: Path, kind: str, shape: str, data: bytes = b"") -> Path:
    """An .npz of one array whose header says what it likes."""
    header = f"{{'descr': {kind}, 'fortran_order': False, 'shape': {shape}, }}".encode()
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("images.npy", b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header + data)
    return path


@pytest.mark.parametrize(
    ("kind", "shape", "why"),
    [
        ("'<f4'", "(1000000, 3, 10000, 10000)", "an array images.npy of float32"),
        ("'<f4'", f"({2**62}, 8)", "an array images.npy of float32"),
        ("'|O'", "(0,)", "holds pickled objects under 'images'"),
        ("'<U4'", "(0,)", "an array images.npy of <U4"),
        ("[('a', '<f4')]", "(0,)", "damaged"),
        ("'<f4'", "(-1, 3)", "damaged"),
        ("'<f4'", "exit()", "damaged"),
        ("__import__('os').system('touch sprung')", "(0,)", "damaged"),
    ],
)
def test_an_npz_that_lies_is_refused(
    kind: str, shape: str, why: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with memory_of_at_most(2**31):
        assert why in refused(npz(tmp_path / "a.npz", kind, shape))
    assert not (tmp_path / "sprung").exists()


def test_an_npz_that_grows_beyond_reason_is_refused(tmp_path: Path) -> None:
    np.savez_compressed(tmp_path / "a.npz", images=np.zeros((2**16, 3, 64, 64), np.uint8), labels=np.zeros(2**16))
    assert (tmp_path / "a.npz").stat().st_size < 10**6
    assert "far more than its size" in refused(tmp_path / "a.npz")


def test_pickled_objects_in_an_npz_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    np.savez(tmp_path / "a.npz", images=np.array([_Trap()]), labels=LABELS.numpy())
    assert "pickled objects under 'images', which could run code" in refused(tmp_path / "a.npz")
    assert not (tmp_path / "sprung").exists()


@pytest.mark.parametrize(
    ("held", "why"),
    [
        ({"weights": IMAGES}, "entries weights, none of them called images"),
        ({"images": IMAGES, "data": IMAGES, "labels": LABELS}, "images, data may each be meant: keep one"),
        ({"images": IMAGES, "labels": "many"}, "images with labels that are a str"),
        ({"images": IMAGES, "labels": [0, None]}, "images with labels that are a list of 2"),
        ({"images": IMAGES[:, :2], "labels": LABELS}, "which has 1 or 3 channels neither way"),
        ({"images": IMAGES * float("nan"), "labels": LABELS}, "image 0 has nan in channel 0"),
        ({"images": IMAGES, "labels": LABELS + 90}, "image 0 has label 90, but digits has 0..9"),
        ([IMAGES, LABELS, LABELS], "a list of 3"),
        ([1, 2], "a pair that holds no tensor of images"),
        (IMAGES[0], "a tensor of shape [3, 8, 8]"),
        (7, "a int"),
    ],
)
def test_what_a_file_holds_instead_is_named(held: Any, why: str, tmp_path: Path) -> None:
    torch.save(held, tmp_path / "a.pt")
    assert why in refused(tmp_path / "a.pt")


def test_a_safetensors_file_of_others_cut_short_is_refused(tmp_path: Path) -> None:
    header = json.dumps({"images": {"dtype": "F32", "shape": [10**6, 3, 99, 99], "data_offsets": [0, 4]}}).encode()
    (tmp_path / "a.pt").write_bytes(struct.pack("<Q", len(header)) + header + bytes(4))
    assert "is damaged or cut short" in refused(tmp_path / "a.pt")

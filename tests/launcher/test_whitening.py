"""What a script computes to whiten images is recorded, and computed once: the next process has the same bits of it."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import kornia
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from sdc.launcher import whitening
from tests.launcher.conftest import Child, written

ZCA = kornia.enhance.ZCAWhitening
SCRIPT = """\
import json
import kornia
import torch
from kornia.enhance import zca as inside
from safetensors.torch import save_file
from torchvision import datasets, transforms

computed = {"zca_mean": 0, "linear_transform": 0}


def counted(name):
    real = getattr(inside, name)

    def call(*arguments, **options):
        computed[name] += 1
        return real(*arguments, **options)

    setattr(inside, name, call)


usual = transforms.Compose([transforms.ToTensor()])
train, test = (datasets.MNIST("nowhere", train=part, transform=usual) for part in (True, False))
shown, tested = (torch.stack([images[i][0] for i in range(len(images))]) for images in (train, test))
counted("zca_mean")
counted("linear_transform")
zca = kornia.enhance.ZCAWhitening(eps=0.1, compute_inv=True)
zca.fit(shown)
found = {"before": shown, "after": zca(shown)}
fitted = {name: getattr(zca, name) for name in ("mean_vector", "transform_matrix", "transform_inv")}
json.dump({**computed, "fitted": zca.fitted}, open("found.json", "w"))
found |= {"tested": zca(tested), "back": zca.inverse_transform(found["after"]), **fitted}
save_file({name: tensor.contiguous() for name, tensor in found.items()}, "found.safetensors")
images = torch.zeros(1, 1, 8, 8, requires_grad=True)
optimizer = torch.optim.SGD([images], lr=1.0)
images.sum().backward()
optimizer.step()
"""
"""It counts what it computes, up to its whitened training images."""


@pytest.fixture(scope="module")
def children(tmp_path_factory: pytest.TempPathFactory) -> list[Child]:
    """Three processes with the same folder: two at once, then another."""
    folder = tmp_path_factory.mktemp("whitening")
    how: dict[str, Any] = {"seed": 0, "slot": "MNIST", "channels": 1, "beside": {}, "whiten": True}
    made = [written(folder / name, SCRIPT, whitened=str(folder / "kept"), **how) for name in ("one", "other", "next")]
    for at_once in (made[:2], made[2:]):
        started = [child.start() for child in at_once]
        for process in started:
            _, said = process.communicate(timeout=120)
            assert process.returncode == 0, said
    return made


def test_the_transform_that_a_script_whitens_with_is_recorded(children: list[Child]) -> None:
    for child in children:
        fitted = load_file(child.work / "view.zca.safetensors")
        flat = child.tensors["before"].flatten(1)
        assert ((flat - fitted["mean"]) @ fitted["matrix"]).allclose(child.tensors["after"].flatten(1), atol=1e-5)
        assert fitted["mean"].allclose(flat.mean(0), atol=1e-6)


def test_the_next_process_computes_neither_transform_nor_whitened_images_and_has_the_same_bits(
    children: list[Child],
) -> None:
    one, other, following = children

    assert max(child.found["zca_mean"] for child in (one, other)) == 1  # one may find what the other has just left
    assert max(child.found["linear_transform"] for child in (one, other)) == 1
    assert following.found == {"zca_mean": 0, "linear_transform": 0, "fitted": True}
    for name, tensor in one.tensors.items():
        assert tensor.equal(other.tensors[name]), name
        assert tensor.equal(following.tensors[name]), name
    assert not following.tensors["tested"].equal(following.tensors["after"][:3])
    assert following.tensors["back"].allclose(following.tensors["before"], atol=1e-3)


def test_two_processes_at_once_leave_two_whole_files(children: list[Child]) -> None:
    (transform,) = (file for file in (children[0].folder.parent / "kept").iterdir() if ".images." not in file.name)
    (images,) = (file for file in (children[0].folder.parent / "kept").iterdir() if ".images." in file.name)

    assert images.name.startswith(transform.stem)
    assert load_file(images)["images"].equal(children[0].tensors["after"])
    assert set(load_file(transform)) == {"mean_vector", "transform_matrix", "transform_inv"}


Again = Callable[..., tuple[Any, Tensor, int]]


@pytest.fixture
def again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Again]:
    """`again(images)`: what a new process gets with the folder `kept`: the object, its images, how often it fitted."""
    real = kornia.enhance.zca.zca_mean
    fit, forward = ZCA.fit, ZCA.forward

    def run(images: Tensor, **options: Any) -> tuple[Any, Tensor, int]:
        fits = 0

        def counted(*arguments: Any, **more: Any) -> Any:
            nonlocal fits
            fits += 1
            return real(*arguments, **more)

        monkeypatch.setattr(kornia.enhance.zca, "zca_mean", counted)
        ZCA.fit, ZCA.forward = fit, forward
        whitening.install(tmp_path / "record.safetensors", tmp_path / "kept")
        zca = ZCA(**{"eps": 0.1, "compute_inv": True, **options})
        zca.fit(images)
        return zca, zca(images), fits

    yield run
    ZCA.fit, ZCA.forward = fit, forward


@pytest.fixture
def images() -> Tensor:
    return torch.rand(12, 1, 4, 4, generator=torch.Generator().manual_seed(0))


def same(first: tuple[Any, Tensor, int], second: tuple[Any, Tensor, int]) -> bool:
    buffers = dict(second[0].named_buffers())
    equal = all(tensor.equal(buffers[name]) for name, tensor in first[0].named_buffers())
    return equal and first[1].equal(second[1])


def test_other_images_options_or_threads_are_fitted_anew(
    again: Again, images: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = again(images)
    assert (first[2], again(images)[2]) == (1, 0)

    nudged = images.clone()
    nudged[3, 0, 1, 2] += 1e-6
    for others, options in [
        (nudged, {}),
        (images.flip(0), {}),
        (images.view(12, 1, 2, 8), {}),
        (images.double(), {}),
        (images.transpose(2, 3), {}),
        (images, {"eps": 0.2}),
        (images, {"compute_inv": False}),
        (images, {"unbiased": False}),
    ]:
        found = again(others, **options)
        plain = ZCA(**{"eps": 0.1, "compute_inv": True, **options})
        real = kornia.enhance.zca.zca_mean(others, plain.dim, plain.unbiased, plain.eps, plain.compute_inv)
        assert found[2] == 1, options
        assert found[0].transform_matrix.equal(real[0]), options
        assert same(found, again(others, **options)), options
    torch.set_num_threads(2)
    try:
        assert again(images)[2] == 0
        assert same(first, again(nudged.double())) is False
    finally:
        torch.set_num_threads(1)


@pytest.mark.parametrize("harm", ["cut", "emptied", "flipped", "of another kind", "a folder"])
def test_a_damaged_file_is_made_anew(again: Again, images: Tensor, harm: str, tmp_path: Path) -> None:
    first = again(images)
    files = sorted((tmp_path / "kept").iterdir())
    whole = [file.read_bytes() for file in files]
    assert len(files) == 2
    for file in files:
        content = bytearray(file.read_bytes())
        content[-5] ^= 1
        harmed = {"cut": content[:-8], "emptied": b"", "flipped": content, "of another kind": b"PK" * 40}
        file.unlink()
        if harm == "a folder":
            file.mkdir()
        else:
            file.write_bytes(harmed[harm])

    second = again(images)

    assert second[2] == 1
    assert same(first, second)
    if harm != "a folder":  # nothing takes its place
        assert [file.read_bytes() for file in files] == whole
        assert again(images)[2] == 0
    assert sorted((tmp_path / "kept").iterdir()) == files


@pytest.mark.parametrize("why", ["no folder can be made", "no room"])
def test_where_nothing_can_be_kept_it_is_computed_each_time(
    again: Again, images: Tensor, why: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if why == "no room":
        monkeypatch.setattr(whitening, "ROOM", shutil.disk_usage(tmp_path).total)
    else:
        (tmp_path / "kept").write_text("in the way")

    first, second = again(images), again(images)

    assert (first[2], second[2]) == (1, 1)
    assert same(first, second)
    assert {file.name for file in tmp_path.rglob("*") if file.is_file()} <= {"record.safetensors", "kept"}


def test_only_the_very_images_of_the_fit_are_looked_up(again: Again, images: Tensor) -> None:
    again(images)
    zca, whitened, _ = again(images)

    other = zca(images.flip(0))
    images[0] = 0
    changed = zca(images)

    assert other.allclose(whitened.flip(0), atol=1e-5)
    assert changed[1:].allclose(whitened[1:], atol=1e-5)
    assert not changed[0].allclose(whitened[0], atol=1e-2)


def test_a_script_that_writes_into_whitened_images_changes_its_own_alone(again: Again, images: Tensor) -> None:
    first = again(images)
    kept = first[1].clone()

    for _ in range(2):
        _, whitened, _ = again(images)
        assert whitened.equal(kept)
        whitened.zero_()


def test_a_fit_that_a_gradient_passes_through_is_computed(again: Again, images: Tensor) -> None:
    again(images)

    zca, whitened, fits = again(images.requires_grad_(), detach_transforms=False)

    assert fits == 1
    whitened.square().sum().backward()
    assert images.grad is not None
    assert zca.transform_matrix.requires_grad

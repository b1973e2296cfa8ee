"""`load` seen from outside, on small images made here: folders and archives, good, damaged and hostile."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import tarfile
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors import safe_open

from sdc.data import image_folder
from sdc.data.store import Dataset, held_out, limited, load
from sdc.ground.errors import FatalError

Files = dict[str, bytes]


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SDC_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def encoded(pixels: np.ndarray, kind: str = "PNG") -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, kind)
    return buffer.getvalue()


def plain(value: int, size: tuple[int, int] = (8, 8), channels: int = 3) -> bytes:
    """An image of one colour; `size` is (height, width)."""
    return encoded(np.full((*size, 3) if channels == 3 else size, value, np.uint8))


def two_classes() -> Files:
    """Values tell images apart: 10, 11 cats and 20, 21 dogs to train on; 15 and 25 to test on."""
    return {
        "train/dog/b.png": plain(21),
        "train/cat/a.png": plain(10),
        "train/dog/a.png": plain(20),
        "train/cat/b.png": plain(11),
        "test/dog/a.png": plain(25),
        "test/cat/a.png": plain(15),
    }


def as_folder(path: Path, content: Files) -> Path:
    for name, data in content.items():
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_bytes(data)
    return path


def as_zip(path: Path, content: Files) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in content.items():
            archive.writestr(name, data)
    return path


def as_tar(path: Path, content: Files, extra: tuple[tarfile.TarInfo, ...] = ()) -> Path:
    mode = {".xz": "w:xz", ".gz": "w:gz", ".tgz": "w:gz"}.get(path.suffix, "w")
    with tarfile.open(path, mode) as archive:  # type: ignore[call-overload]
        for name, data in content.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
        for info in extra:
            archive.addfile(info)
    return path


def values(dataset: Dataset) -> dict[str, list[int]]:
    """The first pixel of every image, and the labels."""
    return {
        "train": dataset.train.images[:, 0, 0, 0].tolist(),
        "train labels": dataset.train.labels.tolist(),
        "test": dataset.test.images[:, 0, 0, 0].tolist(),
        "test labels": dataset.test.labels.tolist(),
    }


EXPECTED = {"train": [10, 11, 20, 21], "train labels": [0, 0, 1, 1], "test": [15, 25], "test labels": [0, 1]}


def prepared(cache: Path) -> list[Path]:
    return sorted((cache / "data" / "prepared").glob("*.safetensors"))


def failure(path: Path, name: str = "mine") -> str:
    with pytest.raises(FatalError) as caught:
        load(name, path)
    return str(caught.value)


# What is read.


@pytest.mark.parametrize("name", ["d", "d.tar", "d.tar.xz", "d.tar.gz", "d.tgz", "d.zip", "D.ZIP"])
def test_every_kind_of_source_gives_the_same_tensors(tmp_path: Path, name: str) -> None:
    make: Callable[[Path, Files], Path] = as_tar if "tar" in name or "tgz" in name else as_zip
    dataset = load("mine", (make if "." in name else as_folder)(tmp_path / name, two_classes()))
    assert values(dataset) == EXPECTED
    assert dataset.classes == ("cat", "dog")
    assert (dataset.train.images.shape, dataset.train.images.dtype) == ((4, 3, 8, 8), torch.uint8)
    assert dataset.train.labels.dtype == torch.int64
    assert dataset.sha256 == load("mine", as_folder(tmp_path / "other", two_classes())).sha256


@pytest.mark.parametrize("prefix", ["./", "top/", "./top/"])
@pytest.mark.parametrize("kind", ["tar", "zip"])
def test_the_layout_may_stand_below_a_dot_or_one_top_folder(tmp_path: Path, kind: str, prefix: str) -> None:
    content = {prefix + name: data for name, data in two_classes().items()} | {f"{prefix}README.md": b"read me"}
    path = (as_tar if kind == "tar" else as_zip)(tmp_path / f"d.{kind}", content)
    assert values(load("mine", path)) == EXPECTED


def test_a_folder_may_hold_the_layout_below_one_top_folder(tmp_path: Path) -> None:
    as_folder(tmp_path / "d" / "top", two_classes())
    assert values(load("mine", tmp_path / "d")) == EXPECTED


def test_the_order_in_an_archive_does_not_matter(tmp_path: Path) -> None:
    forward = as_tar(tmp_path / "a.tar", two_classes())
    backward = as_tar(tmp_path / "b.tar", dict(reversed(two_classes().items())))
    assert load("mine", forward).sha256 == load("mine", backward).sha256


def test_hidden_files_and_files_that_are_no_images_are_left_out(tmp_path: Path) -> None:
    noise = {
        "train/cat/.hidden.png": b"?",
        "train/.git/x.png": b"?",
        "__MACOSX/train/cat/a.png": b"?",
        "train/cat/README": b"?",
        "train/dog/notes.txt": b"?",
        "train/stray.png": plain(1),
        "val/cat/a.png": b"?",
    }
    for path in (as_folder(tmp_path / "d", two_classes() | noise), as_zip(tmp_path / "d.zip", two_classes() | noise)):
        dataset = load("mine", path)
        assert (dataset.classes, values(dataset)) == (("cat", "dog"), EXPECTED)


def test_classes_that_are_numbers_are_in_the_order_of_numbers(tmp_path: Path) -> None:
    content = {f"{split}/{n}/0.png": plain(n) for split in ("train", "test") for n in (10, 9, 2, 0)}
    dataset = load("mine", as_zip(tmp_path / "d.zip", content))
    assert dataset.classes == ("0", "2", "9", "10")
    assert values(dataset)["train"] == [0, 2, 9, 10]
    mixed = content | {f"{split}/a/0.png": plain(1) for split in ("train", "test")}
    assert load("mine", as_zip(tmp_path / "e.zip", mixed)).classes == ("0", "10", "2", "9", "a")


def test_pixels_arrive_where_they_were(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (6, 6, 3), np.uint8)
    path = as_folder(tmp_path / "d", {f"{split}/a/0.png": encoded(pixels) for split in ("train", "test")})
    for images in (load("mine", path).train.images, load("mine", path).test.images):
        assert np.array_equal(images[0].numpy(), np.moveaxis(pixels, 2, 0))


# Channels and sizes.


def one_class(*images: bytes) -> Files:
    return {f"train/a/{n}.png": image for n, image in enumerate(images)} | {"test/a/0.png": images[0]}


def test_grey_images_have_one_channel_unless_one_is_coloured(tmp_path: Path) -> None:
    grey = load("mine", as_zip(tmp_path / "a.zip", one_class(plain(7, channels=1), plain(9, channels=1))))
    mixed = load("mine", as_zip(tmp_path / "b.zip", one_class(plain(7, channels=1), plain(9))))
    assert grey.train.images.shape == (2, 1, 8, 8)
    assert mixed.train.images.shape == (2, 3, 8, 8)
    assert mixed.train.images[0].unique().tolist() == [7]


def test_sixteen_bit_grey_keeps_its_upper_bits_and_one_bit_is_black_and_white(tmp_path: Path) -> None:
    deep = encoded(np.full((8, 8), 0xAB12, np.uint16))
    flat = encoded(np.full((8, 8), True))
    dataset = load("mine", as_zip(tmp_path / "d.zip", one_class(deep, flat)))
    assert dataset.train.images.shape == (2, 1, 8, 8)
    assert values(dataset)["train"] == [0xAB, 255]


@pytest.mark.parametrize(
    ("sides", "expected"), [((48, 48), 48), ((20, 50), 32), ((60, 70, 90), 64), ((60, 62, 90), 32)]
)
def test_the_common_size(tmp_path: Path, sides: tuple[int, ...], expected: int) -> None:
    images = [plain(n, (side, side)) for n, side in enumerate(sides)]
    content = one_class(*images) | {"test/a/0.png": images[len(images) // 2]}
    assert load("mine", as_zip(tmp_path / "d.zip", content)).train.images.shape[2:] == (expected, expected)


def test_of_an_oblong_image_the_centre_is_kept(tmp_path: Path) -> None:
    pixels = np.arange(8 * 12, dtype=np.uint8).reshape(8, 12)
    wide = load("mine", as_zip(tmp_path / "a.zip", one_class(encoded(pixels))))
    tall = load("mine", as_zip(tmp_path / "b.zip", one_class(encoded(np.ascontiguousarray(pixels.T)))))
    assert np.array_equal(wide.train.images[0, 0].numpy(), pixels[:, 2:10])
    assert np.array_equal(tall.train.images[0, 0].numpy(), pixels[:, 2:10].T)


def test_resizing_averages_over_the_pixels_it_merges(tmp_path: Path) -> None:
    stripes = np.zeros((320, 320), np.uint8)
    stripes[:, ::2] = 200
    content = {
        "train/a/0.png": encoded(stripes),
        "train/a/1.png": plain(0, (31, 31), 1),
        "test/a/0.png": plain(0, (31, 31), 1),
    }
    dataset = load("mine", as_zip(tmp_path / "d.zip", content))
    small = dataset.train.images[0, 0, :, 1:-1].float()
    assert small.shape == (32, 30)
    assert (small - 100).abs().max() <= 12  # without antialias, columns would be 0 or 200


# Errors: each names the path, the member, and what to do.


def test_a_path_that_does_not_exist(tmp_path: Path) -> None:
    assert failure(tmp_path / "none.zip") == (
        f"{tmp_path}/none.zip does not exist\n"
        "Give --data PATH of a folder, .tar, .tar.xz, .tar.gz, .tgz or .zip of train/<class>/* and test/<class>/*."
    )


def test_a_file_that_is_no_archive(tmp_path: Path) -> None:
    (tmp_path / "x.rar").write_bytes(b"Rar!")
    assert f"{tmp_path}/x.rar is neither a folder nor an archive" in failure(tmp_path / "x.rar")


def test_an_unknown_name_lists_the_known_ones_and_says_how_to_give_others() -> None:
    with pytest.raises(FatalError) as caught:
        load("imagenet")
    assert str(caught.value).startswith(
        "unknown dataset 'imagenet'. Known: cifar10, cifar100, digits, fashionmnist, mnist, svhn, tinyimagenet"
    )
    assert "--data PATH" in str(caught.value)


@pytest.mark.parametrize("name", ["d.tar", "d.tar.xz", "d.tar.gz", "d.zip"])
@pytest.mark.parametrize("kept", [0.3, 0.5, 0.7])
def test_a_truncated_archive_is_noticed_wherever_it_breaks_off(tmp_path: Path, name: str, kept: float) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (3, 16, 16, 3), np.uint8)
    content = two_classes() | {
        f"{split}/cat/n{n}.png": encoded(noise[n]) for split in ("train", "test") for n in range(3)
    }
    path = (as_zip if name.endswith("zip") else as_tar)(tmp_path / name, content)
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * kept)])
    message = failure(path)
    assert message.startswith(f"cannot read {path}: ")
    assert "Make or download it again." in message


@pytest.mark.parametrize("cut", [512 * 6, 512 * 6 + 100, 512 * 8])
def test_a_tar_cut_between_members_is_noticed(tmp_path: Path, cut: int) -> None:
    """A member takes two blocks here, so that the cuts fall before, in and before a header; each class has images."""
    order = ["train/cat/a.png", "test/cat/a.png", "train/cat/b.png", "train/cat/c.png", "train/cat/d.png"]
    path = as_tar(tmp_path / "d.tar", dict.fromkeys(order, plain(1)))
    path.write_bytes(path.read_bytes()[:cut])
    assert "breaks off" in failure(path)


def test_a_damaged_header_in_the_middle_of_a_tar_is_noticed(tmp_path: Path) -> None:
    path = as_tar(tmp_path / "d.tar", dict.fromkeys(["train/a/0.png", "test/a/0.png", "train/a/1.png"], plain(1)))
    data = bytearray(path.read_bytes())
    data[512 * 4 + 150] ^= 0xFF
    path.write_bytes(data)
    assert "the archive breaks off, or is damaged, at byte 2048" in failure(path)


def test_a_damaged_image_in_a_zip_is_noticed_by_its_checksum(tmp_path: Path) -> None:
    path = as_zip(tmp_path / "d.zip", two_classes())
    data = path.read_bytes()
    at = data.index(b"IDAT")
    path.write_bytes(data[:at] + b"JDAT" + data[at + 4 :])
    assert "Bad CRC-32 for file 'train/dog/b.png'" in failure(path)


def test_an_archive_of_another_kind_than_its_name_says(tmp_path: Path) -> None:
    as_zip(tmp_path / "d.zip", two_classes()).rename(tmp_path / "d.tar.gz")
    assert failure(tmp_path / "d.tar.gz").startswith(f"cannot read {tmp_path}/d.tar.gz: Not a gzipped file")


def test_a_missing_split_or_class(tmp_path: Path) -> None:
    def message(content: Files) -> str:
        path = as_zip(tmp_path / "d.zip", content)
        return failure(path).splitlines()[0].replace(str(path), "IT")

    whole = two_classes()
    without = lambda start: {name: data for name, data in whole.items() if not name.startswith(start)}  # noqa: E731
    assert message(without("test/")) == "no test/ in IT"
    assert message(without("train/")) == "no train/ in IT"
    assert message({"a/x.png": plain(1), "b/x.png": plain(1)}) == "no train/ and no test/ in IT"
    assert message({"train/x.png": plain(1), "test/x.png": plain(1)}) == "no class folder in train/ of IT"
    assert message(without("test/dog")) == "class 'dog' of IT is in train/ but not in test/"
    assert message(without("train/dog")) == "class 'dog' of IT is in test/ but not in train/"
    assert message(without("test/dog") | {"test/dog/a.txt": b""}) == "class 'dog' has no images in test/ of IT"


def test_an_empty_class_folder(tmp_path: Path) -> None:
    path = as_folder(tmp_path / "d", two_classes())
    for split in ("train", "test"):
        (path / split / "owl").mkdir()
    assert failure(path).startswith(f"class 'owl' has no images in train/ of {path}\n")


@pytest.mark.parametrize("damaged", [b"not an image", plain(1)[:-30], plain(1)[:40], b""])
def test_an_unreadable_image_is_named(tmp_path: Path, damaged: bytes, cache: Path) -> None:
    path = as_zip(tmp_path / "d.zip", two_classes() | {"train/cat/bad.png": damaged})
    message = failure(path)
    assert message.startswith(f"unreadable image: {path}: train/cat/bad.png\n")
    assert message.endswith("Repair it, or take it out.")
    assert not prepared(cache)


def test_a_broken_link_in_a_folder_is_an_error_not_a_lost_image(tmp_path: Path) -> None:
    path = as_folder(tmp_path / "d", two_classes())
    (path / "train/cat/c.png").symlink_to("nowhere.png")
    assert "train/cat/c.png" in failure(path)


def test_links_inside_a_folder_are_followed_and_loops_end(tmp_path: Path) -> None:
    as_folder(tmp_path / "real", two_classes())
    path = tmp_path / "d"
    path.mkdir()
    (path / "train").symlink_to(tmp_path / "real/train")
    (path / "test").symlink_to(tmp_path / "real/test")
    (tmp_path / "real/train/cat/loop").symlink_to(tmp_path / "real/train")
    assert values(load("mine", path))["train"][:2] == [10, 11]


# Hostile archives: nothing is written but the cache, and none of their content is taken.


def everything(folder: Path) -> set[Path]:
    return {path for path in folder.rglob("*") if "cache" not in path.parts}


@pytest.mark.parametrize("kind", ["tar", "zip"])
def test_names_that_lead_outside_are_ignored_and_nothing_is_unpacked(tmp_path: Path, kind: str) -> None:
    evil = {
        "../evil.png": plain(66),
        "train/../../train/cat/evil.png": plain(66),
        f"{tmp_path}/evil.png": plain(66),
        "/train/cat/evil.png": plain(66),
    }
    path = (as_tar if kind == "tar" else as_zip)(tmp_path / f"d.{kind}", two_classes() | evil)
    before = everything(tmp_path)
    assert values(load("mine", path)) == EXPECTED
    assert everything(tmp_path) == before


def test_links_and_devices_in_a_tar_are_not_followed(tmp_path: Path) -> None:
    (tmp_path / "secret.png").write_bytes(plain(66))
    members = []
    for number, kind in enumerate((tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE)):
        info = tarfile.TarInfo(f"train/cat/link{number}.png")
        info.type, info.linkname = kind, str(tmp_path / "secret.png") if number == 0 else "train/dog/a.png"
        members.append(info)
    path = as_tar(tmp_path / "d.tar", two_classes(), tuple(members))
    assert values(load("mine", path)) == EXPECTED


def test_links_in_a_zip_are_not_followed(tmp_path: Path) -> None:
    path = as_zip(tmp_path / "d.zip", two_classes())
    link = zipfile.ZipInfo("train/cat/link.png")
    link.create_system, link.external_attr = 3, 0o120777 << 16
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr(link, "../dog/a.png")
    assert values(load("mine", path)) == EXPECTED


def bomb(side: int) -> bytes:
    """A valid PNG header that announces side x side pixels."""
    data = bytearray(plain(1))
    data[16:24] = side.to_bytes(4, "big") * 2
    data[29:33] = zlib.crc32(bytes(data[12:29])).to_bytes(4, "big")
    return bytes(data)


@pytest.mark.parametrize("side", [10_000, 60_000])
def test_a_decompression_bomb_is_refused(tmp_path: Path, side: int) -> None:
    message = failure(as_zip(tmp_path / "d.zip", two_classes() | {"train/cat/bomb.png": bomb(side)}))
    assert "train/cat/bomb.png" in message
    assert "decompression bomb" in message


def test_more_pixels_than_memory_should_hold_are_refused_before_they_are_decoded(tmp_path: Path) -> None:
    content = {f"{split}/a/{n}.png": bomb(9_000) for split in ("train", "test") for n in range(36)}
    assert "72 images of 3x9000x9000 are 16.3 GiB of pixels, at most 16 are held" in failure(
        as_zip(tmp_path / "d.zip", content)
    )


@pytest.mark.parametrize("kind", ["tar.xz", "zip", "folder"])
def test_a_huge_member_is_refused(tmp_path: Path, kind: str) -> None:
    huge = two_classes() | {"train/cat/huge.png": bytes(65 * 2**20)}
    if kind == "zip":
        path = tmp_path / "d.zip"
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, data in huge.items():
                archive.writestr(name, data)
    else:
        path = (as_folder if kind == "folder" else as_tar)(tmp_path / f"d.{kind}", huge)
    assert failure(path).startswith(f"too large for an image: {path}: train/cat/huge.png\nAt most 64 MiB")


# The cache.


def test_the_prepared_file_is_what_it_says_and_serves_the_second_load(tmp_path: Path, cache: Path) -> None:
    path = as_zip(tmp_path / "d.zip", two_classes())
    first = load("mine", path)
    assert [first.file] == prepared(cache)
    written = first.file.stat().st_mtime_ns
    seen: list[int] = []
    second = load("mine", path, on_progress=lambda done, _: seen.append(done))
    assert (second.sha256, values(second), second.classes) == (first.sha256, EXPECTED, first.classes)
    assert (second.file.stat().st_mtime_ns, seen) == (written, [])
    with safe_open(first.file, framework="np") as stored:
        metadata = stored.metadata()
        names = set(stored.keys())
        assert np.array_equal(stored.get_tensor("train_labels"), [0, 0, 1, 1])
    assert names == {"train_images", "train_labels", "test_images", "test_labels"}
    assert metadata["format"] == "1"
    assert (json.loads(metadata["classes"]), metadata["name"]) == (["cat", "dog"], "mine")
    assert metadata["sha256"] == first.sha256


def test_an_archive_is_known_by_its_bytes_not_by_its_name_or_place(tmp_path: Path, cache: Path) -> None:
    path = as_zip(tmp_path / "d.zip", two_classes())
    load("mine", path)
    load("mine", path.rename(tmp_path / "moved.zip"))
    assert len(prepared(cache)) == 1
    changed = load("mine", as_zip(tmp_path / "moved.zip", two_classes() | {"train/cat/a.png": plain(99)}))
    assert values(changed)["train"] == [99, 11, 20, 21]


def test_a_changed_folder_is_read_again(tmp_path: Path) -> None:
    path = as_folder(tmp_path / "d", two_classes())
    first = load("mine", path)
    (path / "train/cat/a.png").write_bytes(plain(99))
    os.utime(path / "train/cat/a.png", ns=(1, 1))
    second = load("mine", path)
    assert values(second)["train"] == [99, 11, 20, 21]
    assert second.sha256 != first.sha256


def test_the_hash_is_over_classes_and_tensors_alone(tmp_path: Path) -> None:
    renamed = {name.replace("cat", "cow"): data for name, data in two_classes().items()}
    swapped = two_classes() | {"train/cat/a.png": plain(11), "train/cat/b.png": plain(10)}
    contents = [two_classes(), renamed, swapped, two_classes() | {"test/cat/a.png": plain(16)}]
    hashes = [load("mine", as_zip(tmp_path / f"{n}.zip", content)).sha256 for n, content in enumerate(contents)]
    assert len(set(hashes)) == 4
    assert load("yours", tmp_path / "0.zip").sha256 == hashes[0]


@pytest.mark.parametrize("where", ["header", "pixels", "end"])
def test_a_damaged_prepared_file_is_made_again(tmp_path: Path, where: str, caplog: pytest.LogCaptureFixture) -> None:
    path = as_zip(tmp_path / "d.zip", two_classes())
    file = load("mine", path).file
    data = bytearray(file.read_bytes())
    if where == "end":
        data = data[:-5]
    else:
        data[20 if where == "header" else -5] ^= 1
    file.write_bytes(data)
    assert values(load("mine", path)) == EXPECTED
    assert f"{file} is damaged" in caplog.text
    caplog.clear()
    assert values(load("mine", path)) == EXPECTED
    assert not caplog.text


def test_two_processes_may_prepare_the_same_set_at_once(tmp_path: Path, cache: Path) -> None:
    content = {f"{split}/{n % 3}/{n}.png": plain(n) for split in ("train", "test") for n in range(150)}
    path = as_zip(tmp_path / "d.zip", content)
    code = "import sys, pathlib; from sdc.data.store import load; print(load('mine', pathlib.Path(sys.argv[1])).sha256)"
    run = [sys.executable, "-c", code, str(path)]
    both = [subprocess.Popen(run, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    printed = {process.communicate(timeout=100)[0].strip() for process in both}
    assert [process.returncode for process in both] == [0, 0]
    assert printed == {load("mine", path).sha256}
    left = {entry.name for entry in (cache / "data" / "prepared").iterdir()}
    assert left == {prepared(cache)[0].name, prepared(cache)[0].with_suffix(".lock").name}


def test_a_failure_leaves_no_file_behind(tmp_path: Path, cache: Path) -> None:
    failure(as_zip(tmp_path / "d.zip", two_classes() | {"train/cat/bad.png": b"?"}))
    assert [path.suffix for path in (cache / "data").rglob("*") if path.is_file()] == [".lock"]


def test_a_cache_that_cannot_be_written_names_the_way_out(tmp_path: Path, cache: Path) -> None:
    cache.write_bytes(b"a file where the folder should be")
    assert "Write elsewhere: SDC_CACHE=DIR" in failure(as_zip(tmp_path / "d.zip", two_classes()))


def test_any_name_makes_a_file_in_the_cache_and_nowhere_else(tmp_path: Path, cache: Path) -> None:
    path = as_zip(tmp_path / "d.zip", two_classes())
    for name in ("../../evil", "/etc/x", "a b", ".."):
        dataset = load(name, path)
        assert (dataset.file.parent, dataset.name) == (cache / "data" / "prepared", name)


# Progress and limits.


def test_progress_counts_the_headers_and_then_the_images(tmp_path: Path) -> None:
    seen: list[tuple[int, int | None]] = []
    load("mine", as_zip(tmp_path / "d.zip", two_classes()), lambda done, total: seen.append((done, total)))
    assert seen == [(n, None) for n in range(1, 7)] + [(n, 6) for n in range(1, 7)]


def test_a_limit_keeps_the_first_training_images_of_each_class(tmp_path: Path) -> None:
    content = {
        f"{split}/{c}/{n}.png": plain(10 * c + n) for split in ("train", "test") for c in (0, 1) for n in range(3 + c)
    }
    whole = load("mine", as_zip(tmp_path / "d.zip", content))
    small = limited(whole, 2)
    assert values(small)["train"] == [0, 1, 10, 11]
    assert values(small)["train labels"] == [0, 0, 1, 1]
    assert small.test is whole.test
    assert (small.file, small.name, small.classes) == (whole.file, whole.name, whole.classes)
    assert small.sha256 not in ("", whole.sha256)
    assert limited(whole, 100).sha256 == whole.sha256


def test_a_limit_keeps_the_stored_order_of_a_mixed_training_set() -> None:
    whole = load("digits")
    small = limited(whole, 5)
    position = {image.numpy().tobytes(): n for n, image in enumerate(whole.train.images)}
    kept = [position[image.numpy().tobytes()] for image in small.train.images]
    assert kept == sorted(kept)
    seen = np.zeros(10, int)
    first = []
    for n, label in enumerate(whole.train.labels.tolist()):
        first += [n] if seen[label] < 5 else []
        seen[label] += 1
    assert kept == first


@pytest.mark.parametrize("per_class", [0, -1])
def test_a_limit_below_one_is_refused(per_class: int) -> None:
    with pytest.raises(FatalError, match="must be at least 1"):
        limited(load("digits"), per_class)


def test_a_validation_split_is_a_share_of_the_training_images_of_each_class_and_no_test_image() -> None:
    whole = load("digits")
    split = held_out(whole, 20)
    as_rows = [[image.numpy().tobytes() for image in part.images] for part in (whole.train, split.train, split.test)]
    original, trained, tested = as_rows
    assert sorted(trained + tested) == sorted(original)
    assert [original.index(row) for row in tested] == sorted(original.index(row) for row in tested)
    for label in range(10):
        in_all = int((whole.train.labels == label).sum())
        assert int((split.test.labels == label).sum()) == in_all * 20 // 100
    labels = dict(zip(original, whole.train.labels.tolist(), strict=True))
    assert split.test.labels.tolist() == [labels[row] for row in tested]
    assert split.train.labels.tolist() == [labels[row] for row in trained]


def test_a_validation_split_is_the_same_each_time_and_another_dataset_than_the_whole() -> None:
    whole = load("digits")
    hashes = [held_out(whole, percent).sha256 for percent in (20, 20, 30)]
    assert hashes[0] == hashes[1]
    assert len({whole.sha256, *hashes}) == 3
    assert not held_out(whole, 20).whole


@pytest.mark.parametrize("percent", [0, -5, 100, 130])
def test_a_validation_split_that_leaves_one_side_without_images_is_refused(percent: int) -> None:
    with pytest.raises(FatalError, match=r"holding out -?\d+ % .* Take another percentage"):
        held_out(load("digits"), percent)


def test_a_source_too_large_to_keep_is_read_twice_with_the_same_result(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(image_folder, "KEPT", 400)
    assert sum(map(len, two_classes().values())) > 400
    for path in (as_folder(tmp_path / "d", two_classes()), as_tar(tmp_path / "d.tar.xz", two_classes())):
        assert values(load("mine", path)) == EXPECTED


def test_a_source_that_changes_between_the_two_readings_is_noticed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(image_folder, "KEPT", 0)
    path = as_folder(tmp_path / "d", two_classes())

    def remove(done: int, total: int | None) -> None:
        if (done, total) == (6, None):
            (path / "train/dog/b.png").unlink()

    with pytest.raises(FatalError, match=r"changed while it was read: train/dog/b.png is gone"):
        image_folder.read(path, remove)

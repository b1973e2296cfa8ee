"""`sdc export`: what others read of a distilled set, by their own means."""

from __future__ import annotations

import csv
import io
import json
import shlex
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image
from torch import Tensor
from torchvision.datasets import ImageFolder

from sdc.data import store
from sdc.data.class_names import folder_names
from sdc.data.tiny_classes import WORDS
from sdc.evaluation import distilled
from sdc.evaluation.distilled import DistilledSet, load
from sdc.evaluation.protocol import UNIFORM, Protocol, override
from sdc.evaluation.view import View, Whitening, normalised
from tests.conftest import Outcome, Sdc
from tests.rights import files_of_at_most

BRIEF = override(UNIFORM, {"epochs": 20, "augment": "", "networks": 2})
CIFAR = ((0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010))
PLAIN = ((0.0,) * 3, (1.0,) * 3)


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def grey_and_soft() -> DistilledSet:
    """Seven grey images of 28x28 with learned labels, of classes with names that no folder can have."""
    view = View("odd", ("cat/dog", "..", "a.b"), 1, 28, (0.1307,), (0.3081,))
    return DistilledSet(noise(7, 1, 28, 28), noise(7, 3, seed=1), view, Protocol(lr=0.02, epochs=3), lr=0.02)


def colour_and_hard() -> DistilledSet:
    view = View("shapes", ("zebra", "Ant", "bee"), 3, 32, *CIFAR)
    return DistilledSet(noise(6, 3, 32, 32), torch.tensor([0, 0, 1, 1, 2, 2]), view, BRIEF)


def shown(made: DistilledSet) -> np.ndarray[Any, Any]:
    """What a PNG can hold of each image, in grey levels [N,H,W,C]."""
    mean, std = (np.array(values)[:, None, None] for values in (made.view.mean, made.view.std))
    return (255 * (made.images.double().numpy() * std + mean).clip(0, 1)).transpose(0, 2, 3, 1)


def levels(image: Image.Image) -> np.ndarray[Any, Any]:
    assert image.mode in ("L", "RGB")
    return np.asarray(image, dtype=float).reshape(*image.size[::-1], -1)


@pytest.fixture
def export(sdc: Sdc, tmp_path: Path) -> Any:
    """`export(set, "folder")`: the set in a file of its own, and what the command says."""

    def call(made: DistilledSet, to: str, *more: object) -> Outcome:
        distilled.save(made, tmp_path / "set.safetensors")
        return sdc("export", tmp_path / "set.safetensors", "--to", to, *more, "--json")

    return call


# Parquet


@pytest.mark.parametrize("made", [grey_and_soft(), colour_and_hard()], ids=["grey and soft", "colour and hard"])
def test_parquet_holds_images_labels_and_what_the_network_saw(made: DistilledSet, export: Any, tmp_path: Path) -> None:
    outcome = export(made, "parquet")
    assert outcome.code == 0, outcome
    assert (
        outcome.json | {"path": str(tmp_path / "set.parquet"), "images": len(made.images), "lost": []} == outcome.json
    )

    table = pq.read_table(tmp_path / "set.parquet")
    rows = table.to_pylist()
    soft = made.labels.is_floating_point()
    for row, expected in zip(rows, shown(made), strict=True):
        np.testing.assert_allclose(levels(Image.open(io.BytesIO(row["image"]["bytes"]))), expected, atol=0.501)
    exact = np.array([row["exact"] for row in rows], dtype=np.float32)
    assert np.array_equal(exact, made.images.numpy())
    assert [row["label"] for row in rows] == (made.labels.argmax(1) if soft else made.labels).tolist()
    if soft:
        assert np.array_equal(np.array([row["logits"] for row in rows], dtype=np.float32), made.labels.numpy())
    assert table.column_names == ["image", "label", *(["logits"] if soft else []), "exact"]
    features = json.loads(table.schema.metadata[b"huggingface"])["info"]["features"]
    assert list(features) == table.column_names
    assert features["image"] == {"_type": "Image"}
    assert features["label"] == {"names": list(made.view.classes), "_type": "ClassLabel"}
    told = json.loads(table.schema.metadata[b"sdc"])
    assert (tuple(told["mean"]), tuple(told["std"]), told["lr"]) == (
        made.view.mean,
        made.view.std,
        load(tmp_path / "set.safetensors").lr,
    )
    assert told["protocol"]["epochs"] == made.protocol.epochs
    assert len({row["image"]["path"] for row in rows}) == len(rows)


# Folders


def test_a_folder_of_images_is_what_torchvision_reads(export: Any, tmp_path: Path) -> None:
    made = colour_and_hard()
    outcome = export(made, "folder", "--out", tmp_path / "out" / "images")
    assert outcome.code == 0, outcome

    found = ImageFolder(tmp_path / "out" / "images" / "train")
    told = json.loads((tmp_path / "out" / "images" / "metadata.json").read_text())
    assert found.classes == ["Ant", "bee", "zebra"]
    assert told["folders"] == ["zebra", "Ant", "bee"]
    assert any("not the order of `classes`" in note for note in outcome.json["lost"])
    assert any("rounded to 8 bit" in note for note in outcome.json["lost"])
    assert told["notes"] == outcome.json["lost"]
    order = [told["folders"].index(name) for name in found.classes]
    expected = [shown(made)[2 * label + number] for label in order for number in (0, 1)]
    for (image, _), levels_of_it in zip(found, expected, strict=True):
        np.testing.assert_allclose(levels(image), levels_of_it, atol=0.501)
    outside = (
        (made.images * torch.tensor(CIFAR[1]).view(3, 1, 1) + torch.tensor(CIFAR[0]).view(3, 1, 1)) - 0.5
    ).abs() > 0.5
    assert told["clipped"] == pytest.approx(float(outside.float().mean()), abs=1e-6)
    assert told["clipped"] > 0


def test_grey_images_and_learned_labels_in_a_folder(export: Any, tmp_path: Path) -> None:
    made = grey_and_soft()
    assert export(made, "folder").code == 0
    top = tmp_path / "set-folder"
    with (top / "logits.csv").open(newline="") as held:
        rows = list(csv.reader(held))
    assert rows[0] == ["file", "cat/dog", "..", "a.b"]
    assert torch.tensor([[float(value) for value in row[1:]] for row in rows[1:]]).equal(made.labels)
    for row, expected, label in zip(rows[1:], shown(made), made.labels.argmax(1), strict=True):
        np.testing.assert_allclose(levels(Image.open(top / row[0])), expected, atol=0.501)
        assert Path(row[0]).parent.name == ["cat_dog", "class", "a_b"][label]


def test_a_run_can_be_given_the_folder_once_it_has_test_images(export: Any, tmp_path: Path) -> None:
    made = colour_and_hard()
    assert export(made, "folder").code == 0
    shutil.copytree(tmp_path / "set-folder" / "train", tmp_path / "set-folder" / "test")
    found = store.load("mine", tmp_path / "set-folder")
    assert found.classes == ("Ant", "bee", "zebra")
    assert tuple(found.train.images.shape) == (6, 3, 32, 32)
    np.testing.assert_allclose(found.train.images[4].permute(1, 2, 0), shown(made)[0], atol=0.501)


def test_folder_names_are_safe_and_differ() -> None:
    classes = ["T-shirt/top", "a/b", "a b", "a_b", "A_B", "..", "", ".hidden", "__x", "n\0ul", "x" * 300, "été", "a\\b"]
    made = folder_names(classes)
    assert made[:3] == ["T-shirt_top", "a_b", "a b"]
    assert len({name.casefold() for name in made}) == len(classes)
    assert all(
        name and name[0] not in "._" and len(name.encode()) < 255 and not set(name) & set("/\\\0.") for name in made
    )
    assert made[11] == "été"


# Torch files


def digits(mean: tuple[float, ...], std: tuple[float, ...], whitening: Whitening | None = None) -> tuple[Tensor, View]:
    """One digit of each class, as a network is shown it."""
    data = store.load("digits", None)
    view = View("digits", data.classes, 3, 32, mean, std, whitening)
    first = torch.stack([(data.train.labels == label).nonzero()[0, 0] for label in range(10)])
    return normalised(data.train.images[first], view), view


def run_folder(folder: Path, method: str, made: DistilledSet, seed: int = 3) -> Path:
    folder.mkdir()
    about = {"method": method, "key": "0123456789"} if method else None
    distilled.save(
        DistilledSet(made.images, made.labels, made.view, made.protocol, made.lr, about),
        folder / "distilled.safetensors",
    )
    (folder / "cell.json").write_text(json.dumps({"model": "ConvNetD1", "seed": seed, "data": None}))
    return folder


SOFT = 4.0 * torch.eye(10) + 0.1
HARD = torch.arange(10)


@pytest.mark.parametrize(
    ("method", "shows", "labels", "lr", "files"),
    [
        ("dc", PLAIN, HARD, None, ["res_DC_digits_ConvNetD1_1ipc.pt"]),
        ("mtt", CIFAR, HARD, 0.0173, ["images_last.pt", "labels_last.pt", "lr_last.pt"]),
        ("datm", CIFAR, SOFT, 0.0173, ["images_last.pt", "labels_last.pt", "lr_last.pt"]),
        ("", CIFAR, HARD, None, ["images_last.pt", "labels_last.pt"]),
    ],
)
def test_the_upstreams_own_layout_reads_back_to_the_same_accuracies(
    method: str, shows: Any, labels: Tensor, lr: float | None, files: list[str], sdc: Sdc, tmp_path: Path
) -> None:
    images, view = digits(*shows)
    rate = float(torch.tensor(lr, dtype=torch.float32)) if lr else 0.013
    run = run_folder(tmp_path / "run", method, DistilledSet(images, labels, view, override(BRIEF, {"lr": rate}), lr))
    outcome = sdc("export", run, "--to", "pt", "--json")
    assert outcome.code == 0, outcome
    assert outcome.json["lost"] == []
    assert sorted(path.name for path in (run / "distilled-pt").iterdir()) == sorted([*files, "metadata.json"])

    command = shlex.split(outcome.json["read"])
    assert command[:5] == ["sdc", "evaluate", str(run / "distilled-pt" / files[0]), "--dataset", "digits"]
    read_back, original = sdc(*command[1:], "--json").json, sdc("evaluate", run, "--seed", 3, "--json").json
    assert read_back["accuracy"] == original["accuracy"]
    assert original["mean"] > 0.2
    assert len({score["accuracy"] for score in original["accuracy"]}) == 2  # so another seed would be seen


@pytest.mark.parametrize("shows", [CIFAR, PLAIN, ((0.1, 0.2, 0.3), (0.4, 0.5, 0.6))], ids=["dm", "[0, 1]", "odd"])
@pytest.mark.parametrize("method", ["dm", "mtt"])
def test_what_the_layout_cannot_say_is_in_the_command_that_reads_it(
    method: str, shows: Any, sdc: Sdc, tmp_path: Path
) -> None:
    images, view = digits(*shows)
    run = run_folder(tmp_path / "run", method, DistilledSet(images, HARD, view, BRIEF))
    outcome = sdc("export", run, "--to", "pt", "--json").json
    assert outcome["lost"] == []
    read_back = sdc(*shlex.split(outcome["read"])[1:], "--json").json
    assert read_back["accuracy"] == sdc("evaluate", run, "--seed", 3, "--json").json["accuracy"]
    assert (read_back["assumptions"]["mean"], read_back["assumptions"]["std"]) == tuple(map(list, shows))


def test_of_whitened_images_the_transform_comes_along(export: Any, tmp_path: Path) -> None:
    pixels = torch.rand(6, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    matrix = torch.eye(192) * 2 + 0.001
    whitening = Whitening(torch.full((192,), 0.4), matrix)
    view = View("shapes", ("a", "b", "c"), 3, 8, *PLAIN, whitening)
    made = DistilledSet(whitening.applied(pixels), torch.tensor([0, 0, 1, 1, 2, 2]), view, BRIEF)

    files, pictures, table = (export(made, to).json for to in ("pt", "folder", "parquet"))
    assert files["lost"] == []
    whitened = "The images that the network saw are whitened; the transform is beside them, in {}."
    assert table["lost"] == [whitened.format("set.parquet.whitening.safetensors")]
    assert whitened.format("whitening.safetensors") in pictures["lost"]
    first = levels(Image.open(tmp_path / "set-folder" / "train" / "a" / "0000.png"))
    np.testing.assert_allclose(first, 255 * pixels[0].permute(1, 2, 0), atol=0.51)
    exact = pq.read_table(tmp_path / "set.parquet").column("exact").to_pylist()
    assert np.array_equal(np.array(exact, dtype=np.float32), made.images.numpy())


def test_tiny_imagenet_is_said_to_be_numbered_otherwise_than_its_scripts_do(export: Any, tmp_path: Path) -> None:
    images = torch.randn(200, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    view = View("tinyimagenet", WORDS, 3, 8, *PLAIN)
    outcome = export(DistilledSet(images, torch.arange(200), view, BRIEF), "pt").json
    command = shlex.split(outcome["read"])
    assert command[command.index("--label-order") + 1] == "wnids"
    assert "by sorted wnid" in outcome["lost"][0]
    assert json.loads((tmp_path / "set-pt" / "metadata.json").read_text())["classes"] == list(WORDS)


# Where to, and what goes wrong


@pytest.mark.usefixtures("fake_upstream")
def test_a_run_is_exported_beside_its_set_and_stays_complete(sdc: Sdc, tmp_path: Path) -> None:
    asked = [
        "run",
        "fake",
        "--dataset",
        "digits",
        "--weight",
        0,
        "--runs",
        tmp_path,
        "--json",
        "--set",
        "limit_per_class=3",
    ]
    run = Path(sdc(*asked).json["run"])
    for to, name in (("parquet", "distilled.parquet"), ("folder", "distilled-folder"), ("pt", "distilled-pt")):
        outcome = sdc("export", run, "--to", to)
        assert outcome.code == 0, outcome
        assert outcome.out.splitlines()[0] == str(run / name)
        assert outcome.out.splitlines()[1].startswith("read it by: ")
    told = json.loads((run / "distilled-folder" / "metadata.json").read_text())
    assert (told["method"], told["key"], told["model"]) == ("fake", run.name[-10:], "ConvNetW32")
    again = sdc(*asked)
    assert "complete already" in again.err


@pytest.mark.parametrize("to", ["parquet", "folder", "pt"])
def test_nothing_is_written_over(to: str, export: Any, tmp_path: Path) -> None:
    place = tmp_path / "precious"
    place.write_text("mine")
    outcome = export(colour_and_hard(), to, "--out", place)
    assert outcome.code == 1
    assert outcome.json["error"] == (
        f"{place} is there already, and an export writes over nothing.\n"
        f"Take it away, or name another place: sdc export {tmp_path}/set.safetensors --to {to} --out PATH"
    )
    assert place.read_text() == "mine"
    assert export(colour_and_hard(), to).code == 0
    assert export(colour_and_hard(), to).code == 1


@pytest.mark.parametrize("to", ["parquet", "folder", "pt"])
def test_an_export_that_fails_leaves_nothing(to: str, sdc: Sdc, tmp_path: Path) -> None:
    soft = grey_and_soft()
    many = DistilledSet(soft.images.repeat(30, 1, 1, 1), soft.labels.repeat(30, 1), soft.view, soft.protocol)
    distilled.save(many, tmp_path / "set.safetensors")
    before = sorted(tmp_path.rglob("*"))
    with files_of_at_most(8000):
        outcome = sdc("export", tmp_path / "set.safetensors", "--to", to, "--json")
    assert outcome.code == 1, outcome
    assert "cannot be written: " in outcome.json["error"]
    assert outcome.json["error"].endswith("Name another place: --out PATH")
    assert sorted(tmp_path.rglob("*")) == before


def test_wrong_words_and_places_are_named(export: Any, sdc: Sdc, tmp_path: Path) -> None:
    assert export(colour_and_hard(), "csv").json["error"] == "unknown form 'csv'. Known: parquet, folder, pt"
    missing = sdc("export", tmp_path / "none", "--to", "pt", "--json")
    assert missing.code == 1
    assert missing.json["error"].startswith(f"{tmp_path}/none does not exist. Give a run's folder")
    below_a_file = export(colour_and_hard(), "pt", "--out", tmp_path / "set.safetensors" / "here")
    assert "set.safetensors is a file" in below_a_file.json["error"]

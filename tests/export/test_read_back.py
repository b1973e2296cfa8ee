"""What `sdc export` writes is read back by `sdc evaluate` as the set that it was, to the last bit that the form holds."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from torch import Tensor

from sdc.data import store
from sdc.data.sets import Dataset, Split
from sdc.evaluation import distilled, foreign
from sdc.evaluation.distilled import DistilledSet
from sdc.evaluation.foreign import Found, Stated
from sdc.evaluation.protocol import Protocol
from sdc.evaluation.view import View, Whitening, normalised
from sdc.export.write import FORMS
from sdc.ground.errors import FatalError
from tests.conftest import Sdc

CLASSES = ("zebra", "Ant/ant", "bee")
MEAN, STD = (0.1, 0.2, 0.3), (0.4, 0.5, 0.6)
PROTOCOL = Protocol(lr=0.0173, epochs=7, batch=5, momentum=0.8, weight_decay=0.001, augment="dsa:flip", networks=3)


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def whitening(size: int) -> Whitening:
    half = noise(size, size, seed=5) / size
    return Whitening(torch.full((size,), 0.4), torch.eye(size) * 2 + half + half.T)


RATE = float(torch.tensor(0.0173))
SETS = {
    "hard, out of order": DistilledSet(
        noise(6, 3, 8, 8), torch.tensor([2, 0, 1, 0, 2, 1]), View("mine", CLASSES, 3, 8, MEAN, STD), PROTOCOL
    ),
    "soft, with a rate": DistilledSet(
        noise(7, 1, 8, 8), noise(7, 3, seed=1), View("mine", CLASSES, 1, 8, (0.1307,), (0.3081,)), PROTOCOL, lr=RATE
    ),
    "logits like probabilities": DistilledSet(
        noise(3, 3, 8, 8).abs(), torch.eye(3), View("mine", CLASSES, 3, 8, (0.0,) * 3, (1.0,) * 3), PROTOCOL
    ),
    "whitened": DistilledSet(
        noise(6, 3, 8, 8),
        torch.tensor([0, 0, 1, 1, 2, 2]),
        View("mine", CLASSES, 3, 8, (0.0,) * 3, (1.0,) * 3, whitening(192)),
        PROTOCOL,
        lr=RATE,
    ),
    "whitened after its mean": DistilledSet(
        noise(3, 3, 8, 8), torch.arange(3), View("mine", CLASSES, 3, 8, MEAN, STD, whitening(192)), PROTOCOL
    ),
}


def data(classes: tuple[str, ...] = CLASSES) -> Dataset:
    some = Split(torch.zeros(3, 3, 8, 8, dtype=torch.uint8), torch.arange(3))
    return Dataset("mine", classes, some, some, "0", Path("none"))


def read(path: Path, classes: tuple[str, ...] = CLASSES, **stated: Any) -> Found:
    (found,) = foreign.load(path, data(classes), "mine", Stated(**stated))
    return found


@pytest.fixture
def exported(sdc: Sdc, tmp_path: Path) -> Any:
    def call(made: DistilledSet, to: str) -> Path:
        distilled.save(made, tmp_path / "set.safetensors")
        outcome = sdc("export", tmp_path / "set.safetensors", "--to", to, "--json")
        assert outcome.code == 0, outcome
        return Path(outcome.json["path"])

    return call


def rounded(made: DistilledSet) -> Tensor:
    """What is left of images once they were PNGs, shown as the set's are."""
    mean, std = (torch.tensor(values).view(-1, 1, 1) for values in (made.view.mean, made.view.std))
    shown = made.view.whitening.undone(made.images) if made.view.whitening else made.images
    levels = ((shown * std + mean).clamp(0, 1) * 255).round()
    back = (levels / 255 - mean) / std
    if made.view.whitening is None:
        return back
    flat = (back.flatten(1) - made.view.whitening.mean) @ made.view.whitening.matrix
    return flat.view_as(back)


@pytest.mark.parametrize("name", SETS)
@pytest.mark.parametrize("to", FORMS)
def test_a_set_is_read_back_as_it_was(name: str, to: str, exported: Any) -> None:
    made = SETS[name]
    found = read(exported(made, to))
    back = found.made
    assert back.images.equal(rounded(made) if to == "folder" else made.images)
    assert back.labels.dtype == made.labels.dtype
    assert back.labels.equal(made.labels)
    assert (back.protocol, back.lr) == (made.protocol, made.lr)
    shown = ("dataset", "classes", "channels", "size", "mean", "std")
    assert [getattr(back.view, word) for word in shown] == [getattr(made.view, word) for word in shown]
    assert (back.view.whitening is None) == (made.view.whitening is None)
    if made.view.whitening and back.view.whitening:
        assert back.view.whitening.mean.equal(made.view.whitening.mean)
        assert back.view.whitening.matrix.equal(made.view.whitening.matrix)
    assert "an export of sdc" in found.said
    assert "assumed" not in found.said
    lossy = "they are rounded to 8 bit, and" in found.said
    assert lossy == (to == "folder")
    told = found.assumptions
    assert told["labels"]["kind"] == ("logits" if made.labels.is_floating_point() else "hard")
    assert (told["mean"], told["std"], told["stated"]) == (list(made.view.mean), list(made.view.std), [])


@pytest.mark.parametrize("to", FORMS)
def test_an_export_of_a_run_is_evaluated_as_the_run_is(to: str, sdc: Sdc, tmp_path: Path) -> None:
    digits = store.load("digits", None)
    view = View("digits", digits.classes, 3, 32, MEAN, STD)
    first = torch.stack([(digits.train.labels == label).nonzero()[0, 0] for label in range(10)])
    labels = 4.0 * torch.eye(10) + 0.1
    protocol = Protocol(lr=0.02, epochs=10, batch=4, networks=2)
    run = tmp_path / "run"
    run.mkdir()
    distilled.save(
        DistilledSet(normalised(digits.train.images[first], view), labels, view, protocol),
        run / "distilled.safetensors",
    )
    cell = {"model": "ConvNetD1", "seed": 0, "data": None, "settings": {"validation": 20}}
    (run / "cell.json").write_text(json.dumps(cell))
    out = Path(sdc("export", run, "--to", to, "--json").json["path"])

    original, back = (sdc("evaluate", path, "--json").json for path in (run, out))
    assert back["accuracy"] == original["accuracy"]
    assert (back["protocol"], back["dataset"]) == (original["protocol"], "digits")
    other = sdc("evaluate", out, "--dataset", "digits", "--json").json  # the whole test set, not what was held out
    assert other["accuracy"] != original["accuracy"]
    moved = out.rename(tmp_path / f"moved{out.suffix}")
    assert sdc("evaluate", moved, "--json").json["accuracy"] == original["accuracy"]


def test_folders_of_before_their_order_was_kept_are_in_that_of_their_classes(exported: Any) -> None:
    made = SETS["whitened after its mean"]
    out = exported(made, "folder")
    told = json.loads((out / "metadata.json").read_text())
    del told["files"]
    (out / "metadata.json").write_text(json.dumps(told))
    back = read(out).made
    assert back.images.equal(rounded(made))
    assert back.labels.equal(made.labels)


def test_an_options_word_stands_above_an_export_s(exported: Any) -> None:
    made = SETS["hard, out of order"]
    out = exported(made, "pt")
    (file,) = out.glob("images_*.pt")
    for path in (out, file):
        found = read(path, mean=(0.5,), std=(0.25,))
        assert (found.made.view.mean, found.made.view.std) == ((0.5,) * 3, (0.25,) * 3)
        assert found.assumptions["stated"] == ["mean", "std"]
    white = SETS["whitened"]
    shutil.rmtree(out)
    assert read(exported(white, "pt"), zca=False).made.view.whitening is None


def test_what_an_export_says_of_whitening_is_not_passed_over(exported: Any) -> None:
    out = exported(SETS["hard, out of order"], "pt")
    with pytest.raises(FatalError, match="says itself that its images are not whitened: leave out --zca"):
        read(out, zca=True)
    white = exported(SETS["whitened"], "parquet")
    assert read(white, zca=True).made.images.equal(SETS["whitened"].images)


@pytest.mark.parametrize("name", ["hard, out of order", "soft, with a rate", "whitened"])
def test_the_folder_of_images_in_an_export_is_that_export(name: str, exported: Any) -> None:
    out = exported(SETS[name], "folder")
    whole, inside = read(out), read(out / "train")
    assert inside.made.images.equal(whole.made.images)
    assert inside.made.labels.equal(whole.made.labels)
    assert inside.said == whole.said


def test_how_much_was_clipped_decides_what_is_said_of_scores(exported: Any, tmp_path: Path) -> None:
    made = SETS["hard, out of order"]
    assert (
        "so scores differ from those of the set itself: export it --to pt or parquet"
        in read(exported(made, "folder")).said
    )
    within = replace(made, images=(made.images.sigmoid() - torch.tensor(MEAN).view(3, 1, 1)) / 0.5)
    shutil.rmtree(tmp_path / "set-folder")
    within = replace(within, view=replace(made.view, std=(0.5,) * 3))
    assert "so scores differ a little from those of the set itself" in read(exported(within, "folder")).said


def test_labels_are_those_of_data_with_the_classes_in_another_order(exported: Any) -> None:
    made = SETS["hard, out of order"]
    classes = ("bee", "zebra", "Ant/ant")
    back = read(exported(made, "parquet"), classes=classes).made
    names = [made.view.classes[label] for label in made.labels]
    assert [back.view.classes[label] for label in back.labels] == names
    assert back.view.classes == classes
    assert back.images.equal(made.images)


def test_what_was_changed_after_the_export_is_refused(exported: Any, tmp_path: Path) -> None:
    made = SETS["soft, with a rate"]
    folder, table, files = exported(made, "folder"), exported(made, "parquet"), exported(made, "pt")

    def refused(path: Path) -> str:
        with pytest.raises(FatalError) as caught:
            read(path)
        assert str(tmp_path) in str(caught.value)
        return str(caught.value)

    torch.save(made.images[:3], files / "images_last.pt")
    assert "holds images [3, 1, 8, 8], but its metadata say [7, 1, 8, 8]" in refused(files)
    told = json.loads((folder / "metadata.json").read_text())
    secret = tmp_path / "secret.png"
    shutil.copy(folder / "train" / told["files"][0], secret)
    (folder / "metadata.json").write_text(json.dumps(told | {"files": ["../../secret.png", *told["files"][1:]]}))
    assert "which lies outside of" in refused(folder)
    (folder / "metadata.json").write_text(json.dumps(told))
    (folder / "train" / told["files"][0]).unlink()
    assert "is no whole export: FileNotFoundError" in refused(folder)
    (folder / "train" / told["files"][0]).symlink_to(secret)
    assert "which lies outside of" in refused(folder)
    for wrong in ({"labels": "soft"}, {"mean": "x"}, {"protocol": []}, {"classes": 7}, {"shape": None}, {"lr": "x"}):
        (folder / "metadata.json").write_text(json.dumps(told | wrong))
        assert refused(folder)
    whole = table.read_bytes()
    for damaged in (whole[:-9], whole[: len(whole) // 2], whole[:4]):
        table.write_bytes(damaged)
        assert "a damaged parquet file" in refused(table)
    pq.write_table(pa.table({"image": np.zeros(3)}), table)
    assert "a parquet file that sdc export did not write" in refused(table)


def test_without_the_transform_whitened_images_are_refused(exported: Any) -> None:
    for to in ("pt", "folder", "parquet"):
        out = exported(SETS["whitened"], to)
        file = out.with_name(f"{out.name}.whitening.safetensors") if to == "parquet" else out / "whitening.safetensors"
        file.unlink()
        with pytest.raises(FatalError, match="which holds the transform, cannot be read"):
            read(out)

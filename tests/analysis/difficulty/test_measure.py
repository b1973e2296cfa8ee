"""`sdc difficulty`: of sets and real images, over fresh, trained and expert networks; by weight; parts by it."""

from __future__ import annotations

import csv
import functools
import json
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean, pstdev
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import Tensor

from sdc.analysis.difficulty import judges
from sdc.data import store
from sdc.data.class_names import ordered
from sdc.evaluation import beside, distilled
from sdc.evaluation.distilled import DistilledSet
from sdc.evaluation.networks import Network, build
from sdc.evaluation.protocol import Protocol
from sdc.evaluation.view import View
from sdc.ground import cores
from tests import runs
from tests.analysis.difficulty.samples import one_at_a_time
from tests.conftest import Sdc
from tests.runs import Made

DIGITS = tuple("0123456789")
VIEW = View("digits", DIGITS, 3, 16, (0.5,) * 3, (0.25,) * 3)
SMALL = ("--model", "ConvNetW32", "--count", 2)


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache of each test's own."""
    monkeypatch.setenv("SDC_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def pictures(seed: int, scale: float = 1.0) -> Tensor:
    """One image of each class, float32 [10,3,16,16]: noise, with so much of a pattern of its class in it."""
    drawn = torch.Generator().manual_seed(seed)
    noise, pattern = torch.randn(10, 3, 16, 16, generator=drawn), torch.zeros(10, 3, 16, 16)
    for label in range(10):
        pattern[label, :, label :: 10 - label // 2] = 3.0
    return noise + scale * pattern


def finished(folder: Path, made: Made, images: Tensor, states: Sequence[Tensor] = ()) -> Path:
    """A complete run whose set has these images, and whose history has these states, at updates 0, 10, ..."""
    run = runs.make(folder, made)
    labels = torch.arange(10)
    distilled.save(DistilledSet(images, labels, VIEW, Protocol(0.01, 1)), run / "distilled.safetensors")
    for number, state in enumerate(states):
        (run / "history").mkdir(exist_ok=True)
        save_file({"images": state}, run / "history" / f"{10 * number:06}.safetensors")
    return run


def fresh(count: int, seed: int = 0) -> list[Network]:
    return judges.fresh("ConvNetW32", 3, 10, 16, count, seed)  # type: ignore[return-value]


def expected(networks: Sequence[torch.nn.Module], images: Tensor, labels: Tensor) -> Tensor:
    """GraDN by the definition, one sample at a time: [N]."""
    return torch.stack([one_at_a_time(network, images, labels) for network in networks]).mean(0).detach()


def image_folder(folder: Path, train: int = 6, classes: Sequence[str] = ("ant", "bee", "cat")) -> Path:
    """Random colour images of 16x16 pixels, two of each class to test."""
    drawn = np.random.default_rng(0)
    for split, count in (("train", train), ("test", 2)):
        for name in classes:
            (folder / split / name).mkdir(parents=True)
            for number in range(count):
                pixels = drawn.integers(0, 256, (16, 16, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(folder / split / name / f"{number}.png")
    return folder


# One source


def test_one_set_gives_three_keys_and_the_numbers_of_the_definition(sdc: Sdc, tmp_path: Path) -> None:
    run = finished(tmp_path, Made("dm", "digits", [0.5]), pictures(1))
    outcome = sdc("difficulty", run, "--count", 3, "--json")

    assert outcome.code == 0, outcome
    assert set(outcome.json) == {"overall", "by_class", "networks"}
    each = expected(fresh(3), pictures(1), torch.arange(10)).tolist()
    assert outcome.json["overall"] == pytest.approx({"mean": fmean(each), "std": pstdev(each), "n": 10}, rel=1e-4)
    assert [row["class"] for row in outcome.json["by_class"]] == list(DIGITS)
    assert [row["mean"] for row in outcome.json["by_class"]] == pytest.approx(each, rel=1e-4)
    assert outcome.json["networks"] == "3 freshly initialised ConvNetW32"
    assert "over 3 freshly initialised ConvNetW32" in sdc("difficulty", run, "--count", 3).out


def experts(cache: Path, key: str, trajectories: int = 2, states: int = 6) -> list[list[list[Tensor]]]:
    """Experts of a key in the cache, as the buffer scripts keep them: of each a flat list of tensors an epoch."""
    made = [
        [[p.detach() for p in build("ConvNetW32", 3, 10, 16, 100 * t + s).parameters()] for s in range(states)]
        for t in range(trajectories)
    ]
    folder = cache / "experts" / f"flat-digits-ConvNetW32-{key}"
    (folder / "CIFAR10" / "ConvNetW32").mkdir(parents=True)
    torch.save(made, folder / "CIFAR10" / "ConvNetW32" / "replay_buffer_0.pt")
    (folder / "experts.json").write_text(json.dumps({"key": key}))
    return made


def test_a_run_that_matches_experts_is_judged_by_their_states_at_the_epochs_it_starts_from(
    sdc: Sdc, tmp_path: Path, cache: Path
) -> None:
    run = finished(tmp_path, Made("datm", "digits", [0.5], settings={"max_start_epoch": 4}), pictures(1))
    made = experts(cache, json.loads((run / "cell.json").read_text())["experts"])
    logits = 4 * torch.eye(10)
    distilled.save(DistilledSet(pictures(1), logits, VIEW, Protocol(0.01, 1)), run / "distilled.safetensors")

    outcome = sdc("difficulty", run, "--count", 4, "--json")

    networks = []
    for number in range(4):  # epochs 0 to 3, of one expert and the other
        networks.append(build("ConvNetW32", 3, 10, 16, 0))
        for own, value in zip(networks[-1].parameters(), made[number % 2][number], strict=True):
            own.data.copy_(value)
    assert outcome.code == 0, outcome
    mean = float(expected(networks, pictures(1), logits.softmax(1)).mean())
    assert outcome.json["overall"]["mean"] == pytest.approx(mean, rel=1e-4)
    assert "4 states of the experts that the run matches" in outcome.json["networks"]
    other = sdc("difficulty", run, "--networks", "fresh", "--count", 4, "--json").json
    assert "fresh" in other["networks"]
    assert other["overall"]["mean"] != pytest.approx(mean, rel=1e-3)


def test_networks_are_trained_by_several_processes_to_the_same_bits(
    sdc: Sdc, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cores, "cores", lambda: 3)
    monkeypatch.setattr(beside, "WORTH", 0.0)
    monkeypatch.setattr(beside, "_LOOK", 0.0)
    folder, found = image_folder(tmp_path / "insects"), []
    for workers in ("1", "3"):
        monkeypatch.setenv("SDC_CACHE", str(tmp_path / workers))
        monkeypatch.setenv("SDC_WORKERS", workers)
        told = sdc("difficulty", "--data", folder, "--model", "ConvNetW32", "--count", 4,
                   "--epochs", 9, "--json")  # fmt: skip
        kept = {file.name: file.read_bytes() for file in (tmp_path / workers / "judges").iterdir()}
        assert len(kept) == 4
        found.append((told.json["overall"], kept))
    assert found[0] == found[1]


def test_networks_trained_on_real_images_are_kept_and_used_again(sdc: Sdc, tmp_path: Path, cache: Path) -> None:
    folder = image_folder(tmp_path / "insects")
    asked = ("difficulty", "--data", folder, *SMALL, "--epochs", 2, "--json")
    first = sdc(*asked)

    assert first.code == 0, first
    assert "training 2 ConvNetW32 on insects" in first.err
    kept = {file: file.stat().st_mtime_ns for file in (cache / "judges").iterdir()}
    data = store.load("insects", folder)
    mean, std = _mean_and_std(data.train.images)
    networks = []
    for file in kept:
        networks.append(build("ConvNetW32", 3, 3, 16, 0).eval())
        networks[-1].load_state_dict(load_file(file))
    shown = (data.train.images / 255 - mean) / std
    assert first.json["overall"]["mean"] == pytest.approx(
        float(expected(networks, shown, data.train.labels).mean()), rel=1e-4
    )
    assert "2 ConvNetW32 trained for 2 epochs on 18 real images of insects" in first.json["networks"]

    again = sdc(*asked)
    assert again.out == first.out
    assert "training" not in again.err
    assert {file: file.stat().st_mtime_ns for file in (cache / "judges").iterdir()} == kept

    damaged, sound = kept
    damaged.write_bytes(b"cut short")
    third = sdc("difficulty", "--data", folder, *SMALL, "--count", 3, "--epochs", 2)
    assert "training 2 ConvNetW32" in third.err, "the damaged one and a third"
    assert sound.stat().st_mtime_ns == kept[sound]
    assert "training 2" in sdc("difficulty", "--data", folder, *SMALL, "--epochs", 1).err, "other epochs"


def _mean_and_std(images: Tensor) -> tuple[Tensor, Tensor]:
    scaled = images.double() / 255
    dims = (0, 2, 3)
    return scaled.mean(dims).view(1, 3, 1, 1).float(), scaled.std(dims).view(1, 3, 1, 1).float()


# Several, with files


def test_sets_against_real_images_with_tables_tensors_and_figures(sdc: Sdc, tmp_path: Path, cache: Path) -> None:
    one = finished(tmp_path, Made("dm", "digits", [0.5]), pictures(1), [pictures(2), pictures(3)])
    two = finished(tmp_path, Made("dc", "digits", [0.5], weight=0.5, seed=3), pictures(4))
    out = tmp_path / "out"
    before = {file: file.read_bytes() for run in (one, two) for file in run.rglob("*") if file.is_file()}
    outcome = sdc(
        *("difficulty", one, two, "--dataset", "digits", "--most", 2, "--limit", 20, "--count", 2),
        *("--steps", "--out", out, "--json"),
    )

    assert outcome.code == 0, outcome
    assert [source["name"] for source in outcome.json["sources"]] == [one.name, two.name, "digits"]
    assert outcome.json["overall"] == outcome.json["sources"][0]["overall"]
    assert {source["networks"] for source in outcome.json["sources"]} == {"2 freshly initialised ConvNetW32"}
    assert f"no states on the way are kept in {two.name}" in outcome.err
    lines = [line for line in outcome.err.splitlines() if line.startswith("images of ")]
    assert lines == [
        "images of digits (8x8 grey) are shown as 16x16 RGB: not cropped, enlarged to 32x32 and then reduced to 16x16, "
        "grey repeated in all three channels, normalised with mean 0.5, 0.5, 0.5, std 0.25, 0.25, 0.25"
    ]
    states = outcome.json["sources"][0]["steps"]
    assert [state["step"] for state in states] == [0, 10, 40]
    for state, images in zip(states, (pictures(2), pictures(3), pictures(1)), strict=True):
        assert state["mean"] == pytest.approx(float(expected(fresh(2), images, torch.arange(10)).mean()), rel=1e-4)

    data = store.load("digits")
    kept = load_file(out / "difficulty.safetensors")
    assert kept["digits/index"].shape == (20,)
    assert data.train.labels[kept["digits/index"]].equal(kept["digits/labels"])
    assert kept["digits/labels"].bincount().tolist() == [2] * 10
    assert kept["digits/by_network"].shape == (2, 20)
    torch.testing.assert_close(kept["digits/gradn"], kept["digits/by_network"].mean(0))
    rows = list(csv.DictReader((out / "difficulty.csv").open()))
    assert float(rows[0]["mean"]) == pytest.approx(outcome.json["overall"]["mean"])
    assert len(rows) == 3 * 11
    assert len(list(csv.DictReader((out / "steps.csv").open()))) == 3
    for name in ("distribution", "steps", "extremes"):
        with Image.open(out / f"{name}.png") as picture:
            assert len(picture.convert("RGB").getcolors(2**24) or ()) > 2
        assert "<svg" in (out / f"{name}.svg").read_text()
        assert "2 freshly initialised ConvNetW32" in (out / f"{name}.txt").read_text() or name == "distribution"
    after = {file: file.read_bytes() for run in (one, two) for file in run.rglob("*") if file.is_file()}
    assert after == before, "a run is read, no more"


# By weight


def test_difficulty_by_weight_over_the_networks_of_the_penalty_and_others(
    sdc: Sdc, tmp_path: Path, cache: Path
) -> None:
    folder = tmp_path / "runs"
    for seed in (0, 1):
        for weight in (0.0, 0.5, 2.0):
            images = pictures(seed, 1 + weight)
            run = finished(folder, Made("datm", "digits", [0.5], weight=weight, seed=seed), images)
    finished(folder, Made("datm", "digits", [0.5], weight=2.0, settings={"lr_img": 7}), pictures(5))
    made = experts(cache, json.loads((run / "cell.json").read_text())["experts"])
    out = tmp_path / "out"
    outcome = sdc("difficulty", folder, "--trend", "--count", 2, "--out", out, "--json")

    assert outcome.code == 0, outcome
    trends = {(t["group"], t["kind"]): t for t in outcome.json["trends"]}
    names = sorted({group for group, _ in trends})
    assert len(names) == 2, "other settings are another group"
    assert any("lr_img 7" in name for name in names)
    (swept,) = (name for name in names if "lr_img 7" not in name)
    starts = json.loads((run / "cell.json").read_text())["settings"]["max_start_epoch"]
    matched = []
    for number, epoch in enumerate((0, starts // 2)):
        matched.append(build("ConvNetW32", 3, 10, 16, 0))
        for own, value in zip(matched[-1].parameters(), made[number][epoch], strict=True):
            own.data.copy_(value)
    for kind, networks in (("experts", matched), ("fresh", fresh(2))):
        found = trends[swept, kind]
        means = [
            fmean(float(expected(networks, pictures(seed, 1 + weight), torch.arange(10)).mean()) for seed in (0, 1))
            for weight in (0.0, 0.5, 2.0)
        ]
        assert [point["weight"] for point in found["weights"]] == [0.0, 0.5, 2.0]
        assert [point["n"] for point in found["weights"]] == [2, 2, 2]
        assert [point["mean"] for point in found["weights"]] == pytest.approx(means, rel=1e-4)
        assert found["falls"] == (means[0] > means[1] > means[2])
        assert found["penalised"] == (kind == "experts")
    together = [
        fmean(_norm_of_all(network, pictures(seed), torch.arange(10)) for network in matched) for seed in (0, 1)
    ]
    assert trends[swept, "experts"]["weights"][0]["penalty"]["mean"] == pytest.approx(fmean(together), rel=1e-4)
    assert outcome.json["falls"] == {"yes": int(trends[swept, "experts"]["falls"]), "of": 1}
    assert len(list(csv.DictReader((out / "trend.csv").open()))) == 2 * 3 + 2
    assert (out / "trend.png").stat().st_size > 1000
    assert "over states of the experts" in (out / "trend.svg").read_text() or (out / "trend.svg").stat().st_size > 1000


def _norm_of_all(network: torch.nn.Module, images: Tensor, labels: Tensor) -> float:
    loss = torch.nn.functional.cross_entropy(network(images), labels)
    return float(torch.cat([g.flatten() for g in torch.autograd.grad(loss, list(network.parameters()))]).norm())


# Parts


@pytest.mark.parametrize("which", ["easiest", "hardest"])
def test_a_part_holds_the_images_that_an_independent_ranking_names(
    which: str, sdc: Sdc, tmp_path: Path, cache: Path
) -> None:
    source, out = image_folder(tmp_path / "insects", train=8), tmp_path / "part"
    outcome = sdc("difficulty", "--data", source, *SMALL, "--epochs", 1, "--split", which, "--fraction", 0.25,
                  "--out", out, "--json")  # fmt: skip

    assert outcome.code == 0, outcome
    whole, part = store.load("insects", source), store.load("part", out)
    networks = []
    for file in (cache / "judges").iterdir():
        networks.append(build("ConvNetW32", 3, 3, 16, 0).eval())
        networks[-1].load_state_dict(load_file(file))
    mean, std = _mean_and_std(whole.train.images)
    gradn = expected(networks, (whole.train.images / 255 - mean) / std, whole.train.labels)
    chosen = []
    for label in range(3):
        of_class = [n for n in range(24) if whole.train.labels[n] == label]
        ranked = sorted(of_class, key=lambda n: float(gradn[n]), reverse=which == "hardest")
        chosen += sorted(ranked[:2])
    assert part.train.images.equal(whole.train.images[chosen])
    assert part.train.labels.tolist() == [0, 0, 1, 1, 2, 2]
    assert part.test.images.equal(whole.test.images)
    assert part.classes == whole.classes
    told = json.loads((out / "part.json").read_text())
    assert (told["part"], told["fraction"], told["dataset"]) == (which, 0.25, "insects")
    assert sorted(image["index"] for image in told["images"]) == chosen
    assert all((out / image["file"]).is_file() for image in told["images"])
    assert told["data_sha256"] == whole.sha256
    assert "trained for 1 epoch on 24" in told["networks"]


def test_a_random_part_is_drawn_by_its_seed_and_no_folder_is_written_over(sdc: Sdc, tmp_path: Path) -> None:
    source = image_folder(tmp_path / "insects", train=8)
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "thesis.txt").write_text("mine")

    def drawn(out: str, *more: object) -> Any:
        asked = ("difficulty", "--data", source, "--split", "random", "--fraction", 0.5, "--out", tmp_path / out)
        return sdc(*asked, *more)

    parts = []
    for out, seed in (("a", 0), ("b", 0), ("c", 1)):
        assert drawn(out, "--seed", seed).code == 0
        parts.append(store.load(out, tmp_path / out).train.images)
    assert len(parts[0]) == 12
    assert parts[0].equal(parts[1])
    assert not parts[0].equal(parts[2])

    refused = drawn("taken")
    assert refused.code == 1
    assert f"{tmp_path / 'taken'} is there already, and not empty" in refused.err
    assert [file.name for file in (tmp_path / "taken").iterdir()] == ["thesis.txt"]
    assert drawn("none", "--fraction", 0).code == 1
    assert not (tmp_path / "none").exists()


def test_classes_keep_their_order_as_folders() -> None:
    assert ordered(["cat", "dog"]) == ["cat", "dog"]
    assert ordered([str(n) for n in range(12)]) == [str(n) for n in range(12)]
    names = ordered(["T-shirt/top", "Trouser", *(f"Bag {n}" for n in range(10))])
    assert names == sorted(names)
    assert names[0] == "00-T-shirt_top"


# What cannot be done


def test_wrong_usage(sdc: Sdc, tmp_path: Path) -> None:
    for words in (
        (),
        ("--dataset", "digits", "--split", "easiest"),
        (tmp_path, "--split", "easiest", "--out", tmp_path / "x"),
        ("--dataset", "digits", "--trend"),
        (tmp_path, "--trend", "--steps"),
    ):
        assert sdc("difficulty", *words).code == 2, words


def test_what_is_missing_is_named(sdc: Sdc, tmp_path: Path, cache: Path) -> None:
    (tmp_path / "empty").mkdir()
    run = finished(tmp_path / "runs", Made("mtt", "digits", [0.5]), pictures(1))
    key = json.loads((run / "cell.json").read_text())["experts"]
    said = functools.partial(_failed, sdc)
    assert f"{tmp_path / 'empty'} is no run folder and holds no complete run" in said(tmp_path / "empty")
    assert f"the experts {key} that the run matches are not in" in said(run)
    assert "no states on the way are kept" in said(run, "--steps", "--networks", "fresh")
    assert "has 10 classes and insects has 3" in said(
        run, "--networks", "fresh", "--data", image_folder(tmp_path / "insects")
    )
    experts(cache, key, states=2)
    assert "its experts have 1 epochs" in said(run)
    (file,) = (cache / "experts").rglob("*.pt")
    file.write_bytes(b"no experts")
    assert f"{file} holds no experts" in said(run)
    alone = tmp_path / "alone.safetensors"
    alone.write_bytes((run / "distilled.safetensors").read_bytes())
    assert "nothing says on which" in said(alone, "--networks", "trained")
    assert "matches no experts" in said(alone, "--networks", "experts")


def _failed(sdc: Sdc, *words: object) -> str:
    outcome = sdc("difficulty", *words, "--json")
    assert outcome.code == 1, outcome
    assert set(outcome.json) == {"error"}
    return str(outcome.json["error"])

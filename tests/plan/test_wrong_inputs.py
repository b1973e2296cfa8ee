"""Wrong inputs are refused at once, with what is wrong with them and not with something else."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from sdc.adapters.registry import ADAPTERS
from sdc.data import store
from sdc.data.tiny_classes import WNIDS, WORDS
from sdc.evaluation import distilled, networks
from sdc.evaluation.distilled import DistilledSet
from sdc.evaluation.protocol import Protocol
from sdc.evaluation.view import View, normalised
from sdc.ground import paths
from sdc.ground.errors import FatalError
from sdc.ground.watch import Quiet
from sdc.plan.request import Request, plan
from tests import fake
from tests.conftest import Sdc

FASHION = ("T-shirt_top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot")
CIFAR10 = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
NUMBERS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")


def shades(folder: Path, names: tuple[str, ...], side: int = 8, first: int = 0) -> Path:
    """A folder of these classes, whose images show the place of their class among `names`, and nothing else."""
    for label, name in enumerate(names):
        for split in ("train", "test"):
            (folder / split / name).mkdir(parents=True)
            for number in range(2):
                shade = (label, first, number)
                Image.new("RGB", (side, side), shade).save(folder / split / name / f"{number}.png")
    return folder


def digits_set(file: Path) -> Path:
    """A distilled set of digits: real ones, one a class."""
    digits = store.load("digits")
    first = [int((digits.train.labels == label).nonzero()[0]) for label in range(10)]
    view = View("digits", digits.classes, 1, 32, (0.5,), (0.5,))
    shown = normalised(digits.train.images[first], view)
    protocol = Protocol(lr=0.01, epochs=1, networks=1)
    distilled.save(DistilledSet(shown, distilled.hard_labels(10, 1), view, protocol, None), file)
    return file


@pytest.mark.parametrize(
    ("method", "model", "because"),
    [
        ("dm", "ConvNetD5", "no method here does"),
        ("dc", "ResNet18BN", "batch norm mixes the samples of a batch"),
        ("mtt", "ConvNetBN", "batch norm mixes the samples of a batch"),
        ("dm", "LeNet", "its script's networks of that kind have no `embed`"),
        ("tesla", "ConvNetW32", "its script knows ConvNets of one width only"),
        ("mtt", "ConvNetD8", "images of 32x32 pixels, as it shows them, are too small for that"),
        ("datm", "VGG11", "it is not among the networks that its script is run with here"),
    ],
)
def test_a_network_for_judging_is_refused_for_distilling_with_the_reason(
    method: str, model: str, because: str, sdc: Sdc, tmp_path: Path
) -> None:
    where = ("--dataset", "cifar10", "--runs", tmp_path / "runs", "--json")
    outcome = sdc("run", method, "--weight", 0, "--model", model, *where)

    assert outcome.code == 1
    first, *more = outcome.json["error"].splitlines()
    assert first.startswith(f"{method} does not distil with {model}")
    assert because in first
    assert first.endswith(f"It knows: {', '.join(ADAPTERS[method].models)}")
    assert "reading" not in outcome.err
    assert not paths.upstream().exists()
    knowing = [name for name, adapter in ADAPTERS.items() if model in adapter.models]
    assert [line for line in more if line.startswith("Methods")] == (
        [f"Methods that distil with {model}: {', '.join(knowing)}"] if knowing else []
    )
    if model != "ConvNetD8":  # which takes no images of 32x32
        assert more[-1] == f"To judge by {model} what another made: sdc evaluate RUN --model {model}"
    if model in ("ConvNetD5", "LeNet", "ConvNetW32"):  # the others take longer
        file = digits_set(tmp_path / "set.safetensors")
        assert sdc("evaluate", file, "--model", model, "--json").json["n"] == 1


def test_of_methods_that_know_a_network_those_that_refuse_it_for_this_dataset_are_not_named(sdc: Sdc) -> None:
    error = sdc("run", "dm", "--weight", 0, "--dataset", "tinyimagenet", "--model", "MLP", "--json").json["error"]
    assert "Methods that distil" not in error  # dc and dsa know it, but for images up to 32x32


@pytest.mark.parametrize(
    ("arguments", "meant"),
    [
        (("run", "dm", "--weight", "0", "--model", "convnetd3"), "ConvNetD3"),
        (("run", "dm", "--weight", "0", "--set", "iteration=3"), "Iteration"),
        (("run", "dm", "--weight", "0", "--recipe", "papers"), "paper"),
        (("run", "dm", "--weight", "0", "--dataset", "cifer10"), "cifar10"),
        (("run", "dm", "--weight", "0", "--schedule", "lineer"), "linear"),
        (("run", "dsaa", "--weight", "0"), "dsa"),
        (("run", "dm", "--weight", "0", "--set", "init=reel"), "real"),
    ],
)
def test_a_misspelt_name_is_answered_with_the_one_that_was_meant(
    arguments: tuple[str, ...], meant: str, sdc: Sdc
) -> None:
    assert sdc(*arguments, "--json").json["error"].splitlines()[0].endswith(f". Did you mean {meant}?")


@pytest.mark.parametrize(
    ("method", "change", "takes"),
    [
        ("dm", "networks=0", "takes a number above 0, such as 5"),
        ("dm", "batch_train=0", "takes a number above 0"),
        ("dc", "lr_net=0", "takes a number above 0"),
        ("mtt", "num_experts=0", "takes a number above 0"),
        ("dsa", "dsa_strategy=colour_crop", "takes none, or some of color, crop, cutout, flip, scale, rotate"),
        ("ftd", "expert_dsa_strategy=crop_", "takes none, or some of color, crop, cutout, flip, scale, rotate"),
    ],
)
def test_a_value_that_fails_later_is_refused_first(method: str, change: str, takes: str, sdc: Sdc) -> None:
    outcome = sdc("run", method, "--weight", 0, "--dataset", "digits", "--set", change, "--json")
    assert outcome.code == 1
    assert outcome.json["error"].startswith(f"--set {change}: ")
    assert takes in outcome.json["error"]
    assert "reading" not in outcome.err


@pytest.mark.parametrize("size", [4, 8, 16, 28, 32])
def test_a_network_is_refused_for_the_sizes_that_it_cannot_be_built_for_and_for_no_other(size: int) -> None:
    taken = []
    for name in networks.NAMES:
        try:
            network = networks.build(name, 1, 3, size, seed=0)
        except FatalError:
            with pytest.raises(FatalError):
                networks.check(name, 1, 3, size)
            continue
        assert network(torch.zeros(1, 1, size, size)).shape == (1, 3)
        networks.check(name, 1, 3, size)
        taken.append(name)
    assert "ConvNetD1" in taken
    assert ("ResNet18" in taken) is (size > 24)
    assert ("ConvNetD5" in taken) is (size >= 28)


def test_every_network_is_checked_before_one_is_trained(sdc: Sdc, tmp_path: Path) -> None:
    outcome = sdc("evaluate", digits_set(tmp_path / "set.safetensors"), "--model", "ConvNetD1,ConvNetD8", "--json")
    assert outcome.code == 1
    assert outcome.json["error"].startswith("images of 32x32 pixels are too small for ConvNetD8. Models that take them")
    assert "evaluating" not in outcome.err
    small = shades(tmp_path / "small", FASHION)
    outcome = sdc("difficulty", "--data", small, "--model", "ResNet18", "--networks", "fresh", "--json")
    assert outcome.json["error"].startswith("images of 8x8 pixels are too small for ResNet18")


def test_what_is_said_of_a_set_that_says_it_itself_is_refused(sdc: Sdc, tmp_path: Path) -> None:
    file = digits_set(tmp_path / "set.safetensors")
    for words in (("--zca",), ("--no-zca",), ("--labels", "hard"), ("--set", "mean=0.5")):
        outcome = sdc("evaluate", file, *words, "--json")
        assert outcome.code == 1, words
        said = words[0] if words[0] != "--set" else "--set mean"
        assert (
            outcome.json["error"]
            == f"{file} says itself what it holds: {said} is for .pt files, and other sets made elsewhere. Leave it out"
        )
    data = shades(tmp_path / "two", ("a", "b"))
    error = sdc("evaluate", file, "--data", data, "--json").json["error"]
    assert error.startswith(f"the set has 10 classes, of digits, and {data} has 2.")


@pytest.mark.parametrize(
    ("dataset", "of_data", "of_part", "order"),
    [
        ("fashionmnist", FASHION, FASHION, range(10)),
        ("fashionmnist", tuple("0123456789"), FASHION, range(10)),
        ("fashionmnist", FASHION, tuple("0123456789"), range(10)),
        ("mnist", tuple("0123456789"), NUMBERS, range(10)),
        ("cifar10", CIFAR10, tuple(f"{9 - n} {name}" for n, name in enumerate(CIFAR10)), range(10)),
        ("mine", CIFAR10, tuple(name.upper() for name in CIFAR10), range(10)),
        ("tinyimagenet", WNIDS, WNIDS, range(200)),
        ("tinyimagenet", WNIDS, tuple(words.split(",")[0] for words in WORDS), None),
    ],
)
def test_a_part_that_a_run_begins_from_is_labelled_in_the_order_of_the_dataset(
    dataset: str, of_data: tuple[str, ...], of_part: tuple[str, ...], order: range | None, tmp_path: Path
) -> None:
    if len(set(of_part)) < len(of_part):
        pytest.skip("its first words are not all different")
    data, part = shades(tmp_path / "data", of_data), shades(tmp_path / "part", of_part, first=200)
    start = plan(Request("dm", 0.0, dataset, data, changes=(f"init_from={part}",)), Quiet()).start

    assert start is not None
    shown = start.train.images[:, :2, 0, 0].tolist()
    assert order is None or shown == [[label, 200] for label in order for _ in range(2)]
    assert start.train.labels.tolist() == [label for label, _ in shown]


@pytest.mark.usefixtures("fake_upstream")
def test_so_the_first_images_of_each_class_are_of_that_class(sdc: Sdc, tmp_path: Path) -> None:
    data, part = shades(tmp_path / "data", FASHION, 32), shades(tmp_path / "part", FASHION, 32, first=200)
    changes = [f"init_from={part}", "steps=2", "networks=1", "epochs=1", "model=ConvNetD1", "history=2"]
    words = [word for change in changes for word in ("--set", change)]
    where = ("--dataset", "fashionmnist", "--data", data, "--runs", tmp_path / "runs")
    outcome = sdc("run", "fake", "--weight", 0, *where, *words, "--json")

    assert outcome.code == 0, outcome
    images = load_file(Path(outcome.json["run"]) / "history" / "000000.safetensors")["images"]
    red = (images[:, 0, 0, 0] * 0.25 + 0.5) * 255  # as the fake script shows its images
    assert red.round().tolist() == list(range(10))


def test_what_is_wrong_with_the_images_to_begin_from_is_said_of_them(sdc: Sdc, tmp_path: Path) -> None:
    data, empty = shades(tmp_path / "data", FASHION), tmp_path / "empty"
    empty.mkdir()
    (tmp_path / "notes.txt").write_text("none")
    broken, other = shades(tmp_path / "broken", FASHION), shades(tmp_path / "other", (*FASHION[:9], "Hat"))
    (broken / "train" / "Bag" / "0.png").write_bytes(b"no image")
    for where, says in (
        (tmp_path / "none", "does not exist"),
        (tmp_path / "notes.txt", "is neither a folder nor an archive of a known kind"),
        (empty, "no train/ and no test/ in"),
        (broken, "unreadable image"),
        (other, "found 'Hat', where fashionmnist has 'Ankle boot'"),
    ):
        run = ("run", "dm", "--weight", 0, "--dataset", "fashionmnist", "--data", data)
        outcome = sdc(*run, "--set", f"init_from={where}", "--json")
        assert outcome.code == 1
        error = outcome.json["error"]
        assert error.startswith(f"--set init_from={where}: ")
        assert says in error
        assert "Give --data" not in error
        assert "--dataset NAME" not in error
        assert f"sdc difficulty --dataset fashionmnist --data {data} --split easiest" in error


@pytest.mark.usefixtures("fake_upstream")
@pytest.mark.parametrize(
    "command",
    [
        ("run", "fake", "--weight", "0", "--set", "steps=2", "--set", "networks=1", "--set", "epochs=1"),
        ("experts", "train", "mtt"),
        ("experts", "import", "EMPTY", "mtt"),
        ("calibrate", "fake", "--updates", "1", "--set", "steps=2"),
        ("difficulty", "--networks", "fresh", "--count", "1"),
        ("evaluate", "SET"),
    ],
    ids=lambda command: " ".join(command[:2]),
)
def test_folders_of_numbers_are_taken_for_the_labels_and_every_command_says_so(
    command: tuple[str, ...], sdc: Sdc, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    data = shades(tmp_path / "data", tuple("0123456789"), 32)
    (tmp_path / "EMPTY").mkdir()
    digits_set(tmp_path / "SET")
    outcome = sdc(*command, "--dataset", "cifar10", "--data", data)
    assert outcome.code in (0, 1), outcome
    assert "the names of its folders are taken for the labels of cifar10, where 0 is airplane" in outcome.err
    assert "label 0 = 0, 1 = 1, " in outcome.err


def test_a_benchmark_says_so_too(sdc: Sdc, tmp_path: Path) -> None:
    shades(tmp_path / "data", tuple("0123456789"), 32)
    spec = tmp_path / "spec.toml"
    spec.write_text('methods = ["dm"]\ndatasets = ["cifar10"]\n[data]\ncifar10 = "data"\n')
    outcome = sdc("bench", spec, "--dry-run", "--runs", tmp_path / "runs")
    assert outcome.code == 0, outcome
    assert "the names of its folders are taken for the labels of cifar10, where 0 is airplane" in outcome.err


def test_a_benchmark_is_refused_for_networks_and_schedules_that_are_none(sdc: Sdc, tmp_path: Path) -> None:
    spec = tmp_path / "spec.toml"
    head = 'methods = ["dm"]\ndatasets = ["digits"]\n'
    for text, says in (
        ('schedules = ["lineer"]\n', "unknown schedule 'lineer'. Known: constant, linear, log. Did you mean linear?"),
        ('[evaluate]\nmodels = ["Convnet"]\n', "unknown model 'Convnet'. Known: "),
        ('[evaluate]\nmodels = ["ConvNetD8"]\n', "images of 32x32 pixels are too small for ConvNetD8"),
    ):
        spec.write_text(head + text)
        outcome = sdc("bench", spec, "--dry-run", "--runs", tmp_path / "runs", "--json")
        assert outcome.code == 1, text
        assert says in outcome.json["error"]


def test_a_file_where_a_folder_is_to_be_is_named(fake_upstream: fake.Fake, sdc: Sdc, tmp_path: Path) -> None:
    del fake_upstream
    file = tmp_path / "notes.txt"
    file.write_text("none")
    spec = tmp_path / "spec.toml"
    spec.write_text('methods = ["fake"]\ndatasets = ["digits"]\n')
    for command in (("run", "fake", "--weight", 0), ("bench", spec), ("calibrate", "fake")):
        outcome = sdc(*command, "--runs", file, "--json")
        assert outcome.code == 1, outcome
        assert f"cannot be made: {file} is a file" in outcome.json["error"]
        assert "--runs DIR" in outcome.json["error"]
    assert sdc("report", file, "--json").json["error"].startswith(f"{file} is a file, and a report is on a folder")
    (tmp_path / "runs" / "one").mkdir(parents=True)
    (tmp_path / "runs" / "one" / "cell.json").write_text(json.dumps({}))
    error = sdc("report", tmp_path / "runs" / "one", "--json").json["error"]
    assert error.endswith(f"Give that: sdc report {tmp_path / 'runs'}")


def test_a_file_that_is_no_image_is_called_that(sdc: Sdc, tmp_path: Path) -> None:
    data = shades(tmp_path / "data", FASHION)
    (data / "train" / "Bag" / "1.png").write_bytes(b"no image")
    error = sdc("run", "dm", "--weight", 0, "--data", data, "--json").json["error"]
    assert error.splitlines() == [
        f"unreadable image: {data}: train/Bag/1.png",
        "its content is not that of any image format read here",
        "Repair it, or take it out.",
    ]

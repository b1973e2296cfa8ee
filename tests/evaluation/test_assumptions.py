"""What is assumed of sets made elsewhere is what the upstreams do, as the adapters say it."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from PIL import Image

from sdc.adapters import dc, dm, dsa
from sdc.adapters.base import Adapter, Job
from sdc.data import store
from sdc.evaluation import foreign, protocol
from sdc.evaluation.assumptions import apart, dataset_in, together
from sdc.evaluation.foreign import Stated
from sdc.evaluation.protocol import Protocol
from tests.conftest import Sdc

IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
CIFAR = ((0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010))


@pytest.mark.parametrize("adapter", [dc.ADAPTER, dsa.ADAPTER, dm.ADAPTER], ids=lambda adapter: adapter.method)
def test_a_file_of_one_script_is_evaluated_as_a_run_of_that_script(adapter: Adapter) -> None:
    defaults = {name: option.default for name, option in adapter.options.items()}
    slots = {slot.name: slot for slot in adapter.slots}
    assert "mnist" in adapter.datasets
    for dataset, name in adapter.datasets.items():
        run = protocol.from_dict(dict(adapter.evaluation(Job(slots[name], 1, "ConvNet", defaults))))
        assert together(f"{adapter.saves}_{name}_ConvNet_1ipc.pt", dataset).protocol == run


def test_dcs_own_rule_for_mnist() -> None:
    on_mnist, elsewhere = (together(f"res_DC_{name}_ConvNet_1ipc.pt", name.lower()) for name in ("MNIST", "SVHN"))
    assert on_mnist.protocol == Protocol(0.01, 1000, augment="dc:crop_scale_rotate")
    assert elsewhere.protocol == Protocol(0.01, 300)


@pytest.mark.parametrize(
    ("size", "constants", "model"),
    [(32, CIFAR, "ConvNet"), (64, IMAGENET, "ConvNetD4"), (128, IMAGENET, "ConvNetD5"), (256, IMAGENET, "ConvNet")],
)
def test_large_images_are_parts_of_imagenet(size: int, constants: object, model: str, tmp_path: Path) -> None:
    assumed = apart(torch.zeros(1, 3, size, size), torch.zeros(1, dtype=torch.int64), None)
    assert (assumed.mean, assumed.std) == constants
    assert assumed.model == model
    torch.save(torch.randn(2, 3, size, size), tmp_path / "images_1.pt")
    torch.save(torch.tensor([0, 1]), tmp_path / "labels_1.pt")
    (found,) = foreign.load(tmp_path / "images_1.pt", store.load("digits", None), "digits", Stated())
    assert (found.made.view.mean, found.made.view.std) == constants
    assert found.model == model


def test_a_files_own_name_tells_dataset_and_network() -> None:
    assert dataset_in("res_DM_CIFAR100_ConvNet_50ipc.pt") == "cifar100"
    assert [dataset_in(name) for name in ("res_DC_X.pt", "res_DC_X_ConvNet_1ipc.pt", "images_1.pt")] == ["", "", ""]
    assert together("res_DM_CIFAR10_MLP_1ipc.pt", "cifar10").model == "MLP"
    assert together("res_DM_TinyImageNet_1ipc.pt", "tinyimagenet", 64).model == "ConvNetD4"


def test_the_dataset_in_a_files_own_name_beats_the_name_of_its_data(sdc: Sdc, tmp_path: Path) -> None:
    for part in ("train", "test"):
        for number in range(2):
            (tmp_path / "grey" / part / str(number)).mkdir(parents=True)
            Image.new("L", (28, 28), 100 * number).save(tmp_path / "grey" / part / str(number) / "0.png")
    torch.save({"data": [[torch.randn(2, 1, 28, 28), torch.tensor([0, 1])]]}, tmp_path / "res_DC_MNIST_MLP_1ipc.pt")
    asked = ("evaluate", tmp_path / "res_DC_MNIST_MLP_1ipc.pt", "--data", tmp_path / "grey", "--set", "epochs=0")
    outcome = sdc(*asked, "--networks", 1, "--json")
    assert outcome.code == 0, outcome
    assert outcome.json["dataset"] == "mnist"
    assert list(outcome.json["by_model"]) == ["MLP"]
    assert outcome.json["protocol"]["augment"] == "dc:crop_scale_rotate"
    assert "mean (0.1307,), std (0.3081,)" in outcome.json["assumed"]

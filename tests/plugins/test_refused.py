"""What the term is given by mistake: refused, with what is wanted, before any update; and untouched at weight 0."""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sdc.plugins import sdc


def options(weight: float) -> argparse.Namespace:
    return argparse.Namespace(sdc_lambda=weight, sdc_schedule="constant", sdc_every=1)


def images() -> Tensor:
    return torch.randn(3, 2, 4, 4, generator=torch.Generator().manual_seed(1)).requires_grad_()


class Net(nn.Module):
    """A small network, and what it makes of features and logits."""

    def __init__(self, returns: Callable[[Tensor, Tensor], Any] = lambda _, logits: logits) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv, self.linear, self.returns = nn.Conv2d(2, 3, 3), nn.Linear(12, 4), returns

    def forward(self, x: Tensor) -> Any:
        features = torch.tanh(self.conv(x))
        return self.returns(features, self.linear(features.flatten(1)))


def frozen(label: Any = 1, net: nn.Module | None = None, weight: float = 0.3, **given: Any) -> Tensor:
    told: dict[str, Any] = {"loss": torch.tensor(1.5, requires_grad=True), "images": images(), **given}
    loss, of = told.pop("loss"), told.pop("images")
    return sdc.corrected_frozen(loss, net or Net(), of, label, options(weight), 0, 9, **told)


LABELS = {
    "all labels": torch.tensor([0, 1, 2]),
    "the same label for each image": torch.tensor([1, 1, 1]),
    "one-hot": F.one_hot(torch.tensor(1), 4),
    "a float": 1.0,
    "a float tensor": torch.tensor(1.0),
    "numpy's float": np.float64(1),
    "an array": np.array([0, 1, 2]),
    "a list": [0, 1, 2],
    "a truth": True,
    "text": "1",
    "None": None,
}


@pytest.mark.parametrize("label", LABELS.values(), ids=LABELS)
def test_a_label_is_one_class_number_and_nothing_else(label: Any) -> None:
    with pytest.raises(TypeError, match=r"sdc.corrected_frozen wants as label one class's number"):
        frozen(label)


@pytest.mark.parametrize("label", [4, 99, -1, -100])
def test_a_label_that_the_net_knows_no_class_of_is_refused_with_those_it_knows(label: int) -> None:
    with pytest.raises(TypeError, match=f"a class's number from 0 to 3; it was given {label}"):
        frozen(label)


@pytest.mark.parametrize("label", [1, np.int64(1), np.uint8(1), torch.tensor(1), torch.tensor(1, dtype=torch.int32)])
def test_what_stands_for_a_whole_number_is_one(label: Any) -> None:
    assert frozen(label).item() == frozen(1).item()


RETURNED: dict[str, tuple[Callable[[Tensor, Tensor], Any], str]] = {
    "features and logits": (lambda f, y: (f, y), "a tuple of 2, the first a tensor [3, 3, 2, 2] of float32"),
    "a list": (lambda f, y: [y], "a list of 1, the first a tensor [3, 4] of float32"),
    "names": (lambda f, y: {"logits": y}, "(dict)"),
    "a map of features": (lambda f, y: f, "a tensor [3, 3, 2, 2] of float32"),
    "one number an image": (lambda f, y: y[:, 0], "a tensor [3] of float32"),
    "logits of patches": (lambda f, y: y.repeat(2, 1), "a tensor [6, 4] of float32"),
    "a number": (lambda f, y: y.sum(), "a tensor [] of float32"),
    "nothing": (lambda f, y: None, "None"),
}


@pytest.mark.parametrize(("returns", "got"), RETURNED.values(), ids=RETURNED)
def test_a_net_returns_logits_alone(returns: Callable[[Tensor, Tensor], Any], got: str) -> None:
    with pytest.raises(TypeError, match=r"a net that returns logits alone, \[3, classes\]") as error:
        frozen(net=Net(returns))
    assert got in str(error.value)
    assert "\n" not in str(error.value)


def test_logits_are_taken_out_of_what_a_net_returns_beside_them() -> None:
    more = Net(lambda features, logits: (features, {"out": logits}))
    first, second = images(), images()

    plain = frozen(images=first)
    taken = frozen(net=more, images=second, logits=lambda returned: returned[1]["out"])

    assert taken.item() == plain.item()
    assert torch.autograd.grad(taken, second)[0].equal(torch.autograd.grad(plain, first)[0])


def test_a_parameter_that_the_logits_do_not_reach_has_no_part_in_the_norm() -> None:
    net = Net()
    net.head = nn.Linear(7, 5)
    assert frozen(net=net).item() == frozen().item()


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        ({"loss": torch.ones(3)}, "a loss that is one number; it was given a tensor [3] of float32"),
        ({"loss": None}, "a loss that is one number; it was given None"),
        ({"images": images().detach()}, "images that lead back to the synthetic ones"),
        ({"images": [images()]}, "images [n, C, H, W] of one class; it was given a list of 1"),
        ({"images": images()[:0]}, "images [n, C, H, W] of one class; it was given a tensor [0, "),
        ({"images": torch.zeros(3, 2, 4, 4, dtype=torch.uint8)}, "it was given a tensor [3, 2, 4, 4] of uint8"),
    ],
    ids=["losses", "no loss", "detached", "a list", "none", "bytes"],
)
def test_a_frozen_networks_loss_and_images_are_what_they_are_said_to_be(given: dict[str, Any], wanted: str) -> None:
    with pytest.raises(TypeError, match=re.escape(wanted)):
        frozen(**given)


def gradient(**told: Any) -> tuple[Tensor, ...]:
    net = Net()
    loss = F.cross_entropy(net(images()), torch.tensor([1, 1, 1]))
    return torch.autograd.grad(loss, list(net.parameters()), **told)


GRADIENTS: dict[str, tuple[Callable[[], Any], str]] = {
    "no graph": (gradient, "one without a graph"),
    "detached": (lambda: [part.detach() for part in gradient(create_graph=True)], "one without a graph"),
    "flat, no graph": (lambda: torch.cat([part.flatten() for part in gradient()]), "one without a graph"),
    "None": (lambda: None, "None"),
    "None in it": (lambda: (*gradient(create_graph=True), None), "materialize_grads=True"),
    "a generator with None": (lambda: (None for _ in range(2)), "materialize_grads=True"),
    "empty": (list, "an empty one"),
    "the loss": (lambda: gradient(create_graph=True)[0].sum(), "a tensor [] of float32"),
    "a number": (lambda: 0.5, "0.5 (float)"),
    "of several calls": (lambda: [gradient(create_graph=True)], "a tuple of 4, the first a tensor"),
    "by name": (lambda: {"conv": gradient(create_graph=True)[0]}, "'conv' (str) in it"),
    "whole numbers": (lambda: [torch.ones(3, dtype=torch.long)], "a tensor [3] of int64 in it"),
}


@pytest.mark.parametrize(("make", "got"), GRADIENTS.values(), ids=GRADIENTS)
def test_a_gradient_at_hand_has_its_graph_and_all_its_parts(make: Callable[[], Any], got: str) -> None:
    with pytest.raises(TypeError, match=r"sdc.corrected wants the gradient .* create_graph=True") as error:
        sdc.corrected(torch.tensor(1.0), make(), options(0.3), 0, 9)
    assert got in str(error.value)


@pytest.mark.parametrize("loss", [torch.ones(3), None, [1.0], "1"])
def test_a_loss_is_one_number(loss: Any) -> None:
    with pytest.raises(TypeError, match=r"sdc.corrected wants a loss that is one number"):
        sdc.corrected(loss, gradient(create_graph=True), options(0.3), 0, 9)


@pytest.mark.parametrize("loss", [0.0, 0, np.float32(0), torch.tensor(0.0), torch.zeros(1)])
def test_a_loss_may_be_a_number_or_a_tensor_of_one(loss: Any) -> None:
    found = sdc.corrected(loss, gradient(create_graph=True), options(0.3), 0, 9)
    expected = 0.3 * float(np.linalg.norm(np.concatenate([part.numpy().ravel() for part in gradient()])))
    assert float(torch.as_tensor(found).detach()) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize(
    ("direction", "vector"),
    [
        (torch.ones(4), torch.ones(4, 1)),
        (torch.ones(4), torch.ones(1)),
        (torch.ones(2, 2), torch.ones(2, 2)),
        (torch.ones(4), None),
        (None, torch.ones(4)),
        (torch.ones(4), (torch.ones(2), torch.ones(2))),
        (0.0, torch.ones(4)),
        (torch.ones(4), torch.ones(4, dtype=torch.long)),
        (torch.tensor(1.0), torch.tensor(1.0)),
    ],
    ids=["a column", "one number", "tables", "no gradient", "no direction", "parts", "a number", "whole", "scalars"],
)
def test_a_direction_and_its_gradient_are_flat_and_of_one_length(direction: Any, vector: Any) -> None:
    with pytest.raises(
        TypeError, match=r"sdc.corrected_direction wants two flat vectors of equal length; it was given"
    ):
        sdc.corrected_direction(direction, vector, options(0.3), 0, 9)


@pytest.mark.parametrize("label", LABELS.values(), ids=LABELS)
def test_at_weight_0_nothing_is_looked_at(label: Any) -> None:
    loss: Any = object()
    assert frozen(label, Net(lambda *_: None), 0.0, loss=loss, images=None, logits=None) is loss
    assert sdc.corrected(loss, label, options(0.0), 0, 9) is loss
    assert sdc.corrected_direction(loss, label, options(0.0), 0, 9) is loss

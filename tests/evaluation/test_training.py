"""The evaluator, with what it is given: protocols and views."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision import transforms

from sdc.evaluation.learning import shuffled, train
from sdc.evaluation.protocol import UNIFORM, Protocol, from_dict, override, to_dict
from sdc.evaluation.training import Score, evaluate, network_seed, summary
from sdc.evaluation.view import View, normalised, resized
from sdc.ground.errors import FatalError

QUICK = Protocol(lr=0.01, epochs=12, networks=2)


def stripes(count: int, seed: int) -> tuple[Tensor, Tensor]:
    """Three classes that differ in where a bright stripe lies, under noise."""
    noise = torch.Generator().manual_seed(seed)
    labels = torch.arange(count) % 3
    images = torch.randn(count, 1, 16, 16, generator=noise)
    for image, label in zip(images, labels, strict=True):
        image[:, 5 * label : 5 * label + 4] += 2
    return images, labels


def scored(protocol: Protocol = QUICK, seed: int = 0, **options: Any) -> list[Score]:
    images, labels = options.pop("train", stripes(6, 1))
    return evaluate(images, labels, *stripes(60, 2), "ConvNetW32", protocol, seed, device="cpu", **options)


def accuracies(scores: list[Score]) -> list[float]:
    return [score.accuracy for score in scores]


# What comes out


def test_what_can_be_learned_is_learned_and_what_cannot_is_not() -> None:
    images, labels = stripes(6, 1)
    assert min(accuracies(scored())) > 0.9
    wrong = accuracies(scored(train=(images, (labels + 1) % 3)))
    assert max(wrong) < 0.1


def test_a_networks_score_depends_on_its_own_seed_alone() -> None:
    protocol = override(QUICK, {"augment": UNIFORM.augment, "epochs": 3, "lr": 0.003})
    first = scored(protocol, networks=4)
    torch.manual_seed(5)
    state = torch.random.get_rng_state()
    again = scored(protocol, networks=2)
    assert torch.random.get_rng_state().equal(state)
    assert [(s.model, s.seed, s.accuracy) for s in again] == [(s.model, s.seed, s.accuracy) for s in first[:2]]
    assert len(set(accuracies(first))) > 1
    assert accuracies(scored(protocol, seed=1, networks=4)) != accuracies(first)


def test_no_two_networks_share_a_seed() -> None:
    cases = [(seed, model, i) for seed in range(20) for model in ("ConvNet", "MLP") for i in range(20)]
    assert len({network_seed(*case) for case in cases}) == len(cases)
    assert max(network_seed(*case) for case in cases) < 2**53  # exact in any JSON reader


def test_the_protocol_tells_how_many_networks_unless_asked_otherwise() -> None:
    assert len(scored(override(QUICK, {"epochs": 0}))) == 2
    assert len(scored(override(QUICK, {"epochs": 0}), networks=3)) == 3


def test_progress_counts_the_epochs_of_all_networks() -> None:
    seen: list[tuple[int, int]] = []
    scored(override(QUICK, {"epochs": 2}), on_progress=lambda done, total: seen.append((done, total)))
    assert seen == [(done, 6) for done in range(1, 7)]


def test_a_diverging_network_is_measured_too() -> None:
    (score,) = scored(override(QUICK, {"lr": 1e30}), networks=1)
    assert score.accuracy == pytest.approx(1 / 3)  # NaN everywhere: argmax says class 0 for each


def test_summary_is_the_population_deviation() -> None:
    scores = [Score("ConvNet", 0, accuracy, 1.0) for accuracy in (0.2, 0.4, 0.6)]
    assert summary(scores) == {"mean": pytest.approx(0.4), "std": pytest.approx(float(np.std([0.2, 0.4, 0.6]))), "n": 3}


# How it is trained


def linear() -> nn.Sequential:
    network = nn.Sequential(nn.Flatten(), nn.Linear(256, 3, bias=False)).double()
    nn.init.zeros_(network[1].weight)
    return network


def trained(labels: Tensor, protocol: Protocol) -> Tensor:
    images, _ = stripes(6, 1)
    network = linear()
    order = shuffled(6, protocol, torch.Generator().manual_seed(0))
    train(network, images.double(), labels, protocol, order, lambda shown: shown)
    return network[1].weight.detach()


@pytest.mark.parametrize("epochs", [0, 1, 4, 7])
def test_training_is_sgd_whose_rate_drops_and_whose_momentum_starts_anew(epochs: int) -> None:
    """Against the update rule written out, with the gradient of softmax cross-entropy in closed form."""
    images, labels = stripes(6, 1)
    x, y = images.flatten(1).double().numpy(), np.eye(3)[labels]
    protocol = Protocol(lr=0.02, epochs=epochs, batch=4)
    draws = torch.Generator().manual_seed(0)
    weight, velocity, rate = np.zeros((3, 256)), np.zeros((3, 256)), 0.02
    for epoch in range(epochs + 1):
        order = torch.randperm(6, generator=draws).numpy()
        for batch in (order[:4], order[4:]):
            exponents = np.exp(x[batch] @ weight.T)
            residual = exponents / exponents.sum(1, keepdims=True) - y[batch]
            velocity = 0.9 * velocity + residual.T @ x[batch] / len(batch) + 5e-4 * weight
            weight = weight - rate * velocity
        if epoch == epochs // 2 + 1:
            rate, velocity = 0.002, np.zeros((3, 256))

    np.testing.assert_allclose(trained(labels, protocol).numpy(), weight, rtol=1e-9, atol=1e-12)


def test_each_epoch_shows_each_image_once() -> None:
    epochs = list(shuffled(10, Protocol(lr=1, epochs=5, batch=4), torch.Generator().manual_seed(0)))
    assert len(epochs) == 6
    assert all([len(batch) for batch in batches] == [4, 4, 2] for batches in epochs)
    orders = [torch.cat(batches).tolist() for batches in epochs]
    assert all(sorted(order) == list(range(10)) for order in orders)
    assert len({tuple(order) for order in orders}) == 6


def test_float_labels_are_logits_to_be_learned_softly() -> None:
    _, labels = stripes(6, 1)
    hard = trained(labels, QUICK)
    certain = F.one_hot(labels).double() * 60
    torch.testing.assert_close(trained(certain, QUICK), hard)
    # Equal logits pull towards no class: from zero weights, nothing moves.
    assert trained(torch.ones(6, 3).double(), QUICK).abs().max() < 1e-12


def test_soft_labels_make_as_many_classes_as_they_have_columns() -> None:
    images, labels = stripes(6, 1)
    assert min(accuracies(scored(train=(images, F.one_hot(labels, 5).float() * 10)))) > 0.9


# What is refused


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"images": torch.zeros(6, 1, 16, 16, dtype=torch.uint8)},
            "distilled images are torch.uint8 of shape [6, 1, 16, 16]: give float [N,C,S,S], "
            "made from uint8 by sdc.evaluation.view.normalised",
        ),
        ({"labels": torch.zeros(5).long()}, "6 distilled images come with 5 labels: give as many, and at least one"),
        (
            {"images": torch.zeros(6, 3, 16, 16)},
            "distilled images are [3, 16, 16], test images [1, 16, 16]: "
            "show both in one view, by sdc.evaluation.view.normalised",
        ),
        (
            {"labels": torch.zeros(6)},
            "labels are torch.float32 [6] and torch.int64 [9]: "
            "give int64 [N], or float logits [N,K] for the distilled images alone",
        ),
    ],
)
def test_tensors_that_do_not_belong_together_are_refused(change: dict[str, Tensor], message: str) -> None:
    images, labels = stripes(6, 1)
    test_images, test_labels = stripes(9, 1)
    given = {"images": images, "labels": labels, "test_images": test_images, "test_labels": test_labels} | change
    with pytest.raises(FatalError) as caught:
        evaluate(**given, model="ConvNetW32", protocol=QUICK, seed=0, device="cpu")
    assert str(caught.value) == message


# Protocols


def test_a_protocol_survives_json() -> None:
    assert from_dict(json.loads(json.dumps(to_dict(UNIFORM)))) == UNIFORM
    assert (UNIFORM.lr, UNIFORM.epochs, UNIFORM.batch) == (0.01, 1000, 256)


def test_overrides_may_be_text() -> None:
    changed = override(UNIFORM, {"lr": "0.1", "epochs": "300", "augment": ""})
    assert changed == Protocol(lr=0.1, epochs=300)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"lr": -1}, "protocol: lr is -1.0. Give a positive number, for example 0.01"),
        ({"lr": "nan"}, "protocol: lr is nan. Give a positive number, for example 0.01"),
        ({"epochs": "many"}, "protocol: epochs is 'many', which is no whole number"),
        ({"epochs": 1.5}, "protocol: epochs is 1.5, which is no whole number"),
        ({"batch": 0}, "protocol: batch is 0. Give 1 or more, for example 256"),
        ({"momentum": 1}, "protocol: momentum is 1.0. Give at least 0 and below 1, for example 0.9"),
        (
            {"rate": 1},
            "protocol: unknown rate. Known: lr, epochs, batch, momentum, weight_decay, augment, networks",
        ),
    ],
)
def test_a_protocol_that_cannot_be_is_refused(values: dict[str, object], message: str) -> None:
    with pytest.raises(FatalError) as caught:
        override(UNIFORM, values)
    assert str(caught.value) == message


def test_a_protocol_needs_a_rate_and_epochs() -> None:
    with pytest.raises(FatalError, match=r"^protocol: no lr and no epochs given"):
        from_dict({})


# Views


def pictures(channels: int, size: int) -> Tensor:
    """Every value from 0 to 255, in smooth shades and in noise."""
    shades = torch.arange(channels * size * size).reshape(1, channels, size, size) * 255 // (channels * size * size - 1)
    noise = torch.randint(0, 256, (3, channels, size, size), generator=torch.Generator().manual_seed(0))
    return torch.cat([shades, noise]).to(torch.uint8)


def as_pil(image: Tensor) -> Image.Image:
    return transforms.functional.to_pil_image(image)


def test_normalised_is_bit_for_bit_what_torchvision_makes() -> None:
    images = pictures(3, 32)
    view = View("cifar10", (), 3, 32, mean=(0.4914, 0.4822, 0.4465), std=(0.2023, 0.1994, 0.2010))
    reference = transforms.Compose([transforms.ToTensor(), transforms.Normalize(view.mean, view.std)])
    assert normalised(images, view).equal(torch.stack([reference(as_pil(image)) for image in images]))


def test_grey_is_repeated_and_colour_is_weighed() -> None:
    grey, colour = pictures(1, 28), pictures(3, 28)
    assert resized(grey, 3, 28).equal(torch.cat([grey, grey, grey], 1))
    assert resized(grey, 1, 28).equal(grey)
    reference = np.stack([np.asarray(as_pil(image).convert("L")) for image in colour]).astype(int)
    assert np.abs(resized(colour, 1, 28)[:, 0].numpy().astype(int) - reference).max() <= 1


@pytest.mark.parametrize("size", [8, 20, 32, 64])
def test_resizing_is_pillows_bilinear_up_to_rounding(size: int) -> None:
    images = pictures(3, 28)
    reference = np.stack(
        [np.asarray(as_pil(image).resize((size, size), Image.Resampling.BILINEAR)) for image in images]
    )
    shown = resized(images, 3, size).permute(0, 2, 3, 1).numpy().astype(int)
    assert np.abs(shown - reference.astype(int)).max() <= 1


def test_a_view_needs_a_mean_and_a_deviation_for_each_channel() -> None:
    with pytest.raises(FatalError, match=r"^view of mnist: 3 channels need as many means and deviations, got 1 and 1$"):
        View("mnist", (), 3, 32, mean=(0.1,), std=(0.3,))


def test_images_of_another_kind_are_refused() -> None:
    with pytest.raises(FatalError, match=r"^images of shape \[2, 4, 8, 8\] and type torch.uint8 cannot be shown"):
        resized(torch.zeros(2, 4, 8, 8, dtype=torch.uint8), 3, 8)

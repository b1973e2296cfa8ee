"""GraDN: the gradient norm of single samples."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sdc.analysis.difficulty import gradn, judges
from sdc.evaluation.networks import Network, build
from sdc.ground.errors import FatalError
from tests.analysis.difficulty.samples import CLASSES, one_at_a_time, samples


class Judge(nn.Module):
    """Uses one layer twice, and a parameter of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 4, 3, padding=1)
        self.twice = nn.Conv2d(4, 4, 3, padding=1)
        self.scale = nn.Parameter(torch.tensor(1.5))
        self.last = nn.Linear(4, CLASSES)

    def forward(self, images: Tensor) -> Tensor:
        """Logits [N,K] of images [N,3,H,W]."""
        features = self.twice(self.twice(self.first(images)).relu()).relu()
        logits: Tensor = self.last(self.scale * features.mean((2, 3)))
        return logits


# The norm of a sample


@pytest.mark.parametrize(
    ("model", "channels", "size"),
    [
        ("ConvNetW32", 3, 16),
        ("ConvNetW32", 1, 28),
        ("ConvNetLN", 3, 16),
        ("ConvNetNN", 3, 16),
        ("LeNet", 3, 32),
        ("MLP", 1, 28),
        ("ConvNetBN", 3, 16),
    ],
)
def test_samples_side_by_side_have_the_norms_they_have_alone(model: str, channels: int, size: int) -> None:
    network = build(model, channels, CLASSES, size, 1).double().eval()
    images, labels = samples(5, channels, size)
    images = images.double()
    expected = one_at_a_time(network, images, labels)

    for chunk in (0, 1, 2, 5, 9):
        found = gradn.sample_norms(network, images, labels, chunk)
        torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-10)
    assert expected.std() > 1e-3


def test_layers_that_are_used_twice_count_once_with_their_whole_gradient() -> None:
    torch.manual_seed(0)
    network = Judge().double()
    images, labels = samples(4)
    expected = one_at_a_time(network, images.double(), labels)
    torch.testing.assert_close(gradn.sample_norms(network, images.double(), labels), expected, rtol=1e-10, atol=1e-10)


def test_soft_labels_are_logits() -> None:
    network = build("ConvNetW32", 3, CLASSES, 16, 1).double()
    images, labels = samples(4)
    logits = torch.randn(4, CLASSES, generator=torch.Generator().manual_seed(3)).double()
    found = gradn.sample_norms(network, images.double(), logits)
    torch.testing.assert_close(
        found, one_at_a_time(network, images.double(), logits.softmax(1)), rtol=1e-10, atol=1e-10
    )
    sure = gradn.sample_norms(network, images.double(), 1000.0 * F.one_hot(labels, CLASSES).double())
    torch.testing.assert_close(sure, gradn.sample_norms(network, images.double(), labels))


def test_the_network_is_left_as_it_was_and_gradients_lead_nowhere() -> None:
    network = build("ConvNetBN", 3, CLASSES, 16, 1).eval()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    norms = gradn.sample_norms(network, *samples(4))
    assert not norms.requires_grad
    assert all(parameter.grad is None and parameter.requires_grad for parameter in network.parameters())
    assert all(value.equal(before[name]) for name, value in network.state_dict().items())


def test_batch_norm_that_mixes_samples_is_refused() -> None:
    with pytest.raises(FatalError, match=r"^batch norm in training mode mixes the samples"):
        gradn.sample_norms(build("ConvNetBN", 3, CLASSES, 16, 1), *samples(4))


def test_gradn_is_the_mean_over_networks_that_differ_and_repeat() -> None:
    images, labels = samples(4)
    networks = judges.fresh("ConvNetW32", 3, CLASSES, 16, count=3, seed=7)
    each = [gradn.sample_norms(network, images, labels) for network in networks]
    torch.testing.assert_close(gradn.by_network(images, labels, networks).mean(0), (each[0] + each[1] + each[2]) / 3)
    assert not torch.allclose(each[0], each[1])
    again = judges.fresh("ConvNetW32", 3, CLASSES, 16, count=2, seed=7)
    assert all(_weights(one).equal(_weights(two)) for one, two in zip(networks, again, strict=False))
    assert not _weights(networks[0]).equal(_weights(judges.fresh("ConvNetW32", 3, CLASSES, 16, 1, 8)[0]))


def _weights(network: nn.Module) -> Tensor:
    assert isinstance(network, Network)
    return network.classifier.weight

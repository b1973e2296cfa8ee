"""Every network, at every size of the datasets, from its seed alone."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sdc.evaluation.networks import NAMES, build, known
from sdc.ground.errors import FatalError

SHAPES = [(1, 28), (3, 32), (3, 64)]
TOO_DEEP = {28: {"ConvNetD6", "ConvNetD7", "ConvNetD8"}, 32: {"ConvNetD6", "ConvNetD7", "ConvNetD8"}}
TOO_DEEP[64] = {"ConvNetD7", "ConvNetD8"}


def noise(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(0))


def weights(network: nn.Module) -> Tensor:
    return torch.cat([parameter.detach().flatten() for parameter in network.parameters()])


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(("channels", "size"), SHAPES)
def test_logits_are_the_classifiers_view_of_the_features(name: str, channels: int, size: int) -> None:
    if name in TOO_DEEP[size]:
        with pytest.raises(FatalError):
            build(name, channels, 7, size, seed=0)
        return
    network = build(name, channels, 7, size, seed=0)
    assert network.training
    network.eval()
    images = noise(2, channels, size, size)
    with torch.no_grad():
        features = network.features(images)
        logits = network(images)
        assert features.shape == (2, network.classifier.in_features)
        assert logits.shape == (2, 7)
        assert logits.equal(network.classifier(features))
        # While a network is tested, no image has a say in another's logits.
        torch.testing.assert_close(network(images[1:]), logits[1:], rtol=1e-4, atol=1e-5)
    assert not logits[0].allclose(logits[1])


@pytest.mark.parametrize(
    ("name", "count"),
    [("ConvNet", 320_010), ("LeNet", 62_006), ("VGG11BN", 9_231_114), ("ResNet18BN", 11_173_962)],
)
def test_sizes_are_the_published_ones(name: str, count: int) -> None:
    """Parameters for CIFAR-10, as counted in the literature."""
    assert len(weights(build(name, 3, 10, 32, seed=0))) == count


@pytest.mark.parametrize("name", ["AlexNet", "ConvNet", "ConvNetLN", "LeNet", "VGG11"])
def test_a_28x28_image_is_seen_as_32x32_with_a_margin(name: str) -> None:
    image = noise(1, 1, 28, 28)
    small, large = build(name, 1, 10, 28, seed=0), build(name, 1, 10, 32, seed=0)
    with torch.no_grad():
        torch.testing.assert_close(small(image), large(F.pad(image, (2, 2, 2, 2))))


def test_weights_depend_on_the_seed_alone() -> None:
    first = weights(build("ConvNet", 3, 10, 32, seed=1))
    torch.randn(5)
    assert weights(build("ConvNet", 3, 10, 32, seed=1)).equal(first)
    assert not weights(build("ConvNet", 3, 10, 32, seed=2)).equal(first)


def test_building_leaves_the_global_generator_alone() -> None:
    before = torch.random.get_rng_state()
    build("ResNet18", 3, 10, 32, seed=1)
    assert torch.random.get_rng_state().equal(before)


@pytest.mark.parametrize(("name", "features"), [("ConvNetD1", 128 * 16 * 16), ("ConvNetD5", 128), ("ConvNetW32", 512)])
def test_depth_and_width(name: str, features: int) -> None:
    assert build(name, 3, 10, 32, seed=0).classifier.in_features == features


def test_a_network_too_deep_for_the_image_is_refused() -> None:
    with pytest.raises(FatalError) as caught:
        build("ConvNetD8", 3, 10, 32, seed=0)
    expected = "a ConvNet of depth 8 halves images of 32x32 pixels to nothing: choose ConvNetD5 or a shallower one"
    assert str(caught.value) == expected


def test_an_unknown_name_is_answered_with_the_known_ones() -> None:
    assert known("ConvNet") == "ConvNet"
    with pytest.raises(FatalError) as caught:
        known("LeNett")
    assert str(caught.value) == f"unknown model 'LeNett'. Known: {', '.join(NAMES)}. Did you mean LeNet?"

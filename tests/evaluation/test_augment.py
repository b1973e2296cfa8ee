"""What each augmentation may do to an image; that it does so as often as the true code is tested beside the upstreams."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from sdc.evaluation.augment import make
from sdc.evaluation.protocol import AUGMENTATIONS, UNIFORM
from sdc.ground.errors import FatalError

SPECS = [f"{family}:{name}" for family, names in AUGMENTATIONS.items() for name in names]


def noise(*shape: int) -> Tensor:
    """Images without a zero, so that a zero in the outcome is padding."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(0)) + 5


def changed(spec: str, images: Tensor, seed: int = 0) -> Tensor:
    return make(spec, torch.Generator().manual_seed(seed))(images)


def all_among(outcomes: Tensor, images: Tensor, candidates: Callable[[Tensor], list[Tensor]]) -> bool:
    """Whether each outcome is one of its image's candidates."""
    pairs = zip(outcomes, images, strict=True)
    return all(any(outcome.allclose(one) for one in candidates(image)) for outcome, image in pairs)


@pytest.mark.parametrize("spec", [*SPECS, UNIFORM.augment, "dc:crop_scale_rotate"])
@pytest.mark.parametrize("shape", [(6, 1, 28, 28), (6, 3, 15, 15)], ids=["grey", "odd"])
def test_the_generator_alone_decides(spec: str, shape: tuple[int, ...]) -> None:
    images = noise(*shape)
    kept, state = images.clone(), torch.random.get_rng_state()
    first = changed(spec, images)
    torch.randn(3)
    assert first.shape == images.shape
    assert first.dtype == images.dtype
    assert first.is_contiguous()
    assert first.isfinite().all()
    assert first.equal(changed(spec, images))
    assert not first.equal(images)
    assert any(not first.equal(changed(spec, images, seed)) for seed in range(1, 9))
    assert images.equal(kept)
    torch.random.set_rng_state(state)
    changed(spec, images)
    assert torch.random.get_rng_state().equal(state)


@pytest.mark.parametrize("spec", [spec for spec in SPECS if spec != "dc:rotate"])
def test_gradients_reach_the_images(spec: str) -> None:
    images = noise(4, 3, 16, 16).double().requires_grad_()
    loss = changed(spec, images).square().sum()
    (gradient,) = torch.autograd.grad(loss, images)
    step = 1e-6 * noise(4, 3, 16, 16).double()
    moved = changed(spec, images.detach() + step).square().sum() - changed(spec, images.detach() - step).square().sum()
    assert gradient.abs().sum() > 0
    torch.testing.assert_close(moved, 2 * (gradient * step).sum(), rtol=1e-4, atol=1e-9)


def test_an_empty_spec_changes_nothing() -> None:
    images = noise(2, 1, 8, 8)
    assert changed("", images).equal(images)


@pytest.mark.parametrize("side", [15, 16])
def test_crop_moves_each_image_by_whole_pixels_up_to_an_eighth(side: int) -> None:
    def moves(image: Tensor) -> list[Tensor]:
        padded = F.pad(image, (2, 2, 2, 2))
        return [padded[:, r : r + side, c : c + side] for r, c in itertools.product(range(5), repeat=2)]

    images = noise(40, 3, side, side)
    outcomes = changed("dsa:crop", images)
    assert all_among(outcomes, images, moves)
    assert not all_among(outcomes, images, lambda image: moves(image)[:-1])


@pytest.mark.parametrize(("side", "cut"), [(13, 7), (16, 8)])
def test_cutout_zeroes_one_square_that_may_reach_over_the_edge(side: int, cut: int) -> None:
    images = noise(400, 2, side, side)
    outcomes = changed("dsa:cutout", images)
    gone = outcomes == 0
    assert outcomes[~gone].equal(images[~gone])
    heights, widths = gone[:, 0].any(2).sum(1), gone[:, 0].any(1).sum(1)
    assert (gone.sum((1, 2, 3)) == 2 * heights * widths).all()
    reach = set(range((cut + 1) // 2, cut + 1))
    assert set(heights.tolist()) == set(widths.tolist()) == reach


def test_flip_mirrors_about_half_of_the_images_left_to_right() -> None:
    images = noise(200, 1, 8, 8)
    outcomes = changed("dsa:flip", images)
    assert all_among(outcomes, images, lambda image: [image, image.flip(2)])
    mirrored = sum(not outcome.equal(image) for outcome, image in zip(outcomes, images, strict=True))
    assert 80 <= mirrored <= 120


def test_color_keeps_what_lies_between_pixels_up_to_a_factor() -> None:
    images = noise(8, 3, 8, 8)
    before, after = (x - x.mean(1, keepdim=True) for x in (images, changed("dsa:color", images)))
    factors = (before * after).sum((1, 2, 3)) / before.square().sum((1, 2, 3))
    torch.testing.assert_close(after, before * factors.view(-1, 1, 1, 1), rtol=1e-3, atol=1e-4)
    assert ((factors >= 0) & (factors <= 2 * 1.5)).all()


def test_dsa_draws_one_strategy_for_a_batch() -> None:
    images = noise(30, 1, 16, 16)
    kinds = []
    for seed in range(20):
        cut = (changed("dsa:flip_cutout", images, seed) == 0).flatten(1).any(1)
        assert cut.all() or not cut.any()
        kinds.append(bool(cut.all()))
    assert set(kinds) == {True, False}


def test_dc_draws_one_strategy_for_each_image() -> None:
    images = noise(30, 1, 16, 16)
    background = images.mean()
    padded = (changed("dc:crop_noise", images) - background).abs() < 1e-4
    assert 5 <= padded.flatten(1).any(1).sum() <= 25


def test_dc_crop_fills_with_the_mean_of_the_batch() -> None:
    images = noise(40, 2, 12, 12)
    level = images.mean((0, 2, 3)).view(2, 1, 1)

    def windows(image: Tensor) -> list[Tensor]:
        padded = level.repeat(1, 20, 20)
        padded[:, 4:16, 4:16] = image
        return [padded[:, r : r + 12, c : c + 12] for r, c in itertools.product(range(8), repeat=2)]

    assert all_among(changed("dc:crop", images), images, windows)


@pytest.mark.parametrize("side", [12, 15])
def test_dc_scale_resizes_each_side_by_nearest_neighbours(side: int) -> None:
    def resized(image: Tensor) -> list[Tensor]:
        lengths = range(int(0.8 * side), int(1.2 * side) + 1)
        return [centred(F.interpolate(image[None], size)[0], side) for size in itertools.product(lengths, repeat=2)]

    images = noise(40, 1, side, side)
    outcomes = changed("dc:scale", images)
    assert all_among(outcomes, images, resized)
    assert not all_among(outcomes, images, lambda image: [image])


def centred(image: Tensor, side: int) -> Tensor:
    """The middle side x side pixels, on zeros, with both margins rounded down, one after the other."""
    square = max(side, *image.shape[1:])
    canvas = torch.zeros(len(image), square, square)
    top, left = (square - image.shape[1]) // 2, (square - image.shape[2]) // 2
    canvas[:, top : top + image.shape[1], left : left + image.shape[2]] = image
    edge = (square - side) // 2
    return canvas[:, edge : edge + side, edge : edge + side]


def test_an_unknown_strategy_is_refused() -> None:
    with pytest.raises(FatalError) as caught:
        changed("dsa:colour", noise(1, 1, 8, 8))
    assert str(caught.value) == (
        "protocol: augment is 'dsa:colour'. Give '' for none, or a choice out of "
        "dc:crop_noise_rotate_scale or dsa:color_crop_cutout_flip_rotate_scale"
    )

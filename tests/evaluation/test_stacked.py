"""Networks trained side by side, and what spares time where they are trained one at a time on a CPU."""

from __future__ import annotations

import logging
import platform
import resource
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sdc.evaluation import cpu, stacked
from sdc.evaluation import training as evaluation
from sdc.evaluation.augment import make, side_by_side
from sdc.evaluation.learning import shuffled, train
from sdc.evaluation.networks import NAMES, build
from sdc.evaluation.protocol import UNIFORM, Protocol, override
from sdc.evaluation.training import Score, evaluate, network_seed
from tests.evaluation.test_training import stripes

DC = "dc:crop_noise_rotate_scale"
SHORT = Protocol(lr=0.02, epochs=3, batch=4, networks=3)  # six images: a batch of four and one of two


def given(seed: int = 1) -> tuple[Tensor, Tensor]:
    """Six images of three classes; in double precision, where rounding leaves no doubt."""
    images, labels = stripes(6, seed)
    return images.double(), labels


def fresh(number: int, model: str = "ConvNetW32") -> nn.Module:
    return build(model, 1, 3, 16, number).double()


def alone(number: int, protocol: Protocol, images: Tensor, labels: Tensor, model: str = "ConvNetW32") -> nn.Module:
    network, generator = fresh(number, model), torch.Generator().manual_seed(number)
    train(network, images, labels, protocol, shuffled(6, protocol, generator), make(protocol.augment, generator))
    return network


def beside(
    numbers: Sequence[int],
    protocol: Protocol,
    sets: Sequence[tuple[Tensor, Tensor]],
    rates: Sequence[float],
    **options: str,
) -> list[nn.Module]:
    """The networks of these numbers, trained side by side, each on its own set and at its own rate."""
    networks = [fresh(number, **options) for number in numbers]
    generators = [torch.Generator().manual_seed(number) for number in numbers]
    orders = [shuffled(6, protocol, generator) for generator in generators]
    members = [
        stacked.Member(network, images, labels.softmax(1) if labels.is_floating_point() else labels, rate, order)
        for network, (images, labels), rate, order in zip(networks, sets, rates, orders, strict=True)
    ]
    stacked.train(members, protocol, side_by_side(protocol.augment, generators))
    return networks


def far(one: nn.Module, other: nn.Module) -> float:
    pairs = zip(one.parameters(), other.parameters(), strict=True)
    return max(float((a - b).detach().abs().max()) for a, b in pairs)


# Side by side, each becomes what it would become alone


@pytest.mark.parametrize("augment", ["", UNIFORM.augment, DC], ids=["plain", "dsa", "dc"])
@pytest.mark.parametrize("soft", [False, True], ids=["hard", "soft"])
def test_a_network_becomes_what_it_would_become_alone(augment: str, soft: bool) -> None:
    images, labels = given()
    if soft:
        labels = torch.randn(6, 3, generator=torch.Generator().manual_seed(0)).double()
    protocol = override(SHORT, {"augment": augment})
    shown = stripes(60, 2)[0].double()
    trained = beside(range(3), protocol, [(images, labels)] * 3, [protocol.lr] * 3)
    for number, network in enumerate(trained):
        own = alone(number, protocol, images, labels)
        assert far(network, own) < 1e-12
        assert far(network, fresh(number)) > 1e-3
        with torch.no_grad():
            assert network.eval()(shown).argmax(1).equal(own.eval()(shown).argmax(1))


@pytest.mark.parametrize("model", ["MLP", "ConvNetLN", "ConvNetGN"])
def test_other_networks_do_too(model: str) -> None:
    protocol, (images, labels) = override(SHORT, {"epochs": 1}), given()
    trained = beside(range(2), protocol, [(images, labels)] * 2, [protocol.lr] * 2, model=model)
    assert max(far(network, alone(n, protocol, images, labels, model)) for n, network in enumerate(trained)) < 1e-12


def test_all_networks_but_those_with_batch_norm_can_be_stacked() -> None:
    hindered = {name for name in NAMES if stacked.hindrance(build(name, 1, 3, 256 if name == "ConvNetD8" else 128, 0))}
    assert hindered == {name for name in NAMES if name.endswith("BN")}


def test_each_may_have_a_set_and_a_rate_of_its_own() -> None:
    """As cells of one shape do that differ in their images, and in the rates that they learned."""
    sets, rates = [given(1), given(1), given(5)], [0.02, 0.005, 0.011]
    trained = beside(range(3), SHORT, sets, rates)
    for number, (network, (images, labels), rate) in enumerate(zip(trained, sets, rates, strict=True)):
        own = alone(number, override(SHORT, {"lr": rate}), images, labels)
        assert far(network, own) < 1e-12


def test_it_does_not_matter_how_many_are_trained_beside_a_network() -> None:
    protocol = override(SHORT, {"augment": UNIFORM.augment})
    few, many = (beside(range(n), protocol, [given()] * n, [0.02] * n) for n in (2, 5))
    assert max(far(one, other) for one, other in zip(few, many, strict=False)) < 1e-12


@pytest.mark.parametrize("augment", ["", UNIFORM.augment, DC], ids=["plain", "dsa", "dc"])
def test_batches_side_by_side_are_changed_as_each_would_be_alone(augment: str) -> None:
    batches = torch.randn(4, 5, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    change = side_by_side(augment, [torch.Generator().manual_seed(number) for number in range(4)])
    own = [make(augment, torch.Generator().manual_seed(number)) for number in range(4)]
    for _ in range(10):
        assert change(batches).equal(torch.stack([each(images) for each, images in zip(own, batches, strict=True)]))


# An evaluation


def scored(model: str = "ConvNetW32", **options: Any) -> list[Score]:
    images, labels = stripes(6, 1)
    protocol = override(SHORT, {"networks": 5})
    return evaluate(images, labels, *stripes(60, 2), model, protocol, 0, device="cpu", **options)


def results(scores: list[Score]) -> list[tuple[int, float]]:
    return [(score.seed, score.accuracy) for score in scores]


def test_an_evaluation_gives_the_same_scores_in_the_same_order_either_way() -> None:
    one, other = scored(stack=False), scored(stack=True)
    assert [score.seed for score in other] == [network_seed(0, "ConvNetW32", number) for number in range(5)]
    assert results(one) == results(other)
    assert len({score.seconds for score in other}) == 1  # each has its share


def test_on_a_cpu_networks_are_trained_one_at_a_time_and_the_log_says_why(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(stacked, "train", None)
    with caplog.at_level(logging.INFO):
        scored(networks=2)
    assert caplog.messages == [
        "ConvNetW32: trained one at a time: the convolutions of a stack are slower on a CPU, "
        "whose cores are better used by processes"
    ]


def test_batch_norm_and_dropout_are_trained_one_at_a_time_and_the_log_says_why(
    caplog: pytest.LogCaptureFixture,
) -> None:
    assert results(scored("ConvNetBN", networks=2, stack=True)) == results(scored("ConvNetBN", networks=2, stack=False))
    reason = "batch norm keeps statistics of the batches that it has seen, which a stack has no place for"
    assert caplog.messages == [f"ConvNetBN: trained one at a time: {reason}"]
    assert stacked.hindrance(nn.Sequential(nn.Linear(2, 2), nn.Dropout(0.5))).startswith("dropout draws from one")
    assert stacked.hindrance(nn.Sequential(nn.Linear(2, 2), nn.Dropout(0))) == ""


def test_an_interrupted_evaluation_goes_on_behind_the_networks_that_it_has(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stacked, "fitting", lambda *_: 2)
    kept: list[Score] = []

    def keep(score: Score) -> None:
        kept.append(score)
        if len(kept) == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        scored(stack=True, on_score=keep)
    before = list(kept)
    seen: list[tuple[int, int]] = []
    again = scored(stack=True, on_score=kept.append, scored=before, on_progress=lambda *done: seen.append(done))
    assert again[:3] == before
    assert [score.seed for score in kept] == [score.seed for score in again]
    assert results(again) == results(scored(stack=False))
    assert seen == [(done, 20) for done in range(13, 21)]  # one of two is missing, and the last: four epochs each


def test_what_memory_does_not_hold_is_done_in_smaller_parts(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    true, sizes = stacked.train, []

    def narrow(members: Sequence[stacked.Member], *others: Any) -> None:
        sizes.append(len(members))
        if len(members) > 2:
            raise torch.OutOfMemoryError
        true(members, *others)

    monkeypatch.setattr(stacked, "train", narrow)
    assert results(scored(stack=True)) == results(scored(stack=False))
    assert sizes == [5, 2, 2]  # and the last one alone
    assert caplog.messages == ["5 ConvNetW32 side by side take more memory than there is: going on with 2"]


def test_parts_are_planned_by_the_memory_that_there_is(monkeypatch: pytest.MonkeyPatch) -> None:
    network, images = build("ConvNetW32", 1, 3, 16, 0), torch.zeros(64, 1, 16, 16)

    def fitting(total: int, batch: int) -> int:
        monkeypatch.setattr(stacked, "_total", lambda _: total)
        return stacked.fitting(network, images, batch)

    # Outputs of an image: three convolutions, norms and ReLUs, half the side and as many channels from each to the next.
    outputs = sum(3 * 32 * side**2 + 32 * (side // 2) ** 2 for side in (16, 8, 4)) + 3
    weights = sum(parameter.numel() for parameter in network.parameters())
    assert fitting(2**30, 64) == 2**29 // (4 * (3 * 64 * outputs + 5 * weights))
    assert fitting(2**30, 256) == fitting(2**30, 64)  # there are no more images
    assert fitting(2**30, 8) > 4 * fitting(2**30, 64)
    assert fitting(1000, 64) == 1


# One at a time on a CPU: less time, the same bits


@pytest.mark.parametrize("shape", [(3, 4, 16, 16), (2, 4, 7, 9), (1, 1, 2, 2), (70, 128, 16, 16)])
def test_the_quick_pool_is_bit_for_bit_the_pool(shape: tuple[int, ...]) -> None:
    images = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    made = []
    for pool in (cpu.Halved(), nn.AvgPool2d(2)):
        own = images.clone().requires_grad_()
        means = pool(own)
        slopes = torch.randn(means.shape, generator=torch.Generator().manual_seed(1))
        made.append((means, *torch.autograd.grad(means, own, slopes)))
    (means, slopes), (true_means, true_slopes) = made
    assert means.equal(true_means)
    assert slopes.equal(true_slopes)


def test_only_pools_of_two_by_two_are_replaced() -> None:
    network = nn.Sequential(
        nn.AvgPool2d(2), nn.Sequential(nn.AvgPool2d(4), nn.AvgPool2d(2, 1), nn.AvgPool2d(2, ceil_mode=True))
    )
    assert [type(layer).__name__ for layer in cpu.quick_pools(network).modules()] == (
        ["Sequential", "Halved", "Sequential", "AvgPool2d", "AvgPool2d", "AvgPool2d"]
    )


def test_training_is_bit_for_bit_that_of_torchs_own_optimizer_and_layers() -> None:
    protocol, (images, labels) = override(SHORT, {"augment": UNIFORM.augment, "momentum": 0.8}), stripes(6, 1)
    own, true = (build("ConvNetW32", 1, 3, 16, 0) for _ in range(2))
    draws = torch.Generator().manual_seed(0)
    with cpu.kept_pages():
        train(
            cpu.quick_pools(own), images, labels, protocol, shuffled(6, protocol, draws), make(protocol.augment, draws)
        )

    draws, rate = torch.Generator().manual_seed(0), protocol.lr
    change = make(protocol.augment, draws)
    optimizer = torch.optim.SGD(true.parameters(), rate, momentum=0.8, weight_decay=5e-4)
    for epoch in range(4):
        for index in torch.randperm(6, generator=draws).split(4):
            optimizer.zero_grad()
            F.cross_entropy(true(change(images[index])), labels[index]).backward()
            optimizer.step()
        if epoch == 2:
            optimizer = torch.optim.SGD(true.parameters(), rate * 0.1, momentum=0.8, weight_decay=5e-4)

    assert far(own, true) == 0
    assert evaluation.tested(own, *stripes(60, 2)) == evaluation.tested(true, *stripes(60, 2))


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the C library is not glibc")
def test_freed_memory_is_used_again_without_fresh_pages_and_given_back_at_the_end() -> None:
    size = 128 * 2**20
    pages = size // resource.getpagesize()

    def faults() -> int:
        """Of filling five tensors of 128 MiB, one after another."""
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        for _ in range(5):
            torch.ones(size // 4)
        return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

    def resident() -> int:
        return int(Path("/proc/self/statm").read_text().split()[1])

    usual = faults()  # fewer than there are pages of 4 KiB, where larger ones are asked for
    with cpu.kept_pages():
        faults()  # small things may lie in the way of the first ones
        assert faults() < usual / 3
        kept = resident()
    assert resident() < kept - 0.9 * pages

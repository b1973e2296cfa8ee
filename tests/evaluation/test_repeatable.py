"""Whatever decides the bits of a GPU's evaluation beside its seed: kernels, and who is trained beside whom."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.backends import cudnn
from torch.utils import deterministic

from sdc.evaluation import pace, repeatable, stacked
from sdc.evaluation import training as evaluation
from sdc.evaluation.protocol import UNIFORM, Protocol, override
from sdc.evaluation.training import Score, evaluate
from tests.evaluation.test_training import stripes

SHORT = Protocol(lr=0.02, epochs=3, batch=4, networks=7, augment=UNIFORM.augment)
CUDA = torch.device("cuda")


def scored(**options: Any) -> list[Score]:
    return evaluate(*stripes(6, 1), *stripes(60, 2), "ConvNetW32", SHORT, 0, device="cpu", **options)


def results(scores: list[Score]) -> list[tuple[int, float]]:
    return [(score.seed, score.accuracy) for score in scores]


# Kernels


def flags() -> tuple[object, ...]:
    mode = torch.get_deterministic_debug_mode()
    filled = deterministic.fill_uninitialized_memory
    return cudnn.deterministic, cudnn.benchmark, mode, filled, os.environ.get("CUBLAS_WORKSPACE_CONFIG")


@pytest.fixture(params=[False, True], ids=["as torch has them", "as others had set them"])
def _before(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG", raising=False)
    monkeypatch.setattr(cudnn, "benchmark", request.param)


@pytest.mark.usefixtures("_before")
def test_kernels_are_repeatable_within_and_as_they_were_before_afterwards() -> None:
    before = flags()
    within = list[tuple[object, ...]]()

    def fail() -> None:
        with repeatable.kernels(CUDA):
            within.append(flags())
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert within == [(True, False, 1, False, ":4096:8")]
    assert flags() == before


def test_a_workspace_that_was_chosen_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", ":16:8")
    with repeatable.kernels(CUDA):
        assert flags()[-1] == ":16:8"
    assert flags()[-1] == ":16:8"


def test_a_cpu_has_nothing_to_set() -> None:
    before = flags()
    with repeatable.kernels(torch.device("cpu")):
        assert flags() == before


def test_networks_are_trained_and_tested_within(monkeypatch: pytest.MonkeyPatch) -> None:
    inside, seen = list[torch.device](), list[bool]()

    @contextmanager
    def kernels(device: torch.device) -> Iterator[None]:
        inside.append(device)
        yield
        inside.clear()

    monkeypatch.setattr(repeatable, "kernels", kernels)
    for name in ("_trained", "tested"):
        true = getattr(evaluation, name)
        monkeypatch.setattr(evaluation, name, lambda *given, true=true: (seen.append(bool(inside)), true(*given))[1])
    scored(networks=1)
    assert seen == [True, True]
    assert not inside


def test_the_compiler_is_not_imported() -> None:
    code = (
        "import sys, torch; from sdc.evaluation import repeatable\n"
        "with repeatable.kernels(torch.device('cuda')): pass\n"
        "sys.exit('torch._inductor' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


# Who is trained beside whom


def test_a_resumed_evaluation_makes_the_same_stacks_and_the_same_bits(monkeypatch: pytest.MonkeyPatch) -> None:
    stacks, bits = list[list[int]](), dict[int, Tensor]()
    true_trained, true_tested, current = evaluation._trained, evaluation.tested, list[int]()

    def trained(networks: Any, trials: Any, seeds: list[int], tell: Any) -> None:
        stacks.append(list(seeds))
        true_trained(networks, trials, seeds, tell)
        for network, seed in zip(networks, seeds, strict=True):
            bits[seed] = torch.cat([parameter.detach().flatten() for parameter in network.parameters()])
        current[:] = seeds

    monkeypatch.setattr(evaluation, "_trained", trained)
    monkeypatch.setattr(stacked, "fitting", lambda *_: 3)
    whole = scored(stack=True)
    seeds, first = [score.seed for score in whole], dict(bits)
    assert stacks == [seeds[:3], seeds[3:6], seeds[6:]]

    for kept in ([0, 1, 2, 3], [1, 4, 5], list(range(7))):
        stacks.clear()
        bits.clear()
        told: list[Score] = []
        again = scored(stack=True, scored=[whole[number] for number in kept], on_score=told.append)
        missing = [seed for number, seed in enumerate(seeds) if number not in kept]
        assert stacks == [part for part in (seeds[:3], seeds[3:6], seeds[6:]) if set(part) & set(missing)]
        assert [score.seed for score in told] == missing
        assert results(again) == results(whole)
        assert all(bits[seed].equal(first[seed]) for seed in bits)
    assert true_tested is evaluation.tested


def test_one_at_a_time_nothing_is_trained_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    whole, true, seen = scored(), evaluation._trained, list[int]()
    monkeypatch.setattr(evaluation, "_trained", lambda n, t, seeds, tell: (seen.extend(seeds), true(n, t, seeds, tell)))
    assert results(scored(scored=whole[2:5])) == results(whole)
    assert seen == [score.seed for number, score in enumerate(whole) if number not in (2, 3, 4)]


def test_a_stack_is_planned_by_all_of_a_devices_memory_in_use_or_not(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("mem_get_info", "memory_reserved", "memory_allocated"):
        monkeypatch.setattr(torch.cuda, name, None)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _: SimpleNamespace(total_memory=24 * 2**30))
    assert stacked._total(CUDA) == 24 * 2**30
    monkeypatch.setattr(os, "sysconf", {"SC_PHYS_PAGES": 1000, "SC_PAGE_SIZE": 4096}.__getitem__)
    assert stacked._total(torch.device("cpu")) == 4096000


# Whether


def as_on_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stacked, "drawback", lambda _: "")
    monkeypatch.setattr(pace, "unknown", lambda _: True)


def test_only_on_a_cpu_it_is_known_beforehand() -> None:
    assert pace.unknown(CUDA)
    assert not pace.unknown(torch.device("cpu"))


@pytest.fixture
def chosen(monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[int]]:
    """The sizes of what is trained together where `beside` and `alone` are what an epoch takes for all of them."""
    as_on_a_gpu(monkeypatch)

    def sizes(alone: float, beside: float | type[Exception]) -> list[int]:
        found, true = list[int](), evaluation._trained

        def seconds(train: Any, trial: evaluation.Trial) -> float:
            count = len(train.args[0])
            if count > 1 and isinstance(beside, type):
                raise beside
            return alone if count == 1 else beside

        with monkeypatch.context() as patch:
            patch.setattr(pace, "seconds", seconds)
            patch.setattr(evaluation, "_trained", lambda n, t, s, tell: (found.append(len(n)), true(n, t, s, tell)))
            scored()
        return found

    return sizes


def test_networks_are_stacked_unless_that_is_clearly_slower(
    chosen: Callable[..., list[int]], caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO):
        assert chosen(alone=0.001, beside=0.0014) == [7]
        assert chosen(alone=0.001, beside=0.0083) == [7]  # near a tie it is always the same
        assert chosen(alone=0.001, beside=0.0085) == [1] * 7
        assert chosen(alone=0.001, beside=torch.OutOfMemoryError) == [7]
    assert caplog.messages[0] == (
        "ConvNetW32: an epoch takes 0.2 ms a network with 7 side by side, 1 ms alone: trained side by side"
    )
    assert caplog.messages[2] == (
        "ConvNetW32: an epoch takes 1.21 ms a network with 7 side by side, 1 ms alone: trained one at a time"
    )


def test_what_is_asked_for_is_not_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    as_on_a_gpu(monkeypatch)
    monkeypatch.setattr(pace, "seconds", None)
    scored(stack=True)
    scored(stack=False)
    scored(networks=1)


@pytest.mark.parametrize("slower", [1e9, 0], ids=["side by side", "one at a time"])
def test_measuring_changes_no_bit(slower: float, monkeypatch: pytest.MonkeyPatch) -> None:
    as_on_a_gpu(monkeypatch)
    monkeypatch.setattr(pace, "SLOWER", slower)
    state, bits, true = torch.random.get_rng_state(), list[Tensor](), evaluation.tested

    def tested(network: torch.nn.Module, *shown: Tensor) -> float:
        bits.append(torch.cat([parameter.detach().flatten() for parameter in network.parameters()]))
        return true(network, *shown)

    monkeypatch.setattr(evaluation, "tested", tested)
    measured, asked = scored(), scored(stack=bool(slower))
    assert results(measured) == results(asked)
    assert all(one.equal(other) for one, other in zip(bits[:7], bits[7:], strict=True))
    assert torch.random.get_rng_state().equal(state)


@pytest.mark.parametrize(("images", "epochs"), [(6, 10), (40, 2), (4, 20), (400, 2)])
def test_a_brief_protocol_has_ten_steps_to_warm_up_and_ten_to_time(images: int, epochs: int) -> None:
    assert pace.brief(override(SHORT, {"epochs": 1000}), images).epochs + 1 == epochs

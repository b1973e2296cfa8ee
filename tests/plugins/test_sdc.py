"""The SDC term: what it is, that its gradients are right, and that at weight 0 it is not there."""

from __future__ import annotations

import argparse
import math
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F

from sdc.plugins import sdc

LABELS = torch.tensor([1, 1, 1])


@pytest.fixture(autouse=True)
def _double() -> Iterator[None]:
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def options(weight: float, schedule: str = "constant", every: int = 1) -> argparse.Namespace:
    return argparse.Namespace(sdc_lambda=weight, sdc_schedule=schedule, sdc_every=every)


def tiny() -> nn.Sequential:
    """A network whose loss has curvature in pixels and parameters alike."""
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(2, 3, 3), nn.Tanh(), nn.Flatten(), nn.Linear(12, 4))


def pictures() -> Tensor:
    return torch.randn(3, 2, 4, 4, generator=torch.Generator().manual_seed(1))


def norm_by_hand(net: nn.Module, images: Tensor) -> float:
    """|| grad_theta of the mean cross entropy ||, by plain autograd and numpy."""
    net.zero_grad()
    F.cross_entropy(net(images), LABELS[: len(images)]).backward()
    return float(
        np.linalg.norm(np.concatenate([p.grad.numpy().ravel() for p in net.parameters() if p.grad is not None]))
    )


def differences(value: Callable[[Tensor], float], at: Tensor, step: float = 1e-5) -> Tensor:
    """The gradient of `value`, by central differences."""
    slopes = torch.zeros_like(at)
    for index in range(at.numel()):
        up, down = at.clone(), at.clone()
        up.view(-1)[index] += step
        down.view(-1)[index] -= step
        slopes.view(-1)[index] = (value(up) - value(down)) / (2 * step)
    return slopes


class Untouchable:
    """Fails whatever is done with it."""

    def __iter__(self) -> Iterator[Tensor]:
        raise AssertionError("the gradient was looked at")


class Silent(nn.Module):
    def forward(self, _: Tensor) -> Tensor:
        raise AssertionError("the network was called")


@pytest.mark.parametrize(
    ("weight", "schedule", "every", "step"),
    [(0.0, "constant", 1, 5), (0.7, "linear", 1, 0), (0.7, "log", 1, 0), (0.7, "constant", 3, 5)],
)
def test_where_the_weight_is_zero_the_very_loss_comes_back_and_nothing_is_computed(
    weight: float, schedule: str, every: int, step: int
) -> None:
    given_options, loss = options(weight, schedule, every), torch.tensor(1.5, requires_grad=True)

    assert sdc.corrected(loss, Untouchable(), given_options, step, 9) is loss
    assert sdc.corrected_frozen(loss, Silent(), pictures(), 1, given_options, step, 9) is loss
    assert sdc.corrected_direction(loss, Untouchable(), given_options, step, 9) is loss  # type: ignore[arg-type]


def test_where_it_is_not_the_term_is_looked_at() -> None:
    with pytest.raises(AssertionError, match="looked at"):
        sdc.corrected(torch.tensor(1.0), Untouchable(), options(0.1), 0, 9)
    with pytest.raises(AssertionError, match="called"):
        sdc.corrected_frozen(torch.tensor(1.0), Silent(), pictures(), 1, options(0.1), 0, 9)


def test_the_norm_is_that_of_all_parts_as_one_vector() -> None:
    parts = [torch.randn(3, 2), torch.randn(4), torch.randn(())]
    expected = np.linalg.norm(np.concatenate([part.numpy().ravel() for part in parts]))

    assert sdc.gradient_norm(parts).item() == pytest.approx(expected, rel=1e-12)
    assert sdc.gradient_norm(part for part in parts).item() == pytest.approx(expected, rel=1e-12)
    assert sdc.gradient_norm(parts[0]).item() == pytest.approx(np.linalg.norm(parts[0].numpy()), rel=1e-12)


def test_at_a_zero_gradient_the_norms_derivative_is_zero_and_finite() -> None:
    zero, other = torch.zeros(3, requires_grad=True), torch.tensor([3.0, 4.0], requires_grad=True)

    alone = torch.autograd.grad(sdc.gradient_norm([zero]), [zero])
    beside = torch.autograd.grad(sdc.gradient_norm([zero, other]), [zero, other])

    assert alone[0].tolist() == [0, 0, 0]
    assert beside[0].tolist() == [0, 0, 0]
    assert beside[1].tolist() == pytest.approx([0.6, 0.8])


def test_the_class_gradient_is_that_of_the_mean_cross_entropy_and_leaves_the_network_frozen() -> None:
    net, images = tiny(), pictures().requires_grad_()
    expected = torch.autograd.grad(F.cross_entropy(net(images), LABELS), list(net.parameters()))
    for parameter in net.parameters():
        parameter.requires_grad_(False)

    for found in (sdc.class_gradient(net, images, 1), sdc.class_gradient(nn.DataParallel(net), images, 1)):
        assert len(found) == len(expected)
        for own, other in zip(found, expected, strict=True):
            torch.testing.assert_close(own, other)
        assert torch.autograd.grad(sdc.gradient_norm(found), images)[0].abs().sum() > 0
    assert all(not parameter.requires_grad and parameter.grad is None for parameter in net.parameters())


def test_a_frozen_networks_term_adds_lambda_times_the_norm_and_its_image_gradient() -> None:
    """The way of DM; the gradient against central differences of a norm computed by hand."""
    net, images = tiny(), pictures().requires_grad_()
    loss = (images**2).sum()

    total = sdc.corrected_frozen(loss, net, images, 1, options(0.3), 2, 9)
    (gradient,) = torch.autograd.grad(total, images)

    assert total.item() == pytest.approx(loss.item() + 0.3 * norm_by_hand(net, images.detach()), rel=1e-10)
    expected = 2 * images.detach() + 0.3 * differences(lambda at: norm_by_hand(net, at), images.detach())
    torch.testing.assert_close(gradient, expected, rtol=1e-6, atol=1e-8)


def test_a_frozen_networks_term_leaves_no_gradient_but_the_images_and_holds_no_graph_of_the_network() -> None:
    net, images = tiny(), pictures().requires_grad_()
    for parameter in net.parameters():
        parameter.requires_grad_(False)

    term = sdc.class_norm(net, images, 1)
    straight = sdc.gradient_norm(sdc.class_gradient(net, images, 1))

    assert term.item() == straight.item()
    assert torch.autograd.grad(term, images)[0].equal(torch.autograd.grad(straight, images)[0])
    kinds, waiting = set(), [term.grad_fn]
    while waiting:
        if node := waiting.pop():
            kinds.add(type(node).__name__)
            waiting += [following for following, _ in node.next_functions]
    assert kinds == {"AddBackward0", "SumBackward0", "MulBackward0", "SubBackward0", "AccumulateGrad"}


def test_a_gradient_at_hand_gives_the_same_term_without_another_pass() -> None:
    """The way of DC and DSA."""
    net, images = tiny(), pictures().requires_grad_()
    held = torch.autograd.grad(F.cross_entropy(net(images), LABELS), list(net.parameters()), create_graph=True)

    total = sdc.corrected(held[0].sum(), held, options(0.3), 2, 9)
    (gradient,) = torch.autograd.grad(total - held[0].sum(), images)

    expected = 0.3 * differences(lambda at: norm_by_hand(net, at), images.detach())
    torch.testing.assert_close(gradient, expected, rtol=1e-6, atol=1e-8)


def test_a_direction_gets_the_unit_gradient_and_with_it_the_images_get_the_norms_gradient() -> None:
    """The way of TESLA, which differentiates v @ g for a fixed v."""
    net, images, share = tiny(), pictures().requires_grad_(), 0.25
    parts = torch.autograd.grad(F.cross_entropy(net(images), LABELS), list(net.parameters()), create_graph=True)
    gradient = torch.cat([part.reshape(-1) for part in parts])
    direction = torch.randn(gradient.shape)

    found = sdc.corrected_direction(direction, gradient, options(0.3), 2, 9, share)

    unit = gradient.detach() / gradient.detach().norm()
    torch.testing.assert_close(found, direction + share * 0.3 * unit)
    assert not found.requires_grad
    (own,) = torch.autograd.grad(found @ gradient, images, retain_graph=True)
    (matching,) = torch.autograd.grad(direction @ gradient, images)
    expected = matching + share * 0.3 * differences(lambda at: norm_by_hand(net, at), images.detach())
    torch.testing.assert_close(own, expected, rtol=1e-6, atol=1e-8)


def test_a_zero_gradient_adds_nothing_to_a_direction() -> None:
    direction = torch.randn(5)
    assert sdc.corrected_direction(direction, torch.zeros(5), options(0.3), 2, 9).equal(direction)


@given(st.sampled_from(sorted(sdc.SCHEDULES)), st.floats(0, 1), st.floats(0, 1))
def test_ramps_never_fall_and_stay_within_zero_and_one(name: str, first: float, second: float) -> None:
    low, high = sorted((first, second))
    ramp = sdc.SCHEDULES[name]
    assert 0 <= ramp(low) <= ramp(high) <= 1 + 1e-15
    assert sdc.SCHEDULES["log"](low) >= sdc.SCHEDULES["linear"](low) - 1e-15


@pytest.mark.parametrize(
    ("schedule", "step", "last", "expected"),
    [
        ("constant", 0, 9, 2.0),
        ("linear", 0, 8, 0.0),
        ("linear", 2, 8, 0.5),
        ("linear", 8, 8, 2.0),
        ("linear", 99, 8, 2.0),
        ("linear", -1, 8, 0.0),
        ("linear", 0, 0, 2.0),
        ("log", 0, 9, 0.0),
        ("log", 1, 9, 2 * math.log10(2)),
        ("log", 9, 9, 2.0),
    ],
)
def test_the_weight_at_a_step(schedule: str, step: int, last: int, expected: float) -> None:
    assert sdc.weight_at(options(2.0, schedule), step, last) == pytest.approx(expected)


@given(st.sampled_from(sorted(sdc.SCHEDULES)), st.integers(1, 9), st.integers(0, 40))
def test_at_an_interval_of_k_the_term_has_k_times_its_weight_at_every_kth_step_and_none_between(
    schedule: str, every: int, step: int
) -> None:
    expected = 0.0 if step % every else every * sdc.weight_at(options(2.0, schedule), step, 40)
    assert sdc.weight_at(options(2.0, schedule, every), step, 40) == pytest.approx(expected)


def test_a_script_gets_three_options_and_without_them_the_term_is_off() -> None:
    parser = argparse.ArgumentParser()
    sdc.add_options(parser)

    assert vars(parser.parse_args([])) == {"sdc_lambda": 0.0, "sdc_schedule": "constant", "sdc_every": 1}
    asked = parser.parse_args(["--sdc_lambda", "1e-3", "--sdc_schedule", "log", "--sdc_every", "4"])
    assert vars(asked) == {"sdc_lambda": 0.001, "sdc_schedule": "log", "sdc_every": 4}


@pytest.mark.parametrize("text", ["-0.1", "nan", "inf", "-inf", "much"])
def test_a_weight_that_is_none_is_refused_by_name(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    parser = argparse.ArgumentParser()
    sdc.add_options(parser)

    with pytest.raises(SystemExit) as end:
        parser.parse_args([f"--sdc_lambda={text}"])
    assert end.value.code == 2
    assert f"the SDC weight must be a finite number >= 0, got '{text}'" in capsys.readouterr().err


@pytest.mark.parametrize("text", ["0", "-2", "1.5", "often"])
def test_an_interval_that_is_none_is_refused_by_name(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    parser = argparse.ArgumentParser()
    sdc.add_options(parser)

    with pytest.raises(SystemExit) as end:
        parser.parse_args([f"--sdc_every={text}"])
    assert end.value.code == 2
    assert f"the SDC interval must be a whole number >= 1, got '{text}'" in capsys.readouterr().err


def test_a_copy_of_the_file_beside_a_script_needs_torch_alone(tmp_path: Path) -> None:
    shutil.copy(sdc.__file__, tmp_path / "sdc.py")
    (tmp_path / "script.py").write_text(
        "import sys\n"
        "class Wall:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name.split('.')[0] in ('plugins', 'adapters', 'runner', 'analysis'):\n"
        "            raise ImportError(name)\n"
        "sys.meta_path.insert(0, Wall())\n"
        "import torch, sdc\n"
        "print(sdc.gradient_norm(torch.tensor([3.0, 4.0])).item())\n"
    )
    done = subprocess.run([sys.executable, tmp_path / "script.py"], check=True, capture_output=True, text=True)
    assert done.stdout.strip() == "5.0"

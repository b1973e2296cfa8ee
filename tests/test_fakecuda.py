"""The emulated CUDA device of the tests: that it refuses, counts and computes as it says."""

from __future__ import annotations

import copy
import io
import os
import pickle
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load, save
from torch import Tensor, nn
from torch.nn import functional as F

from sdc.evaluation import stacked
from sdc.evaluation.augment import side_by_side
from sdc.evaluation.learning import shuffled
from sdc.evaluation.networks import build
from sdc.evaluation.protocol import UNIFORM, Protocol
from sdc.ground import paths
from tests import fakecuda
from tests.fakecuda import Cuda
from tests.fakecuda.device import Device


@pytest.fixture
def device() -> Iterator[Device]:
    with fakecuda.install(sites=True) as installed:
        yield installed


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


# What it refuses


@pytest.mark.parametrize(
    "mixes",
    [
        lambda gpu, cpu: gpu + cpu,
        lambda gpu, cpu: gpu @ cpu,
        lambda gpu, cpu: torch.cat([gpu, cpu]),
        lambda gpu, cpu: cpu.add_(gpu),
        lambda gpu, cpu: cpu.sum().add_(gpu.sum()),
        lambda gpu, cpu: cpu[gpu.long()],
        lambda gpu, cpu: gpu.index_put_((gpu.long(),), cpu),
        lambda gpu, cpu: gpu.gather(0, cpu.long()),
        lambda gpu, cpu: torch.stack([gpu.sum(), cpu.sum()]),
        lambda gpu, cpu: nn.Linear(2, 2)(gpu),
        lambda gpu, cpu: gpu.uniform_(generator=torch.Generator()),
    ],
)
def test_mixing_is_refused_and_remembered(device: Device, mixes: Callable[[Tensor, Tensor], Any]) -> None:
    gpu, cpu = torch.zeros(2, 2, device="cuda"), torch.zeros(2, 2)
    with pytest.raises(RuntimeError, match="same device"):
        mixes(gpu, cpu)
    (problem,) = device.problems
    assert problem["where"] == f"tests/test_fakecuda.py:{mixes.__code__.co_firstlineno}"


def test_arrays_of_numpy_are_refused(device: Device) -> None:
    with pytest.raises(TypeError, match="to numpy"):
        torch.zeros(2, device="cuda").numpy()
    assert len(device.problems) == 1


def test_numbers_and_indices_of_the_cpu_are_welcome(device: Device) -> None:
    gpu, three = torch.arange(4.0).cuda(), torch.tensor(3.0)
    assert (gpu * three + 1).tolist() == [1, 4, 7, 10]
    assert torch.where(gpu > 1, gpu, three).tolist() == [3, 3, 2, 3]
    before = device.counts.to_device
    assert gpu[torch.tensor([3, 0])].tolist() == [3, 0]
    gpu[torch.tensor([True, False, False, True])] = torch.tensor(9.0)
    assert gpu.tolist() == [9, 1, 2, 9]
    assert device.counts.to_device == before + 3  # two lists of indices and a value
    assert not device.problems


def test_a_batch_of_one_cannot_be_overwritten_with_its_own_first_image(device: Device) -> None:
    for gpu in torch.rand(1, 1, 1, 1, device="cuda"), torch.rand(1, 1, device="cuda"):
        with pytest.raises(RuntimeError, match="refer to a single memory location"):
            gpu[:] = gpu[0]
    several = torch.rand(3, 1, 1, 1, device="cuda")
    several[:] = several[0]
    assert len(set(several.flatten().tolist())) == 1


def test_a_device_that_is_not_there_is_refused(device: Device) -> None:
    with pytest.raises(RuntimeError, match="invalid device ordinal"):
        torch.zeros(2).to("cuda:1")


# How it computes


def test_views_share_memory_and_changes_in_place_keep_the_object(device: Device) -> None:
    base = torch.zeros(2, 3, device="cuda")
    same = base
    base.T[1:] += 1
    base[0].mul_(5)
    base.view(-1)[:1].fill_(7)
    assert base is same
    assert base.tolist() == [[7, 5, 5], [0, 1, 1]]
    assert base[0]._base is base
    base[base > 4] = -1
    base.data.add_(1)
    assert base.tolist() == [[0, 0, 0], [1, 2, 2]]
    base.data = torch.ones(4, device="cuda")
    assert base is same
    assert (base + 1).tolist() == [2, 2, 2, 2]


def test_autograd_notices_what_was_overwritten(device: Device) -> None:
    weight = torch.ones(3, device="cuda", requires_grad=True)
    squared = weight.exp()
    total = squared.sum()
    squared.detach().zero_()
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        total.backward()


def test_tensors_say_where_they_are(device: Device) -> None:
    gpu = torch.tensor([1.0, 2.0], device="cuda")
    assert (str(gpu.device), gpu.is_cuda, gpu.is_cpu, gpu.get_device()) == ("cuda:0", True, False, 0)
    assert repr(gpu) == "tensor([1., 2.], device='cuda:0')"
    assert f"{gpu.sum():.2f}" == "3.00"
    assert gpu.to("cuda:0") is gpu.cuda() is gpu.to(gpu) is gpu
    assert gpu.to("cuda", torch.float64).dtype == torch.float64
    for made in torch.zeros_like(gpu), gpu.new_ones(2), torch.empty_like(torch.ones(1), device="cuda"):
        assert isinstance(made, Cuda)
    for made in gpu.cpu(), gpu.to("cpu"), torch.zeros_like(gpu, device="cpu"):
        assert type(made) is Tensor


def test_its_random_numbers_are_its_own(device: Device) -> None:
    torch.manual_seed(1)
    host = torch.get_rng_state()
    first = torch.rand(4, device="cuda").tolist()
    assert torch.get_rng_state().equal(host)
    assert torch.rand(4).tolist() != first
    state = torch.cuda.get_rng_state_all()
    second = torch.rand(4, device="cuda").tolist()
    torch.cuda.set_rng_state_all(state)
    assert torch.rand(4, device="cuda").tolist() == second != first
    torch.manual_seed(1)
    assert torch.rand(4, device="cuda").tolist() == first


def test_modules_move_with_their_parameters_optimizers_and_gradients(device: Device) -> None:
    moved, stayed = (nn.Linear(3, 2) for _ in range(2))
    stayed.load_state_dict(moved.state_dict())
    weight, shown = moved.weight, drawn(4, 3)
    descents = [torch.optim.SGD(each.parameters(), lr=0.1, momentum=0.9, foreach=True) for each in (moved, stayed)]
    moved.cuda()
    assert moved.weight is weight
    assert isinstance(weight, Cuda)
    assert isinstance(weight, nn.Parameter)
    for _ in range(3):
        for network, descent, images in zip((moved, stayed), descents, (shown.cuda(), shown), strict=True):
            descent.zero_grad()
            network(images).square().sum().backward()
            descent.step()
    moved.to("cuda")
    assert moved.weight is weight
    assert moved.cpu().weight is weight
    assert type(weight) is nn.Parameter
    assert weight.equal(stayed.weight)
    assert weight.grad is not None
    assert weight.grad.equal(stayed.weight.grad)
    assert copy.deepcopy(moved.cuda()).to("meta").weight.device.type == "meta"


def test_copies_and_files_tell_where_tensors_were(device: Device) -> None:
    network = nn.Linear(3, 2).cuda()
    weight = network.weight.cpu()
    for other in copy.deepcopy(network), pickle.loads(pickle.dumps(network)):  # noqa: S301 - our own
        assert isinstance(other.weight, Cuda)
        assert isinstance(other.weight, nn.Parameter)
        assert other.weight.requires_grad
        assert other.weight.cpu().equal(weight)
    file = io.BytesIO()
    torch.save({"network": network.state_dict(), "host": torch.ones(2)}, file)

    def loaded(place: Any) -> tuple[Any, Any]:
        file.seek(0)
        kept = torch.load(file, map_location=place)
        assert kept["network"]["weight"].cpu().equal(weight)
        return type(kept["network"]["weight"]), type(kept["host"])

    assert loaded(None) == (Cuda, Tensor)
    assert loaded("cpu") == loaded(torch.device("cpu")) == (Tensor, Tensor)
    assert loaded("cuda") == loaded(torch.device("cuda:0")) == (Cuda, Cuda)
    assert load(save({"weight": network.weight.detach().cpu()}))["weight"].equal(weight)


def dc_step(place: str) -> list[Tensor]:
    """The gradient of a distance between gradients, in the images that one of them is of, and one step of these."""
    network = build("ConvNetW32", 1, 3, 16, 0).to(place)
    parameters, labels = list(network.parameters()), (torch.arange(6) % 3).to(place)
    images, real = (drawn(6, 1, 16, 16, seed=n).to(place) for n in range(2))
    images.requires_grad_()
    wanted = [each.detach().clone() for each in torch.autograd.grad(F.cross_entropy(network(real), labels), parameters)]
    got = torch.autograd.grad(F.cross_entropy(network(images), labels), parameters, create_graph=True)
    loss = sum(1 - F.cosine_similarity(a.flatten(), b.flatten(), 0) for a, b in zip(got, wanted, strict=True))
    descent = torch.optim.SGD([images], lr=0.1, momentum=0.5)
    loss.backward()
    descent.step()
    assert images.grad is not None
    return [images.detach().cpu(), images.grad.cpu()]


def test_a_step_through_a_gradient_gives_the_cpus_numbers(device: Device) -> None:
    assert all(one.equal(other) for one, other in zip(dc_step("cuda"), dc_step("cpu"), strict=True))
    assert not device.problems


def trained(place: str, augment: str) -> list[list[Tensor]]:
    protocol = Protocol(lr=0.02, epochs=2, batch=4, augment=augment)
    images, labels = drawn(6, 1, 16, 16).to(place), (torch.arange(6) % 3).to(place)
    networks = [build("ConvNetW32", 1, 3, 16, number).to(place) for number in range(2)]
    generators = [torch.Generator().manual_seed(number) for number in range(2)]
    orders = [shuffled(6, protocol, generator) for generator in generators]
    members = [
        stacked.Member(network, images, labels, 0.02, order) for network, order in zip(networks, orders, strict=True)
    ]
    stacked.train(members, protocol, side_by_side(augment, generators))
    return [[parameter.detach().cpu() for parameter in network.parameters()] for network in networks]


@pytest.mark.parametrize("augment", ["", UNIFORM.augment, "dc:crop_noise_rotate_scale"], ids=["plain", "dsa", "dc"])
def test_networks_side_by_side_become_what_they_become_on_the_cpu(device: Device, augment: str) -> None:
    for one, other in zip(trained("cuda", augment), trained("cpu", augment), strict=True):
        for a, b in zip(one, other, strict=True):
            torch.testing.assert_close(a, b)
    assert not device.problems


def test_networks_in_a_stack_are_what_they_are_alone(device: Device) -> None:
    networks = [build("ConvNetW32", 1, 3, 16, number).cuda() for number in range(2)]
    stack, _ = torch.func.stack_module_state(networks)
    shape, images = copy.deepcopy(networks[0]).to("meta"), drawn(2, 3, 1, 16, 16).cuda()
    logits = torch.func.vmap(lambda own, shown: torch.func.functional_call(shape, own, (shown,)))(stack, images)
    assert isinstance(logits, Cuda)
    for network, shown, made in zip(networks, images, logits, strict=True):
        torch.testing.assert_close(network(shown).cpu(), made.cpu())


def test_inference_mode_costs_what_it_costs_elsewhere(device: Device) -> None:
    network, images = build("ConvNetW32", 1, 3, 16, 0).cuda(), drawn(6, 1, 16, 16).cuda()
    found = []
    for mode in torch.no_grad, torch.inference_mode:
        device.counts.reset()
        with mode():
            parts = torch.cat([network(part).argmax(1) for part in torch.split(images, 4)])
            found.append(
                (parts.tolist(), float((parts == 0).sum()), images.cpu().sum().item(), device.counts.numbers())
            )
        with pytest.raises(RuntimeError, match="same device"), mode():
            network(images.cpu())
    assert found[0] == found[1]
    assert found[0][-1]["launches"] > 20


# What it counts


PROGRAMS: dict[str, tuple[Callable[[Tensor], Any], tuple[int, int, int, int]]] = {
    "nothing": (lambda x: (x.T, x[:1], x.detach(), x.view(-1), torch.empty_like(x), x.shape), (0, 0, 0, 0)),
    "arithmetic": (lambda x: x + 1, (1, 0, 0, 0)),
    "item": (lambda x: float((x + 1).sum()), (2, 1, 0, 0)),
    "there and back": (lambda x: torch.ones(2).cuda().cpu(), (0, 0, 1, 1)),
    "already there": (lambda x: x.cuda().to("cuda"), (0, 0, 0, 0)),
    "into a host's tensor": (lambda x: torch.empty(2, 2).copy_(x), (0, 0, 0, 1)),
    "from a host's tensor": (lambda x: x.copy_(torch.ones(2, 2)), (0, 0, 1, 0)),
    "made from a list": (lambda x: torch.tensor([1, 2], device="cuda"), (0, 0, 1, 0)),
    "zeros": (lambda x: torch.zeros(2, device="cuda"), (1, 0, 0, 0)),
    "mask": (lambda x: x[x > 0], (2, 1, 0, 0)),
    "indices": (lambda x: x[torch.tensor([0])], (1, 0, 1, 0)),
    "nonzero": (lambda x: x.nonzero(), (1, 1, 0, 0)),
    "if": (lambda x: 1 if x.sum() else 0, (1, 1, 0, 0)),
    "list": (lambda x: x.tolist(), (0, 0, 0, 1)),
    "synchronize": (lambda x: torch.cuda.synchronize(), (0, 1, 0, 0)),
}


@pytest.mark.parametrize("name", PROGRAMS)
def test_the_counts_are_those_of_a_gpu(device: Device, name: str) -> None:
    program, expected = PROGRAMS[name]
    gpu = torch.ones(2, 2, device="cuda")
    device.counts.reset()
    program(gpu)
    assert tuple(device.counts.numbers().values()) == expected
    assert device.counts.sites.total() == sum(expected)
    assert all(f"tests/test_fakecuda.py:{program.__code__.co_firstlineno}" in site for site in device.counts.sites)


# Noise


def test_only_kernels_that_cannot_be_repeated_are_noisy() -> None:
    def gradients() -> tuple[Tensor, Tensor]:
        images, weight = drawn(2, 1, 8, 8).cuda().requires_grad_(), drawn(3, 1, 3, 3).cuda().requires_grad_()
        grid = F.affine_grid(torch.eye(2, 3).expand(2, 2, 3) * 0.9, [2, 1, 8, 8], align_corners=False).cuda()
        F.grid_sample(images, grid, align_corners=False).square().sum().backward()
        F.conv2d(drawn(2, 1, 8, 8).cuda(), weight).square().sum().backward()
        assert images.grad is not None
        assert weight.grad is not None
        return images.grad.cpu(), weight.grad.cpu()

    with fakecuda.install():
        (exact, _), (again, _) = gradients(), gradients()
        assert exact.equal(again)
    with fakecuda.install(noise=True) as device:
        (one, of_weight), (two, of_weight_again) = gradients(), gradients()
        assert [kernel.split()[0] for kernel in device.nondeterministic] == ["grid_sampler_2d_backward"]
    assert not one.equal(two)
    torch.testing.assert_close(one, two, rtol=6e-7, atol=0)
    torch.testing.assert_close(one, exact, rtol=6e-7, atol=0)
    assert of_weight.equal(of_weight_again)


# Which device it is


def test_the_devices_are_those_visible_at_the_first_use(monkeypatch: pytest.MonkeyPatch) -> None:
    with fakecuda.install(devices=4) as device:
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
        assert torch.cuda.device_count() == 4
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2,3")
        assert torch.cuda.device_count() == 2
        assert device.facts()["first_use"] is None
        assert torch.cuda.is_available()
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
        assert torch.cuda.device_count() == 2
        with torch.cuda.device(1):
            torch.zeros(1, device="cuda")
        assert device.facts()["first_use"] == {"variable": "2,3", "visible": ["2", "3"]}
        assert device.facts()["devices"] == ["3"]


@pytest.mark.parametrize("value", ["", "-1", "7"])
def test_a_process_may_see_no_device(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", value)
    with fakecuda.install():
        torch.manual_seed(0)
        assert not torch.cuda.is_available()
        assert torch.cuda.device_count() == 0
        with pytest.raises(RuntimeError, match="No CUDA GPUs"):
            torch.zeros(1, device="cuda")


def test_several_devices_cut_what_a_parallel_module_is_given() -> None:
    class Shapes(nn.Module):
        def forward(self, images: Tensor, weight: Tensor, name: str) -> Tensor:
            assert name == "a"
            return torch.tensor([[len(images), len(weight)]], device="cuda")

    with fakecuda.install(devices=2) as device:
        module = nn.DataParallel(Shapes())
        assert device.facts()["devices"] == ["0", "1"]
        given = torch.zeros(5, 2, device="cuda"), torch.zeros(2, 7, device="cuda")
        assert module(*given, name="a").tolist() == [[3, 1], [2, 1]]


def test_torch_is_left_as_it_was() -> None:
    before = {name: vars(torch.cuda)[name] for name in ("is_available", "device_count", "manual_seed_all")}
    with fakecuda.install():
        assert torch.cuda.is_available() is True
    assert all(vars(torch.cuda)[name] is value for name, value in before.items())
    assert not {"to", "cuda", "data"} & set(vars(Tensor))
    assert torch.zeros(2).to("meta").device.type == "meta"


CHILD = """
import os, sys
assert "tests.fakecuda" not in sys.modules
import torch
os.environ["CUDA_VISIBLE_DEVICES"] = "0"
x = torch.ones(2, device="cuda")
try:
    x + torch.ones(2)
except RuntimeError:
    pass
if not os.fork():
    try:
        os._exit(torch.cuda.is_available() or torch.zeros(1, device="cuda").device is None)
    except RuntimeError as error:
        os._exit(3 if "forked" in str(error) else 1)
sys.exit(os.waitstatus_to_exitcode(os.wait()[1]) + len(sys.argv))
"""


def test_child_processes_have_it_by_their_environment(tmp_path: Path) -> None:
    site = str(paths.ROOT / "tests" / "site")
    told = {"PYTHONPATH": site, "SDC_TEST_CUDA": "2", "SDC_TEST_CUDA_REPORT": str(tmp_path / "report")}
    environment = {**os.environ, **told, "CUDA_VISIBLE_DEVICES": "1"}
    done = subprocess.run([sys.executable, "-c", CHILD, "word"], cwd=tmp_path, env=environment)
    assert done.returncode == 3 + 2
    (line,) = fakecuda.reports(tmp_path / "report")
    assert line["argv"] == ["-c", "word"]
    assert line["first_use"] == {"variable": "0", "visible": ["0"]}
    assert line["devices"] == ["0"]
    assert line["counts"] == {"launches": 1, "syncs": 0, "to_device": 0, "to_host": 0}
    assert line["problems"] == [{"what": "add: cpu [2] beside cuda:0", "where": "<string>:8"}]

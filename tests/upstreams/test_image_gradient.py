"""The gradient that reaches the images: what the term adds to it in each true script, against a derivation of our own.

In double precision, at the first step, on real images. What is added is the difference between two runs of the patched
script, with a weight and without. What is expected is computed here from the definition in plugins/sdc.py, with our own
networks and autograd, from the images, the labels and the network's parameters alone.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor
from torch.nn import functional as F

from sdc.adapters.registry import ADAPTERS
from sdc.distillation import calibrate, experts, jobs, process
from sdc.evaluation import networks
from sdc.ground.watch import Quiet
from sdc.launcher.job import Job
from sdc.patching import apply
from sdc.plan.request import Plan, Request, plan

pytestmark = [pytest.mark.upstream, pytest.mark.slow]
BY_CLASS = ("dc", "dsa", "dm", "dsac")
WEIGHT, STEPS, RATE = 0.7, 3, 0.02
MODEL = {"tesla": "ConvNetD1"}


@pytest.fixture
def planned(upstream_tree: Callable[[str], Path], archives: Path) -> Callable[..., Plan]:
    def make(method: str, weight: float, *more: str) -> Plan:
        upstream_tree(method)
        changes = [f"model={MODEL.get(method, 'ConvNetW32')}", "limit_per_class=8", *more]
        changes += ["outer_loop=1"] if method == "dsac" else ["Iteration=0"]
        if method in BY_CLASS:
            changes += ["batch_real=8"]
        else:
            changes += [f"syn_steps={STEPS}", f"lr_teacher={RATE}", "expert_epochs=1", "max_start_epoch=1"]
            changes += ["num_experts=1", "train_epochs=1"]
        if method == "datm":
            changes += ["threshold=1000"]
        if method != "dc":
            changes += ["dsa_strategy=none"]
        return plan(Request(method, weight, data=archives / "cifar10.tar.xz", changes=tuple(changes)), Quiet())

    return make


def first_step(planned: Plan, work: Path) -> dict[str, Tensor]:
    """What `double.py` keeps of the patched script's first step."""
    work.mkdir()
    if trained := experts.ready(planned, Quiet()):
        (work / "buffers").symlink_to(trained.folder)
    apply.apply(planned.adapter)
    job, out = jobs.distillation(planned, work, work), work / "found.safetensors"
    process.launch(in_double(job, out), work, work / "log.txt", Quiet(), {})
    return load_file(out)


def in_double(job: Job, out: Path) -> Job:
    """The job under `double.py`, which writes to `out`."""
    driver = Path(__file__).with_name("double.py")
    return dataclasses.replace(job, script=str(driver), argv=(job.script, str(out), *job.argv), loop="")


def start(planned: Plan) -> list[Tensor]:
    """The parameters that the only expert starts from."""
    trained = experts.ready(planned, Quiet())
    assert trained is not None
    (file,) = trained.folder.rglob("*.pt")
    return [tensor.double() for tensor in torch.load(file, weights_only=True)[0][0]]


def gradient(model: str, images: Tensor, labels: Tensor, parameters: list[Tensor]) -> list[Tensor]:
    """The gradient of the mean cross entropy with respect to the parameters, differentiable."""
    network = networks.build(model, 3, 10, 32, seed=0).double()
    named = dict(zip([name for name, _ in network.named_parameters()], parameters, strict=True))
    logits = torch.func.functional_call(network, named, (images,))
    targets = labels.softmax(1) if labels.is_floating_point() else labels
    return list(torch.autograd.grad(F.cross_entropy(logits, targets), parameters, create_graph=True))


def norm(parts: list[Tensor]) -> Tensor:
    return torch.stack([part.square().sum() for part in parts]).sum().sqrt()


def of_classes(model: str, images: Tensor, parameters: list[Tensor]) -> Tensor:
    """DC, DSA, DM: the sum over the classes of the norm of the class's gradient."""
    leaves = [parameter.requires_grad_() for parameter in parameters]
    norms = [norm(gradient(model, images[c : c + 1], torch.tensor([c]), leaves)) for c in range(10)]
    return torch.stack(norms).sum()


def of_all(model: str, images: Tensor, parameters: list[Tensor]) -> Tensor:
    """DSAC behind its warm-up: the norm of the gradient of all classes together."""
    return norm(gradient(model, images, torch.arange(10), [parameter.requires_grad_() for parameter in parameters]))


def of_steps(model: str, images: Tensor, labels: Tensor, parameters: list[Tensor], *, fixed: bool) -> Tensor:
    """MTT, FTD, DATM: the mean of the norms over the steps; TESLA: each as if its parameters did not depend on the images."""
    now, total = [parameter.requires_grad_() for parameter in parameters], torch.zeros(())
    for _ in range(STEPS):
        found = gradient(model, images, labels, now)
        total = total + norm(found) / STEPS
        now = [p - RATE * g for p, g in zip(now, found, strict=True)]
        if fixed:
            now = [parameter.detach().requires_grad_() for parameter in now]
    return total


def derived(planned: Plan, found: dict[str, Tensor], *, together: bool = False) -> Tensor:
    """The image gradient of the term at weight 1, at the first step of which `double.py` `found` this."""
    method, images = planned.adapter.method, found["images"].requires_grad_()
    model = MODEL.get(method, "ConvNetW32")
    if method in BY_CLASS:
        parameters = [tensor for name, tensor in sorted(found.items()) if name.startswith("parameter")]
        term = (of_all if together else of_classes)(model, images, parameters)
    else:
        labels = found.get("labels", torch.arange(10))
        term = of_steps(model, images, labels, start(planned), fixed=method == "tesla")
    (gradient,) = torch.autograd.grad(term, images)
    return gradient


@pytest.mark.parametrize(
    ("method", "more"),
    [
        *(
            (method, ()) for method in ADAPTERS if method not in ("dsa", "dsac")
        ),  # dsa: the script of dc, augmentation aside
        *(("dsac", (f"outer_warmup={warmup}",)) for warmup in (0, 1)),  # all classes together; each by itself
    ],
)
def test_the_term_adds_to_the_image_gradient_what_its_definition_says(
    method: str, more: tuple[str, ...], planned: Callable[..., Plan], tmp_path: Path
) -> None:
    without = first_step(planned(method, 0.0, *more), tmp_path / "without")
    with_term = first_step(planned(method, WEIGHT, *more), tmp_path / "with")

    assert without["gradient"].dtype == torch.float64
    assert without["images"].equal(with_term["images"])
    added = with_term["gradient"] - without["gradient"]
    expected = WEIGHT * derived(planned(method, 0.0, *more), without, together=more == ("outer_warmup=0",))

    assert expected.norm() > 1e-3 * without["gradient"].norm()  # so that the comparison says something
    assert (added - expected).norm() < 1e-6 * expected.norm()


@pytest.mark.parametrize("method", ["dm", "mtt"])
def test_calibration_measures_what_the_definition_says(
    method: str, planned: Callable[..., Plan], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked, out, real = planned(method, 0.0), tmp_path / "found.safetensors", jobs.distillation
    monkeypatch.setattr(jobs, "distillation", lambda *arguments: in_double(real(*arguments), out))
    apply.apply(asked.adapter)

    def watched(name: str, weight: float, leader: Path | None = None) -> Path:
        return calibrate.watched(asked, weight, 1, tmp_path / name, tmp_path / "log.txt", Quiet(), leader)

    first = watched("without", 0.0)
    second = watched("with", WEIGHT, first)
    ((matching, term),) = calibrate.gradients(first, second, WEIGHT)
    found = calibrate.compared(asked, first, second, WEIGHT)

    expected = derived(asked, load_file(out))
    assert (term - expected).norm() < 1e-6 * expected.norm()
    assert found.balance == pytest.approx(float(matching.norm() / expected.norm()), rel=1e-6)
    cosine = float((matching * expected).sum() / (matching.norm() * expected.norm()))
    assert found.cosines == pytest.approx([cosine], abs=1e-6)

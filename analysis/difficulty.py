"""How difficult samples are: GraDN, the norm of the gradient that a single sample gives a network.

For a sample (x, y) it is the expectation over networks theta of || grad_theta loss(x, y; theta) ||_2, over all
parameters (arXiv 2408.12483 measures difficulty by the gradient norm). Which networks are meant changes the number,
and even which of two sets is the harder one: every figure says over which it was taken.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap
from torch.nn import functional as F

from runner import distilled
from runner.distilled import DistilledSet
from runner.errors import FatalError
from runner.files import write_text
from runner.networks import build
from runner.watch import Watch

NETWORKS = 5
MOST = 1000
"""As many images of a state are measured at most, evenly spread over it: more change its mean by little."""
SEED = 0
"""The same for all runs, so that those of one model and shape are measured by the same networks."""
_GRADIENTS = 2**28
"""Bytes that the gradients of one chunk take at most, by default."""
_CHUNK = {"cuda": 256, "cpu": 16}
"""Samples at a time at most, by default: a CPU gains nothing by more, as a layer's output no longer fits its cache."""


@dataclass(frozen=True)
class Course:
    """Mean GraDN of a run's images, of the `images` measured, at the updates `steps`; `networks` says over which."""

    steps: Sequence[int]
    mean: Sequence[float]
    networks: str
    images: int


def sample_norms(network: nn.Module, images: Tensor, labels: Tensor, chunk: int = 0) -> Tensor:
    """The gradient norm of each sample by itself, with respect to all parameters of `network`: [N].

    `images` [N,C,H,W]; `labels` int64 [N], or float logits [N,K] whose softmax is learned. `chunk` samples are worked
    on at a time; 0 chooses a number that fits the memory. Raises FatalError for a network that would mix the samples.
    """
    if any(isinstance(layer, nn.modules.batchnorm._BatchNorm) and layer.training for layer in network.modules()):
        raise FatalError("batch norm in training mode mixes the samples, so none has a gradient of its own: use eval()")
    parameters = {name: value.detach() for name, value in network.named_parameters()}
    targets = labels.softmax(1) if labels.is_floating_point() else labels

    def loss(theta: dict[str, Tensor], image: Tensor, target: Tensor) -> Tensor:
        return F.cross_entropy(functional_call(network, theta, (image[None],)), target[None])

    def norm(image: Tensor, target: Tensor) -> Tensor:
        parts = [part.square().sum() for part in grad(loss)(parameters, image, target).values()]
        return torch.stack(parts).sum().sqrt()

    at_a_time = chunk or _chunk(parameters.values(), images.device)
    norms: Tensor = vmap(norm, chunk_size=at_a_time)(images, targets)
    return norms


def gradn(images: Tensor, labels: Tensor, networks: Sequence[nn.Module], chunk: int = 0) -> Tensor:
    """GraDN of each sample, [N]: `sample_norms` averaged over `networks`."""
    return torch.stack([sample_norms(network, images, labels, chunk) for network in networks]).mean(0)


def fresh(model: str, channels: int, classes: int, size: int, count: int, seed: int) -> list[nn.Module]:
    """`count` freshly initialised networks, each of a seed of its own; batch norm stands at its initial statistics."""
    return [build(model, channels, classes, size, _own(seed, model, number)).eval() for number in range(count)]


def over_steps(run: Path, networks: int = NETWORKS, most: int = MOST) -> Course | None:
    """GraDN over a complete run's history, from RUN/difficulty.json if it was measured before; None without a history.

    States are RUN/history/<step>.safetensors and the final distilled set; the networks are freshly initialised ones of
    the run's model. Raises FatalError where a file of the run is not what it should be.
    """
    kept = run / "difficulty.json"
    if kept.is_file():
        return Course(**json.loads(kept.read_text()))
    if not (run / "history").is_dir():
        return None
    final, model = distilled.load(run), str(_read(run / "cell.json")["model"])
    view = final.view
    judges = fresh(model, view.channels, len(view.classes), view.size, networks, SEED)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    for judge in judges:
        judge.to(device)
    chosen = _spread(len(final.images), most)
    means = {
        step: float(gradn(images[chosen].to(device), labels[chosen].to(device), judges).mean())
        for step, images, labels in _states(run, final)
    }
    said = f"{networks} freshly initialised {model}"
    course = Course(list(means), list(means.values()), said, len(chosen))
    write_text(kept, json.dumps(asdict(course)) + "\n")
    return course


def fill(runs: Path, watch: Watch) -> int:
    """Measure every complete run in `runs` that has a history and was not measured yet; return how many that were.

    A run that cannot be measured is told of and left out.
    """
    waiting = list(_unmeasured(runs))
    if not waiting:
        return 0
    watch.stage("measuring the difficulty of distilled images", len(waiting))
    made = 0
    for number, run in enumerate(waiting, start=1):
        try:
            made += over_steps(run) is not None
        except FatalError as error:
            watch.say(f"no difficulty over the steps for {run.name}: {error}")
        watch.progress(number)
    return made


def _unmeasured(runs: Path) -> Iterator[Path]:
    """In the order of names. Of a run without a history, or measured, nothing is opened."""
    if not runs.is_dir():
        return
    for run in sorted(Path(entry.path) for entry in os.scandir(runs)):
        if (run / "history").is_dir() and not (run / "difficulty.json").exists() and _complete(run):
            yield run


def _complete(run: Path) -> bool:
    file = run / "result.json"
    return file.is_file() and _read(file).get("state") == "complete"


def _states(run: Path, final: DistilledSet) -> Iterator[tuple[int, Tensor, Tensor]]:
    """(update, images, labels) of the history in order, then of the final set, which stands for its own update."""
    last = _last_step(run)
    for file in sorted((run / "history").glob("*.safetensors")):
        if (step := _step(file)) < last:
            yield step, *_state(file, final)
    yield last, final.images, final.labels


def _step(file: Path) -> int:
    if not file.stem.isdecimal():
        raise FatalError(f"{file} is not named by a step, as 000100.safetensors. Take it out of the history")
    return int(file.stem)


def _state(file: Path, final: DistilledSet) -> tuple[Tensor, Tensor]:
    """Images and labels of one state; the labels are the final set's where they are not learned."""
    try:
        kept = load_file(file)
        images, labels = kept["images"], kept.get("labels", final.labels)
    except (OSError, SafetensorError, KeyError) as error:
        raise FatalError(f"{file} is no state of a run: {type(error).__name__}: {error}. Delete it") from error
    if images.shape != final.images.shape or labels.shape != final.labels.shape:
        raise FatalError(
            f"{file} holds images {list(images.shape)}, the run's are {list(final.images.shape)}. Delete it"
        )
    return images.float(), labels


def _last_step(run: Path) -> int:
    """How many updates the script made, as its steps were counted; a line cut off by a crash counts for nothing."""
    file, last = run / "metrics.jsonl", 0
    for text in file.read_text().splitlines() if file.is_file() else []:
        with contextlib.suppress(json.JSONDecodeError):
            line = json.loads(text)
            last = max(last, int(line["step"])) if line.get("kind") == "step" else last
    if not last:
        raise FatalError(f"{file} tells of no step, so the final images have no place in the history of {run}")
    return last


def _read(file: Path) -> dict[str, object]:
    try:
        return dict(json.loads(file.read_text()))
    except (OSError, ValueError) as error:
        raise FatalError(f"{file} cannot be read: {error}") from error


def _spread(count: int, most: int) -> Tensor:
    """At most `most` of the indices 0..count-1, evenly spread."""
    return torch.arange(min(count, most)) * count // min(count, most)


def _chunk(parameters: Iterable[Tensor], device: torch.device) -> int:
    """As many samples at a time as the kind of device likes, and as their gradients leave room for."""
    each = sum(part.numel() * part.element_size() for part in parameters)
    return max(1, min(_CHUNK.get(device.type, _CHUNK["cuda"]), _GRADIENTS // each))


def _own(seed: int, model: str, number: int) -> int:
    """A seed for each network: a hash, so that neighbouring seeds share none."""
    return int.from_bytes(hashlib.sha256(repr(("gradn", seed, model, number)).encode()).digest()[:6])

"""The networks over which GraDN is taken: fresh ones, ones trained on real data, and states of experts.

A judge depends on its own seed and number alone. Trained ones are kept in the cache, under a key of all that shapes
them.
"""

from __future__ import annotations

import hashlib
import json
import pickle
import re
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from sdc.data.sets import Dataset
from sdc.evaluation import beside, cpu, repeatable
from sdc.evaluation.augment import make
from sdc.evaluation.beside import Known, Work
from sdc.evaluation.learning import shuffled, train
from sdc.evaluation.networks import build, multiply_adds
from sdc.evaluation.protocol import Protocol, from_dict, to_dict
from sdc.evaluation.view import View, Whitening, normalised
from sdc.ground import cores, hardware, paths
from sdc.ground.crew import Task
from sdc.ground.errors import FatalError
from sdc.ground.files import replacing
from sdc.ground.watch import Watch

NETWORKS = 5
EPOCHS = 5
SEED = 0
"""The same for all runs, so that those of one model and shape are measured by the same networks."""
Kind = Literal["fresh", "trained", "experts"]


@dataclass(frozen=True)
class Judges:
    """Networks of one kind, on the device; `said` is which, in words."""

    kind: Kind
    networks: Sequence[nn.Module]
    said: str


@dataclass(frozen=True)
class Matched:
    """The experts that a run matches: their key, and the epochs from which it does, `first` to `behind` - 1."""

    key: str
    first: int
    behind: int


def fresh(model: str, channels: int, classes: int, size: int, count: int, seed: int) -> list[nn.Module]:
    """`count` freshly initialised networks, each of a seed of its own; batch norm stands at its initial statistics."""
    return [build(model, channels, classes, size, _own(seed, model, number)).eval() for number in range(count)]


def untrained(model: str, view: View, count: int, seed: int) -> Judges:
    """Fresh networks for images in a view."""
    made = fresh(model, view.channels, len(view.classes), view.size, count, seed)
    return Judges("fresh", _placed(made), f"{count} freshly initialised {model}")


def trained(model: str, data: Dataset, view: View, protocol: Protocol, count: int, seed: int, watch: Watch) -> Judges:
    """The fresh ones, trained on the training images of `data` in a view; those in the cache are not trained again.

    `protocol.epochs` is the E of the field's code, which trains for E + 1.
    """
    made = fresh(model, view.channels, len(view.classes), view.size, count, seed)
    files = [_file(model, data, view, protocol, _own(seed, model, number)) for number in range(count)]
    missing = [number for number in range(count) if not _restored(made[number], files[number])]
    if missing:
        epochs, images = protocol.epochs + 1, normalised(data.train.images, view).to(_device())
        labels = data.train.labels.to(images.device)
        watch.stage(f"training {len(missing)} {model} on {data.name}", len(missing) * epochs)
        threads = _threads(model, view, protocol) if images.device.type == "cpu" else 0
        tasks = [
            {"own": _own(seed, model, n), "order": _own(seed, model, n, "training"), "file": str(files[n])}
            for n in missing
        ]
        facts = {"model": model, "classes": len(view.classes), "protocol": to_dict(protocol), "threads": threads}
        known = Known({"images": images, "labels": labels}, facts)
        _taught(tasks, known, epochs, watch)
        for number in missing:
            made[number].load_state_dict(load_file(files[number]))
    said = (
        f"{count} {model} trained for {_epochs(protocol.epochs + 1)} on {len(data.train.labels)} real images of "
        f"{data.name}"
    )
    return Judges("trained", _placed(made), said)


def _threads(model: str, view: View, protocol: Protocol) -> int:
    work = protocol.batch * multiply_adds(model, view.channels, len(view.classes), view.size)
    return cores.threads(work, NETWORKS)


def _taught(tasks: Sequence[Task], known: Known, epochs: int, watch: Watch) -> None:
    """Train networks on what is known, each into its file: on a CPU some of them in other processes."""
    done = 0

    def keep(*_: object) -> None:
        nonlocal done
        done += epochs

    def tell(more: int) -> None:
        watch.progress(done + more)

    if known.facts["threads"]:
        work = Work(tasks, lambda _: epochs, taught, "sdc.analysis.difficulty.pupil", known, known.facts["threads"])
        beside.carry_out(work, tell, keep)
        return
    for task in tasks:
        taught(known, task, lambda epoch: tell(epoch + 1))
        keep()


def taught(known: Known, task: Task, on_epoch: Callable[[int], None]) -> None:
    """Train one network on real images, as a task says, and keep it in its file."""
    images, facts = known.tensors["images"], known.facts
    protocol = from_dict(facts["protocol"])
    network = build(facts["model"], images.shape[1], facts["classes"], images.shape[2], task["own"])
    generator = torch.Generator().manual_seed(task["order"])
    order, augment = shuffled(len(images), protocol, generator), make(protocol.augment, generator)
    with repeatable.kernels(images.device), cpu.threads(facts["threads"]) if facts["threads"] else nullcontext():
        train(network.to(images.device), images, known.tensors["labels"], protocol, order, augment, on_epoch)
    _keep(network.eval(), Path(task["file"]))


def of_experts(model: str, view: View, matched: Matched, count: int) -> Judges:
    """States of a run's experts at the epochs that its matches start from, evenly spread over both.

    Raises FatalError where the experts are not there, or are not networks of this model and shape.
    """
    folder = _experts(matched)
    files = sorted(folder.rglob("replay_buffer_*.pt"), key=lambda file: int(file.stem.rpartition("_")[2]))
    if not files:
        raise FatalError(f"{folder} holds no experts. {_again(matched.key)}")
    made, span = [], matched.behind - matched.first
    wanted = [(files[n * len(files) // count], n, matched.first + n * span // count) for n in range(count)]
    for file, number, epoch in wanted:
        trajectories = _trajectories(file)
        state = _state(trajectories[number % len(trajectories)], epoch, file)
        made.append(_loaded(build(model, view.channels, len(view.classes), view.size, 0), state, file))
    epochs = sorted({epoch for _, _, epoch in wanted})
    said = (
        f"{count} states of the experts that the run matches ({model}, key {matched.key}), at epochs "
        f"{', '.join(map(str, epochs))} of those that it starts from ({matched.first} to {matched.behind - 1})"
    )
    return Judges("experts", _placed(made), said)


def _experts(matched: Matched) -> Path:
    found = [record.parent for record in paths.experts().glob(f"*-{matched.key}/experts.json")]
    if not found:
        raise FatalError(f"the experts {matched.key} that the run matches are not in {paths.experts()}. {_again('')}")
    return found[0]


def _again(key: str) -> str:
    first = f"Take them away (sdc experts delete {key}) and train" if key else "Train"
    return f"{first} them again (sdc experts train METHOD with the options of the run), or give --networks fresh"


def _trajectories(file: Path) -> list[list[list[Tensor]]]:
    """The experts in a file, read where they lie: a list of states each, a state being a flat list of parameters."""
    try:
        found: list[list[list[Tensor]]] = torch.load(file, map_location="cpu", mmap=True, weights_only=True)
    except (OSError, EOFError, RuntimeError, ValueError, pickle.UnpicklingError) as error:
        raise FatalError(f"{file} holds no experts: {error}. Delete them (sdc experts), and train again") from error
    return found


def _state(states: Sequence[Sequence[Tensor]], epoch: int, file: Path) -> Sequence[Tensor]:
    if epoch >= len(states):
        raise FatalError(f"{file}: its experts have {len(states) - 1} epochs, and the run starts from epoch {epoch}")
    return states[epoch]


def _loaded(network: nn.Module, state: Sequence[Tensor], file: Path) -> nn.Module:
    """The network with these parameters, in the order in which its modules were made."""
    own = list(network.parameters())
    if [tuple(part.shape) for part in own] != [tuple(part.shape) for part in state]:
        raise FatalError(f"{file}: its experts are not of the model and shape of the run. Give --networks fresh")
    with torch.no_grad():
        for part, value in zip(own, state, strict=True):
            part.copy_(value)
    return network.eval()


def _file(model: str, data: Dataset, view: View, protocol: Protocol, seed: int) -> Path:
    """Where a trained network is kept: under a hash of all that shapes it."""
    facts = {
        "data_sha256": data.sha256,
        "model": model,
        "seed": seed,
        "protocol": {name: value for name, value in to_dict(protocol).items() if name != "networks"},
        "view": [view.channels, view.size, len(view.classes), list(view.mean), list(view.std)],
        "whitening": _digest(view.whitening),
    }
    key = hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:16]
    plain = re.sub(r"[^A-Za-z0-9_.]+", "-", data.name).strip("-.")[:40] or "data"
    return paths.judges() / f"{model}-{plain}-{key}.safetensors"


def _digest(whitening: Whitening | None) -> str:
    seen = hashlib.sha256()
    for tensor in (whitening.mean, whitening.matrix) if whitening else ():
        seen.update(tensor.contiguous().numpy().tobytes())
    return seen.hexdigest() if whitening else ""


def _restored(network: nn.Module, file: Path) -> bool:
    """Whether the network could be given its trained state; a damaged file counts for nothing."""
    try:
        network.load_state_dict(load_file(file))
    except (OSError, SafetensorError, RuntimeError):
        return False
    return True


def _keep(network: nn.Module, file: Path) -> None:
    state = {name: value.detach().cpu().contiguous() for name, value in network.state_dict().items()}
    with replacing(file) as partial:
        save_file(state, partial)


def _placed(networks: Sequence[nn.Module]) -> tuple[nn.Module, ...]:
    return tuple(network.to(_device()) for network in networks)


def _device() -> torch.device:
    return torch.device(hardware.device())


def _epochs(count: int) -> str:
    return f"{count} epoch{'s' if count != 1 else ''}"


def _own(seed: int, model: str, number: int, *more: str) -> int:
    """A seed for each network: a hash, so that neighbouring seeds share none."""
    return int.from_bytes(hashlib.sha256(repr(("gradn", seed, model, number, *more)).encode()).digest()[:6])

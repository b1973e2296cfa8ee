"""Experts that were trained elsewhere: what is taken in, under which key, and what is refused."""

from __future__ import annotations

import json
import os
import pickle
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from sdc.cli import show
from sdc.data import store
from sdc.distillation import experts, process
from sdc.evaluation import networks
from sdc.ground import paths
from sdc.ground.watch import Quiet
from sdc.plan.request import Request, plan
from tests.conftest import Outcome, Sdc

EPOCHS = 3
BRIEF = (f"train_epochs={EPOCHS}", "num_experts=2", "max_start_epoch=2", "expert_epochs=1", "expert_lr=0.05")
Trajectories = list[list[list[Tensor]]]
Import = Callable[..., Outcome]


def shown(images: Tensor) -> Tensor:
    """Grey digits as MTT's code shows a data set under the name of CIFAR-10."""
    mean, std = torch.tensor([0.4914, 0.4822, 0.4465]), torch.tensor([0.2023, 0.1994, 0.2010])
    return (images.repeat(1, 3, 1, 1) / 255 - mean.view(3, 1, 1)) / std.view(3, 1, 1)


def accuracy(state: list[Tensor], images: Tensor | None = None) -> float:
    """Of a state on the test images of digits, as they are in `images`."""
    split, network = store.load("digits").test, fresh(0)
    images = shown(split.images) if images is None else images
    with torch.no_grad():
        for part, value in zip(network.parameters(), state, strict=True):
            part.copy_(value)
        return float((network(images).argmax(1) == split.labels).float().mean())


def fresh(seed: int, model: str = "ConvNetD1") -> torch.nn.Module:
    return networks.build(model, 3, 10, 32, seed)


def state_of(network: torch.nn.Module) -> list[Tensor]:
    return [part.detach().clone() for part in network.parameters()]


def trained(seed: int, every: Tensor | None = None) -> list[list[Tensor]]:
    """An expert on 400 digits as they are in `every`, by plain torch."""
    network, split = fresh(seed), store.load("digits").train
    every = shown(split.images) if every is None else every
    pick = torch.randperm(len(split.labels), generator=torch.Generator().manual_seed(0))[:400]
    images, labels = every[pick], split.labels[pick]
    optimizer, states = torch.optim.SGD(network.parameters(), lr=0.05), [state_of(network)]
    for _ in range(EPOCHS):
        for some, true in zip(images.split(40), labels.split(40), strict=True):
            optimizer.zero_grad()
            torch.autograd.backward(F.cross_entropy(network(some), true))
            optimizer.step()
        states.append(state_of(network))
    return states


@pytest.fixture(scope="module")
def two(shared: Path) -> Trajectories:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SDC_CACHE", str(shared / "cache"))
        return [trained(0), trained(1)]


@pytest.fixture(autouse=True)
def _own_experts(tmp_path: Path, shared: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The prepared data are all tests', the experts are one's own."""
    data = shared / "cache" / "data"
    data.mkdir(parents=True, exist_ok=True)
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache" / "data").symlink_to(data)
    monkeypatch.setenv("SDC_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def buffers(tmp_path: Path, two: Trajectories) -> Path:
    """Two experts, a file each, where MTT's script puts them."""
    return saved(tmp_path / "theirs", [[one] for one in two])


def saved(root: Path, files: list[Any]) -> Path:
    folder = root / "CIFAR10_NO_ZCA" / "ConvNetD1"
    folder.mkdir(parents=True)
    for number, content in enumerate(files):
        torch.save(content, folder / f"replay_buffer_{number}.pt")
    return folder


@pytest.fixture
def taken_in(sdc: Sdc) -> Import:
    def call(folder: Path, *more: object, model: str = "ConvNetD1", changes: tuple[str, ...] = BRIEF) -> Outcome:
        settings = [word for change in changes for word in ("--set", change)]
        return sdc("experts", "import", folder, "mtt", "--dataset", "digits", "--model", model, *settings, *more)

    return call


def nothing_is_there() -> bool:
    left = [path for path in paths.experts().glob("*") if path.suffix != ".lock"]
    return left == []


def refused(outcome: Outcome) -> str:
    """What was said, in one line that no traceback precedes."""
    assert outcome.code == 1, outcome
    assert nothing_is_there()
    assert "Traceback" not in outcome.err
    return " ".join(outcome.err.split())


def test_they_are_taken_in_under_the_key_of_their_options_and_a_run_finds_them(
    taken_in: Import, buffers: Path, two: Trajectories, sdc: Sdc, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(*_: object, **__: object) -> None:
        raise AssertionError("experts are trained though they are there")

    monkeypatch.setattr(process, "launch", never)
    monkeypatch.setattr(show.OUT, "_width", 200)

    told = taken_in(buffers, "--json")

    assert told.code == 0, told
    planned = plan(Request("mtt", 0.0, "digits", model="ConvNetD1", changes=BRIEF), Quiet())
    found = experts.ready(planned, Quiet())
    assert found is not None
    assert (found.key, str(found.folder)) == (told.json["key"], told.json["folder"])
    (file,) = found.folder.rglob("*.pt")  # as few files as the distillation expects
    assert file.relative_to(found.folder) == Path("CIFAR10_NO_ZCA/ConvNetD1/replay_buffer_0.pt")
    for one, other in zip(torch.load(file, weights_only=True), two, strict=True):
        for state, same in zip(one, other, strict=True):
            assert all(part.equal(value) for part, value in zip(state, same, strict=True))
    assert (told.json["new"], told.json["state"], told.json["checked"]) == (True, "complete", True)
    assert told.json["imported_from"] == str(buffers)
    assert "are shown as 32x32 RGB: not cropped" in told.json["shown"]["words"]
    assert told.json["accuracy"] == pytest.approx(accuracy(two[0][-1]), abs=0.01)
    assert told.json["accuracy_before"] == pytest.approx(accuracy(two[0][0]), abs=0.01)
    assert told.json["accuracy"] > 0.5
    (listed,) = sdc("experts", "--json").json["experts"]
    assert listed["imported_from"] == str(buffers)
    assert "sgd, imported" in sdc("experts").out
    assert "2 x 3" in sdc("experts").out


def test_a_second_time_is_said_and_changes_nothing(taken_in: Import, buffers: Path) -> None:
    first = taken_in(buffers, "--json").json
    before = {path: path.stat().st_mtime_ns for path in Path(first["folder"]).rglob("*")}

    again = taken_in(buffers, "--json")

    assert (again.code, again.json["new"]) == (0, False)
    assert "there already, nothing was changed" in again.err
    assert f"sdc experts delete {first['key']}" in " ".join(again.err.split())
    assert {path: path.stat().st_mtime_ns for path in Path(first["folder"]).rglob("*")} == before


def test_files_grouped_as_expected_are_copied_or_linked(
    taken_in: Import, tmp_path: Path, two: Trajectories, sdc: Sdc
) -> None:
    theirs = saved(tmp_path / "theirs", [two]) / "replay_buffer_0.pt"
    for more, linked in (([], False), (["--link"], True)):
        told = taken_in(tmp_path / "theirs", "--json", *more)  # the folder above will do
        (file,) = Path(told.json["folder"]).rglob("*.pt")
        assert file.read_bytes() == theirs.read_bytes()
        assert file.samefile(theirs) == linked
        assert sdc("experts", "delete", told.json["key"]).code == 0
    assert theirs.is_file()


@pytest.mark.parametrize(
    ("model", "changes"),
    [
        ("ConvNetD2", BRIEF),
        ("ConvNetD1", (*BRIEF, "train_epochs=5")),
        ("ConvNetD1", (*BRIEF, "num_experts=100")),
    ],
)
def test_options_that_the_files_belie_are_refused_with_the_command_that_is_right(
    model: str, changes: tuple[str, ...], taken_in: Import, buffers: Path, sdc: Sdc
) -> None:
    said = refused(taken_in(buffers, model=model, changes=changes))

    assert "holds 2 experts of 3 epochs, networks as ConvNetD1;" in said
    assert f"model={model}" in said
    words = shlex.split(said[said.index("sdc experts import") :])
    done = sdc(*words[1:], "--json")
    assert done.code == 0, done
    assert done.json["settings"]["expert_lr"] == 0.05


def test_networks_for_other_data_are_refused(taken_in: Import, tmp_path: Path) -> None:
    other = state_of(networks.build("ConvNetD1", 3, 100, 32, 0))
    said = refused(taken_in(saved(tmp_path / "theirs", [[[other] * 4] * 2])))

    assert "the last of 100 numbers" in said
    assert "No model of mtt has these shapes for the 10 classes of digits" in said


def test_untrained_networks_are_taken_only_unchecked(taken_in: Import, tmp_path: Path, two: Trajectories) -> None:
    first = two[0][0]
    folder = saved(tmp_path / "theirs", [[[first] * 4], [[first] * 4]])

    said = refused(taken_in(folder))

    both = f"{accuracy(first):.1%} of the test images right after its training, {accuracy(first):.1%} before"
    assert both in said
    assert said.endswith("--unchecked")
    told = taken_in(folder, "--unchecked", "--json")
    assert told.code == 0, told
    assert told.json["checked"] is False


class Theirs:
    """An object that a pickle would make by calling something."""

    def __reduce__(self) -> tuple[Callable[[str], int], tuple[str]]:
        return os.system, ("touch pwned",)


@pytest.mark.parametrize("how", ["torch", "pickle"])
def test_no_object_is_unpickled(how: str, taken_in: Import, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    folder = saved(tmp_path / "theirs", [[Theirs()]])
    if how == "pickle":
        (folder / "replay_buffer_0.pt").write_bytes(pickle.dumps([Theirs()]))

    said = refused(taken_in(folder))

    assert "replay_buffer_0.pt" in said
    assert ("holds more than tensors in lists" if how == "torch" else "no file of torch.save") in said
    assert not (tmp_path / "pwned").exists()


@pytest.mark.parametrize("content", [[], {"experts": []}, [torch.zeros(3)], [[[torch.zeros(3).half()]] * 4]])
def test_what_is_no_list_of_experts_is_refused(content: object, taken_in: Import, tmp_path: Path) -> None:
    assert "holds no experts" in refused(taken_in(saved(tmp_path / "theirs", [content])))


def test_half_a_file_and_a_changed_byte_are_refused(taken_in: Import, buffers: Path) -> None:
    file = buffers / "replay_buffer_1.pt"
    whole = file.read_bytes()
    file.write_bytes(whole[: len(whole) // 2])
    assert "replay_buffer_1.pt is half-written" in refused(taken_in(buffers))
    place = len(whole) // 2
    file.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
    assert "replay_buffer_1.pt is damaged" in refused(taken_in(buffers))


def test_experts_that_differ_or_diverged_are_refused(taken_in: Import, tmp_path: Path, two: Trajectories) -> None:
    shorter = saved(tmp_path / "shorter", [[two[0]], [two[1][:3]]])
    assert "hold 3 and 2 epochs" in refused(taken_in(shorter))
    last = [part / 0 for part in two[1][-1]]
    diverged = saved(tmp_path / "diverged", [[two[0], [*two[1][:3], last]]])
    assert "expert 1 diverged" in refused(taken_in(diverged))


def test_no_files_and_several_sets_are_refused(taken_in: Import, buffers: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    assert "holds no replay_buffer_*.pt" in refused(taken_in(tmp_path / "empty"))
    assert "nowhere does not exist. Name the folder of the experts" in refused(taken_in(tmp_path / "nowhere"))
    (tmp_path / "replay_buffer_0.pt").touch()
    assert "replay_buffer_0.pt is a file" in refused(taken_in(tmp_path / "replay_buffer_0.pt"))
    saved(buffers.parents[1] / "more", [1])
    assert "several sets" in refused(taken_in(buffers.parents[1]))


def test_a_method_without_experts_and_experts_half_trained_here_are_refused(
    taken_in: Import, buffers: Path, sdc: Sdc
) -> None:
    assert "dm matches no experts" in refused(sdc("experts", "import", buffers, "dm", "--dataset", "digits"))
    planned = plan(Request("mtt", 0.0, "digits", model="ConvNetD1", changes=BRIEF), Quiet())
    half = experts.unfinished_folder(experts.folder(planned))
    half.mkdir(parents=True)
    (half / experts.RECORD).write_text(json.dumps(experts.facts_of(planned)))

    outcome = taken_in(buffers)

    assert outcome.code == 1
    assert f"sdc experts delete {planned.cell.experts}" in " ".join(outcome.err.split())
    assert (half / experts.RECORD).is_file()


def whitened(real: Tensor, images: Tensor) -> Tensor:
    """Grey images as ZCA of their three equal channels makes them: uint8 [N, 1, 32, 32] to float32 [N, 3, 32, 32].

    The covariance of what is repeated in three channels is that of one, in all nine blocks. Its axes are those of one,
    repeated, at three times their variance; along all others these images have nothing.
    """
    pixels, seen = (each.flatten(1).double() / 255 for each in (real, images))
    mean = pixels.mean(0)
    variances, axes = torch.linalg.eigh((pixels - mean).T @ (pixels - mean) / (len(pixels) - 1))
    scales = (3 * variances.clamp(min=0) + 0.1).rsqrt()
    return ((seen - mean) @ axes @ torch.diag(scales) @ axes.T).float().view_as(images).repeat(1, 3, 1, 1)


@pytest.mark.slow  # the command's transform of 3072 numbers takes a quarter of a minute
def test_whitened_experts_are_tested_on_whitened_images(taken_in: Import, tmp_path: Path) -> None:
    data = store.load("digits")
    white, tested = (whitened(data.train.images, part.images) for part in (data.train, data.test))
    both = [trained(0, white), trained(1, white)]

    told = taken_in(saved(tmp_path / "theirs", [both]), "--json", "--set", "zca=1")

    assert told.code == 0, told
    assert told.json["zca"] == 1
    assert told.json["accuracy"] == pytest.approx(accuracy(both[0][-1], tested), abs=0.01)
    assert abs(accuracy(both[0][-1]) - told.json["accuracy"]) > 0.02
    assert (Path(told.json["folder"]) / "CIFAR10" / "ConvNetD1" / "replay_buffer_0.pt").is_file()

"""What a refusal advises works, and what it does not name does not: every piece of advice is followed."""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from PIL import Image

from sdc.adapters.registry import ADAPTERS
from sdc.bench.work import floor
from sdc.data import store
from sdc.evaluation import distilled
from sdc.evaluation.distilled import DistilledSet
from sdc.evaluation.protocol import Protocol
from sdc.evaluation.view import View, normalised
from sdc.ground import paths
from sdc.ground.errors import FatalError
from sdc.ground.watch import Quiet
from sdc.plan.request import Request, plan
from tests.conftest import Sdc


def tree(folder: Path, classes: int = 10, train: int = 2, small: int | None = None, side: int = 8) -> Path:
    """A folder of classes k000, k001, ..., with `train` training images each, one alone of the class `small`."""
    for label in range(classes):
        for split, count in (("train", 1 if label == small else train), ("test", 1)):
            (folder / split / f"k{label:03}").mkdir(parents=True)
            for number in range(count):
                shade = (label, 50 * number, 7)
                Image.new("RGB", (side, side), shade).save(folder / split / f"k{label:03}" / f"{number}.png")
    return folder


@dataclass(frozen=True)
class Case:
    """A command that is refused, and what its answer has to hold."""

    method: str
    words: tuple[str, ...]
    says: str
    classes: int = 0
    """Of a folder of images, two of each class; 0: digits."""
    small: int | None = None


CASES = [
    Case("dsac", (), "dsac takes datasets of 10 or 100 classes; set has 200: k000, ", classes=200),
    Case("dsac", ("--model", "MLP"), "dsac takes datasets of 10 or 100 classes; set has 200", classes=200),
    Case("dc", ("--model", "MLP"), "its MLP takes images up to 32x32, not 64x64", classes=200),
    Case("mtt", ("--model", "ConvNetW64"), "its ConvNetW64 takes 32x32 images only, not 64x64", classes=200),
    Case("dm", ("--ipc", "5"), "its loops are defined for ipc 1, 10, 20, 30, 40, 50 only, not 5"),
    Case("dm", ("--ipc", "1000"), "its loops are defined for ipc 1, 10, 20, 30, 40, 50 only, not 1000"),
    Case("dsa", ("--ipc", "7", "--model", "MLP"), "its loops are defined for ipc 1, 10, 20, 30, 40, 50 only, not 7"),
    Case("mtt", ("--ipc", "1000"), "class 8 of digits has only 139 training images to start from"),
    Case("datm", ("--ipc", "140"), "class 8 of digits has only 139 training images to start from"),
    Case("dm", ("--ipc", "10"), "class k003 of set has only 1 training images to start from", classes=10, small=3),
    Case("dsac", ("--ipc", "10"), "class k003 of set has only 1 training images to start from", classes=10, small=3),
    Case("tesla", ("--ipc", "2"), "class k003 of set has only 1 training images to start from", classes=10, small=3),
    Case("dm", ("--ipc", "10", "--set", "limit_per_class=5"), "5 training images to start from, what --set "
         "limit_per_class=5 leaves of 142"),
    Case("mtt", ("--set", "max_start_epoch=1000"), "it would match up to epoch"),
    Case("dsac", ("--set", "outer_loop=5", "--set", "outer_warmup=50"), "outer_warmup (50) is at most outer_loop (5)"),
]  # fmt: skip


def asked(case: Case, data: Path | None) -> Request:
    """The request of a case's words."""
    given = dict(zip(case.words[::2], case.words[1::2], strict=True))
    changes = tuple(value for word, value in zip(case.words[::2], case.words[1::2], strict=True) if word == "--set")
    name = "set" if data else "digits"
    return Request(
        case.method, 0.0, name, data, int(given.get("--ipc", 1)), model=given.get("--model"), changes=changes
    )


def advised(error: str, request: Request) -> list[Request]:
    """The requests that an error's lines of advice come to."""
    found = []
    for line in error.splitlines():
        if line.startswith("Give --"):
            for words in line.removeprefix("Give ").split(", or "):
                option, value = shlex.split(words)
                change = {
                    "--ipc": {"ipc": int(value) if option == "--ipc" else 1},
                    "--model": {"model": value},
                    "--set": {"changes": (*request.changes, value)},
                }[option]
                found.append(replace(request, **change))  # type: ignore[arg-type]
        elif able := re.fullmatch(r"Take another method(, without .*)?: (.*)", line):
            asked_so = without(request, able[1]) if able[1] else request
            found += [replace(asked_so, method=method) for method in able[2].split(", ")]
        elif able := re.fullmatch(r"(\w+) can( without .*)", line):
            assert able[1] == request.method
            found.append(without(request, able[2]))
    return found


def without(request: Request, words: str) -> Request:
    """The request without the options that the words name."""
    for option, value in re.findall(r"(--model|--set) (\S+)", words):
        if option == "--model":
            assert request.model == value
            request = replace(request, model=None)
        else:
            request = replace(request, changes=tuple(change for change in request.changes if change != value))
    return request


def can(request: Request) -> bool:
    try:
        plan(request, Quiet())
    except FatalError:
        return False
    return True


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.method} {' '.join(case.words)} {case.classes}")
def test_advice_is_given_and_following_it_works(case: Case, sdc: Sdc, tmp_path: Path) -> None:
    data = tree(tmp_path / "set", case.classes, small=case.small) if case.classes else None
    where = ("--data", data) if data else ("--dataset", "digits")
    outcome = sdc("run", case.method, "--weight", 0, *where, *case.words, "--runs", tmp_path / "runs", "--json")

    assert outcome.code == 1, outcome
    assert case.says in outcome.json["error"]
    assert not (tmp_path / "runs").exists()
    assert not paths.upstream().exists()
    request = asked(case, data)
    options = advised(outcome.json["error"], request)
    assert options, outcome.json["error"]
    for option in options:
        assert can(option), f"{outcome.json['error']}\n\n{option}"
    # What the words "Take another method" leave out cannot do it as it was asked.
    named = {option.method for option in options} | {case.method}
    for method in set(ADAPTERS) - named:
        assert not can(replace(request, method=method)), method


def test_where_no_method_can_none_is_named(sdc: Sdc, tmp_path: Path) -> None:
    for classes in (9, 2):
        data = tree(tmp_path / f"of{classes}", classes)
        outcome = sdc("run", "dm", "--weight", 0, "--data", data, "--json")
        assert outcome.json["error"].splitlines()[1:] == [
            f"No method here takes {classes}. Leave out classes, or add some, until there are 10 or 100 or 200"
        ]
        assert not any(can(Request(method, 0.0, data=data)) for method in ADAPTERS)


def test_the_advice_of_images_that_are_given_keeps_to_what_the_method_takes(tmp_path: Path) -> None:
    part = tree(tmp_path / "part", train=4)
    for method, fits in (("dm", "--ipc 1"), ("mtt", "--ipc 4")):
        request = Request(method, 0.0, data=tree(tmp_path / method, train=12), ipc=10)
        with pytest.raises(FatalError) as caught:
            plan(replace(request, changes=(f"init_from={part}",)), Quiet())
        first, second = str(caught.value).splitlines()[:2]
        assert first.endswith("class k000 has 4 training images there, and --ipc 10 needs as many")
        assert second == f"Give {fits}"


@pytest.mark.parametrize(
    ("method", "changes", "needs"),
    [
        ("dm", (), True),
        ("dm", ("init=noise",), False),
        ("dc", (), False),  # its script begins from noise unless it is told otherwise
        ("dc", ("init=real",), True),
        ("dsa", ("init=noise",), False),
        ("mtt", ("pix_init=noise",), False),
        ("mtt", ("pix_init=real",), True),
        ("tesla", ("pix_init=noise",), False),
        ("ftd", ("pix_init=noise",), False),
        ("dsac", (), True),
        ("datm", ("pix_init=real",), True),
    ],
)
def test_a_small_class_is_in_the_way_only_of_real_first_images(
    method: str, changes: tuple[str, ...], needs: bool, tmp_path: Path
) -> None:
    data = tree(tmp_path / "set", train=12, small=3)
    assert can(Request(method, 0.0, data=data, ipc=10, changes=changes)) is not needs


@pytest.mark.upstream
@pytest.mark.usefixtures("true_upstream")
@pytest.mark.parametrize(("method", "model"), [("dm", "ConvNetD1"), ("dc", "MLP")])  # dc trains its for 500 epochs
def test_a_run_from_noise_does_with_fewer_real_images_than_it_makes(
    method: str, model: str, sdc: Sdc, tmp_path: Path
) -> None:
    settings = ("Iteration=0", "init=noise", "networks=1", "epochs=1", f"model={model}", "history=0", "batch_real=2")
    changes = [word for setting in settings for word in ("--set", setting)]
    data = tree(tmp_path / "set", train=2, small=3, side=32)
    outcome = sdc("run", method, "--weight", 1, "--data", data, "--ipc", 10, *changes, "--runs", tmp_path, "--json")
    assert outcome.code == 0, outcome
    assert distilled.load(Path(outcome.json["run"])).images.shape[0] == 100


def test_random_real_images_of_a_small_class_keep_their_labels(tmp_path: Path) -> None:
    dataset = store.load("set", tree(tmp_path / "set", train=4, small=3))
    view = View("set", dataset.classes, 3, 8, (0.0,) * 3, (1.0,) * 3)
    protocol = Protocol(lr=0.01, epochs=1, networks=1)
    shown = normalised(dataset.train.images[:40], view)
    found = DistilledSet(
        shown[:1].expand(40, -1, -1, -1).contiguous(), distilled.hard_labels(10, 4), view, protocol, None
    )
    assert floor(found, dataset, protocol, "ConvNetD1", 0)["n"] == 1

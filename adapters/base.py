"""What an adapter says about a method: data, and at most a few small functions of a job."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

Value = int | float | str


@dataclass(frozen=True)
class Upstream:
    """A public repository at one commit. `licence` is None where its authors gave none."""

    url: str
    commit: str
    licence: str | None
    files: tuple[str, ...] = ("*.py", "LICENSE*")
    """Sparse-checkout patterns: what is fetched and checked out."""

    def __post_init__(self) -> None:
        if not self.url.startswith("https://"):
            raise ValueError(f"an upstream is named by its https address, got {self.url!r}")
        if not re.fullmatch(r"[0-9a-f]{40}", self.commit):
            raise ValueError(f"a pin is a full commit hash, not a branch or a tag, got {self.commit!r}")


@dataclass(frozen=True)
class Patch:
    """One script's change: the patch file and its hash, and the script's git blob before and after."""

    script: str
    file: str
    sha256: str
    before: str
    after: str


@dataclass(frozen=True)
class Need:
    """A package that an upstream's scripts import and that sdc itself does not require, as pip calls it."""

    package: str
    module: str = ""
    """What is imported of it, where that is not the package's own name: `cv2` of `opencv-python`."""
    version: str = ""
    """The versions that will do, such as `>=0.6,<1`; empty: any."""

    @property
    def imported(self) -> str:
        """The name that is imported."""
        return self.module or self.package.replace("-", "_")

    @property
    def wanted(self) -> str:
        """It in pip's words."""
        return f"{self.package}{self.version}"


@dataclass(frozen=True)
class Slot:
    """A dataset as the script knows it: its name there, and the shape of what the script expects under that name."""

    name: str
    classes: int
    channels: int
    size: int


@dataclass(frozen=True)
class Option:
    """A hyper-parameter of the script that a recipe or `--set` may give: its default there, and what it is."""

    default: Value
    help: str
    choices: tuple[Value, ...] = ()
    positive: bool = False
    """Whether it must be above 0."""
    words: tuple[str, ...] = ()
    """If any: it is some of these joined by _, or none."""


@dataclass(frozen=True)
class Job:
    """One distillation, in the words the script needs; `experts` are the options of the networks it needs trained."""

    slot: Slot
    ipc: int
    model: str
    options: Mapping[str, Value]
    experts: Mapping[str, Value] = field(default_factory=dict)
    given: bool = False
    """Whether the first synthetic images are given to the script, whatever it would make itself."""


@dataclass(frozen=True)
class Experts:
    """Trajectories of networks trained on real data, which some methods match.

    Methods that name the same `kind`, `method` and options share them. The script is called in a folder of its own and
    writes its files below it, in `place(job)`; the distillation finds that folder under the name `buffers`.
    """

    kind: str
    method: str
    """The method whose clone holds `script`."""
    script: str
    options: Mapping[str, Option]
    argv: Callable[[Job], list[str]]
    place: Callable[[Job], str]
    files: Callable[[Job], int]
    """How many files the distillation is to find there, each of as many experts."""
    passes: int
    """Forward and backward passes a step of training, for an estimate of its time."""
    advice: Mapping[str, str]
    loop: str = "it"
    """The variable of the script's loop over experts, where training goes on that was cut short."""


@dataclass(frozen=True)
class Adapter:
    """All we know of a method: where its code is, what we change, what it can do, how it is called and evaluated."""

    method: str
    title: str
    upstream: Upstream
    patch: Patch
    datasets: Mapping[str, str]
    """Dataset names of this project that the script knows itself, and what it calls them."""
    slots: tuple[Slot, ...]
    models: tuple[str, ...]
    """The networks that it distils with."""
    options: Mapping[str, Option]
    recipes: Mapping[str, Any]
    """Hyper-parameters by recipe, as adapters/recipes/*.toml holds them."""
    refuse: Callable[[Job], str | None]
    """Why the script cannot do this job, or None."""
    argv: Callable[[Job], list[str]]
    """The script's command line for this job, without the options of SDC."""
    steps: Callable[[Job], int]
    """How often the synthetic images are updated."""
    evaluation: Callable[[Job], Mapping[str, Value]]
    """How the method's own code trains on its distilled set: the fields of a protocol, without `lr` if it learns it."""
    advice: Mapping[str, str] = field(default_factory=dict)
    """What to change when a run fails: `diverged`, `memory`, `idle` (no update was ever made)."""
    experts: Experts | None = None
    files: Callable[[Job], Mapping[str, str]] = lambda _: {}
    """Text files that the script reads in its working folder, by name."""
    loss: str = ""
    """What the script calls the loss that it logs behind each step; empty if it logs none."""
    start: str = ""
    """The option that says what the synthetic images start from: at `noise` no real image is needed for that; empty if
    they always start from real ones."""
    average: str = ""
    """The option that is the decay of a moving average of the images, which is then the outcome; empty if none is."""
    loop: str = "it"
    """The variable of the script's loop over its iterations, where a run goes on that was cut short."""
    without: Mapping[str, str] = field(default_factory=dict)
    """Why it does not distil with networks that other methods distil with, by their names."""
    saves: str = ""
    """What the one file begins with in which the script saves images and labels together, as `res_DC`; empty if it
    saves images_N.pt, labels_N.pt and, where it learns the rate, lr_N.pt."""
    needs: tuple[Need, ...] = ()
    """Packages that the scripts of its clone import beyond what sdc requires; looked for before one runs."""

    def settings(self) -> Mapping[str, Option]:
        """Every option that a recipe or `--set` may give: the script's, and those of the experts."""
        return {**self.options, **(self.experts.options if self.experts else {})}


def flags(options: Mapping[str, Value]) -> list[str]:
    """`{"lr": 0.1}` as `["--lr", "0.1"]`."""
    return [word for name, value in options.items() for word in (f"--{name}", str(value))]

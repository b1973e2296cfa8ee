"""The options that a script's command line takes, read off its text: names, kinds and defaults, and what they are for.

Nothing is run. What an option is for is guessed by its name and default, to be looked over by whoever adds a method.
"""

from __future__ import annotations

import ast
import functools
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from sdc.adapters.base import Value

_WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+")
_FOR = {
    "dataset": {"dataset", "data_set", "dset", "dataset_name", "data_name", "datasets"},
    "model": {"model", "net", "network", "arch", "net_type", "model_name", "arch_name", "net_name"},
    "ipc": {"ipc", "spc", "n_ipc", "num_ipc", "images_per_class", "image_per_class", "img_per_class", "imgs_per_class"},
}
"""What an adapter tells every script by a job's own fields, and what scripts call it."""
_PLACES = {"path", "paths", "dir", "dirs", "directory", "folder", "root", "results", "logdir", "datadir", "outdir"}
_PLACES |= {"savedir", "workdir", "savepath", "datapath", "logpath", "result", "output", "outputs"}
_GIVEN = {"load", "resume", "pretrained", "pretrain", "checkpoint", "ckpt", "teacher", "init", "config", "cfg"}
"""Words of a path at which something is to be found that an earlier run made: it is left out."""
_DATA = {"data", "dataset", "datasets", "datadir", "datapath", "imagenet", "cifar", "train", "val", "test"}
_ITERATIONS = {
    "iteration",
    "iterations",
    "iter",
    "iters",
    "niter",
    "niters",
    "steps",
    "step",
    "loop",
    "loops",
    "updates",
}
_EPOCHS = {"epoch", "epochs", "nepochs", "nepoch"}
_BATCH = {"batch", "bs", "batchsize", "bsz", "batches", "minibatch"}
_EVALUATIONS = {"eval", "evals", "evaluation", "evaluations", "validation", "valid", "val", "test"}
_RUNS = {"exp", "exps", "experiments", "experiment", "repeat", "repeats", "trials", "runs", "seeds"}
_COUNTS = {"num", "n", "number", "nb", "count", "repeat", "repeats", "trials", "runs"}
_WARMUPS = {"warmup", "warm", "burnin"}
_WORKERS = {"workers", "worker", "nworkers", "jobs"}
_NO_COUNT = {"lr", "rate", "size", "decay", "gamma", "milestone", "milestones", "start", "interval", "freq"}
_NO_COUNT |= {"frequency", "every", "print", "save", "log", "it", "weight", "momentum"}


@dataclass(frozen=True)
class Argument:
    """An option of a script: its name there, without the dashes; None: it has no default that is a number or text."""

    name: str
    default: Value | None
    kind: str
    """What its text is turned into: `int`, `float`, `str`, `bool`; empty: not said."""
    switch: bool
    """Whether it takes no value."""
    choices: tuple[str, ...] = ()
    guessed: bool = False
    """Whether the script states no default, and this is one that may do."""

    @property
    def words(self) -> set[str]:
        """The words of its name, small."""
        return {word.lower() for word in _WORD.findall(self.name)}

    @property
    def attribute(self) -> str:
        """What the script calls its value."""
        return self.name.replace("-", "_")

    def tells(self) -> str:
        """The field of a job that it is told: `dataset`, `model`, `ipc`; empty: none."""
        return next((field for field, names in _FOR.items() if self.attribute.lower() in names), "")

    def place(self) -> str:
        """What lies at the path that it is: `data`, `made` (what the script saves); empty: it is no path to be set."""
        told_by_default = isinstance(self.default, str) and _is_path(self.default)
        if self.switch or self.kind not in ("", "str", "Path") or not (self.words & _PLACES or told_by_default):
            return ""
        if self.words & _GIVEN or isinstance(self.default, int | float) or self.tells():
            return ""
        return "data" if self.words & _DATA and not self.words & {"save", "log", "out", "output", "result"} else "made"

    def of_its_evaluation(self) -> int | None:
        """What its own evaluation, of which nothing is used here, can do with; None: it is no part of that.

        One of each: scripts take means and maxima over what they evaluate.
        """
        counts = self.words & (_COUNTS | _RUNS | _EPOCHS) and self.words & (_EVALUATIONS | _RUNS)
        return min(1, int(self.default or 0)) if self._is_count() and counts and not self.words & _NO_COUNT else None

    def small(self, iterations: int, batch: int) -> int | None:
        """Its value in a run of so few iterations on so small batches; None: as it is."""
        if not self._is_count() or self.words & (_NO_COUNT - ({"size"} if self.words & _BATCH else set())):
            return None
        most = next((most for words, most in self._most(iterations, batch) if self.words & words), None)
        return None if most is None or not self.default or int(self.default) <= most else most

    def is_iterations(self) -> bool:
        """Whether it says how long the script runs."""
        known = _ITERATIONS | _EPOCHS
        return self._is_count() and bool(self.words & known) and not self.words & (_NO_COUNT | _EVALUATIONS)

    def _most(self, iterations: int, batch: int) -> tuple[tuple[set[str], int], ...]:
        epochs = max(1, iterations // 3)
        return (_WORKERS, 0), (_WARMUPS, 1), (_BATCH, batch), (_EPOCHS, epochs), (_ITERATIONS, iterations)

    def _is_count(self) -> bool:
        whole = isinstance(self.default, int) and not isinstance(self.default, bool)
        return whole and self.kind in ("", "int") and not self.switch


def read(script: bytes) -> list[Argument]:
    """The options that a text adds to a parser, in its order, each once."""
    found: dict[str, Argument] = {}
    for node in ast.walk(ast.parse(script)):
        if not (
            isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "add_argument"
        ):
            continue
        names = [word.value for word in node.args if isinstance(word, ast.Constant) and isinstance(word.value, str)]
        name = next((name.removeprefix("--") for name in names if name.startswith("--")), "")
        if name:
            found.setdefault(name, _argument(name, {word.arg: word.value for word in node.keywords if word.arg}))
    return list(found.values())


def of_first(texts: Sequence[bytes]) -> tuple[Argument, ...]:
    """The options of the first text that has any."""
    return next((found for text in texts if (found := tuple(read(text)))), ())


def _argument(name: str, told: dict[str, ast.expr]) -> Argument:
    kind = ast.unparse(told["type"]).split(".")[-1] if "type" in told else ""
    action = ast.unparse(told["action"]).strip("'\"") if "action" in told else ""
    default = _value(told.get("default"))
    if kind == "float" and default is not None and not isinstance(default, str):
        default = float(default)
    choices = told.get("choices")
    words = [_value(each) for each in choices.elts] if isinstance(choices, ast.List | ast.Tuple) else []
    several = "nargs" in told
    found = Argument(
        name,
        None if several else default,
        "several" if several else kind,
        switch=action.startswith("store_") or kind == "bool" or action == "BooleanOptionalAction",
        choices=tuple(str(word) for word in words if word is not None),
    )
    return found if "default" in told else _guessed(found)


def _guessed(argument: Argument) -> Argument:
    """With a default, where the script states none and a run needs one: how long, how large, how fast."""
    guesses: tuple[tuple[str, set[str], Value], ...] = (
        ("int", _BATCH, 256),
        ("int", _ITERATIONS | _EPOCHS, 1000),
        ("float", {"lr", "rate"}, 0.1),
    )
    for kind, words, value in guesses:
        if argument.kind == kind and argument.words & words and not argument.switch:
            return replace(argument, default=value, guessed=True)
    return argument


def _value(node: ast.expr | None) -> Value | None:
    """A number of 0 or more, or a text, as it is written."""
    value = node.value if isinstance(node, ast.Constant) else None
    return value if isinstance(value, int | float | str) and not isinstance(value, bool) else None


def _is_path(default: str) -> bool:
    return "://" not in default and (default.startswith((".", "~", "/")) or "/" in default)


def makes(texts: Iterable[bytes], attribute: str) -> bool:
    """Whether one of these texts makes the folder that an option names."""
    named = re.compile(rf"\.{attribute}\b|['\"]{attribute}['\"]")
    return any(named.search(call) for text in texts for call in _made(text))


@functools.cache  # asked for once an option, and an upstream may have many and long files
def _made(text: bytes) -> tuple[str, ...]:
    """The calls of a text that make folders."""
    calls = (node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Call))
    return tuple(ast.unparse(call) for call in calls if _called(call.func) in ("mkdir", "makedirs"))


def _called(function: ast.expr) -> str:
    """The last name of what is called."""
    if isinstance(function, ast.Attribute):
        return function.attr
    return function.id if isinstance(function, ast.Name) else ""

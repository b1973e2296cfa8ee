"""What a new method begins with: the head of its patch, an adapter and recipes, to be filled in.

Of the upstream's script no more is taken over than the names and the defaults of its options.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from sdc.adapters.base import Need, Patch, Upstream, Value
from sdc.patching import arguments, loops
from sdc.patching.arguments import Argument
from sdc.patching.loops import Loop

UNFILLED = "to be filled in"
COMMON = (
    *("model", "limit_per_class", "validation", "networks", "epochs"),
    *("snapshot_every", "init_from", "gpus", "history"),
)
"""Settings that every method has: an option of a script of such a name is set under another."""
_OWN = "script_"
_FEW = {"trial": (3, 16), "quick": (100, 64)}
"""By recipe: iterations, and images of a batch, at most."""
_SETS = {
    "CIFAR10": ("cifar10", 10, 3, 32),
    "MNIST": ("mnist", 10, 1, 28),
    "FashionMNIST": ("fashionmnist", 10, 1, 28),
    "SVHN": ("svhn", 10, 3, 32),
    "CIFAR100": ("cifar100", 100, 3, 32),
}
"""Datasets of torchvision that a script may know: our name, classes, channels, size."""
_NETWORKS = (
    *("ConvNet", "ConvNetD1", "ConvNetD2", "ConvNetD3", "ConvNetD4"),
    *("ConvNetW32", "ConvNetW64", "ConvNetW128", "ConvNetW256"),
)
"""Networks without batch normalisation that are evaluated here, too, under the names that scripts of this field use."""


@dataclass(frozen=True)
class Draft:
    """What is known of a new method's upstream: its files' texts, the script's first, and what they import."""

    name: str
    upstream: Upstream
    patch: Patch
    edited: bytes
    """The script with our lines."""
    texts: tuple[bytes, ...]
    needs: tuple[Need, ...] = ()
    arguments: tuple[Argument, ...] = ()
    """The options of its command line."""

    def set_by_recipes(self) -> list[Argument]:
        """The options that a recipe or `--set` may give."""
        fixed = self.fixed()
        return [a for a in self.arguments if a.default is not None and not a.switch and a.name not in fixed]

    def fixed(self) -> dict[str, str]:
        """What the adapter always tells the script, by its options' names: expressions of Python."""
        found = {"dataset": "job.slot.name", "model": "job.model", "ipc": "job.ipc"}
        told = {a.name: found[a.tells()] for a in self.arguments if a.tells()}
        for argument in self.arguments:
            if (known := {"dataset": _SETS, "model": _NETWORKS}.get(argument.tells())) and _lower(argument, known):
                told[argument.name] += ".lower()"
            elif (one := argument.of_its_evaluation()) is not None:
                told[argument.name] = str(one)
            elif place := argument.place():
                told[argument.name] = json.dumps(self._folder(argument, place))
        return told if any(a.tells() for a in self.arguments) else found | told

    def loop(self) -> Loop:
        """The loop over iterations."""
        iterations = [a.attribute for a in self.arguments if a.is_iterations()]
        once = [a.attribute for a in self.arguments if a.of_its_evaluation() == 1]
        return loops.found(self.edited, iterations, once)

    def networks(self) -> tuple[str, ...]:
        """Those that the upstream's files name, of the ones that are known here."""
        return tuple(name for name in _NETWORKS if self._names(name)) or _NETWORKS[:1]

    def sets(self) -> list[str]:
        """The same of datasets."""
        return [name for name in _SETS if self._names(name)] or ["CIFAR10"]

    def _names(self, word: str) -> bool:
        forms = {f"{quote}{form}{quote}".encode() for form in (word, word.lower()) for quote in ("'", '"')}
        return any(form in text for text in self.texts for form in forms)

    def _folder(self, argument: Argument, place: str) -> str:
        """A folder that the script makes itself, in the run's; or the run's, which is there."""
        if not arguments.makes(self.texts, argument.attribute):
            return "."
        return "data" if place == "data" else argument.attribute


def header(name: str, upstream: Upstream, script: str) -> bytes:
    """The words above a patch."""
    given = f"{upstream.licence} licence" if upstream.licence else "no licence given"
    repository = "/".join(upstream.url.split("/")[-2:])
    return f"SDC for {name.upper()} ({script} of {repository} at {upstream.commit[:8]}, {given}).\n\n".encode()


def licence(tree: Path) -> str | None:
    """The licence that a clone's LICENSE names, of the usual ones; None if it has none."""
    for file in sorted(tree.glob("LICENSE*")):
        text = file.read_text(errors="replace")
        known = {"MIT License": "MIT", "Apache License": "Apache-2.0", "BSD": "BSD", "GNU GENERAL PUBLIC": "GPL"}
        return next((short for words, short in known.items() if words in text), file.name)
    return None


def registered(name: str) -> str:
    """The line that a method adds to adapters/registry.py."""
    return f'"{name}": {name}.ADAPTER,'


def adapter(draft: Draft) -> bytes:
    """An adapter's file."""
    name, upstream, patch, loop = draft.name, draft.upstream, draft.patch, draft.loop()
    options = "".join(
        f'        "{_key(a)}": Option({json.dumps(a.default)}, "{UNFILLED}{_unsaid(a)}"),\n'
        for a in draft.set_by_recipes()
    )
    needs = ", ".join(_need(need) for need in draft.needs)
    networks = "".join(f'        "{name}",\n' for name in draft.networks())
    slots = "".join(
        f'        Slot("{own}", classes={classes}, channels={channels}, size={size}),\n'
        for own in draft.sets()
        for _, classes, channels, size in [_SETS[own]]
    )
    datasets = ", ".join(f'"{_SETS[own][0]}": "{own}"' for own in draft.sets())
    fixed = "".join(f'        "{option}": {value},\n' for option, value in draft.fixed().items())
    names = "Adapter, Job, Need, Option, Patch, Slot, Upstream, Value, flags"
    return f'''\
"""{name.upper()}: {UNFILLED}: title, authors, venue, year."""

from __future__ import annotations

from sdc.adapters import recipes
from sdc.adapters.base import {names if needs else names.replace("Need, ", "")}


def argv(job: Job) -> list[str]:
    """Paths are in the run's own folder. Of what the script evaluates itself nothing is used."""
    fixed: dict[str, Value] = {{
{fixed}    }}
    return flags(fixed | {_told(draft)})


ADAPTER = Adapter(
    method="{name}",
    title="{UNFILLED}",
    upstream=Upstream(
        url="{upstream.url}",
        commit="{upstream.commit}",
        licence={upstream.licence!r},
    ),
    patch=Patch(
        script="{patch.script}",
        file="{patch.file}",
        sha256="{patch.sha256}",
        before="{patch.before}",
        after="{patch.after}",
    ),
    datasets={{{datasets}}},
    slots=(
{slots}    ),
    models=(
{networks}    ),
    options={{
{options}    }},
    recipes=recipes.load("{name}"),
    refuse=lambda _: None,
    argv=argv,
    steps=lambda {_steps(draft, loop)}
    evaluation=lambda _: {{"lr": 0.01, "epochs": 1000, "augment": ""}},
    advice={{"diverged": "{UNFILLED}", "memory": "{UNFILLED}: --set NAME=... that takes less"}},
    loop="{loop.variable}",
{f"    needs=({needs},),{chr(10)}" if needs else ""})
'''.encode()


def recipes(draft: Draft) -> bytes:
    """A file of recipes: `trial` and `quick` with fewer and smaller steps, `paper` with what they change as it is."""
    head = (
        f"# Hyper-parameters of {draft.name.upper()}. A recipe's `set` holds for all its cells; "
        "each `case` adds to it where dataset and ipc match.\n"
    )
    small = {recipe: dict(_smaller(draft.set_by_recipes(), *few)) for recipe, few in _FEW.items()}
    whole = {a.name: a.default for a in draft.set_by_recipes() if a.name in small["trial"] | small["quick"]}
    model = draft.networks()[0]
    narrow = "ConvNetW32" if "ConvNetW32" in draft.networks() else model
    given: dict[str, tuple[str, Mapping[str, Value | None]]] = {
        "quick": (
            "chosen here for minutes on two CPU cores; nothing was tuned",
            {"model": narrow, **_keyed(small["quick"]), "limit_per_class": 500, "networks": 5, "epochs": 300},
        ),
        "paper": (
            f"{UNFILLED}: where it is published; these are the defaults of the upstream at the pin",
            {"model": model, **_keyed(whole)},
        ),
        "trial": (
            "chosen here to show in seconds what a patch changes; of no other use",
            {"model": narrow, **_keyed(small["trial"]), "limit_per_class": 16, "networks": 1, "epochs": 1},
        ),
    }
    parts = [
        f"\n[{recipe}]\nsource = {json.dumps(source)}\nset = {{ {', '.join(_pairs(values))} }}\n"
        for recipe, (source, values) in given.items()
    ]
    return "".join([head, *parts]).encode()


def _pairs(values: Mapping[str, Value | None]) -> Iterator[str]:
    for key, value in values.items():
        yield f"{key if key.isidentifier() else json.dumps(key)} = {json.dumps(value)}"


def _options(script: bytes) -> Iterator[tuple[str, Value]]:
    """The options of a script that a recipe may give, with their defaults."""
    nothing = Upstream("https://host/owner/name", "0" * 40, licence=None)
    draft = Draft("", nothing, Patch("", "", "", "", ""), script, (script,), (), tuple(arguments.read(script)))
    for argument in draft.set_by_recipes():
        if argument.default is not None and not argument.guessed:
            yield argument.name, argument.default


def _smaller(options: Sequence[Argument], iterations: int, batch: int) -> Iterator[tuple[str, Value]]:
    for argument in options:
        if (value := argument.small(iterations, batch)) is not None:
            yield argument.name, value


def _unsaid(argument: Argument) -> str:
    return ", and its default: the script states none" if argument.guessed else ""


def _key(argument: Argument) -> str:
    return f"{_OWN}{argument.name}" if argument.name in COMMON else argument.name


def _keyed(values: Mapping[str, Value | None]) -> dict[str, Value | None]:
    return {f"{_OWN}{name}" if name in COMMON else name: value for name, value in values.items()}


def _told(draft: Draft) -> str:
    """What an adapter tells of its options: by their own names."""
    if any(_key(a) != a.name for a in draft.set_by_recipes()):
        return f'{{name.removeprefix("{_OWN}"): value for name, value in job.options.items()}}'
    return "dict(job.options)"


def _steps(draft: Draft, loop: Loop) -> str:
    """How often the images are updated, as far as the loop's bound tells."""
    bound = next((a for a in draft.set_by_recipes() if a.attribute == loop.bound), None)
    more = f" + {loop.more}" if loop.more > 0 else f" - {-loop.more}" if loop.more else ""
    if bound is None:
        return f"_: 1,  # {UNFILLED}: how often the images are updated"
    return f'job: int(job.options["{_key(bound)}"]){more},'


def _need(need: Need) -> str:
    words = [json.dumps(need.package), *([f"module={json.dumps(need.module)}"] if need.module else [])]
    return f"Need({', '.join(words)})"


def _lower(argument: Argument, known: Iterable[str]) -> bool:
    """Whether a script calls what is known here by small letters."""
    names = [*argument.choices, *([argument.default] if isinstance(argument.default, str) else [])]
    found = [name for name in names if name.casefold() in {own.casefold() for own in known}]
    return bool(found) and all(name == name.lower() for name in found)

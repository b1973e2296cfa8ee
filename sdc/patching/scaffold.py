"""What a new method begins with: the head of its patch, an adapter and recipes, to be filled in.

Of the upstream's script no more is taken over than the names and the defaults of its options.
"""

from __future__ import annotations

import ast
import json
from collections.abc import Iterator
from pathlib import Path

from sdc.adapters.base import Patch, Upstream, Value

_TOLD = {
    *("dataset", "model", "ipc", "data_path", "save_path", "buffer_path"),
    *("num_exp", "num_eval", "eval_it", "eval_mode"),
}
"""Options that an adapter's `argv` decides, not a recipe."""
UNFILLED = "to be filled in"


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


def _options(script: bytes) -> Iterator[tuple[str, Value]]:
    """The options of a script with a number or a text by default: names and defaults alone."""
    for node in ast.walk(ast.parse(script)):
        if not (
            isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "add_argument"
        ):
            continue
        names = [word.value for word in node.args if isinstance(word, ast.Constant) and isinstance(word.value, str)]
        default = next((word.value for word in node.keywords if word.arg == "default"), None)
        name = next((name.removeprefix("--") for name in names if name.startswith("--")), "")
        if not name or name in _TOLD or not isinstance(default, ast.Constant) or isinstance(default.value, bool):
            continue
        if isinstance(default.value, int | float | str):
            yield name, default.value


def adapter(name: str, upstream: Upstream, patch: Patch, script: bytes) -> bytes:
    """An adapter's file; `script` is the pin's."""
    options = "".join(
        f'        "{option}": Option({json.dumps(value)}, "{UNFILLED}"),\n' for option, value in _options(script)
    )
    return f'''\
"""{name.upper()}: {UNFILLED}: title, authors, venue, year."""

from __future__ import annotations

from sdc.adapters import recipes
from sdc.adapters.base import Adapter, Option, Patch, Slot, Upstream, flags

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
    datasets={{"cifar10": "CIFAR10"}},
    slots=(Slot("CIFAR10", classes=10, channels=3, size=32),),
    models=("ConvNet",),
    options={{
{options}    }},
    recipes=recipes.load("{name}"),
    refuse=lambda job: None,
    argv=lambda job: flags({{"dataset": job.slot.name, "model": job.model, "ipc": job.ipc}} | dict(job.options)),
    steps=lambda job: int(job.options["Iteration"]) + 1,
    evaluation=lambda job: {{"lr": 0.01, "epochs": 1000, "augment": ""}},
    advice={{"diverged": "{UNFILLED}", "memory": "{UNFILLED}: --set NAME=... that takes less"}},
    loop="it",
)
'''.encode()


def recipes(name: str) -> bytes:
    """A file of recipes."""
    head = (
        f"# Hyper-parameters of {name.upper()}. A recipe's `set` holds for all its cells; "
        "each `case` adds to it where dataset and ipc match.\n"
    )
    parts = [
        f'\n[{recipe}]\nsource = "{UNFILLED}"\nset = {{ model = "ConvNet" }}\n'
        for recipe in ("quick", "paper", "trial")
    ]
    return "".join([head, *parts]).encode()

"""The forks of a spec. A command looks at each once: what is changed after that fails, and makes no new cells."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from sdc.bench.spec import Spec
from sdc.ground.errors import FatalError
from sdc.patching import trees
from sdc.patching.methods import find
from sdc.patching.trees import Fork
from sdc.plan.request import Request


class Forks:
    """Forks as they were when they were first looked at."""

    def __init__(self) -> None:
        self._known: dict[tuple[str, Path, str], Fork] = {}

    def of(self, spec: Spec) -> dict[str, Fork]:
        """The forks of a spec, by method. Raises FatalError for one that cannot be run."""
        wanted = {name: (name, part.clone, part.script) for name, part in spec.parts.items() if part.clone}
        for method, folder, script in wanted.values():
            if (method, folder, script) not in self._known:
                self._known[method, folder, script] = _looked_at(method, folder, script)
        return {name: self._known[which] for name, which in wanted.items()}


def _looked_at(method: str, folder: Path, script: str) -> Fork:
    try:
        return trees.look(find(method), folder, script)
    except FatalError as error:
        raise FatalError(f"[method.{method}] clone: {error}") from error


def exported(requests: Iterable[Request]) -> list[str]:
    """What an exported command says of the forks of its benchmark: METHOD=HASH, each once."""
    found = {request.method: request.fork for request in requests if request.fork}
    return [f"{method}={fork.files_sha256}" for method, fork in found.items()]


def check(request: Request, words: Sequence[str]) -> None:
    """Raise FatalError if the fork of a task is not what it was when its command was exported."""
    told = dict(word.split("=", 1) for word in words if "=" in word)
    fork = request.fork
    if fork and told.get(request.method, fork.files_sha256) != fork.files_sha256:
        raise FatalError(
            f"{fork.folder} is not what it was when these scripts were exported, so nothing was run. Put its files "
            "back as they were, or export anew: sdc bench SPEC.toml --export DIR"
        )

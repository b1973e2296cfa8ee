"""Light: torchvision, and torch's optimizers, without what takes longer to import than torch itself.

That is the compiler, which an optimizer's first step imports whether anything is compiled or not, and torchvision's
networks and operators, which import it too. Each is loaded once more is asked of it.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Sequence
from copy import copy
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from importlib.util import LazyLoader
from types import ModuleType
from typing import Any

import torch

COMPILER = "torch._dynamo"
LAZY = ("torchvision.models", "torchvision.ops")


class _Later(MetaPathFinder, Loader):
    """Has packages loaded when an attribute of theirs is first asked for.

    The path on which a part of one is looked for is such an attribute: by then the part has come with the package, and
    is not to be made again.
    """

    def find_spec(self, name: str, path: Sequence[str] | None, target: ModuleType | None = None) -> ModuleSpec | None:
        """How to load the package, or the part, of this name; None: as ever."""
        if name in LAZY and target is None:
            spec = PathFinder.find_spec(name, path)
            if spec and spec.loader:
                spec.loader = LazyLoader(spec.loader)
            return spec
        if name.startswith(tuple(f"{package}." for package in (COMPILER, *LAZY))) and target is None:
            spec = copy(getattr(sys.modules.get(name), "__spec__", None))
            if spec:
                spec.loader = self
            return spec
        return None

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        """The part that is there."""
        return sys.modules[spec.name]

    def exec_module(self, module: ModuleType) -> None:
        """It has been."""


sys.meta_path.insert(0, _Later())
import torchvision  # noqa: E402 - it imports those packages

__all__ = ["install", "torchvision"]


class _Compiler(ModuleType):
    """What optimizers ask of the compiler, as it is where nothing is compiled."""

    def __init__(self) -> None:
        super().__init__(COMPILER)
        self._plain: list[Callable[..., Any]] = []

    def graph_break(self, msg: str = "") -> None:
        """No graph is there to be broken."""

    def disable(self, function: Any = None, *words: Any, **options: Any) -> Any:
        """`function` itself, where torch asks for its own: it keeps the answer at the function."""
        if options != {"wrapping": False}:
            return self._loaded().disable(function, *words, **options)
        self._plain.append(function)
        return function

    def __getattr__(self, name: str) -> Any:
        return getattr(self._loaded(), name)

    def _loaded(self) -> ModuleType:
        if sys.modules[COMPILER] is self:
            del sys.modules[COMPILER]
            for function in self._plain:  # of these, torch is to ask the compiler
                vars(function).pop("__dynamo_disable", None)
        return importlib.import_module(COMPILER)


def install() -> None:
    """From now on, optimizers do not load the compiler. Whoever asks for more of it has it loaded, as ever."""
    if COMPILER not in sys.modules:
        sys.modules[COMPILER] = torch._dynamo = _Compiler()

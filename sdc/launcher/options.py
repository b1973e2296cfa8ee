"""Options: what a script's command line takes, written down when the script first reads it."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any


def install(path: Path) -> None:
    """Have the first parser that reads a command line write its options to `path`: a JSON list, sorted."""
    real = argparse.ArgumentParser.parse_known_args

    def parse_known_args(parser: argparse.ArgumentParser, *arguments: Any, **more: Any) -> Any:
        argparse.ArgumentParser.parse_known_args = real  # type: ignore[method-assign]
        path.write_text(json.dumps(sorted((_facts(action) for action in parser._actions), key=json.dumps)))
        return real(parser, *arguments, **more)

    argparse.ArgumentParser.parse_known_args = parse_known_args  # type: ignore[method-assign, assignment]


def _facts(action: argparse.Action) -> dict[str, Any]:
    """All that decides what an option takes and gives; not its help."""
    return {
        "names": list(action.option_strings),
        "dest": action.dest,
        "kind": type(action).__name__,
        "type": getattr(action.type, "__name__", repr(action.type)),
        "default": repr(action.default),
        "choices": repr(action.choices),
        "nargs": repr(action.nargs),
        "required": action.required,
    }

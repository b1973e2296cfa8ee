"""`sdc export`: choose the form, and never write over anything."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from sdc.evaluation.own_exports import WHITENING
from sdc.export import folder, parquet, torch_files
from sdc.export.source import Export, Source, opened
from sdc.ground import storage
from sdc.ground.errors import FatalError, unknown

FORMS: Mapping[str, tuple[str, Callable[[Source, Path], Export]]] = {
    "parquet": (".parquet", parquet.write),
    "folder": ("-folder", folder.write),
    "pt": ("-pt", torch_files.write),
}
"""What the name of the default output ends in, and what writes it."""


def export(path: Path, to: str, out: Path | None = None) -> Export:
    """Write the set at `path` (a run folder or a .safetensors file) in another form; beside it unless `out` is given.

    Raises FatalError where there is no set, the form is unknown, or `out` is there already or cannot be written.
    """
    if to not in FORMS:
        raise unknown("form", to, list(FORMS))
    ending, write = FORMS[to]
    source = opened(path)
    target = out or source.file.with_name(source.file.stem + ending)
    beside = target.with_name(f"{target.name}.{WHITENING}") if to == "parquet" else target
    if there := next((each for each in (target, beside) if each.exists() or each.is_symlink()), None):
        raise FatalError(
            f"{there} is there already, and an export writes over nothing.\n"
            f"Take it away, or name another place: sdc export {path} --to {to} --out PATH"
        )
    places = [storage.Place(each, "--out PATH") for each in (target, beside)]
    with storage.chosen(lambda: places), storage.at(target):
        return write(source, target.absolute())

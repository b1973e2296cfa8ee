"""Sample Difficulty Correction: the term for any training loop, and what pins, patches, proves and runs.

    import sdc

is all that a patched script says. The names below are those of sdc/plugins/sdc.py, a single file that does as well
under the name sdc.py beside a script. They are loaded when first asked for: the command line starts without torch.

The rooms, lowest first: a room imports from those before it alone (a test holds them to it; docs/architecture.md has
the whole story).

    plugins       the term: torch alone
    adapters      the upstreams as data
    patches       one patch a script, no code
    ground        errors, files, paths, progress
    launcher      what runs inside an upstream's process; imports no other room
    patching      git: clone, pin, patch, prove, vendor
    data          real images
    evaluation    distilled sets, and networks trained on them
    plan          from what a user asks to a cell and its key
    distillation  upstream processes: experts, runs, calibration, behaviour
    report        tables, figures and a page from run folders
    export        distilled sets in other layouts
    bench         the matrix of cells, and the engine
    analysis      difficulty and theory
    cli           the command line
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    __version__: str
    from sdc.plugins.sdc import (
        SCHEDULES,
        add_options,
        class_gradient,
        class_norm,
        corrected,
        corrected_direction,
        corrected_frozen,
        gradient_norm,
        interval,
        weight,
        weight_at,
    )

__all__ = [
    "SCHEDULES",
    "add_options",
    "class_gradient",
    "class_norm",
    "corrected",
    "corrected_direction",
    "corrected_frozen",
    "gradient_norm",
    "interval",
    "weight",
    "weight_at",
]


def __getattr__(name: str) -> object:
    """A name of the term, or the version that is installed, once it is asked for."""
    if name == "__version__":
        from importlib.metadata import PackageNotFoundError, version

        try:
            return version("sdc")
        except PackageNotFoundError:  # a checkout that is not installed
            return "unknown"
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from sdc.plugins import sdc as term

    globals().update({each: getattr(term, each) for each in __all__})
    return globals()[name]


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})

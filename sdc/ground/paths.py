"""Where things live: beside the code in a checkout, in the user's cache otherwise."""

from __future__ import annotations

import os
import sys
from importlib.machinery import PathFinder
from pathlib import Path

PACKAGE = Path(__file__).resolve().parents[1]
ROOT = PACKAGE.parent
"""The folder that this package is imported from: the top of a checkout, or an environment's site-packages."""
# In a checkout these three are links to the folders beside the package.
PLUGIN = (PACKAGE / "plugins" / "sdc.py").resolve()
"""The term, one file that needs torch alone."""
ADAPTERS = (PACKAGE / "adapters").resolve()
PATCHES = (PACKAGE / "patches").resolve()


ELSEWHERE = "elsewhere"
"""The folder beside runs with what was found of sets made elsewhere."""


def in_checkout() -> bool:
    """Whether this is a checkout of the project, not an installation of it."""
    return (PACKAGE / "plugins").is_symlink()


def python_path() -> str:
    """The PYTHONPATH of a process that is to import this very package: the user's own, wherever that finds it.

    Only where it would find another, or none (as when `python -m sdc` runs in a checkout that is not installed), this
    package's folder comes first: all of that folder would then stand before the standard library.
    """
    theirs = os.environ.get("PYTHONPATH", "")
    found = PathFinder.find_spec("sdc", sys.path[1:])  # the first is where this process was started
    if found and found.origin and Path(found.origin).resolve().parent == PACKAGE:
        return theirs
    return os.pathsep.join(filter(None, [str(ROOT), theirs]))


def cache() -> Path:
    """The folder of everything that can be made again: `$SDC_CACHE`, else `sdc` in the user's cache."""
    if chosen := os.environ.get("SDC_CACHE"):
        return Path(chosen).expanduser().resolve()
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache").resolve() / "sdc"


def data() -> Path:
    """The folder of downloaded and prepared datasets."""
    return cache() / "data"


def experts() -> Path:
    """The folder of the experts that runs share."""
    return cache() / "experts"


def judges() -> Path:
    """The folder of the networks trained on real data that difficulty is measured by."""
    return cache() / "judges"


def whitening() -> Path:
    """The folder of what scripts have computed to whiten images."""
    return cache() / "whitening"


def upstream() -> Path:
    """The folder of the clones: `$SDC_UPSTREAM`, else `upstream/` of a checkout, else in the cache."""
    if chosen := os.environ.get("SDC_UPSTREAM"):
        return Path(chosen).expanduser().resolve()
    return ROOT / "upstream" if in_checkout() else cache() / "upstream"

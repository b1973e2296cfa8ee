"""Where things live: beside the code in a checkout, in the user's cache otherwise."""

from __future__ import annotations

import os
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PATCHES = ROOT / "patches"
PLUGINS = ROOT / "plugins"


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
    return ROOT / "upstream" if (ROOT / "pyproject.toml").is_file() else cache() / "upstream"

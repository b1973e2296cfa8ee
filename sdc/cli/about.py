"""`sdc --version`, and the beginning of `sdc doctor`: what is needed to say which sdc ran where."""

from __future__ import annotations

import json
import platform
from importlib.metadata import PackageNotFoundError, distribution

import sdc
from sdc.ground import hardware, paths
from sdc.patching import git


def lines() -> list[str]:
    """The version and commit of this package, Python, torch, and the device that a run would take."""
    import torch  # it takes seconds

    return [
        f"sdc {sdc.__version__}, commit {commit() or 'unknown'}",
        f"Python {platform.python_version()}, torch {torch.__version__}",
        f"device {hardware.said()}",
    ]


def commit() -> str:
    """The commit of the checkout, or the one that pip installed from a repository; empty if neither is known."""
    if paths.in_checkout():
        return git.described(paths.ROOT)
    try:
        facts = json.loads(distribution("sdc").read_text("direct_url.json") or "{}")
    except PackageNotFoundError:
        return ""
    return str(facts.get("vcs_info", {}).get("commit_id", ""))

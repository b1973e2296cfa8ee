"""Whose scripts a plan is about to run: what these need is looked for first."""

from __future__ import annotations

from pathlib import Path

from sdc.adapters.base import Adapter
from sdc.distillation import experts, jobs
from sdc.plan.request import Plan


def scripts(plan: Plan, root: Path | None = None) -> list[Adapter]:
    """The method itself, and the one whose script trains its experts, unless they are there; `root`: where they are."""
    owner = jobs.owner(plan.adapter)
    return [plan.adapter, *([owner] if owner and not experts.are_ready(experts.folder(plan, root)) else [])]

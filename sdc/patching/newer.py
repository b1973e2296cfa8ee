"""Would a method's patch still apply to a newer commit of its upstream? No pin is moved, nothing is kept."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from sdc.adapters.base import Adapter
from sdc.ground.errors import FatalError
from sdc.patching import additive, clones, fetching, git, shipped
from sdc.patching.additive import with_line_feeds

Outcome = Literal["same", "applies", "conflicts", "gone"]


@dataclass(frozen=True)
class Check:
    """What became of a method's script at a newer commit.

    `places` are lines of the newer script: where ours would stand behind, or, as (first, last), what conflicts.
    """

    method: str
    ref: str
    pin: str
    commit: str
    script: str
    outcome: Outcome
    places: tuple[int, ...] | tuple[tuple[int, int], ...] = ()

    @property
    def ok(self) -> bool:
        """Whether the patch would apply."""
        return self.outcome in ("same", "applies")

    def said(self) -> str:
        """The outcome in words."""
        lines = ", ".join(_line(place) for place in self.places)
        words = {
            "same": f"{self.script} is the pin's: the patch applies as it is",
            "applies": f"{self.script} was changed, and the patch still applies: its lines would follow {lines}",
            "conflicts": f"{self.script} was changed where the patch adds lines: {lines}",
            "gone": f"{self.script} is not there any more",
        }
        return words[self.outcome]


def check(adapter: Adapter, ref: str = "HEAD") -> Check:
    """Try the patch on the script as it is at `ref`, a branch, a tag or a commit, of the upstream today."""
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._/-]*", ref) or ".." in ref:
        raise FatalError(f"--ref {ref}: give a branch, a tag or a full commit hash, for example --ref main")
    shipped.checked(adapter.patch)
    clones.present(adapter)
    commit, script = fetching.newer(adapter.upstream.url, ref, adapter.patch.script)

    def found(outcome: Outcome, places: tuple[int, ...] | tuple[tuple[int, int], ...] = ()) -> Check:
        return Check(adapter.method, ref, adapter.upstream.commit, commit, adapter.patch.script, outcome, places)

    if script is None:
        return found("gone")
    if git.blob_hash(script) == adapter.patch.before:
        return found("same", tuple(line.place for line in shipped.lines(adapter.patch)))
    pinned, text = with_line_feeds(clones.pinned_script(adapter)), with_line_feeds(script)
    merged = git.merge(text, pinned, additive.put_in(pinned, shipped.lines(adapter.patch)))
    if merged.conflicts:
        return found("conflicts", merged.conflicts)
    return found("applies", tuple(line.place for line in additive.between(text, merged.text)))


def _line(place: int | tuple[int, int]) -> str:
    if isinstance(place, int):
        return f"line {place}"
    first, last = place
    return f"line {first}" if first == last else f"lines {first} to {last}"

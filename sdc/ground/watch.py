"""What a long piece of work tells whoever waits for it."""

from __future__ import annotations

from typing import Protocol


class Watch(Protocol):
    """Told of stages, their progress and remarks; shows them or does not."""

    def stage(self, name: str, total: int | None) -> None:
        """A stage begins; `total` steps are to come, if known."""

    def progress(self, done: int, note: str = "") -> None:
        """So many steps of the stage are done."""

    def say(self, text: str) -> None:
        """A remark for people."""


class Quiet:
    """Shows nothing."""

    def stage(self, name: str, total: int | None) -> None:
        """Say nothing."""

    def progress(self, done: int, note: str = "") -> None:
        """Say nothing."""

    def say(self, text: str) -> None:
        """Say nothing."""


class Once:
    """Another watch that hears each remark once."""

    def __init__(self, watch: Watch) -> None:
        self._watch = watch
        self._said: set[str] = set()

    def stage(self, name: str, total: int | None) -> None:
        """Pass it on."""
        self._watch.stage(name, total)

    def progress(self, done: int, note: str = "") -> None:
        """Pass it on."""
        self._watch.progress(done, note)

    def say(self, text: str) -> None:
        """Pass it on, the first time."""
        if text not in self._said:
            self._said.add(text)
            self._watch.say(text)

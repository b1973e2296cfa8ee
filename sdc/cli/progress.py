"""What people see while something is done: bars, and the table of a benchmark's cells, on standard error."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, Progress, Task, TaskID, TextColumn, TimeRemainingColumn
from rich.progress import ProgressColumn as Column
from rich.table import Table
from rich.text import Text

from sdc.cli.show import ERR
from sdc.ground.watch import Watch

if TYPE_CHECKING:
    from sdc.bench.live import Now


class _Speed(Column):
    """Steps a second."""

    def render(self, task: Task) -> Text:
        return Text(f"{task.speed:.1f}/s" if task.speed else "", style="cyan")


class Bars:
    """A watch that draws one bar a stage, or prints one line a stage where nobody looks (no terminal)."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._task: TaskID | None = None

    def stage(self, name: str, total: int | None) -> None:
        """Begin a bar; the one before is done."""
        self._finish()
        if not ERR.is_terminal:
            ERR.print(name)
        self._task = self._progress.add_task(name, total=total, note="")

    def progress(self, done: int, note: str = "") -> None:
        """Move the bar."""
        if self._task is not None:
            self._progress.update(self._task, completed=done, note=note)

    def say(self, text: str) -> None:
        """Print a remark above the bars, in as many lines as it has."""
        ERR.print(text, soft_wrap=True, markup=False)

    def _finish(self) -> None:
        if self._task is not None and (total := self._progress.tasks[self._task].total):
            self._progress.update(self._task, completed=total)


@contextmanager
def bars() -> Iterator[Watch]:
    """A watch for the time of one command."""
    with _progress() as progress:
        yield Bars(progress)


@contextmanager
def bars_of(names: Sequence[str]) -> Iterator[list[Callable[[str, int, int], None]]]:
    """A bar for each of several things that are done side by side: told its stage, what is done, and of how much.

    Where nobody looks (no terminal), a line a stage.
    """
    with _progress() as progress:
        yield [_bar(progress, name) for name in names]


def _bar(progress: Progress, name: str) -> Callable[[str, int, int], None]:
    task, last = progress.add_task(name, total=None, note=""), ""

    def show(stage: str, done: int, total: int) -> None:
        nonlocal last
        if stage != last and not ERR.is_terminal:
            ERR.print(stage)
        last = stage
        progress.update(task, description=stage, completed=done, total=total)

    return show


def _progress() -> Progress:
    columns = [
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        _Speed(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}"),
    ]
    return Progress(*columns, console=ERR, disable=not ERR.is_terminal)


class Board:
    """A watch for a benchmark: a table of its cells as they are now, remarks above it."""

    def __init__(self, live: Live) -> None:
        self._live = live

    def stage(self, name: str, total: int | None) -> None:
        """Only `total` steps are worth a line."""
        if total:
            self.say(name)

    def progress(self, done: int, note: str = "") -> None:
        """The table shows it."""

    def say(self, text: str) -> None:
        """Print a remark above the table."""
        self._live.console.print(text, markup=False)


@contextmanager
def board(look: Callable[[], Now]) -> Iterator[Watch]:
    """A watch that shows what `look` finds, anew each second."""
    with Live(get_renderable=lambda: _now(look()), console=ERR, refresh_per_second=1, transient=True) as live:
        yield Board(live)


def _now(now: Now) -> Table:
    left = "" if now.left is None else f"; about {now.left / 60:.0f} min left"
    counts = ", ".join(f"{number} {state}" for state, number in now.counts.items())
    shown = Table(title=f"{counts}{left}", title_justify="left")
    for column in ("running", "stage", "done", "steps/s"):
        shown.add_column(column, justify="left" if column in ("running", "stage") else "right")
    for each in now.running:
        shown.add_row(each.name, each.stage, str(each.done), f"{each.rate:.2f}" if each.rate else "")
    return shown

"""The one file that starts git: read a repository, merge three texts, ask a server.

Every command names the repository's own .git, because `git -C DIR` acts on whatever repository lies above DIR when DIR
has none; it runs without hooks and without prompts. The caller's GIT_* variables stay, for they say how a server is
reached, except those that lead to another repository. All protocols are forbidden to it: a repository's configuration
could name programs to fetch by, and a file that is missing would be asked of a server. `Clone.ask` alone may.
"""

from __future__ import annotations

import contextlib
import difflib
import os
import re
import secrets
import shutil
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha1
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, cast

from sdc.ground.errors import FatalError
from sdc.patching import answers, leash

if TYPE_CHECKING:
    from git import Git

_CONFIG = {
    "core.hooksPath": os.devnull,
    "core.fsmonitor": "false",
    "core.autocrlf": "false",
    "core.symlinks": "false",
    "core.attributesFile": os.devnull,
    "submodule.recurse": "false",
    "diff.orderFile": os.devnull,
    "diff.relative": "false",
    "advice.detachedHead": "false",
    "gc.auto": "0",
    "maintenance.auto": "false",
}
REDIRECTING = frozenset(
    {
        # What `git rev-parse --local-env-vars` names, but for the two that carry configuration.
        "GIT_ALTERNATE_OBJECT_DIRECTORIES",
        "GIT_COMMON_DIR",
        "GIT_CONFIG",
        "GIT_DIR",
        "GIT_GRAFT_FILE",
        "GIT_IMPLICIT_WORK_TREE",
        "GIT_INDEX_FILE",
        "GIT_INTERNAL_SUPER_PREFIX",
        "GIT_NO_REPLACE_OBJECTS",
        "GIT_OBJECT_DIRECTORY",
        "GIT_PREFIX",
        "GIT_REPLACE_REF_BASE",
        "GIT_SHALLOW_FILE",
        "GIT_WORK_TREE",
        # What it leaves out: parts of a repository, and what an argument of ours means.
        "GIT_ATTR_SOURCE",
        "GIT_DIFF_OPTS",
        "GIT_EXTERNAL_DIFF",
        "GIT_GLOB_PATHSPECS",
        "GIT_ICASE_PATHSPECS",
        "GIT_LITERAL_PATHSPECS",
        "GIT_NAMESPACE",
        "GIT_NOGLOB_PATHSPECS",
        "GIT_QUARANTINE_PATH",
        "GIT_TEMPLATE_DIR",
    }
)
"""Variables of the caller's that would lead a command to something else than it names."""
_OURS = {
    "GIT_TERMINAL_PROMPT": "0",
    "GIT_NO_LAZY_FETCH": "1",  # each object that is missing would start a git of its own, and that one another
    "GIT_DEFAULT_HASH": "sha1",
    "GIT_DEFAULT_REF_FORMAT": "files",
}
_environment_lock = threading.Lock()
_MOST_SHOWN = 10
"""Words of a command that an error shows: it may name very many files."""
_MOST_CONFLICTS = 127
"""`git merge-file` ends with their number, cut off here, or with more where it failed."""


class GitError(Exception):
    """A git command failed; the message holds the command and what it said."""


@dataclass(frozen=True)
class Contact:
    """How a server is asked: by which protocols (`https:file`), under which settings of git's configuration.

    `trace` is the file that git writes the server's answers to; `hear` is told several times a second what git has said
    since the last time, and ends it by an exception.
    """

    protocols: str
    settings: Mapping[str, str]
    trace: Path
    hear: Callable[[bytes], None]


@dataclass(frozen=True)
class Clone:
    """A repository on disk: `path` holds its .git and its files."""

    path: Path

    def git(self, *arguments: str) -> str:
        """Run `git ARGUMENTS` here and return what it prints. Raises GitError with its words if it fails."""
        return self.exact(*arguments).decode(errors="surrogateescape").removesuffix("\n")

    def exact(self, *arguments: str) -> bytes:
        """As `git`, to the byte."""
        status, out, said = _run([*self._place(), *arguments], self.path)
        if status:
            raise GitError(f"$ git {' '.join(arguments)}\n{said or f'ended with status {status}'}")
        return out

    def ask(self, contact: Contact, *arguments: str) -> None:
        """Run `git ARGUMENTS` here, which may speak to a server. However this process ends, git ends with it.

        Raises GitError with its words if it fails.
        """
        allowed = {"GIT_ALLOW_PROTOCOL": os.environ.get("GIT_ALLOW_PROTOCOL", contact.protocols)}
        traced = {"GIT_TRACE_CURL": str(contact.trace.absolute()), "GIT_TRACE_CURL_NO_DATA": "1"}
        variables = allowed | ({} if "GIT_TRACE_CURL" in os.environ else traced)

        def start(command: Sequence[str], end: IO[str]) -> leash.Process:
            return cast(leash.Process, _start(command, self.path, variables, end))

        command = _command([*self._place(), *arguments], contact.settings)
        status, said = leash.run(start, command, contact.hear)
        if status:
            shown = [*arguments[:_MOST_SHOWN], *(["..."] if len(arguments) > _MOST_SHOWN else [])]
            raise GitError(f"$ git {' '.join(shown)}\n{answers.words(said) or f'ended with status {status}'}")

    def _place(self) -> list[str]:
        return [f"--git-dir={self.path / '.git'}", f"--work-tree={self.path}"]

    def head(self) -> str:
        """The commit that is checked out."""
        file = self.path / ".git" / "HEAD"
        told = file.read_text(errors="replace").strip() if file.is_file() else ""
        return told if re.fullmatch(r"[0-9a-f]{40}", told) else self.git("rev-parse", "HEAD")

    def tree(self, commit: str = "HEAD") -> dict[str, str]:
        """The blob hash of every file of a commit, by path."""
        entries = (entry.split("\t", 1) for entry in self.git("ls-tree", "-r", "-z", commit).split("\0") if entry)
        return {name: facts.split()[2] for facts, name in entries}

    def blob(self, name: str) -> bytes:
        """The content of a blob, by its hash."""
        return self.exact("cat-file", "blob", name)


def blob_hash(content: bytes) -> str:
    """The hash git gives a file of this content."""
    return sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()


def repository_of(file: Path) -> Clone | None:
    """The repository that a file lies in; None: in none."""
    return next((Clone(folder) for folder in file.parents if (folder / ".git").exists()), None)


def committed(file: Path) -> bytes | None:
    """What the repository around `file` has of it in HEAD; None where there is none, or it cannot be told."""
    around = repository_of(file)
    if around is None:
        return None
    name = file.relative_to(around.path).as_posix()
    try:
        entry = around.git("ls-tree", "-z", "HEAD", "--", f":(literal){name}").removesuffix("\0")
        return around.blob(entry.split()[2]) if entry else None
    except GitError:
        return None


def described(folder: Path) -> str:
    """The commit that the repository in `folder` is at, `-dirty` after it if files differ; empty if unknown."""
    try:
        return Clone(folder).git("describe", "--always", "--dirty", "--exclude=*", "--abbrev=40")
    except (GitError, FatalError):
        return ""


def version() -> str:
    """The version of the git that is run here. Raises FatalError if there is none."""
    return _outside("version").removeprefix("git version ")


def mirrors(address: str) -> list[str]:
    """What the user's configuration has git take instead of addresses that begin with `address`, fit to be shown."""
    try:
        told = _outside("config", "-z", "--get-regexp", r"^url\..*\.insteadof$")
    except GitError:  # so it ends where there is none
        return []
    pairs = (entry.partition("\n")[::2] for entry in told.split("\0") if entry)
    keys = [key for key, prefix in pairs if address.startswith(prefix) or prefix.startswith(address)]
    return sorted({answers.shown(key.removeprefix("url.").rpartition(".")[0]) for key in keys})


def _outside(*arguments: str) -> str:
    """Run git outside of all repositories."""
    with tempfile.TemporaryDirectory() as name:
        status, out, said = _run([f"--git-dir={Path(name) / 'none'}", *arguments], Path(name))
    if status:
        raise GitError(f"$ git {' '.join(arguments)}\n{said}")
    return out.decode(errors="surrogateescape").strip()


@dataclass(frozen=True)
class Merged:
    """The outcome of a three-way merge: its text, or the places (first and last line of `mine`) that conflict."""

    text: bytes
    conflicts: tuple[tuple[int, int], ...]


def merge(mine: bytes, base: bytes, theirs: bytes) -> Merged:
    """Bring into `mine` what leads from `base` to `theirs`."""
    mark = secrets.token_hex(8)  # no text holds it by chance
    labels = [word for side in ("mine", "base", "theirs") for word in ("-L", f"{mark} {side}")]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for side, text in (("mine", mine), ("base", base), ("theirs", theirs)):
            (folder / side).write_bytes(text)
        nowhere = f"--git-dir={folder / 'none'}"  # no repository above is asked for its configuration
        status, out, said = _run([nowhere, "merge-file", "-p", "--diff3", *labels, "mine", "base", "theirs"], folder)
    if status > _MOST_CONFLICTS:
        raise GitError(f"$ git merge-file\n{said}")
    return Merged(out, tuple(_conflicts(out, mark.encode(), mine)) if status else ())


def _conflicts(text: bytes, mark: bytes, mine: bytes) -> Iterator[tuple[int, int]]:
    """The places in `mine` of the conflicts that `git merge-file --diff3` marked in `text`."""
    rows: list[bytes] = []
    spans, first, aside = [], 0, False
    for row in text.split(b"\n"):
        if row.startswith(b"<<<<<<< " + mark):
            first = len(rows)
        elif row.startswith(b"||||||| " + mark):
            aside = True
            spans.append((first, len(rows)))
        elif row.startswith(b">>>>>>> " + mark):
            aside = False
        elif not aside:
            rows.append(row)
    # What was merged without conflict stands in `rows`, too, and is not a line of `mine`.
    steps = difflib.SequenceMatcher(None, rows, mine.split(b"\n"), autojunk=False).get_opcodes()
    for first, last in spans:
        _, start, _, here, _ = next(
            step for step in steps if step[1] <= first < step[2] or first == step[2] == len(rows)
        )
        line = here + first - start + 1
        yield line, max(line, line + last - first - 1)


def _run(arguments: Sequence[str], folder: Path) -> tuple[int, bytes, str]:
    """Run git with our settings in `folder`, far from all servers: its exit status, what it prints, what it says."""
    process = _start(_command(arguments), folder, {"GIT_ALLOW_PROTOCOL": "none"})
    try:
        out, said = process.communicate()
    except BaseException:  # Ctrl-C, say: it would go on writing to a folder that is taken away
        process.kill()
        process.communicate()
        raise
    return process.returncode, out, said.decode(errors="replace").strip()


def _command(arguments: Sequence[str], settings: Mapping[str, str] | None = None) -> list[str]:
    chosen = {**(settings or {}), **_CONFIG}
    return ["git", *(word for name, value in chosen.items() for word in ("-c", f"{name}={value}")), *arguments]


def _start(
    command: Sequence[str], folder: Path, variables: dict[str, str], end: IO[str] | None = None
) -> Git.AutoInterrupt:
    """Start git in `folder`, or, reading from `end` in a session of its own, what starts git.

    Raises FatalError where there is no git.
    """
    apart: dict[str, Any] = {"istream": end, "with_stdout": False, "start_new_session": True} if end else {}
    missing = FatalError("git was not found. Install it, for example: apt-get install git")
    try:
        import git  # here, because it looks for the program at once, which what needs none must do without
    except ImportError as error:
        raise (FatalError(f"git cannot be used: {error}") if shutil.which("git") else missing) from error
    try:
        with _environment(variables):  # held while the process starts: several may run side by side
            return cast("Git.AutoInterrupt", git.Git(folder).execute(list(command), as_process=True, **apart))
    except git.GitCommandNotFound as error:
        raise missing from error


@contextlib.contextmanager
def _environment(variables: dict[str, str]) -> Iterator[None]:
    """Hide from one command the variables that would redirect it (an exported GIT_DIR, say), and set our own."""
    with _environment_lock:
        before = {name: value for name, value in os.environ.items() if name.startswith("GIT_")}
        kept = {name: value for name, value in before.items() if name not in REDIRECTING}
        try:
            _set_git_variables(kept | _OURS | variables)
            yield
        finally:
            _set_git_variables(before)


def _set_git_variables(wanted: Mapping[str, str]) -> None:
    for name in [name for name in os.environ if name.startswith("GIT_")]:
        del os.environ[name]
    os.environ.update(wanted)

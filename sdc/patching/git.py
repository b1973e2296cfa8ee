"""The one file that touches git: clone at a pin, read a clone's tree, merge three texts.

Every command names the clone's own .git, because `git -C DIR` acts on whatever repository lies above DIR when DIR has
none; it runs without the caller's GIT_* variables, without hooks and without prompts. A repository of somebody else's
is only read, with all protocols forbidden: its configuration could name programs to fetch by.
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
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha1
from pathlib import Path

from sdc.ground.errors import FatalError
from sdc.ground.files import no_space_is_fatal, umask

_CONFIG = {
    "core.hooksPath": os.devnull,
    "core.fsmonitor": "false",
    "core.autocrlf": "false",
    "core.symlinks": "false",
    "core.attributesFile": os.devnull,
    "submodule.recurse": "false",
    "advice.detachedHead": "false",
    "gc.auto": "0",
}
# Wins over any .gitattributes of the upstream: files arrive as their blobs are.
_ATTRIBUTES = "* -text -filter -ident -working-tree-encoding\n"
_KEPT = {"GIT_ALLOW_PROTOCOL", "GIT_CONFIG_GLOBAL", "GIT_CONFIG_SYSTEM", "GIT_CONFIG_NOSYSTEM", "GIT_SSH_COMMAND"}
_environment_lock = threading.Lock()
_MOST_CONFLICTS = 127
"""`git merge-file` ends with their number, cut off here, or with more where it failed."""


class GitError(Exception):
    """A git command failed; the message holds the command and what it said."""


@dataclass(frozen=True)
class Clone:
    """A repository on disk: `path` holds its .git and its files. One that is not `ours` is reached by no protocol."""

    path: Path
    ours: bool = True

    def git(self, *arguments: str) -> str:
        """Run `git ARGUMENTS` here and return what it prints. Raises GitError with its words if it fails."""
        return self.exact(*arguments).decode(errors="surrogateescape").removesuffix("\n")

    def exact(self, *arguments: str) -> bytes:
        """As `git`, to the byte."""
        place = [f"--git-dir={self.path / '.git'}", f"--work-tree={self.path}"]
        status, out, said = _run([*place, *arguments], self.path, offline=not self.ours)
        if status:
            raise GitError(f"$ git {' '.join(arguments)}\n{said}")
        return out

    def head(self) -> str:
        """The commit that is checked out."""
        file = self.path / ".git" / "HEAD"
        told = file.read_text(errors="replace").strip() if file.is_file() else ""
        return told if re.fullmatch(r"[0-9a-f]{40}", told) else self.git("rev-parse", "HEAD")

    def tree(self) -> dict[str, str]:
        """The blob hash of every file of HEAD, by path."""
        entries = (entry.split("\t", 1) for entry in self.git("ls-tree", "-r", "-z", "HEAD").split("\0") if entry)
        return {name: facts.split()[2] for facts, name in entries}

    def blob(self, name: str) -> bytes:
        """The content of a blob, by its hash."""
        return self.exact("cat-file", "blob", name)


def blob_hash(content: bytes) -> str:
    """The hash git gives a file of this content."""
    return sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()


def committed(file: Path) -> bytes | None:
    """What the repository around `file` has of it in HEAD; None where there is none, or it cannot be told."""
    top = next((folder for folder in file.parents if (folder / ".git").exists()), None)
    if top is None:
        return None
    around, name = Clone(top, ours=False), file.relative_to(top).as_posix()
    try:
        entry = around.git("ls-tree", "-z", "HEAD", "--", f":(literal){name}").removesuffix("\0")
        return around.blob(entry.split()[2]) if entry else None
    except GitError:
        return None


def described(folder: Path) -> str:
    """The commit that the repository in `folder` is at, `-dirty` after it if files differ; empty if unknown."""
    try:
        return Clone(folder, ours=False).git("describe", "--always", "--dirty", "--exclude=*", "--abbrev=40")
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
    return sorted({_shown(key.removeprefix("url.").rpartition(".")[0]) for key in keys})


def _outside(*arguments: str) -> str:
    """Run git outside of all repositories."""
    with tempfile.TemporaryDirectory() as name:
        status, out, said = _run([f"--git-dir={Path(name) / 'none'}", *arguments], Path(name))
    if status:
        raise GitError(f"$ git {' '.join(arguments)}\n{said}")
    return out.decode(errors="surrogateescape").strip()


def _shown(address: str) -> str:
    """An address without what may be secret in it: the user's name, passwords and tokens before the host, a query."""
    if address.startswith(("file:", "/")):
        return address
    rest = re.sub(r"^[\w+.-]+://", "", address)
    return address.removesuffix(rest) + re.split(r"[?#\s]", rest.rpartition("@")[2])[0]


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


def newer(url: str, ref: str, script: str) -> tuple[str, bytes | None]:
    """The commit that `ref` is at `url` today, and the script there, None if it is gone. Keeps nothing.

    Raises FatalError if the address cannot be reached or has no such ref.
    """
    with tempfile.TemporaryDirectory() as name:
        there = Clone(Path(name))
        try:
            there.git("init", "--quiet", "--template=")
            there.git("remote", "add", "origin", url)
            there.git("fetch", "--quiet", "--depth=1", "--filter=blob:none", "--no-tags", "--", "origin", ref)
            commit = there.git("rev-parse", "FETCH_HEAD")
            entry = there.git("ls-tree", "-z", commit, "--", f":(literal){script}").removesuffix("\0")
            return commit, there.blob(entry.split()[2]) if entry else None
        except GitError as error:
            if "remote ref" in str(error) or "not our ref" in str(error):
                raise FatalError(
                    f"{url} has no {ref}. Name a branch, a tag or a full commit hash: --ref main"
                ) from error
            raise FatalError(_unreachable(url, ref, error)) from error


def clone(url: str, commit: str, patterns: Sequence[str], path: Path) -> Clone:
    """Make `path` a clone of `url` with the files of `commit` that match `patterns` (sparse, without other blobs).

    It is made beside `path` and moved there when complete; one that breaks off leaves nothing.
    Raises FatalError if the address cannot be reached or does not have the commit.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = Clone(Path(tempfile.mkdtemp(prefix=f".{path.name}.", suffix=".partial", dir=path.parent)))
    try:
        with no_space_is_fatal(path):
            _fill(partial, url, commit, patterns)
        partial.path.chmod(0o777 & ~umask())  # mkdtemp's is the owner's alone
        partial.path.replace(path)
    except GitError as error:
        raise FatalError(_unreachable(url, commit, error)) from error
    finally:
        shutil.rmtree(partial.path, ignore_errors=True)
    return Clone(path)


def _fill(target: Clone, url: str, commit: str, patterns: Sequence[str]) -> None:
    target.git("init", "--quiet", "--template=")
    info = target.path / ".git" / "info"
    info.mkdir(exist_ok=True)
    (info / "attributes").write_text(_ATTRIBUTES)
    target.git("remote", "add", "origin", url)
    target.git("sparse-checkout", "set", "--no-cone", *patterns)
    try:
        target.git("fetch", "--quiet", "--depth=1", "--filter=blob:none", "--no-tags", "origin", commit)
    except GitError:  # not every server hands out a commit by its hash: take all branches, then look for it
        target.git("fetch", "--quiet", "--filter=blob:none", "--no-tags", "origin")
    target.git("checkout", "--quiet", "--detach", commit)


def _unreachable(url: str, commit: str, error: GitError) -> str:
    owner = url.rsplit("/", 2)[0]
    return (
        f"could not clone {url} at {commit}:\n{error}\n"
        "Check the network. Without one, put a mirror of the repository anywhere and tell git:\n"
        f"  git config --global url.<base>.insteadOf {owner}/   (git then takes <base>REPOSITORY instead)"
    )


def _run(arguments: Sequence[str], folder: Path, *, offline: bool = False) -> tuple[int, bytes, str]:
    """Run git with our settings in `folder`: its exit status, what it prints, and what it says."""
    settings = [word for name, value in _CONFIG.items() for word in ("-c", f"{name}={value}")]
    missing = FatalError("git was not found. Install it, for example: apt-get install git")
    try:
        import git  # here, because it looks for the program at once, which what needs none must do without
    except ImportError as error:
        raise (FatalError(f"git cannot be used: {error}") if shutil.which("git") else missing) from error
    try:
        with _clean_environment(offline=offline):  # held while the process starts: several may run side by side
            process = git.Git(folder).execute(["git", *settings, *arguments], as_process=True)
    except git.GitCommandNotFound as error:
        raise missing from error
    out, said = process.communicate()
    return process.returncode, out, said.decode(errors="replace").strip()


@contextlib.contextmanager
def _clean_environment(*, offline: bool) -> Iterator[None]:
    """Hide the caller's GIT_* variables from one command (an exported GIT_DIR would redirect it) and set our own."""
    with _environment_lock:
        before = {name: value for name, value in os.environ.items() if name.startswith("GIT_")}
        ours = {"GIT_TERMINAL_PROMPT": "0", "GIT_ALLOW_PROTOCOL": "https:file:ssh"}
        kept = {name: value for name, value in before.items() if name in _KEPT}
        forced = {"GIT_ALLOW_PROTOCOL": "none", "GIT_NO_LAZY_FETCH": "1"} if offline else {}
        try:
            _set_git_variables(ours | kept | forced)
            yield
        finally:
            _set_git_variables(before)


def _set_git_variables(wanted: Mapping[str, str]) -> None:
    for name in [name for name in os.environ if name.startswith("GIT_")]:
        del os.environ[name]
    os.environ.update(wanted)

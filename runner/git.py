"""The one file that touches git: clone at a pin, read a clone's tree, apply a patch to its files.

Every command names the clone's own .git, because `git -C DIR` acts on whatever repository lies above DIR when DIR has
none; it runs without the caller's GIT_* variables, without hooks and without prompts.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha1
from pathlib import Path

import git

from runner.errors import FatalError
from runner.files import no_space_is_fatal, umask

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


class GitError(Exception):
    """A git command failed; the message holds the command and what it said."""


@dataclass(frozen=True)
class Clone:
    """A repository of ours on disk: `path` holds its .git and its files."""

    path: Path

    def git(self, *arguments: str) -> str:
        """Run `git ARGUMENTS` here and return what it prints. Raises GitError with its words if it fails."""
        settings = [word for name, value in _CONFIG.items() for word in ("-c", f"{name}={value}")]
        place = [f"--git-dir={self.path / '.git'}", f"--work-tree={self.path}"]
        try:
            with _clean_environment():
                return str(git.Git(self.path).execute(["git", *settings, *place, *arguments]))
        except git.GitCommandNotFound as error:
            raise FatalError("git was not found. Install it, for example: apt-get install git") from error
        except git.GitCommandError as error:
            raise GitError(f"$ git {' '.join(arguments)}\n{_words(error)}") from error

    def head(self) -> str:
        """The commit that is checked out."""
        return self.git("rev-parse", "HEAD")

    def tree(self) -> dict[str, str]:
        """The blob hash of every file of HEAD, by path."""
        entries = (entry.split("\t", 1) for entry in self.git("ls-tree", "-r", "-z", "HEAD").split("\0") if entry)
        return {name: facts.split()[2] for facts, name in entries}

    def apply(self, patch: Path, *, reverse: bool = False) -> None:
        """Apply a zero-context patch to the files, or take it out again: wholly or not at all."""
        direction = ["--reverse"] if reverse else []
        self.git("apply", "--unidiff-zero", "--whitespace=nowarn", *direction, "--", str(patch))


def blob_hash(content: bytes) -> str:
    """The hash git gives a file of this content."""
    return sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()


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


def _words(error: git.GitCommandError) -> str:
    return str(error.stderr).strip().removeprefix("stderr: ").strip("'\n ")


@contextlib.contextmanager
def _clean_environment() -> Iterator[None]:
    """Hide the caller's GIT_* variables from one command (an exported GIT_DIR would redirect it) and set our own."""
    with _environment_lock:
        before = {name: value for name, value in os.environ.items() if name.startswith("GIT_")}
        ours = {"GIT_TERMINAL_PROMPT": "0", "GIT_ALLOW_PROTOCOL": "https:file:ssh"}
        kept = {name: value for name, value in before.items() if name in _KEPT}
        try:
            _set_git_variables(ours | kept)
            yield
        finally:
            _set_git_variables(before)


def _set_git_variables(wanted: Mapping[str, str]) -> None:
    for name in [name for name in os.environ if name.startswith("GIT_")]:
        del os.environ[name]
    os.environ.update(wanted)

"""What a fork is called, by where its script is committed; looked at without a word being written into it."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from sdc.adapters.registry import ADAPTERS
from sdc.patching import trees
from tests import fake
from tests.conftest import Sdc
from tests.forked import commit, edit, everything, fork, git

Folders = Callable[[str], Path]


@pytest.fixture
def folder(fake_upstream: fake.Fake, sdc: Sdc, tmp_path: Path) -> Folders:
    """`folder("a worktree")`: a patched fork of that kind."""

    def plain() -> Path:
        return fork(fake_upstream, tmp_path / "plain")

    def worktree() -> Path:
        git(plain(), "worktree", "add", "--quiet", tmp_path / "beside", "HEAD")
        return tmp_path / "beside"

    def part() -> Path:
        """In a repository of more than it."""
        shutil.copytree(plain(), tmp_path / "whole" / "third party" / "fake", ignore=shutil.ignore_patterns(".git"))
        git(tmp_path, "init", "--quiet", tmp_path / "whole")
        commit(tmp_path / "whole")
        return tmp_path / "whole" / "third party" / "fake"

    def ignored() -> Path:
        """In a repository that does not hold it."""
        within = part()
        git(tmp_path / "whole", "rm", "-r", "--quiet", "--cached", "third party")
        commit_of_none = ("-c", "user.name=x", "-c", "user.email=x@x", "commit", "--quiet", "--message=x")
        git(tmp_path / "whole", *commit_of_none, "--allow-empty")
        return within

    def unborn() -> Path:
        shutil.rmtree((made := plain()) / ".git")
        git(tmp_path, "init", "--quiet", made)
        return made

    def broken() -> Path:
        shutil.rmtree((made := plain()) / ".git")
        (made / ".git").write_text("gitdir: /nowhere\n")
        return made

    kinds = {each.__name__: each for each in (plain, worktree, part, ignored, unborn, broken)}

    def make(kind: str) -> Path:
        made = kinds[kind]()
        assert sdc("apply", "fake", "--to", made, "--uncommitted").code == 0
        return made

    return make


def looked_at(folder: Path) -> trees.Fork:
    before = everything(folder)
    found = trees.look(ADAPTERS["fake"], folder)
    assert everything(folder) == before
    return found


@pytest.mark.parametrize("kind", ["plain", "worktree", "part"])
def test_a_fork_is_called_by_the_commit_that_holds_its_script(kind: str, folder: Folders) -> None:
    made = folder(kind)
    head = git(made, "rev-parse", "HEAD")
    found = looked_at(made)
    assert (found.commit, found.name) == (head, f"fork {head[:7]}")


@pytest.mark.parametrize("kind", ["ignored", "unborn", "broken"])
def test_a_fork_in_no_commit_is_called_by_its_files(kind: str, folder: Folders) -> None:
    found = looked_at(folder(kind))
    assert (found.commit, found.name) == ("", f"fork {found.files_sha256[:7]}")


def test_what_is_not_committed_shows_in_its_name_and_our_lines_and_line_ends_do_not(folder: Folders) -> None:
    made = folder("plain")
    helper, name = made / "train" / "helpers.py", looked_at(made).name
    helper.write_bytes(helper.read_bytes().replace(b"\n", b"\r\n"))
    assert looked_at(made).name == name
    (made / "data").mkdir()
    (made / "data" / "notes.txt").write_text("nothing that Python imports")
    assert looked_at(made).name == name

    edit(helper, "0.5", "0.75")
    edited = looked_at(made)
    (made / "train" / "more.py").write_text("")
    helper.unlink()
    more = looked_at(made)
    assert edited.name == f"{name}+{edited.files_sha256[:7]}"
    assert more.name == f"{name}+{more.files_sha256[:7]}"
    assert more.name != edited.name

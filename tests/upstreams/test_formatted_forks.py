"""Forks of the true upstreams that are written differently: patched, proved and reverted by what their scripts say."""

from __future__ import annotations

import ast
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from sdc.adapters.registry import ADAPTERS
from sdc.patching import shipped
from tests.conftest import Sdc
from tests.fake import _commit
from tests.written import LF, WRITERS, Writer, both, ruff

pytestmark = [pytest.mark.upstream, pytest.mark.slow]
SCRIPTS = ("dc", "dm", "dsac", "mtt", "ftd", "tesla", "datm")
"""A method a script: DSA's is DC's, with the same patch."""


@pytest.fixture
def fork(
    upstream_tree: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[[str, Writer], Path]:
    """`fork(method, write)`: a fork of the method's upstream with its script written anew, committed; the script."""

    def make(method: str, write: Writer) -> Path:
        pristine = upstream_tree(method)
        monkeypatch.setenv("SDC_UPSTREAM", str(pristine.parent))  # nothing here changes it
        own = tmp_path / method
        shutil.rmtree(own, ignore_errors=True)
        shutil.copytree(pristine, own, ignore=shutil.ignore_patterns(".git"))
        script = own / ADAPTERS[method].patch.script
        script.write_bytes(write(script.read_bytes()))
        _commit(own, {})
        return script

    return make


def patched(method: str, script: Path, tree: Path) -> bytes:
    """A fork's script, which is the pinned one, as git patches it."""
    command = ["git", "apply", "--unidiff-zero", "--whitespace=nowarn", str(shipped.checked(ADAPTERS[method].patch))]
    subprocess.run(command, cwd=tree, check=True, capture_output=True)
    return script.read_bytes()


def said(content: bytes) -> tuple[list[str], list[str]]:
    """What a script says: its imports in any order, and all else in its own."""
    body = ast.parse(content).body
    imports = [ast.unparse(node) for node in body if isinstance(node, ast.Import | ast.ImportFrom)]
    return sorted(imports), [ast.dump(node) for node in body if not isinstance(node, ast.Import | ast.ImportFrom)]


@pytest.mark.parametrize("name", WRITERS)
def test_every_methods_script_takes_the_lines_however_it_is_written(
    name: str, fork: Callable[[str, Writer], Path], sdc: Sdc, tmp_path: Path
) -> None:
    write = WRITERS[name]
    for method in SCRIPTS:
        whole = write(patched(method, fork(method, bytes), tmp_path / method))
        script, to = fork(method, write), ("--to", tmp_path / method)
        content = script.read_bytes()

        applied = sdc("apply", method, *to)
        assert (applied.code, "pristine -> patched" in applied.out) == (0, True), (method, applied)
        assert said(script.read_bytes()) == said(whole), method
        proof = sdc("verify", method, *to, "--json")
        assert (proof.code, proof.json["methods"][0]["added"]) == (0, len(shipped.lines(ADAPTERS[method].patch))), proof
        assert sdc("revert", method, *to).code == 0
        assert script.read_bytes() == content, method

        script.write_bytes(whole)  # patched first, and formatted then
        _commit(tmp_path / method, {})
        status = sdc("status", method, *to, "--json").json["methods"][0]
        assert (status["state"], status["problems"]) == ("patched", []), (method, status)
        assert sdc("revert", method, *to).code == 0
        assert said(script.read_bytes()) == said(content), method
        assert b"sdc" not in script.read_bytes()


@pytest.mark.parametrize("write", [LF, WRITERS["tabs"]], ids=["plain", "tabs"])
def test_a_loop_around_all_others_may_come_or_go(
    write: Writer, fork: Callable[[str, Writer], Path], sdc: Sdc, tmp_path: Path
) -> None:
    experiments = b"for exp in range(args.num_exp):"
    for other in (b"if True:", b"for seed in range(3):", b"while True:"):

        def built(content: bytes, other: bytes = other) -> bytes:
            assert content.count(experiments) == 1
            return write(content.replace(experiments, other))

        script = fork("dm", built)
        content = script.read_bytes()
        applied = sdc("apply", "dm", "--to", tmp_path / "dm")
        assert applied.code == 0, applied
        assert sdc("verify", "dm", "--to", tmp_path / "dm").code == 0
        assert sdc("revert", "dm", "--to", tmp_path / "dm").code == 0
        assert script.read_bytes() == content


def test_a_line_that_says_what_the_script_says_elsewhere_is_found_under_the_scripts_own_names(
    fork: Callable[[str, Writer], Path], sdc: Sdc, tmp_path: Path
) -> None:
    def renamed(content: bytes) -> bytes:
        return re.sub(rb"\bgrand_loss\b", b"total", LF(content))

    whole = renamed(patched("datm", fork("datm", bytes), tmp_path / "datm"))
    script, to = fork("datm", renamed), ("--to", tmp_path / "datm")
    content = script.read_bytes()
    script.write_bytes(whole)
    _commit(tmp_path / "datm", {})
    assert "patched (by hand)" in sdc("status", "datm", *to).out
    assert sdc("verify", "datm", *to, "--json").json["methods"][0]["added"] == 6
    assert sdc("revert", "datm", *to).code == 0
    assert script.read_bytes() == content


@pytest.mark.parametrize("method", ["dm", "mtt"])
def test_a_formatted_fork_of_a_true_upstream_is_proved_in_its_behaviour(
    method: str, fork: Callable[[str, Writer], Path], sdc: Sdc, tmp_path: Path
) -> None:
    fork(method, both(LF, ruff("line-length=79", sort="I,F401")))
    assert sdc("apply", method, "--to", tmp_path / method).code == 0
    proof = sdc("verify", method, "--to", tmp_path / method, "--behaviour", "--json")
    assert (proof.code, proof.json["ok"]) == (0, True), proof

"""The proof on all true upstreams: untouched and patched scripts side by side, and patches in a fork of one."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from sdc.adapters.registry import ADAPTERS
from sdc.ground import paths
from tests.conftest import Sdc
from tests.fake import _commit

pytestmark = [pytest.mark.upstream, pytest.mark.slow]
ADDED = {"dc": 3, "dsa": 3, "dm": 3, "dsac": 4, "mtt": 5, "ftd": 5, "tesla": 3, "datm": 6}


def test_every_claim_holds_for_every_method(
    sdc: Sdc, upstream_tree: Callable[[str], Path], archives: Path, tmp_path: Path
) -> None:
    for method in ADAPTERS:
        upstream_tree(method)
    assert sdc("apply", "--all").code == 0
    report = tmp_path / "proof.md"
    outcome = sdc("verify", "--all", "--behaviour", "--report", report, "--json")

    assert (outcome.code, outcome.json["ok"]) == (0, True), outcome
    proofs = {proof["method"]: proof for proof in outcome.json["methods"]}
    assert {method: (proof["added"], proof["removed"]) for method, proof in proofs.items()} == {
        method: (lines, 0) for method, lines in ADDED.items()
    }
    for method, proof in proofs.items():
        assert proof["files"] == [ADAPTERS[method].patch.script]
        assert {claim["name"]: claim["outcome"] for claim in proof["claims"]} == dict.fromkeys(
            ("weight 0", "weight 0.1", "options"), "holds"
        ), method
        made = proof["claims"][0]["detail"].split(" after ")[0]
        learned = {"mtt", "ftd", "tesla", "datm"}
        soft = "labels 10x10, " if method == "datm" else ""
        assert made == "images 10x3x32x32" + (f", {soft}lr 1" if method in learned else "")
        assert proof["share"] < 0.015
    text = report.read_text()
    assert all(f"| {method} | options | holds |" in text for method in ADAPTERS)
    assert "no licence" in text


def test_a_fork_of_a_true_upstream_takes_the_patch_with_its_own_edits(
    sdc: Sdc, upstream_tree: Callable[[str], Path], tmp_path: Path
) -> None:
    fork = tmp_path / "fork"
    shutil.copytree(upstream_tree("ftd"), fork, ignore=shutil.ignore_patterns(".git"))
    script = fork / ADAPTERS["ftd"].patch.script
    pinned = script.read_bytes()
    edited = b"# mine\r\n" + pinned + b"# mine, too\r\n"
    script.write_bytes(edited)
    _commit(fork, {})

    applied = sdc("apply", "ftd", "--to", fork, "--vendor")
    assert applied.code == 0, applied
    assert [line for line in script.read_bytes().split(b"\n") if not line.endswith(b"\r")] == [b""]
    proof = sdc("verify", "ftd", "--to", fork, "--behaviour", "--json")
    assert (proof.code, proof.json["methods"][0]["added"]) == (0, 5), proof
    told = subprocess.run(["git", "-C", fork, "diff", "--numstat"], capture_output=True, text=True, check=True).stdout
    assert told.split("\t")[:2] == ["5", "0"]
    assert sdc("revert", "ftd", "--to", fork).code == 0
    assert script.read_bytes() == edited
    assert not (script.parent / "sdc.py").exists()


def test_a_method_is_made_anew_by_the_commands_from_its_lines(
    sdc: Sdc, upstream_tree: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    upstream_tree("dsac")
    adapter = ADAPTERS["dsac"]
    checkout = tmp_path / "checkout"
    for folder in ("adapters/recipes", "patches"):
        (checkout / folder).mkdir(parents=True)
    assert sdc("apply", "dsac").code == 0
    lines = (paths.upstream() / "dsac" / adapter.patch.script).read_bytes()
    shipped = (paths.PATCHES / adapter.patch.file).read_bytes()
    monkeypatch.setattr(paths, "ADAPTERS", checkout / "adapters")
    monkeypatch.setattr(paths, "PATCHES", checkout / "patches")
    asked = ("--upstream", adapter.upstream.url, "--commit", adapter.upstream.commit, "--script", adapter.patch.script)

    assert sdc("patch", "new", "again", *asked).code == 0
    (paths.upstream() / "again" / adapter.patch.script).write_bytes(lines)
    made = sdc("patch", "new", "again", *asked, "--json")

    assert made.code == 0, made
    patch = (checkout / "patches" / "again-main.patch").read_bytes()
    assert patch[patch.index(b"--- a/") :] == shipped[shipped.index(b"--- a/") :]
    scaffold = (checkout / "adapters" / "again.py").read_text()
    assert f'after="{adapter.patch.after}"' in scaffold
    assert f'before="{adapter.patch.before}"' in scaffold
    assert '"outer_loop": Option(1000,' in scaffold
    assert "licence=None" in scaffold
    source = Path(__file__).parents[2] / "adapters" / "dsac.py"
    assert len(source.read_text().splitlines()) <= 60


def test_the_pins_are_what_the_upstreams_are_today_or_the_change_is_told(
    sdc: Sdc, upstream_tree: Callable[[str], Path]
) -> None:
    for method in ADAPTERS:
        upstream_tree(method)
    outcome = sdc("upstream", "check", "--all", "--json")

    for row in outcome.json["methods"]:
        assert row["outcome"] == "same" or row["commit"] != row["pin"], row
        assert row["ok"] == (row["outcome"] in ("same", "applies"))

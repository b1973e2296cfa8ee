"""`sdc apply`, `revert`, `status`, `verify` on a fake upstream: a real git repository, and everything that can go wrong."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from sdc.ground import paths
from tests import fake
from tests.conftest import Sdc


@pytest.fixture
def script(fake_upstream: fake.Fake) -> Path:
    return paths.upstream() / "fake" / "train" / "distil.py"


def _files(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and ".git" not in path.parts
    }


def test_apply_clones_the_pin_sparsely_and_adds_the_lines_in_the_files_own_line_ends(sdc: Sdc, script: Path) -> None:
    outcome = sdc("apply", "fake")

    assert outcome.code == 0
    assert "absent -> patched" in outcome.out
    assert "+ import sdc" in outcome.out
    original = fake.SCRIPT.replace("\n", "\r\n").encode()
    clone = script.parents[1]
    assert _files(clone) == {
        "LICENSE": b"none of yours\n",
        "experts/trainer.py": fake.TRAINER.encode(),
        "train/distil.py": fake.patched(original),
        "train/helpers.py": fake.HELPERS.encode(),
    }
    assert len(fake.patched(original).splitlines()) == len(original.splitlines()) + 3


def test_a_second_apply_changes_nothing(sdc: Sdc, script: Path) -> None:
    sdc("apply", "fake")
    before, times = _files(script.parents[1]), script.stat().st_mtime_ns

    outcome = sdc("apply", "fake", "--json")

    assert outcome.json["methods"] == [
        {"method": "fake", "before": "patched", "after": "patched", "diff": "", "vendored": False}
    ]
    assert _files(script.parents[1]) == before
    assert script.stat().st_mtime_ns == times


def test_revert_gives_back_every_byte_of_the_pin(sdc: Sdc, script: Path) -> None:
    sdc("apply", "fake")
    outcome = sdc("revert", "fake")

    assert (outcome.code, script.read_bytes()) == (0, fake.SCRIPT.replace("\n", "\r\n").encode())
    assert "patched -> pristine" in outcome.out
    assert sdc("revert", "fake").out == "fake: pristine, no change\n"


def test_states_as_status_tells_them(sdc: Sdc, script: Path, fake_upstream: fake.Fake) -> None:
    def state() -> tuple[int, dict[str, object]]:
        outcome = sdc("status", "--json")
        return outcome.code, next(row for row in outcome.json["methods"] if row["method"] == "fake")

    code, row = state()
    assert (code, row["state"], row["upstream"]) == (0, "absent", fake.URL)
    assert row["commit"] == fake_upstream.adapter.upstream.commit
    sdc("apply", "fake")
    assert state()[1]["state"] == "patched"
    sdc("revert", "fake")
    assert state()[1]["state"] == "pristine"
    script.write_bytes(script.read_bytes() + b"# mine\r\n")
    code, row = state()
    assert (code, row["state"]) == (1, "drifted")


def test_verify_counts_lines_on_the_disk(sdc: Sdc, script: Path, fake_upstream: fake.Fake) -> None:
    sdc("apply", "fake")
    outcome = sdc("verify", "fake", "--json")

    proof = outcome.json["methods"][0]
    assert (outcome.code, outcome.json["ok"], proof["ok"]) == (0, True, True)
    assert (proof["files"], proof["added"], proof["removed"]) == (["train/distil.py"], 3, 0)
    assert proof["patch_sha256"] == fake_upstream.adapter.patch.sha256


def test_verify_fails_where_nothing_is_applied(sdc: Sdc, fake_upstream: fake.Fake) -> None:
    outcome = sdc("verify", "fake")

    assert outcome.code == 1
    assert "fake: not applied: the clone is absent. Run: sdc apply fake" in outcome.err


@pytest.mark.parametrize("command", ["apply", "revert"])
def test_an_edited_script_is_refused_with_path_hashes_and_the_next_command(
    command: str, sdc: Sdc, script: Path, fake_upstream: fake.Fake
) -> None:
    sdc("apply", "fake")
    script.write_bytes(script.read_bytes().replace(b"training begins", b"training starts"))
    edited = _files(script.parents[1])

    outcome = sdc(command, "fake")

    patch = fake_upstream.adapter.patch
    found = subprocess.run(
        ["git", "hash-object", "--no-filters", script], capture_output=True, text=True
    ).stdout.strip()
    expected = " or ".join(sorted({patch.before, patch.after}))
    assert outcome.code == 1
    assert f"{script}: expected {expected}, found {found}" in outcome.err
    assert f"rm -rf {script.parents[1]} && sdc apply fake" in outcome.err
    assert _files(script.parents[1]) == edited


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda clone: (clone / "train/helpers.py").unlink(), "train/helpers.py: expected"),
        (
            lambda clone: (clone / "train/torch.py").write_text("pass"),
            "train/torch.py: a Python file that the pin does not",
        ),
        (lambda clone: _move_head(clone), "expected"),
        (lambda clone: _remove_git(clone), "is no usable git repository"),
        (lambda clone: _stage_an_edit(clone), "train/distil.py: expected"),
    ],
    ids=["deleted file", "shadowing module", "other commit", "no .git", "edit hidden in the index"],
)
def test_whatever_else_happened_to_a_clone_is_drift(spoil: object, said: str, sdc: Sdc, script: Path) -> None:
    sdc("apply", "fake")
    spoil(script.parents[1])  # type: ignore[operator]

    outcome = sdc("status")

    assert outcome.code == 1
    assert said in outcome.err
    assert sdc("apply", "fake").code == 1


def _move_head(clone: Path) -> None:
    environment = {
        **os.environ,
        "GIT_AUTHOR_NAME": "x",
        "GIT_AUTHOR_EMAIL": "x",
        "GIT_COMMITTER_NAME": "x",
        "GIT_COMMITTER_EMAIL": "x",
    }
    command = ["git", "-C", clone, "commit", "--quiet", "--allow-empty", "--message=moved"]
    subprocess.run(command, check=True, env=environment)


def _remove_git(clone: Path) -> None:
    (clone / ".git").rename(clone.parent / "taken")


def _stage_an_edit(clone: Path) -> None:
    (clone / "train/distil.py").write_bytes(b"print()\r\n")
    subprocess.run(["git", "-C", clone, "add", "train/distil.py"], check=True)
    subprocess.run(["git", "-C", clone, "update-index", "--assume-unchanged", "train/distil.py"], check=True)


def test_without_a_git_folder_our_own_repository_above_is_not_touched(sdc: Sdc, script: Path, tmp_path: Path) -> None:
    subprocess.run(["git", "init", "--quiet", tmp_path], check=True)
    sdc("apply", "fake")
    _remove_git(script.parents[1])

    assert sdc("revert", "fake").code == 1
    assert (tmp_path / ".git" / "index").exists() is False


def test_an_exported_git_dir_does_not_redirect_us(
    sdc: Sdc, script: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    decoy = tmp_path / "decoy"
    subprocess.run(["git", "init", "--quiet", decoy], check=True)
    before = sorted(path.name for path in (decoy / ".git").iterdir())
    monkeypatch.setenv("GIT_DIR", str(decoy / ".git"))
    monkeypatch.setenv("GIT_INDEX_FILE", str(decoy / "index"))

    assert sdc("apply", "fake").code == 0
    assert sorted(path.name for path in (decoy / ".git").iterdir()) == before
    assert (os.environ["GIT_DIR"], (decoy / "index").exists()) == (str(decoy / ".git"), False)


def test_line_ends_survive_a_user_who_converts_them(sdc: Sdc, script: Path, fake_upstream: fake.Fake) -> None:
    with fake_upstream.git_config.open("a") as config:
        config.write("[core]\n\tautocrlf = true\n\teol = lf\n\thooksPath = /nowhere\n")

    assert sdc("apply", "fake").code == 0
    assert b"\r\n" in script.read_bytes()


def test_a_patch_file_with_a_changed_byte_is_refused(sdc: Sdc, script: Path, fake_upstream: fake.Fake) -> None:
    fake_upstream.patch.write_bytes(fake_upstream.patch.read_bytes().replace(b"A fake", b"B fake"))

    outcome = sdc("apply", "fake")

    assert outcome.code == 1
    assert (
        f"{fake_upstream.patch} was changed: expected sha256 {fake_upstream.adapter.patch.sha256}, found" in outcome.err
    )
    assert f"git -C {fake_upstream.patch.parent} checkout -- fake.patch" in outcome.err
    assert not script.exists()


def test_an_unreachable_address_is_named_with_the_way_to_a_mirror_and_leaves_nothing(
    sdc: Sdc, fake_upstream: fake.Fake
) -> None:
    fake_upstream.git_config.write_text("")

    outcome = sdc("apply", "fake")

    assert outcome.code == 1
    assert f"could not clone {fake.URL}" in outcome.err
    assert "git config --global url.<base>.insteadOf https://upstream.invalid/ " in outcome.err
    assert [path.name for path in paths.upstream().iterdir()] == [".fake.lock"]


def test_a_mirror_without_the_pin_leaves_nothing(sdc: Sdc, fake_upstream: fake.Fake, tmp_path: Path) -> None:
    import shutil

    shutil.rmtree(fake_upstream.path)
    fake._commit(fake_upstream.path, {"train/distil.py": b"another history\n"})

    outcome = sdc("apply", "fake")

    assert outcome.code == 1
    assert fake_upstream.adapter.upstream.commit in outcome.err
    assert [path.name for path in paths.upstream().iterdir()] == [".fake.lock"]


def test_processes_that_apply_at_once_do_not_hurt_each_other(fake_upstream: fake.Fake, script: Path) -> None:
    command = [sys.executable, "-m", "tests.fake", fake_upstream.patch.parent, "apply", "fake", "--json"]
    processes = [subprocess.Popen(command, cwd=paths.ROOT, stdout=subprocess.PIPE, text=True) for _ in range(4)]
    changes = [json.loads(process.communicate()[0])["methods"][0] for process in processes]

    assert sorted(change["before"] for change in changes) == ["absent", "patched", "patched", "patched"]
    assert script.read_bytes() == fake.patched(fake.SCRIPT.replace("\n", "\r\n").encode())


@pytest.mark.parametrize("arguments", [("apply",), ("apply", "dc", "--all"), ("frobnicate",), ("run", "dc")])
def test_wrong_usage_exits_2(arguments: tuple[str, ...], sdc: Sdc) -> None:
    assert sdc(*arguments).code == 2


def test_an_unknown_method_is_answered_with_the_known_ones(sdc: Sdc) -> None:
    outcome = sdc("apply", "dcc", "--json")

    assert outcome.code == 1
    assert outcome.json == {
        "error": "unknown method 'dcc'. Known: datm, dc, dm, dsa, dsac, ftd, mtt, tesla. Did you mean dc?"
    }
    assert "unknown method 'dcc'" in outcome.err


def test_an_older_copy_of_the_plugin_is_called_one_and_taken_away_by_hand_all_is_well_again(
    sdc: Sdc, fake_upstream: fake.Fake
) -> None:
    assert sdc("apply", "fake", "--vendor").code == 0
    copy = paths.upstream() / "fake" / "train" / "sdc.py"
    copy.write_bytes(copy.read_bytes().replace(b"Sample Difficulty", b"Samples' Difficulty"))

    refused = sdc("apply", "fake", "--vendor")
    assert refused.code == 1
    assert f"{copy}: not the plugin's copy of this version. If it is an older copy, take it away" in refused.err

    copy.unlink()
    assert sdc("apply", "fake", "--vendor").code == 0
    assert copy.read_bytes() == paths.PLUGIN.read_bytes()

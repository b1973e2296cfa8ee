"""`sdc upstream check`: would the patch apply to what the upstream is today, or to a ref of it?"""

from __future__ import annotations

import subprocess

import pytest

from sdc.ground import paths
from tests import fake
from tests.conftest import Sdc

CRLF = fake.SCRIPT.replace("\n", "\r\n").encode()


def commit(made: fake.Fake, content: bytes) -> None:
    fake._commit(made.path, {"train/distil.py": content})


def test_a_newer_script_that_is_the_pins(sdc: Sdc, fake_upstream: fake.Fake) -> None:
    commit(fake_upstream, CRLF)
    outcome = sdc("upstream", "check", "fake", "--json")

    (found,) = outcome.json["methods"]
    assert (outcome.code, found["ok"], found["outcome"]) == (0, True, "same")
    assert found["commit"] != found["pin"] == fake_upstream.adapter.upstream.commit


def test_a_script_changed_elsewhere_takes_the_patch_and_is_told_where(sdc: Sdc, fake_upstream: fake.Fake) -> None:
    newer = b"# one more\r\n# and one\r\n" + CRLF.replace(b"training begins", b"it begins")
    commit(fake_upstream, newer)
    outcome = sdc("upstream", "check", "fake", "--json")

    lines = newer.decode().split("\r\n")
    assert (outcome.code, outcome.json["methods"][0]["outcome"]) == (0, "applies")
    assert outcome.json["methods"][0]["places"] == [lines.index(anchor) + 1 for anchor in fake.ADDED]
    assert "still applies" in sdc("upstream", "check", "fake").out
    assert sdc("status", "fake", "--json").json["methods"][0]["commit"] == fake_upstream.adapter.upstream.commit


def test_a_script_changed_where_the_patch_goes_is_told_with_the_place(sdc: Sdc, fake_upstream: fake.Fake) -> None:
    newer = b"# one more\r\n" + CRLF.replace(b"    loss = ((images", b"    loss = 2 * ((images")
    commit(fake_upstream, newer)
    outcome = sdc("upstream", "check", "fake", "--json")

    line = 1 + newer[: newer.index(b"    loss = 2")].count(b"\n")
    assert (outcome.code, outcome.json["methods"][0]["outcome"]) == (1, "conflicts")
    assert outcome.json["methods"][0]["places"] == [[line, line]]
    assert f"where the patch adds lines: line {line}\n" in sdc("upstream", "check", "fake").out


def test_a_script_that_is_gone(sdc: Sdc, fake_upstream: fake.Fake) -> None:
    subprocess.run(["git", "-C", fake_upstream.path, "rm", "--quiet", "train/distil.py"], check=True)
    commit(fake_upstream, CRLF)
    subprocess.run(["git", "-C", fake_upstream.path, "rm", "--quiet", "train/distil.py"], check=True)
    fake._commit(fake_upstream.path, {"train/other.py": b"pass\n"})
    outcome = sdc("upstream", "check", "fake", "--json")

    assert (outcome.code, outcome.json["methods"][0]["outcome"]) == (1, "gone")


def test_a_ref_is_looked_at_and_a_pristine_clone_stays_pristine(sdc: Sdc, fake_upstream: fake.Fake) -> None:
    fake._git(fake_upstream.path, "tag", "v1", fake_upstream.adapter.upstream.commit)
    sdc("apply", "fake")
    before = sorted(path for path in paths.upstream().rglob("*") if path.is_file())
    outcome = sdc("upstream", "check", "fake", "--ref", "v1", "--json")

    assert (outcome.code, outcome.json["methods"][0]["commit"]) == (0, fake_upstream.adapter.upstream.commit)
    assert sorted(path for path in paths.upstream().rglob("*") if path.is_file()) == before
    assert sdc("upstream", "check", "fake").code == 1  # the tip has another script


@pytest.mark.parametrize("ref", ["--upload-pack=touch sprung", "-x", "a..b", "+refs/heads/*", "main:other", ""])
def test_what_is_no_ref_never_reaches_git(ref: str, sdc: Sdc, fake_upstream: fake.Fake) -> None:
    outcome = sdc("upstream", "check", "fake", f"--ref={ref}")

    assert outcome.code == 1
    assert "give a branch, a tag or a full commit hash" in outcome.err
    assert not (paths.upstream() / "fake").exists()


def test_a_ref_that_is_not_there_is_named(sdc: Sdc, fake_upstream: fake.Fake) -> None:
    assert f"{fake.URL} has no nowhere" in sdc("upstream", "check", "fake", "--ref", "nowhere").err

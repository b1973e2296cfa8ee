"""Archives of an upstream as people unpack them: a folder deeper, within a repository of theirs, with other line ends."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests import fake
from tests.conftest import Sdc


@pytest.fixture
def unpacked(fake_upstream: fake.Fake, tmp_path: Path) -> Path:
    """An archive of the upstream at its pin, unpacked a folder deeper than people think."""
    commit = fake_upstream.adapter.upstream.commit
    pin = ["git", "-C", fake_upstream.path, "archive", f"--prefix=my fake/fake-{commit}/", commit]
    archive = subprocess.run(pin, check=True, capture_output=True).stdout
    subprocess.run(["tar", "-x", "-C", tmp_path], input=archive, check=True)
    return tmp_path / "my fake" / f"fake-{commit}"


def test_an_archive_unpacked_a_folder_deeper_is_found_and_named(unpacked: Path, sdc: Sdc) -> None:
    refused = sdc("status", "fake", "--to", unpacked.parent)
    assert (refused.code, f"--to '{unpacked}'" in refused.err, "--script" in refused.err) == (1, True, False), refused
    assert sdc("status", "fake", "--to", unpacked).code == 0


def test_a_download_within_a_repository_that_does_not_hold_it_is_compared_with_the_pin_too(
    unpacked: Path, sdc: Sdc
) -> None:
    home = unpacked.parent.parent
    (home / ".gitignore").write_text("my fake/\n")
    fake._commit(home, {"notes.txt": b"mine\n"})
    helpers = unpacked / "train" / "helpers.py"
    content = helpers.read_bytes().replace(b"\r\n", b"\n")
    for text, told in ((content.replace(b"\n", b"\r\n"), "only its line ends"), (content + b"\n", "changed")):
        helpers.write_bytes(text)
        (row,) = sdc("status", "fake", "--to", unpacked, "--json").json["methods"]
        assert [f"train/helpers.py ({told})" in note for note in row["notes"]] == [True], row

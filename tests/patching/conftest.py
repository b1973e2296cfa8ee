"""People's own repositories for the patch to go into."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests import fake

LF = fake.SCRIPT.encode()


@pytest.fixture
def own(fake_upstream: fake.Fake, tmp_path: Path) -> Callable[..., Path]:
    """`own(content)`: a repository of the user's with the script in it, committed; the script's path."""

    def make(content: bytes = LF, *, commit: bool = True) -> Path:
        script = tmp_path / "own" / "train" / "distil.py"
        script.parent.mkdir(parents=True)
        (script.parent / "helpers.py").write_text(fake.HELPERS)
        script.write_bytes(content)
        script.chmod(0o755)
        if commit:
            fake._commit(tmp_path / "own", {})
        return script

    return make

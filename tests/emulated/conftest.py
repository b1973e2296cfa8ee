"""Commands in processes of their own, on a machine that has emulated GPUs."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from sdc.ground import paths
from tests import fake, warm
from tests.conftest import Outcome
from tests.emulated import REPORTS, environment
from tests.fakecuda import reports

COMMAND = ["-c", "from sdc.cli import main; main()"]


@dataclass(frozen=True)
class Machine:
    """Runs commands; `devices` are the GPUs of the machine, `variables` what else its processes are told."""

    folder: Path
    devices: int = 1
    variables: Mapping[str, str] = field(default_factory=dict)

    def sdc(self, *words: object) -> Outcome:
        """The command line with these arguments; what its processes did is told by `reports`."""
        return self.python(*COMMAND, *words)

    def python(self, *words: object) -> Outcome:
        """Python with these arguments."""
        (self.folder / REPORTS).unlink(missing_ok=True)
        told = environment(self.folder, self.devices, self.variables)
        done = warm.STARTS.run([*map(str, words)], self.folder, told)
        return Outcome(done.returncode, done.stdout, done.stderr)

    @property
    def reports(self) -> list[dict[str, Any]]:
        """What the processes of the last command told; none may have mixed devices."""
        found = reports(self.folder / REPORTS)
        assert [each["problems"] for each in found] == [[]] * len(found)
        return found

    @property
    def scripts(self) -> list[dict[str, Any]]:
        """What the upstream scripts of the last command told."""
        return [each for each in self.reports if each["argv"][0].startswith(str(paths.upstream()))]


@pytest.fixture
def machine(tmp_path: Path) -> Callable[..., Machine]:
    """`machine(2, CUDA_VISIBLE_DEVICES="1")`: a machine with so many GPUs, of which a process sees what is told."""

    def made(devices: int = 1, **variables: str) -> Machine:
        return Machine(tmp_path, devices, variables)

    return made


@pytest.fixture
def with_fake(fake_upstream: fake.Fake) -> dict[str, str]:
    """Variables with which the processes of a machine know the method `fake`."""
    return {"SDC_TEST_FAKE": str(fake_upstream.patch.parent)}


def result(outcome: Outcome) -> dict[str, Any]:
    """The JSON of a command that ended well."""
    assert outcome.code == 0, outcome
    found: dict[str, Any] = json.loads(outcome.out)
    return found

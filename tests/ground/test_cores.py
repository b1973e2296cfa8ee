"""How many processes work side by side: what the user says rules, else the cores do."""

from __future__ import annotations

import os

import pytest

from sdc.ground import cores
from sdc.ground.errors import FatalError


@pytest.fixture(autouse=True)
def _eight(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)), raising=False)
    for name in ("OMP_NUM_THREADS", "SDC_WORKERS"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize(
    ("threads", "workers", "wanted", "expected"),
    [
        ("", "", 100, 8),
        ("", "", 3, 3),
        ("", "", 0, 1),
        ("2", "", 100, 4),
        ("3,2", "", 100, 2),
        ("16", "", 100, 1),
        ("", "5", 100, 5),
        ("2", "1", 100, 1),
        ("2", "5", 4, 4),
    ],
)
def test_processes_share_the_cores_unless_a_number_is_given(
    threads: str, workers: str, wanted: int, expected: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {"OMP_NUM_THREADS": threads, "SDC_WORKERS": workers}.items():
        if value:
            monkeypatch.setenv(name, value)
    assert cores.lanes(wanted) == expected


@pytest.mark.parametrize("said", ["0", "-1", "2.5", "all"])
def test_a_number_of_workers_is_one_or_more(said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SDC_WORKERS", said)
    with pytest.raises(FatalError, match=f"SDC_WORKERS={said}"):
        cores.lanes(2)

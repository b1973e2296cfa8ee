"""Servers that stand still, and commands that are ended while they wait: no process of git stays, and no half clone."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from sdc.ground import paths
from tests import fake, servers
from tests.conftest import Sdc
from tests.servers import Request, Server

QUICK = "[http]\n\tlowSpeedTime = 1\n"


@pytest.fixture(autouse=True)
def _free_network(monkeypatch: pytest.MonkeyPatch) -> None:
    servers.free_network(monkeypatch)


def halves() -> list[Path]:
    """What is in the folder of the clones while they are filled."""
    return list(paths.upstream().glob(".*.partial"))


def within(seconds: float, holds: Callable[[], bool]) -> bool:
    """Whether something comes true in this time."""
    end = time.monotonic() + seconds
    while not holds() and time.monotonic() < end:
        time.sleep(0.02)
    return holds()


def _in_the_middle(made: fake.Fake) -> servers.Answer:
    return servers.git(made, most=40, hold=True)


@pytest.mark.parametrize("answer", [lambda made: servers.stalls, _in_the_middle], ids=["at once", "in the middle"])
def test_a_server_that_stands_still_is_left_after_the_users_own_limit(
    answer: Callable[[fake.Fake], servers.Answer], sdc: Sdc, fake_upstream: fake.Fake
) -> None:
    with servers.serving(answer(fake_upstream)) as server:
        servers.lead(fake_upstream, server.url, QUICK)
        began = time.monotonic()
        outcome = sdc("apply", "fake")
        seconds = time.monotonic() - began
        checked = sdc("upstream", "check", "fake")

        assert (outcome.code, seconds < 20) == (1, True)
        assert "127.0.0.1 stands still" in outcome.err
        assert "git config --global http.lowSpeedTime" in outcome.err.splitlines()[-1]
        assert "stands still" in checked.err
        assert [path.name for path in paths.upstream().iterdir()] == [".fake.lock"]
        assert servers.gits(server.port) == []


@pytest.mark.parametrize("scheme", ["https", "git", "ssh"])
def test_one_that_does_not_even_greet_is_left_too_by_whatever_protocol(
    scheme: str, sdc: Sdc, fake_upstream: fake.Fake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = tmp_path / "ssh"
    program.write_text(f"#!/bin/sh\nsleep 600 & echo $! > {tmp_path}/number; wait\n")
    program.chmod(0o755)
    monkeypatch.setenv("GIT_SSH", str(program))
    with servers.silent() as server:
        servers.lead(fake_upstream, server.url.replace("https", scheme), QUICK)
        outcome = sdc("apply", "fake")

        assert (outcome.code, "127.0.0.1 stands still" in outcome.err) == (1, True)
        assert servers.gits(server.port) == []
    if scheme == "ssh":  # what it had started is gone, too
        told = subprocess.run(
            ["ps", "-o", "args=", "-p", (tmp_path / "number").read_text().strip()], capture_output=True
        )
        assert b"sleep 600" not in told.stdout


@pytest.mark.parametrize(
    ("config", "variables", "limit", "seconds"),
    [
        ("", {}, "100", "60"),
        ("[http]\n\tlowSpeedTime = 7\n", {}, "100", None),
        ("[http]\n\tlowSpeedLimit = 7\n", {}, None, "60"),
        ('[http "http://127.0.0.1"]\n\tlowSpeedTime = 7\n', {}, "100", "60"),
        ('[http "{url}/"]\n\tlowSpeedTime = 7\n', {}, "100", None),
        ("", {"GIT_HTTP_LOW_SPEED_TIME": "7"}, "100", None),
    ],
    ids=["nothing", "time", "bytes", "another address", "this address", "variable"],
)
def test_sixty_seconds_without_progress_are_the_limit_unless_the_user_says_otherwise(
    config: str,
    variables: dict[str, str],
    limit: str | None,
    seconds: str | None,
    sdc: Sdc,
    fake_upstream: fake.Fake,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("GIT_TRACE2_EVENT", str(tmp_path / "trace"))
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    with servers.serving(servers.git(fake_upstream)) as server:
        servers.lead(fake_upstream, server.url, config.replace("{url}", server.url))
        assert sdc("apply", "fake").code == 0
    events = [json.loads(line) for line in (tmp_path / "trace").read_text().splitlines()]
    fetch = next(e["argv"] for e in events if e["event"] == "start" and "--depth=1" in e["argv"])
    given = dict(word.split("=", 1) for word in fetch if word.startswith("http."))
    expected = {"http.lowSpeedLimit": limit, "http.lowSpeedTime": seconds}
    assert given == {name: value for name, value in expected.items() if value}


def test_a_clone_that_takes_longer_says_so_and_json_stays_clean(sdc: Sdc, fake_upstream: fake.Fake) -> None:
    served = servers.git(fake_upstream)

    def slow(request: Request) -> None:
        time.sleep(2.5 if len(request.server.seen) == 1 else 0)
        served(request)

    with servers.serving(slow) as server:
        servers.lead(fake_upstream, server.url)
        outcome = sdc("apply", "fake", "--json")

    assert (outcome.code, outcome.json["methods"][0]["after"]) == (0, "patched")
    assert f"cloning {server.url}/owner/fake: 2 s" in outcome.err


def test_a_quick_clone_says_nothing(sdc: Sdc, fake_upstream: fake.Fake, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GIT_ALLOW_PROTOCOL", "file")
    assert sdc("apply", "fake").err == ""


@pytest.fixture
def stalled(fake_upstream: fake.Fake) -> Iterator[Server]:
    """A server behind the address of a true upstream, which keeps whoever asks waiting."""
    with servers.serving(servers.stalls) as server:
        servers.lead(fake_upstream, server.url, of="https://github.com/")
        yield server


def started(server: Server) -> subprocess.Popen[str]:
    """`sdc apply dm`, in the middle of asking the server."""
    seen = len(server.seen)
    command = [sys.executable, "-m", "sdc", "apply", "dm", "--json"]
    process = subprocess.Popen(
        command,
        cwd=paths.ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_DFL),  # which is ignored below nohup
    )
    assert within(30, lambda: len(server.seen) > seen), process.communicate()
    assert servers.gits(server.port)
    return process


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_command_that_is_told_to_end_leaves_nothing(number: signal.Signals, stalled: Server) -> None:
    process = started(stalled)
    process.send_signal(number)

    assert process.wait(10) == 130
    assert servers.gits(stalled.port, paths.upstream()) == []
    assert halves() == []


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGHUP])
def test_of_a_command_that_is_killed_git_ends_too_and_the_next_command_sweeps_up(
    number: signal.Signals, stalled: Server, sdc: Sdc
) -> None:
    process = started(stalled)
    process.send_signal(number)
    process.wait(10)

    assert within(3, lambda: servers.gits(stalled.port, paths.upstream()) == [])
    assert len(halves()) == 1
    assert sdc("status").code == 0
    assert halves() == []


def test_a_clone_that_another_command_is_making_is_not_swept(stalled: Server, sdc: Sdc) -> None:
    killed, alive = started(stalled), None
    try:
        killed.kill()
        killed.wait(10)
        (left,) = halves()
        alive = started(stalled)
        assert len(halves()) <= 2
        assert sdc("status").code == 0
        (kept,) = halves()
        assert kept != left
        assert alive.poll() is None
    finally:
        if alive:
            alive.terminate()
            alive.wait(10)
    assert halves() == []


def test_what_an_older_version_left_is_swept_and_other_files_stay(sdc: Sdc, fake_upstream: fake.Fake) -> None:
    paths.upstream().mkdir(parents=True)
    old = paths.upstream() / ".dm.x1y2z3.partial"
    (old / ".git" / "objects").mkdir(parents=True)
    (paths.upstream() / ".notes.partial").write_text("mine\n")
    (paths.upstream() / "own.partial").mkdir()

    assert sdc("status").code == 0
    assert sorted(path.name for path in paths.upstream().iterdir()) == [".notes.partial", "own.partial"]


def test_a_check_that_is_killed_leaves_nothing_for_good(
    sdc: Sdc, fake_upstream: fake.Fake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "tmp").mkdir()
    assert sdc("apply", "fake").code == 0
    environment = os.environ | {"TMPDIR": str(tmp_path / "tmp")}
    with servers.serving(servers.stalls) as server:
        config = fake_upstream.git_config.read_text()
        servers.lead(fake_upstream, server.url)
        command = [sys.executable, "-m", "tests.fake", str(fake_upstream.patch.parent), "upstream", "check", "fake"]
        process = subprocess.Popen(command, cwd=paths.ROOT, env=environment)
        assert within(30, lambda: len(server.seen) > 0)
        process.kill()
        process.wait(10)
        assert within(3, lambda: servers.gits(server.port) == [])
        assert len(list((tmp_path / "tmp").iterdir())) == 1
    fake_upstream.git_config.write_text(config)
    subprocess.run(command, cwd=paths.ROOT, env=environment, check=False, capture_output=True)
    assert list((tmp_path / "tmp").iterdir()) == []

"""Scripts start from a process that has imported torch already: most of what a short script costs is that import.

`Warm` stands in for `subprocess` in the one file that starts scripts. It asks a process of its own (this file, run as a
script), which is started as a script's is, imports what the launcher imports from others, and waits. For a script that
process forks: the fork takes on the script's environment, folder, output and session, becomes a child of whoever asked,
and goes on as `python -P -m sdc.launcher JOB.json` does. It is a process like any other, to be waited for and killed.
`Warm.run` does the same for Python with any words.

An environment in which anything differs that an import may look at has a process of its own, and its first script is
started afresh, as are all in commands that tests start as processes. `$SDC_TEST_COLD`: all are started afresh,
as are those that a test finds by a variable of theirs, `$SDC_TEST_MARK`.
"""

from __future__ import annotations

import ctypes
import gc
import importlib
import json
import os
import runpy
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any

IMPORTED = ("torch", "safetensors.torch", "sdc.launcher.light")
"""The last one imports torchvision, in its own way."""
OWN = (
    *("SDC_UPSTREAM", "SDC_CACHE", "SDC_DEVICE", "SDC_WORKERS", "SDC_TEST_CUDA_REPORT"),
    *("GIT_CONFIG_GLOBAL", "GIT_ALLOW_PROTOCOL", "COLUMNS", "PYTEST_CURRENT_TEST"),
)
"""Variables that nothing looks at when it is imported; they differ from test to test."""
THERE = ("SDC_TEST_FAKE",)
"""Of these, tests/site looks whether they are there, not at what they are."""
_PR_SET_CHILD_SUBREAPER = 36
_MOST = 1 << 17


class Forked:
    """What is used of a `subprocess.Popen`, for a child that another process has forked."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.returncode: int | None = None

    def poll(self) -> int | None:
        """Its exit code if it has ended."""
        if self.returncode is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            self.returncode = os.waitstatus_to_exitcode(status) if pid else None
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """Its exit code, once it has ended; TimeoutExpired if that takes longer."""
        end = time.monotonic() + (float("inf") if timeout is None else timeout)
        while (code := self.poll()) is None:
            if time.monotonic() > end:
                raise subprocess.TimeoutExpired(str(self.pid), timeout or 0.0)
            time.sleep(0.005)
        return code

    def send_signal(self, number: int) -> None:
        """Send it a signal unless it has ended."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        """End it at once."""
        self.send_signal(signal.SIGKILL)


class Warm:
    """As much of `subprocess` as the file that starts scripts uses."""

    DEVNULL, TimeoutExpired = subprocess.DEVNULL, subprocess.TimeoutExpired

    def __init__(self, at_once: bool = False) -> None:
        """`at_once`: also the first script of an environment is forked."""
        self._at_once = at_once
        self._asked: dict[frozenset[tuple[str, str]], socket.socket | None] = {}

    def Popen(  # noqa: N802 - the name it has in `subprocess`
        self, command: Sequence[str], *, cwd: Path, env: Mapping[str, str], stdout: IO[bytes], **usual: Any
    ) -> Forked | subprocess.Popen[bytes]:
        """Start `python -P -m sdc.launcher JOB.json`."""
        if asked := self._forks(env):
            return _forked(asked, {"words": command[1:], "cwd": str(cwd), "env": dict(env)}, stdout, stdout)
        return subprocess.Popen(command, cwd=cwd, env=env, stdout=stdout, **usual)

    def run(self, words: Sequence[str], cwd: Path, env: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
        """Run Python with these words, `-c CODE ...` or `-m MODULE ...`, until it ends."""
        if not (asked := self._forks(env)):
            command = [sys.executable, *words]
            return subprocess.run(command, cwd=cwd, env=env, check=False, capture_output=True, text=True)
        with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
            code = _forked(asked, {"words": ["", *words], "cwd": str(cwd), "env": dict(env)}, out, err).wait()
            said = [file.seek(0) or file.read().decode() for file in (out, err)]
        return subprocess.CompletedProcess(words, code, *said)

    def _forks(self, env: Mapping[str, str]) -> socket.socket | None:
        """Where to ask for a fork; None if what this is for is to be started afresh."""
        told = {name: "" if name in THERE else value for name, value in env.items() if name not in OWN}
        kind = frozenset(told.items())
        if kind not in self._asked:
            self._asked[kind] = None
            if not self._at_once:
                return None
        if {"SDC_TEST_COLD", "SDC_TEST_MARK"} & env.keys() or not sys.platform.startswith("linux"):
            return None
        self._asked[kind] = self._asked[kind] or _started(env)
        return self._asked[kind]

    def end(self) -> None:
        """Let those processes end."""
        for asked in self._asked.values():
            if asked:
                asked.close()


def _started(env: Mapping[str, str]) -> socket.socket:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with theirs:
        subprocess.Popen(
            [sys.executable, "-P", __file__, str(theirs.fileno())],
            cwd="/",
            env=env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            pass_fds=[theirs.fileno()],
            start_new_session=True,
        )
    return ours


def _forked(asked: socket.socket, request: Mapping[str, Any], out: IO[bytes], err: IO[bytes]) -> Forked:
    _adopt(True)
    try:
        socket.send_fds(asked, [json.dumps(request).encode()], [out.fileno(), err.fileno()])
        pid = int(asked.recv(_MOST))
        asked.recv(_MOST)  # from here on it is a child of this process
    finally:
        _adopt(False)
    return Forked(pid)


def _adopt(orphans: bool) -> None:
    """Whether grandchildren whose parent has ended become children of this process, instead of the first one's."""
    ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, int(orphans), 0, 0, 0)


def serve(asked: socket.socket) -> list[str]:
    """Fork for each request. Returns Python's words in the fork, nothing once nobody can ask any more."""
    for name in IMPORTED:
        importlib.import_module(name)
    gc.collect()
    gc.freeze()  # what was imported need not be looked through, and so copied, in each fork
    while asked.recv(1, socket.MSG_PEEK):
        text, outputs, *_ = socket.recv_fds(asked, _MOST, 2)
        if not (between := os.fork()):
            between = os.getpid()
            if child := os.fork():
                asked.send(str(child).encode())
                os._exit(0)
            asked.close()
            return _become(json.loads(text), outputs, between)
        for output in outputs:
            os.close(output)
        os.waitpid(between, 0)
        asked.send(b"done")
    return []


def _become(request: Mapping[str, Any], outputs: Sequence[int], between: int) -> list[str]:
    """In the fork: be what the command's own process would be, once it is a child of whoever asked."""
    os.setsid()
    for number, output in enumerate(outputs, start=1):
        os.dup2(output, number)
        os.close(output)
    os.chdir(request["cwd"])
    os.environ.clear()
    os.environ.update(request["env"])
    while os.getppid() == between:
        time.sleep(0.001)
    return list(request["words"])


def main() -> None:
    """Serve; in a fork, do what Python does with the words `[-P|""] -c CODE ...` or `[-P|""] -m MODULE ...`."""
    if not (words := serve(socket.socket(fileno=int(sys.argv[1])))):
        return
    safely, kind, what, *more = words
    if not safely:
        sys.path.insert(0, "" if kind == "-c" else os.getcwd())  # noqa: PTH109 - what Python itself puts there
    sys.argv = [kind if kind == "-c" else what, *more]
    if kind == "-m":
        runpy.run_module(what, run_name="__main__", alter_sys=True)
    else:
        exec(compile(what, "<string>", "exec"), {"__name__": "__main__"})  # noqa: S102 - as Python does


STARTS = Warm()
"""Those of all tests."""

if __name__ == "__main__":
    main()

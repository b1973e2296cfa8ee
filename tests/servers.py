"""Local HTTP servers for tests of the network: git's own (`git http-backend`), and all that stands in for one."""

from __future__ import annotations

import os
import socket
import ssl
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from socketserver import StreamRequestHandler, ThreadingTCPServer
from typing import Any

import pytest

from tests import fake

LOGIN = "<html><head><title>Welcome to our network</title></head><body>Please log in</body></html>"
"""In one line: to git's dumb protocol this is a list of no refs."""


class Request(BaseHTTPRequestHandler):
    """One request; `server.answer` writes what comes back."""

    protocol_version = "HTTP/1.1"
    server: Any

    def _answered(self) -> None:
        self.server.seen.append(f"{self.command} {self.path}")
        self.body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.server.answer(self)

    do_GET = do_POST = do_CONNECT = _answered  # noqa: N815

    def log_message(self, *_: Any) -> None:
        """Say nothing."""

    def send(self, status: int, kind: str = "", body: bytes = b"", **headers: str) -> None:
        """One whole answer."""
        self.send_response(status)
        if kind:
            self.send_header("Content-Type", kind)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(body)
        self.close_connection = True


Answer = Callable[[Request], None]


@dataclass
class Server:
    """A server that runs: its address, the requests that it has seen, and what lets those go on that it holds back."""

    url: str
    seen: list[str] = field(default_factory=list)
    go_on: threading.Event = field(default_factory=threading.Event)

    @property
    def port(self) -> str:
        """The port that it listens on."""
        return self.url.rpartition(":")[2]


class _Listener(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that went away, or does not like a certificate, is no error here."""


@contextmanager
def serving(answer: Answer, certificate: Path | None = None, *, clients: Path | None = None) -> Iterator[Server]:
    """A server that answers each request by `answer`; over TLS with a certificate, of `clients` who show that one."""
    listener = _Listener(("127.0.0.1", 0), Request)
    if certificate:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate, certificate.with_suffix(".key"))
        if clients:
            context.load_verify_locations(clients)
            context.verify_mode = ssl.CERT_REQUIRED
        listener.socket = context.wrap_socket(listener.socket, server_side=True, do_handshake_on_connect=False)
    made = Server(f"http{'s' if certificate else ''}://127.0.0.1:{listener.server_address[1]}")
    listener.answer, listener.seen, listener.go_on = answer, made.seen, made.go_on  # type: ignore[attr-defined]
    thread = threading.Thread(target=listener.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield made
    finally:
        made.go_on.set()
        listener.shutdown()
        listener.server_close()


@contextmanager
def silent() -> Iterator[Server]:
    """Takes connections, and says nothing at all: no TLS, no HTTP."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield Server(f"https://127.0.0.1:{listener.getsockname()[1]}")


@contextmanager
def raw(answer: bytes) -> Iterator[Server]:
    """Says these bytes, whatever it is asked, and closes the connection."""

    class Bytes(StreamRequestHandler):
        def handle(self) -> None:
            while self.rfile.readline().strip():
                pass
            self.wfile.write(answer)

    with ThreadingTCPServer(("127.0.0.1", 0), Bytes) as listener:
        listener.daemon_threads = True
        threading.Thread(target=listener.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        yield Server(f"http://127.0.0.1:{listener.server_address[1]}")
        listener.shutdown()


def says(status: int, kind: str = "", body: str = "", **headers: str) -> Answer:
    """The same to everything."""
    return lambda request: request.send(status, kind, body.encode(), **headers)


def drops(request: Request) -> None:
    """Closes the connection without a word."""
    request.close_connection = True


def stalls(request: Request) -> None:
    """Says nothing until it is let go on, then closes."""
    request.server.go_on.wait()
    request.close_connection = True


def git(made: fake.Fake, *, newest: bool = True, most: int | None = None, hold: bool = False) -> Answer:
    """Git's own server for the fake upstream.

    newest: speaks protocol 2, in which anything may be asked for by its hash; most: of a pack, so many bytes are sent,
    and then the connection is closed, or, with `hold`, held.
    """

    def answer(request: Request) -> None:
        status, kind, body = _backend(made.path.parents[1], request, newest=newest)
        if most is not None and request.command == "POST" and b"PACK" in body:
            request.send_response(status)
            request.send_header("Content-Type", kind)
            request.send_header("Content-Length", str(len(body)))
            request.end_headers()
            request.wfile.write(body[: body.index(b"PACK") + most])
            request.wfile.flush()
            if hold:
                request.server.go_on.wait()
            request.close_connection = True
        else:
            request.send(status, kind, body)

    return answer


def _backend(root: Path, request: Request, *, newest: bool) -> tuple[int, str, bytes]:
    path, _, query = request.path.partition("?")
    environment = {
        "PATH": os.environ["PATH"],
        "GIT_PROJECT_ROOT": str(root),
        "GIT_HTTP_EXPORT_ALL": "1",
        "GIT_CONFIG_GLOBAL": os.devnull,
        "PATH_INFO": path,
        "QUERY_STRING": query,
        "REQUEST_METHOD": request.command,
        "CONTENT_TYPE": request.headers.get("Content-Type", ""),
        "CONTENT_LENGTH": str(len(request.body)),
        "HTTP_CONTENT_ENCODING": request.headers.get("Content-Encoding", ""),
    }
    if newest and (protocol := request.headers.get("Git-Protocol")):
        environment["GIT_PROTOCOL"] = protocol
    done = subprocess.run(
        ["git", "http-backend"], input=request.body, capture_output=True, env=environment, check=False
    )
    head, _, body = done.stdout.partition(b"\r\n\r\n")
    headers = dict(line.split(": ", 1) for line in head.decode().split("\r\n"))
    return int(headers.get("Status", "200").split()[0]), headers.get("Content-Type", ""), body


def lead(made: fake.Fake, address: str, more: str = "", of: str = "https://upstream.invalid/") -> None:
    """Have git take `address` for the hosts of upstreams, with `more` in its configuration."""
    made.git_config.write_text(f'[url "{address}/"]\n\tinsteadOf = {of}\n{more}')


def free_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have git begin with none of this machine's settings: every address in these tests is on it."""
    proxies = [name for word in ("http", "https", "all", "no") for name in (f"{word}_proxy", f"{word}_proxy".upper())]
    for name in [*proxies, *(name for name in os.environ if name.startswith("GIT_"))]:
        if name != "GIT_CONFIG_GLOBAL":
            monkeypatch.delenv(name, raising=False)


def certificate(folder: Path, name: str = "server", host: str = "IP:127.0.0.1") -> Path:
    """A certificate that is its own authority, for 127.0.0.1, with its key beside it."""
    made = folder / f"{name}.pem"
    words = f"req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -addext subjectAltName={host}"
    files = ["-subj", f"/CN={name}", "-keyout", made.with_suffix(".key"), "-out", made]
    subprocess.run(["openssl", *words.split(), *files], check=True, capture_output=True)
    return made


def gits(*words: object) -> list[str]:
    """The commands of all processes of git, or that start git, which name one of `words`."""
    listed = subprocess.run(["ps", "-A", "-ww", "-o", "args="], capture_output=True, text=True, check=True).stdout
    return [line for line in listed.splitlines() if "git" in line and any(str(word) in line for word in words)]

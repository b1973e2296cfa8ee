"""One published file, downloaded whole and checked, or not at all."""

from __future__ import annotations

import hashlib
import http.client
import logging
import ssl
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from sdc.data.members import KINDS
from sdc.ground.errors import FatalError
from sdc.ground.files import replacing

log = logging.getLogger(__name__)
TIMEOUT = 60
UNREACHABLE = (urllib.error.URLError, http.client.HTTPException, ConnectionError, TimeoutError, ssl.SSLError)


@dataclass(frozen=True)
class Published:
    """A file at one or several addresses, and the MD5 its publisher names."""

    name: str
    urls: tuple[str, ...]
    md5: str


def fetch(published: Published, folder: Path) -> Path:
    """The file in `folder`, downloaded unless a copy with the right MD5 is there already.

    Raises FatalError naming each address and what went wrong there; nothing half-made stays.
    """
    path = folder / published.name
    if path.is_file() and _md5(path) == published.md5:
        return path
    failures = []
    for url in published.urls:
        log.info("downloading %s to %s", url, path)
        try:
            _download(url, published.md5, path)
        except UNREACHABLE as error:
            failures.append(f"cannot download {url}: {error or type(error).__name__}")
        else:
            return path
    raise FatalError(
        "\n".join(failures) + f"\nWithout a network: put the file (MD5 {published.md5}) at {path},\n"
        f"or use images of your own: --data PATH of {KINDS}."
    )


def _download(url: str, md5: str, path: Path) -> None:
    with replacing(path) as partial:
        with partial.open("wb") as file:
            for chunk in _chunks(url):
                file.write(chunk)
        if (got := _md5(partial)) != md5:
            raise urllib.error.URLError(f"its MD5 is {got}, expected {md5}")


def _chunks(url: str) -> Iterator[bytes]:
    opener = urllib.request.build_opener()  # reads the proxy settings each time
    opener.addheaders = [("User-Agent", "sdc")]
    with opener.open(url, timeout=TIMEOUT) as response:
        while chunk := response.read(2**20):
            yield chunk


def _md5(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()

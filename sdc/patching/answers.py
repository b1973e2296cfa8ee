"""What is heard of a server: git's words without its progress, and the answers that git wrote down (GIT_TRACE_CURL)."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from pathlib import Path

_PROGRESS = re.compile(r"(remote: )?(Enumerating|Counting|Compressing|Receiving|Resolving|Unpacking|Updating) [\w ]+: ")
_SECRET = re.compile(r"(?<=://)[^/\s@']+@|(?<=[^\s'])\?(?!service=)[^\s']+")
"""In an address: a login, and what is asked of a page."""
_SENT = re.compile(r"=> Send header: ([A-Z]+) \S+ HTTP/")
_RECEIVED = re.compile(r"<= Recv header: (.*)")
_STATUS = re.compile(r"HTTP/[\d.]+ (\d{3})")
_SMART = re.compile(r"application/x-git-upload-pack-(advertisement|result)\b")


@dataclass(frozen=True)
class Answer:
    """An HTTP answer: its status, its content type, what was asked, and where a redirect led before it."""

    status: int
    kind: str = ""
    asked: str = "GET"
    place: str = ""
    wait: str = ""
    """After how many seconds, or when, the server wants to be asked again."""

    @property
    def smart(self) -> bool:
        """Whether it says to be git's smart protocol."""
        return bool(_SMART.match(self.kind))

    def said(self) -> str:
        """The answer in words."""
        kind = self.kind.partition(";")[0].strip() or "no content type"
        return f"HTTP {self.status}, {kind}" + (f", after a redirect to {self.place}" if self.place else "")


def last(trace: Path) -> Answer | None:
    """The last answer in git's record; None if there was none, or the record went elsewhere."""
    answer, asked = None, "GET"
    for line in trace.read_text(errors="replace").splitlines() if trace.is_file() else ():
        if sent := _SENT.search(line):
            asked = sent[1]
        elif received := _RECEIVED.search(line):
            answer = _with_header(answer, received[1].strip(), asked)
    return answer


def _with_header(answer: Answer | None, header: str, asked: str) -> Answer | None:
    if status := _STATUS.match(header):
        number = int(status[1])
        if number < 200:  # an answer is still to come
            return answer
        redirected = answer is not None and 300 <= answer.status < 400
        return Answer(number, asked=asked, place=answer.place if answer and redirected else "")
    if answer is None:
        return None
    name, _, value = header.partition(":")
    value = value.strip()
    if name.lower() == "content-type":
        return replace(answer, kind=value)
    if name.lower() == "retry-after":
        return replace(answer, wait=value)
    return replace(answer, place=shown(re.split(r"[?#]", value)[0])) if name.lower() == "location" else answer


def words(said: bytes) -> str:
    """What git said without its progress, which it writes over and over into one line."""
    lines = (line.rstrip() for line in re.split(r"[\r\n]+", said.decode(errors="replace")))
    return _SECRET.sub("", "\n".join(line for line in lines if line and not _PROGRESS.match(line)))


def progress(said: bytes) -> str:
    """The last progress that git said, such as `Receiving objects:  45% (9/20)`; empty if there is none."""
    lines = (line.strip() for line in re.split(r"[\r\n]+", said.decode(errors="replace")))
    return next((line for line in reversed(list(lines)) if _PROGRESS.match(line)), "")


def shown(address: str) -> str:
    """An address without what may be secret in it: the user's name, passwords and tokens before the host, a query."""
    if address.startswith(("file:", "/")):
        return address
    rest = re.sub(r"^[\w+.-]+://", "", address)
    return address.removesuffix(rest) + re.split(r"[?#\s]", rest.rpartition("@")[2])[0]

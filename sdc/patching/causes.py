"""Why a server could not be asked: from git's words, and the server's last answer, to one cause and one remedy."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from sdc.patching import remedies
from sdc.patching.answers import Answer


@dataclass(frozen=True)
class Source:
    """What was asked for: an upstream's `url` and `ref`, the `address` that git takes for it; and where it was to go.

    `elsewhere` is what a user sets to have another place.
    """

    url: str
    ref: str
    address: str
    folder: Path
    elsewhere: str

    @property
    def host(self) -> str:
        """The host of the address; the address itself where it is a folder."""
        parts = urlsplit(self.address)
        host = parts.hostname or re.split(r"[:/]", self.address.rpartition("@")[2])[0]
        return self.address if parts.scheme == "file" or not host else host

    @property
    def mirrored(self) -> bool:
        """Whether the user's git takes something else than the upstream's own address."""
        return self.address != self.url


@dataclass(frozen=True)
class Cause:
    """Why it failed: a name for the program; for people, what it is, and what mends it."""

    name: str
    said: str
    remedy: str

    @property
    def final(self) -> bool:
        """Whether the server would say the same if it were asked in another way."""
        return self.name != "commit"


_NAMED_HOST = re.compile(r"(?:Failed to connect to|Could not resolve host:) ([^\s:;]+)")


def cause(source: Source, said: str, answer: Answer | None) -> Cause | None:
    """The cause of a failure, from what git said and the last answer; None if it is not known."""
    words = _without_noise(said)
    if re.search(remedies.ROWS[0][1], words):
        return full(source)  # whatever the record of the answers has: it would be cut short
    if answer is None and (number := re.search(r"returned error: (\d{3})", words)):
        answer = Answer(int(number[1]), kind="unknown")
    if told := _by_answer(source, answer) if answer else None:
        return _filled(source, told, answer=answer)
    for row in remedies.ROWS:
        if match := re.search(row[1], words):
            name, _, means, remedy = _through_a_proxy(source, row, words)
            return _filled(source, (name, means, remedy), next((group for group in match.groups() if group), ""))
    if answer and 300 <= answer.status < 400:  # in a circle, say
        return _filled(source, remedies.NOT_SMART, answer=answer)
    return None


def broken_git(said: str, clone: Path) -> str:
    """What is wrong with the user's own git, if that is why it failed in a clone; empty if the clone is to blame."""
    _, pattern, means, remedy = remedies.CONFIGURATION
    match = re.search(pattern, _without_noise(said))
    if not match or str(clone) in match[0]:
        return ""
    return f"{means.format(told=match[1])}:\n{said}\n{remedy}"


def full(source: Source) -> Cause:
    """The cause where a write of our own found no space."""
    name, _, means, remedy = remedies.ROWS[0]
    return _filled(source, (name, means, remedy))


def message(source: Source, found: Cause | None, failures: Sequence[str]) -> str:
    """What failed and why, what git said of it, each attempt's words once, and what mends it."""
    taken = f" (for which git takes {source.address})" if source.mirrored else ""
    why = found.said if found else "git failed, and it is not known why"
    remedy = found.remedy if found else _filled(source, ("", "", remedies.LOOK)).remedy
    told = "\n".join(dict.fromkeys(failures))
    return f"could not clone {source.url}{taken} at {source.ref}: {why}\n{told}\n{remedy}"


def _by_answer(source: Source, answer: Answer) -> tuple[str, str, str] | None:
    """The row of an HTTP answer that says why; None if it was git's."""
    if answer.asked == "CONNECT":
        return None if answer.status < 300 else remedies.STATUSES[407] if answer.status == 407 else remedies.CONNECT
    if answer.status in remedies.STATUSES:
        return remedies.STATUSES[answer.status]
    if answer.status >= 500:
        return remedies.TROUBLE
    if answer.status >= 400:
        return remedies.OTHER
    if answer.status >= 300:  # git does not follow it, or not to its end
        return remedies.NOT_SMART if _leads_away(source, answer.place) else None
    return None if answer.smart else remedies.NOT_SMART


def _leads_away(source: Source, place: str) -> bool:
    """Whether a redirect leads to another host, or from TLS to none."""
    here, there = urlsplit(source.address), urlsplit(place)
    return bool(there.hostname) and (
        there.hostname != here.hostname or (here.scheme, there.scheme) == ("https", "http")
    )


def _through_a_proxy(source: Source, row: tuple[str, str, str, str], words: str) -> tuple[str, str, str, str]:
    """The row, or the proxy's where git speaks of another host than the one that was asked for."""
    named = _NAMED_HOST.search(words)
    if named and named[1] != source.host and source.address.startswith("http"):
        return next(each for each in remedies.ROWS if each[0] == "proxy")
    return row


def _filled(source: Source, row: tuple[str, str, str], told: str = "", answer: Answer | None = None) -> Cause:
    name, means, remedy = row
    facts = {
        "told": told,
        "host": source.host,
        "address": source.address,
        "url": source.url,
        "owner": source.url.rsplit("/", 2)[0],
        "folder": source.folder,
        "elsewhere": source.elsewhere,
        "status": answer.status if answer else "",
        "answer": answer.said() if answer else "",
        "wait": _pause(answer),
    }
    wanted = remedies.BY_MIRROR.get((name, source.mirrored), remedy)
    return Cause(name, means.format_map(facts), wanted.format_map(facts))


def _pause(answer: Answer | None) -> str:
    told = answer.wait if answer else ""
    return f"{told} seconds" if told.isdecimal() else f"until {told}" if told else "some minutes"


def _without_noise(said: str) -> str:
    """Git's words without the command itself, and without what the user has it write of its doings (GIT_TRACE)."""
    return "\n".join(line for line in said.splitlines() if not re.match(r"\$ git |\d\d:\d\d:\d\d\.\d", line))

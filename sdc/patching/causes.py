"""Why a server could not be asked: from git's words, and the server's last answer, to one cause and one remedy."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

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


_LOOK = "See whether git reaches it: git ls-remote {url}"
_LOGIN = "Give git one, until this lists its branches: git ls-remote {url}"
_USE = "git config --global url.<base>.insteadOf {owner}/   (git then takes <base>REPOSITORY instead)"
_MIRROR = "Check the network. Without one, put a mirror of the repository anywhere and tell git:\n  " + _USE
_AGAIN = "Run the same command again"
_PORTAL = (
    "A login page or a filter stands between here and {host}: open {address} in a browser and see. "
    "A mirror must speak git's smart protocol (git http-backend)"
)
_PROXY = "Set the right one: export https_proxy=http://USER:PASSWORD@HOST:PORT, or git config --global http.proxy"

_ROWS: tuple[tuple[str, str, str, str], ...] = (
    (
        "full",
        r"No space left on device|[Dd]isk quota exceeded|File too large|Out of diskspace"
        r"|died of signal 25|status (?:153|-25)\b",
        "no space left on the disk, or in the quota, for {folder}",
        "Free some (df -h {folder}), or have it elsewhere: {elsewhere}",
    ),
    (
        "owner",
        r"dubious ownership in repository at '([^']+)'",
        "git does not trust {told}, which belongs to another user",
        "If you do: git config --global --add safe.directory {told}",
    ),
    (
        "configuration",
        r"(bad (?:config|numeric|boolean).*)",
        "git's own configuration is broken ({told})",
        "Mend what it names, until this ends well: git config --list",
    ),
    (
        "git",
        r"[Uu]nable to find remote helper for '(\w+)'|'remote-(\w+)' is not a git command|error while loading shared",
        "the git that is run here lacks the part that speaks {told}",
        "Install git whole, for example: apt-get install git; or mend GIT_EXEC_PATH: git --exec-path",
    ),
    (
        "protocol",
        r"transport '([\w.+-]+)' not allowed",
        "git may not use {told} here (GIT_ALLOW_PROTOCOL, or what sdc allows by itself: https, http, file, ssh)",
        _MIRROR,
    ),
    (
        "stall",
        r"Operation too slow|Operation timed out|SSL connection timeout|no progress for",
        "{host} stands still: nothing, or next to nothing, has come from it for too long",
        _AGAIN + ", or be more patient: git config --global http.lowSpeedTime 600",
    ),
    (
        "proxy",
        r"resolve proxy|from proxy after CONNECT|CONNECT tunnel failed|[Pp]roxy CONNECT|SOCKS[45]?\b|proxy handshake",
        "the proxy does not let git through",
        _PROXY,
    ),
    (
        "dns",
        r"Could not resolve host(?:name)?|Name or service not known|failure in name resolution|nodename nor servname",
        "the name {host} is not known here (DNS)",
        _MIRROR,
    ),
    (
        "drop",
        r"recv error|SSL_read|SSL_ERROR_SYSCALL|unexpected eof|reset by peer|Empty reply from server|early EOF"
        r"|unexpected disconnect|transfer closed|Recv failure|Send failure|Broken pipe|not closed cleanly"
        r"|invalid index-pack output|Connection closed by",
        "the connection to {host} broke off",
        _AGAIN,
    ),
    (
        "tls",
        r"SSL|TLS|gnutls|certificate|CAfile",
        "{host} is not trusted, or cannot be spoken to by TLS",
        "Name the certificate of your network's authority: export GIT_SSL_CAINFO=/path/to/ca.pem",
    ),
    (
        "unanswered",
        r"Connection timed out|No route to host|Network is (?:unreachable|down)|Host is (?:unreachable|down)",
        "{host} does not answer",
        _MIRROR,
    ),
    ("refused", r"Connection refused|connect to server|Failed to connect", "{host} refuses the connection", _MIRROR),
    (
        "login",
        r"Authentication failed|could not read (?:Username|Password)|Host key verification failed|Access denied"
        r"|Permission denied \((?:publickey|password|keyboard)",
        "{host} asks for a login that git does not have",
        _LOGIN,
    ),
    (
        "absent",
        r"repository '?[^\n]*'? (?:not found|does not exist)|does not appear to be a git repository"
        r"|not a git repository",
        "there is no repository at {address}",
        "",
    ),
    (
        "portal",
        r"is this a git repository|invalid server response|bad line length character|dumb http transport"
        r"|unable to update url base|invalid content-type|Received HTTP/0\.9|disabled in libcurl"
        r"|protocol error: (?:expected|unexpected)|expected (?:flush|packet|response end)",
        "what {host} answers is not git's smart protocol",
        _PORTAL,
    ),
    (
        "commit",
        r"not our ref|unadvertised object|find remote ref|[Nn]ot a valid object name|not a tree|not our commit",
        "{address} does not have it",
        "",
    ),
    (
        "drop",
        r"hung up unexpectedly|RPC failed|remote end hung up",
        "the connection to {host} broke off",
        _AGAIN,
    ),
    (
        "damaged",
        r"inflate|corrupt|bad pack|index-pack failed|pack has|hash mismatch|is damaged",
        "what came from {host} is damaged",
        _AGAIN,
    ),
)
"""Names, what git says, what it means, what mends it; the first that is found is meant."""


_STATUSES: dict[int, tuple[str, str, str]] = {
    401: ("login", "{host} asks for a login that git does not have (HTTP 401)", _LOGIN),
    403: ("forbidden", "{host} refuses access (HTTP 403)", "Ask whoever runs it, or have git use another: " + _USE),
    404: ("absent", "there is no repository at {address} (HTTP 404)", ""),
    407: ("proxy", "the proxy asks for a login (HTTP 407)", _PROXY),
    410: ("absent", "there is no repository at {address} any more (HTTP 410)", ""),
    429: ("busy", "{host} turns away too many requests (HTTP 429)", "Wait {wait}, then run the same command again"),
}
"""Names, what a status means, what mends it."""
_TROUBLE = ("trouble", "{host} is in trouble (HTTP {status})", "Wait {wait}, then run the same command again")
_OTHER = ("status", "{host} answers with HTTP {status}", _LOOK)
_CONNECT = ("proxy", "the proxy does not let git through (HTTP {status})", _PROXY)
_NOT_SMART = ("portal", "what {host} answers is not git's smart protocol: it is {answer}", _PORTAL)
_REMEDIES = {
    ("absent", False): "It may have moved: look at {url} in a browser. A mirror would do: " + _USE,
    ("login", False): "It may be gone, or private: look at {url} in a browser. A mirror would do: " + _USE,
    ("absent", True): "Mend the mirror's address: git config --show-origin --get-regexp url",
    ("commit", False): "Its authors may have taken it back. A mirror that has it would do: " + _USE,
    ("commit", True): "Bring the mirror up to date; in its folder: git fetch --prune origin '+refs/*:refs/*'",
}
"""What depends on whether the user has named a mirror."""
_NAMED_HOST = re.compile(r"(?:Failed to connect to|Could not resolve host:) ([^\s:;]+)")


def cause(source: Source, said: str, answer: Answer | None) -> Cause | None:
    """The cause of a failure, from what git said and the last answer; None if it is not known."""
    words = _without_noise(said)
    if answer is None and (number := re.search(r"returned error: (\d{3})", words)):
        answer = Answer(int(number[1]), kind="unknown")
    if told := _by_answer(source, answer) if answer else None:
        return _filled(source, told, answer=answer)
    for row in _ROWS:
        if match := re.search(row[1], words):
            name, _, means, remedy = _through_a_proxy(source, row, words)
            return _filled(source, (name, means, remedy), next((group for group in match.groups() if group), ""))
    return None


def full(source: Source) -> Cause:
    """The cause where a write of our own found no space."""
    name, _, means, remedy = _ROWS[0]
    return _filled(source, (name, means, remedy))


def message(source: Source, found: Cause | None, failures: Sequence[str]) -> str:
    """What failed and why, what git said of it, each attempt's words once, and what mends it."""
    taken = f" (for which git takes {source.address})" if source.mirrored else ""
    why = found.said if found else "git failed, and it is not known why"
    remedy = found.remedy if found else _filled(source, ("", "", _LOOK)).remedy
    told = "\n".join(dict.fromkeys(failures))
    return f"could not clone {source.url}{taken} at {source.ref}: {why}\n{told}\n{remedy}"


def _by_answer(source: Source, answer: Answer) -> tuple[str, str, str] | None:
    """The row of an HTTP answer that says why; None if it was git's."""
    if answer.asked == "CONNECT":
        return None if answer.status < 300 else _STATUSES[407] if answer.status == 407 else _CONNECT
    if answer.status in _STATUSES:
        return _STATUSES[answer.status]
    if answer.status >= 500:
        return _TROUBLE
    if answer.status >= 400:
        return _OTHER
    if answer.status >= 300:  # git does not follow it, or not to its end
        return _NOT_SMART if _leads_away(source, answer.place) else None
    return None if answer.smart else _NOT_SMART


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
        return next(each for each in _ROWS if each[0] == "proxy")
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
    wanted = _REMEDIES.get((name, source.mirrored), remedy)
    return Cause(name, means.format_map(facts), wanted.format_map(facts))


def _pause(answer: Answer | None) -> str:
    told = answer.wait if answer else ""
    return f"{told} seconds" if told.isdecimal() else f"until {told}" if told else "some minutes"


def _without_noise(said: str) -> str:
    """Git's words without the command itself, and without what the user has it write of its doings (GIT_TRACE)."""
    return "\n".join(line for line in said.splitlines() if not re.match(r"\$ git |\d\d:\d\d:\d\d\.\d", line))

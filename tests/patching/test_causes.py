"""What other gits, TLS libraries, ssh programs and servers say than are there in a test, and what is made of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from sdc.patching import causes, remedies
from sdc.patching.causes import Source

HERE = "https://git.example/owner/name"
SAID = {
    "error: RPC failed; curl 28 Operation too slow. Less than 100 bytes/sec transferred the last 60 seconds": "stall",
    "fatal: unable to access 'https://git.example/x/': Failed to connect to git.example port 443 after 21 ms: Couldn't "
    "connect to server": "refused",
    "fatal: unable to access 'https://git.example/x/': Failed to connect to proxy.example port 3128: Connection refused": "proxy",
    "fatal: unable to access 'https://git.example/x/': Could not resolve proxy: proxy.example": "proxy",
    "fatal: unable to access 'https://git.example/x/': CONNECT tunnel failed, response 403": "proxy",
    "fatal: unable to access 'https://git.example/x/': Could not resolve host: git.example": "dns",
    "ssh: Could not resolve hostname git.example: Name or service not known": "dns",
    "ssh: connect to host git.example port 22: Connection timed out": "unanswered",
    "ssh: connect to host git.example port 22: Network is unreachable": "unanswered",
    "ssh: connect to host git.example port 22: Connection refused": "refused",
    "kex_exchange_identification: Connection closed by remote host": "drop",
    "Host key verification failed.\nfatal: Could not read from remote repository.": "stranger",
    "git@git.example: Permission denied (publickey).\nfatal: Could not read from remote repository.": "login",
    "remote: HTTP Basic: Access denied\nfatal: Authentication failed for 'https://git.example/x/'": "login",
    "error: cannot run ssh: No such file or directory\nfatal: unable to fork": "program",
    "ERROR: Repository not found.\nfatal: Could not read from remote repository.": "absent",
    "fatal: remote error: access denied or repository not exported: /x": "absent",
    "fatal: unable to access 'https://git.example:x/': URL rejected: Port number was not a decimal number": "absent",
    "fatal: unable to access 'https://git.example/x/': SSL certificate problem: self-signed certificate": "tls",
    "fatal: unable to access 'https://git.example/x/': SSL certificate problem: unable to get local issuer certificate": "tls",
    "fatal: unable to access 'https://git.example/x/': SSL certificate problem: certificate has expired": "clock",
    "fatal: unable to access 'https://git.example/x/': SSL: no alternative certificate subject name matches target host "
    "name 'git.example'": "mismatch",
    "fatal: unable to access 'https://git.example/x/': OpenSSL/3.0.2: error:0A00010B:SSL routines::wrong version number": "plain",
    "fatal: unable to access 'https://git.example/x/': error setting certificate file: /nowhere.pem": "authorities",
    "fatal: unable to access 'https://git.example/x/': could not load PEM client certificate from /me.pem": "client",
    "fatal: unable to access 'https://git.example/x/': OpenSSL SSL_read: SSL_ERROR_SYSCALL, errno 0": "drop",
    "fatal: unable to access 'https://git.example/x/': GnuTLS recv error (-110): The TLS connection was non-properly terminated.": "drop",
    "error: RPC failed; curl 92 HTTP/2 stream 5 was not closed cleanly: CANCEL (err 8)\nfatal: early EOF": "drop",
    "fatal: write error: No space left on device\nfatal: fetch-pack: invalid index-pack output": "full",
    "fatal: write error: Disk quota exceeded\nfatal: index-pack failed": "full",
    "error: index-pack died of signal 25\nfatal: fetch-pack: invalid index-pack output": "full",
    "error: unable to create file train/a.py: Read-only file system": "unwritable",
    "error: index-pack died of signal 9\nfatal: fetch-pack: invalid index-pack output": "memory",
    "error: cannot fork() for fetch-pack: Resource temporarily unavailable": "limit",
    "fatal: detected dubious ownership in repository at '/mirrors/x.git'": "owner",
    "fatal: bogus count in GIT_CONFIG_COUNT": "configuration",
    "fatal: unable to access '/home/someone/.gitconfig': Permission denied": "unreadable",
    "git: 'remote-https' is not a git command. See 'git --help'.": "git",
    "fatal: transport 'https' not allowed": "protocol",
    "fatal: remote error: upload-pack: not our ref 53f63a67": "commit",
    "error: Server does not allow request for unadvertised object 53f63a67": "commit",
    "fatal: pack is corrupted (SHA1 mismatch)\nfatal: index-pack failed": "damaged",
    "fatal: unable to access 'https://git.example/x/': The requested URL returned error: 429": "busy",
    "fatal: unable to access 'https://git.example/x/': The requested URL returned error: 502": "trouble",
    "remote: fatal: write error: No space left on device\nfatal: the remote end hung up unexpectedly": "drop",
}


@pytest.mark.parametrize("words", SAID)
def test_each_has_one_cause_with_one_remedy(words: str) -> None:
    source = Source(HERE, "0" * 40, HERE, Path("/clones"), "export SDC_UPSTREAM=DIR")
    found = causes.cause(source, f"$ git fetch --progress No space left on device\n{words}", None)
    assert found is not None
    assert (found.name, bool(found.said), bool(found.remedy)) == (SAID[words], True, True)
    assert "{" not in found.said + found.remedy
    told = causes.message(source, found, [words, words])
    assert (told.count(words), told.count(found.remedy)) == (1, 1)


def test_what_nobody_knows_is_shown_with_a_way_to_see() -> None:
    source = Source(HERE, "0" * 40, HERE, Path("/clones"), "export SDC_UPSTREAM=DIR")
    assert causes.cause(source, "$ git fetch\nfatal: the moon is full", None) is None
    told = causes.message(source, None, ["$ git fetch\nfatal: the moon is full"])
    assert "it is not known why\n$ git fetch\nfatal: the moon is full\n" in told
    assert told.splitlines()[-1].endswith(f"git ls-remote {HERE}")


def test_every_cause_that_is_known_is_tried() -> None:
    names = {row[0] for row in remedies.ROWS}
    assert names - set(SAID.values()) == {"portal"}  # by true servers: test_answers.py

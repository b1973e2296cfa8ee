"""`sdc apply` and `sdc upstream check` where what answers is no git server, or says no: true git, local HTTP servers."""

from __future__ import annotations

import shutil
import subprocess
from functools import partial
from http.server import SimpleHTTPRequestHandler
from pathlib import Path

import pytest

from sdc.ground import paths
from tests import fake, servers
from tests.conftest import Outcome, Sdc
from tests.servers import LOGIN, Answer, Request, says

SMART = "application/x-git-upload-pack-advertisement"
MIRROR = "git config --global url.<base>.insteadOf https://upstream.invalid/ "


@pytest.fixture(autouse=True)
def _free_network(monkeypatch: pytest.MonkeyPatch) -> None:
    servers.free_network(monkeypatch)


@pytest.fixture
def traces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder to which every process of git writes a file."""
    folder = tmp_path / "traces"
    folder.mkdir()
    monkeypatch.setenv("GIT_TRACE2_EVENT", str(folder))
    return folder


def refused(outcome: Outcome) -> str:
    """The error of a command that failed as expected, and left nothing."""
    assert outcome.code == 1, outcome
    assert [path.name for path in paths.upstream().iterdir()] == [".fake.lock"]
    return outcome.err[outcome.err.index("error: ") :]


def _leads_to(host: str, request: Request) -> None:
    if request.path.startswith("/login"):
        request.send(200, "text/html", LOGIN.encode())
    else:
        place = f"http://{host}:{request.server.server_address[1]}" if host else ""
        request.send(302, "text/html", b"", Location=f"{place}/login?token=secret&mail=me@x")


ANSWERS: dict[str, tuple[Answer, str]] = {
    "a page in one line": (says(200, "text/html", LOGIN), "HTTP 200, text/html"),
    "a page": (says(200, "text/html; charset=utf-8", LOGIN.replace(">", ">\n")), "HTTP 200, text/html"),
    "an empty page": (says(200, "text/html"), "HTTP 200, text/html"),
    "nothing": (says(200), "HTTP 200, no content type"),
    "no content": (says(204), "HTTP 204, no content type"),
    "garbage": (says(200, "application/octet-stream", "\0\1\2" * 1000), "HTTP 200, application/octet-stream"),
    "a list of refs": (says(200, "text/plain", f"{'0' * 40}\trefs/heads/main\n"), "HTTP 200, text/plain"),
    "json": (says(200, "application/json", '{"error": "quota"}'), "HTTP 200, application/json"),
    "a page called git's": (says(200, SMART, LOGIN), "bad line length character"),
    "no refs": (says(200, SMART, "0000"), ""),
    "a page after a greeting": (says(200, SMART, f"001e# service=git-upload-pack\n0000{LOGIN}"), "bad line length"),
    "a redirect to another host": (
        partial(_leads_to, "localhost"),
        "HTTP 200, text/html, after a redirect to http://localhost:",
    ),
    "a redirect to a page": (partial(_leads_to, ""), "HTTP 200, text/html, after a redirect to /login"),
}


@pytest.mark.parametrize("what", ANSWERS)
def test_what_is_not_gits_smart_protocol_is_refused_with_what_came_instead(
    what: str, sdc: Sdc, fake_upstream: fake.Fake, traces: Path
) -> None:
    answer, came = ANSWERS[what]
    with servers.serving(answer) as server:
        servers.lead(fake_upstream, server.url)
        told = refused(sdc("apply", "fake"))

    assert f"{fake.URL} (for which git takes {server.url}/owner/fake)" in told
    assert "is not git's smart protocol" in told
    assert came in told
    assert "in a browser" in told
    assert "secret" not in told
    assert "Check the network" not in told
    assert len(list(traces.iterdir())) < 20  # processes of git
    assert len(server.seen) < 10


def test_what_is_not_even_http_is_refused_and_so_is_a_page_where_the_user_keeps_gits_record(
    sdc: Sdc, fake_upstream: fake.Fake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with servers.raw(b"SSH-2.0-Something\r\n") as server:
        servers.lead(fake_upstream, server.url)
        assert "what 127.0.0.1 answers is not git's smart protocol" in refused(sdc("apply", "fake"))

    for record in (str(tmp_path / "record"), "1"):
        monkeypatch.setenv("GIT_TRACE_CURL", record)
        with servers.serving(says(200, "text/html", LOGIN)) as server:
            servers.lead(fake_upstream, server.url)
            assert "what 127.0.0.1 answers is not git's smart protocol" in refused(sdc("apply", "fake"))
    assert "Welcome to our network" in (tmp_path / "record").read_text()


def test_a_page_in_the_middle_is_refused_and_so_is_one_that_comes_when_files_are_asked_for(
    sdc: Sdc, fake_upstream: fake.Fake, traces: Path
) -> None:
    served = servers.git(fake_upstream)

    def for_a_while(request: Request, most: int) -> None:
        """Git's, until the network's login ends."""
        (served if len(request.server.seen) <= most else says(200, "text/html", LOGIN))(request)

    with servers.serving(served) as server:
        servers.lead(fake_upstream, server.url)
        assert sdc("apply", "fake").code == 0
        count = len(server.seen)
    shutil.rmtree(paths.upstream())
    assert count > 3  # a greeting and the commit; a greeting and files
    for most in range(1, count):
        with servers.serving(partial(for_a_while, most=most)) as server:
            servers.lead(fake_upstream, server.url)
            told = refused(sdc("apply", "fake"))
        assert "not git's smart protocol: it is HTTP 200, text/html" in told
    assert len(list(traces.iterdir())) < 80


def test_static_files_of_a_repository_are_no_git_server(sdc: Sdc, fake_upstream: fake.Fake) -> None:
    fake._git(fake_upstream.path, "update-server-info")

    def static(request: Request) -> None:
        file = fake_upstream.path / ".git" / request.path.partition("?")[0].removeprefix("/owner/fake/")
        kind = SimpleHTTPRequestHandler.extensions_map.get(file.suffix, "application/octet-stream")
        request.send(*((200, kind, file.read_bytes()) if file.is_file() else (404,)))

    with servers.serving(static) as server:
        servers.lead(fake_upstream, server.url)
        told = refused(sdc("apply", "fake"))
    assert "not git's smart protocol" in told
    assert "git http-backend" in told


@pytest.mark.parametrize(
    ("status", "said", "remedy"),
    [
        (401, "asks for a login that git does not have", f"git ls-remote {fake.URL}"),
        (403, "refuses access (HTTP 403)", "Ask whoever runs it"),
        (404, "there is no repository at http://127.0.0.1", "Mend the mirror's address"),
        (410, "there is no repository at http://127.0.0.1", "Mend the mirror's address"),
        (418, "answers with HTTP 418", f"git ls-remote {fake.URL}"),
        (429, "turns away too many requests (HTTP 429)", "Wait 120 seconds, then run the same command again"),
        (500, "is in trouble (HTTP 500)", "Wait 120 seconds"),
        (503, "is in trouble (HTTP 503)", "Wait 120 seconds"),
        (511, "the network asks for a login (HTTP 511)", "in a browser"),
    ],
)
def test_a_server_that_says_no_is_told_with_its_one_remedy(
    status: int, said: str, remedy: str, sdc: Sdc, fake_upstream: fake.Fake
) -> None:
    answer = says(status, "text/html", LOGIN, WWW_Authenticate='Basic realm="x"', Retry_After="120")
    with servers.serving(answer) as server:
        servers.lead(fake_upstream, server.url)
        told = refused(sdc("apply", "fake"))
        seen = len(server.seen)
        checked = sdc("upstream", "check", "fake")

    assert said in told.splitlines()[0]
    assert remedy in told.splitlines()[-1]
    assert ("Check the network" in told, "SDC_UPSTREAM" in told, "browser" in told) == (False, False, status == 511)
    assert seen <= 2  # not asked in another way
    assert (checked.code, said in checked.err) == (1, True)


def test_a_host_without_a_name_and_one_that_refuses_are_told_apart(sdc: Sdc, fake_upstream: fake.Fake) -> None:
    servers.lead(fake_upstream, "http://nowhere.invalid")
    told = refused(sdc("apply", "fake"))
    assert "the name nowhere.invalid is not known here (DNS)" in told
    assert MIRROR in told

    with servers.silent() as server:
        pass
    servers.lead(fake_upstream, server.url.replace("https", "http"))
    told = refused(sdc("apply", "fake"))
    assert "127.0.0.1 refuses the connection" in told
    assert MIRROR in told


def test_a_connection_that_breaks_off_is_told(sdc: Sdc, fake_upstream: fake.Fake) -> None:
    for answer in (servers.drops, says(200, SMART), servers.git(fake_upstream, most=40)):
        with servers.serving(answer) as server:
            servers.lead(fake_upstream, server.url)
            told = refused(sdc("apply", "fake"))
        assert "the connection to 127.0.0.1 broke off" in told
        assert told.splitlines()[-1] == "Run the same command again"


def test_a_proxy_is_told_from_the_server(sdc: Sdc, fake_upstream: fake.Fake, monkeypatch: pytest.MonkeyPatch) -> None:
    with servers.silent() as gone:
        pass
    fake_upstream.git_config.write_text("")
    monkeypatch.setenv("https_proxy", gone.url.replace("https", "http"))
    assert "the proxy does not let git through" in refused(sdc("apply", "fake"))
    for status, said in ((407, "the proxy asks for a login (HTTP 407)"), (403, "not let git through (HTTP 403)")):
        with servers.serving(says(status)) as proxy:
            monkeypatch.setenv("https_proxy", proxy.url)
            told = refused(sdc("apply", "fake"))
            assert proxy.seen == ["CONNECT upstream.invalid:443"]
        assert said in told
        assert "export https_proxy=" in told.splitlines()[-1]


def test_a_mirror_that_lacks_the_commit_or_is_not_there(sdc: Sdc, fake_upstream: fake.Fake, tmp_path: Path) -> None:
    other = fake.build(tmp_path / "other", fake.SCRIPT + "print()\n")
    with servers.serving(servers.git(other)) as server:
        servers.lead(fake_upstream, server.url)
        told = refused(sdc("apply", "fake"))
    assert f"{server.url}/owner/fake does not have it" in told
    assert "Bring the mirror up to date" in told

    servers.lead(fake_upstream, f"file://{tmp_path}/empty")
    told = refused(sdc("apply", "fake"))
    assert f"there is no repository at file://{tmp_path}/empty/owner/fake" in told
    assert "Mend the mirror's address" in told


@pytest.mark.parametrize("allowed", [True, False], ids=["filters", "does not filter"])
@pytest.mark.parametrize("newest", [True, False], ids=["protocol 2", "protocol 0"])
def test_a_server_that_hands_out_no_commit_by_its_hash_or_does_not_filter_gives_the_same_clone(
    newest: bool, allowed: bool, sdc: Sdc, fake_upstream: fake.Fake
) -> None:
    fake._git(fake_upstream.path, "config", "uploadpack.allowReachableSHA1InWant", "false")
    fake._git(fake_upstream.path, "config", "uploadpack.allowFilter", "true" if allowed else "false")
    with servers.serving(servers.git(fake_upstream, newest=newest)) as server:
        servers.lead(fake_upstream, server.url)
        outcome = sdc("apply", "fake", "--json")
        checked = sdc("upstream", "check", "fake", "--json")

    clone = paths.upstream() / "fake"
    found = {path.relative_to(clone).as_posix() for path in clone.rglob("*") if path.is_file()}
    assert (outcome.code, outcome.json["methods"][0]["after"]) == (0, "patched")
    expected = {"LICENSE", "experts/trainer.py", "train/distil.py", "train/helpers.py"}
    assert {name for name in found if not name.startswith(".git/")} == expected
    assert (clone / "train/distil.py").read_bytes() == fake.patched(fake.SCRIPT.replace("\n", "\r\n").encode())
    assert checked.json["methods"][0]["commit"] == fake._git(fake_upstream.path, "rev-parse", "HEAD")
    fetched = subprocess.run(["git", "-C", clone, "cat-file", "-e", "HEAD:weights.bin"], env={"GIT_NO_LAZY_FETCH": "1"})
    assert (fetched.returncode == 0) is not (newest and allowed)  # what nobody needs comes where it must alone


def test_the_first_attempts_error_is_not_lost_in_the_seconds(sdc: Sdc, fake_upstream: fake.Fake) -> None:
    served = servers.git(fake_upstream, newest=False)

    def twice(request: Request) -> None:
        """Git's, to the first who asks."""
        (served if len(request.server.seen) == 1 else says(503))(request)

    with servers.serving(twice) as server:
        servers.lead(fake_upstream, server.url)
        told = refused(sdc("apply", "fake"))
    assert "unadvertised object" in told
    assert "is in trouble (HTTP 503)" in told.splitlines()[0]

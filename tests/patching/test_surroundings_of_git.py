"""What the user's git needs to reach a server (certificates, logins, programs, configuration) reaches git; no more does."""

from __future__ import annotations

import base64
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from sdc.ground import paths
from sdc.patching.git import REDIRECTING
from tests import fake, servers
from tests.conftest import Sdc
from tests.servers import Request, Server

PATCHED = fake.patched(fake.SCRIPT.replace("\n", "\r\n").encode())


@pytest.fixture(autouse=True)
def _free_network(monkeypatch: pytest.MonkeyPatch) -> None:
    servers.free_network(monkeypatch)


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A server's certificate and a client's, neither of which anybody knows."""
    if not shutil.which("openssl"):
        pytest.skip("openssl, which makes certificates, is not there")
    folder = tmp_path_factory.mktemp("certificates")
    return servers.certificate(folder), servers.certificate(folder, "client")


@pytest.fixture
def private(fake_upstream: fake.Fake, certificates: tuple[Path, Path]) -> Iterator[Server]:
    """An institute's server, with a certificate that it has made itself."""
    with servers.serving(servers.git(fake_upstream), certificates[0]) as server:
        servers.lead(fake_upstream, server.url)
        yield server


def applied() -> bool:
    script = paths.upstream() / "fake" / "train" / "distil.py"
    return script.is_file() and script.read_bytes() == PATCHED


def test_a_certificate_of_an_unknown_authority_is_refused_with_the_way_to_name_it(sdc: Sdc, private: Server) -> None:
    outcome = sdc("apply", "fake")

    assert (outcome.code, applied()) == (1, False)
    assert "127.0.0.1 is not trusted" in outcome.err.splitlines()[0]
    assert "export GIT_SSL_CAINFO=" in outcome.err.splitlines()[-1]


@pytest.mark.parametrize(
    ("trouble", "said", "remedy"),
    [
        ("no TLS there", "127.0.0.1 does not speak TLS at https://127.0.0.1:", "Mend the mirror's address"),
        ("another host's", "the certificate that 127.0.0.1 shows is another host's", "Mend the mirror's address"),
        ("no such file", "git cannot read the certificates that it is told to trust", "export GIT_SSL_CAINFO="),
        ("none of ours", "a certificate of yours, or git cannot read it", "export GIT_SSL_CERT="),
    ],
)
def test_each_trouble_with_tls_has_its_own_remedy(
    trouble: str,
    said: str,
    remedy: str,
    sdc: Sdc,
    fake_upstream: fake.Fake,
    certificates: tuple[Path, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    other = trouble == "another host's"
    ours = servers.certificate(tmp_path, "other", "DNS:other.invalid") if other else certificates[0]
    monkeypatch.setenv("GIT_SSL_CAINFO", "/nowhere.pem" if trouble == "no such file" else str(ours))
    if trouble == "none of ours":
        monkeypatch.setenv("GIT_SSL_CERT", str(tmp_path / "nowhere.pem"))
    with servers.serving(servers.git(fake_upstream), None if trouble == "no TLS there" else ours) as server:
        servers.lead(fake_upstream, f"https://127.0.0.1:{server.port}")
        outcome = sdc("apply", "fake")

    assert (outcome.code, applied()) == (1, False)
    assert said in outcome.err.splitlines()[0]
    assert remedy in outcome.err.splitlines()[-1]


@pytest.mark.parametrize("way", ["variable", "count", "parameters", "file", "unchecked", "system"])
def test_a_private_authority_can_be_named_in_every_way_that_git_has(
    way: str,
    sdc: Sdc,
    private: Server,
    fake_upstream: fake.Fake,
    certificates: tuple[Path, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    authority = str(certificates[0])
    text = f"[http]\n\tsslCAInfo = {authority}\n"
    (tmp_path / "system").write_text(text)
    variables = {
        "variable": {"GIT_SSL_CAINFO": authority},
        "count": {
            "GIT_CONFIG_COUNT": "1",
            "GIT_CONFIG_KEY_0": f"http.{private.url}/.sslCAInfo",
            "GIT_CONFIG_VALUE_0": authority,
        },
        "parameters": {"GIT_CONFIG_PARAMETERS": f"'http.sslcainfo'='{authority}'"},
        "unchecked": {"GIT_SSL_NO_VERIFY": "1"},
        "system": {"GIT_CONFIG_SYSTEM": str(tmp_path / "system")},
    }
    for name, value in variables.get(way, {}).items():
        monkeypatch.setenv(name, value)
    if way == "file":
        servers.lead(fake_upstream, private.url, text)

    assert (sdc("apply", "fake").code, applied()) == (0, True)
    assert sdc("upstream", "check", "fake").code == 1  # the tip has another script
    assert all(os.environ[name] == value for name, value in variables.get(way, {}).items())


def test_a_certificate_of_ones_own_is_shown(
    sdc: Sdc, fake_upstream: fake.Fake, certificates: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    ours, mine = certificates
    monkeypatch.setenv("GIT_SSL_CAINFO", str(ours))
    with servers.serving(servers.git(fake_upstream), ours, clients=mine) as server:
        servers.lead(fake_upstream, server.url)
        assert sdc("apply", "fake").code == 1
        monkeypatch.setenv("GIT_SSL_CERT", str(mine))
        monkeypatch.setenv("GIT_SSL_KEY", str(mine.with_suffix(".key")))
        assert (sdc("apply", "fake").code, applied()) == (0, True)


def test_a_login_is_asked_of_the_users_own_program(
    sdc: Sdc, fake_upstream: fake.Fake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    served, wanted = servers.git(fake_upstream), "Basic " + base64.b64encode(b"me:s3cret").decode()

    def locked(request: Request) -> None:
        if request.headers.get("Authorization") == wanted:
            served(request)
        else:
            request.send(401, WWW_Authenticate='Basic realm="x"')

    program = tmp_path / "askpass"
    program.write_text('#!/bin/sh\ncase "$1" in Username*) echo me;; *) echo s3cret;; esac\n')
    program.chmod(0o755)
    with servers.serving(locked) as server:
        servers.lead(fake_upstream, server.url)
        assert "asks for a login" in sdc("apply", "fake").err
        monkeypatch.setenv("GIT_ASKPASS", str(program))
        outcome = sdc("apply", "fake")
    assert (outcome.code, applied(), "s3cret" in outcome.err) == (0, True, False)


@pytest.mark.parametrize("variable", ["GIT_SSH", "GIT_SSH_COMMAND"])
def test_a_mirror_over_ssh_is_reached_by_the_users_own_program(
    variable: str, sdc: Sdc, fake_upstream: fake.Fake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = tmp_path / "ssh"
    program.write_text('#!/bin/sh\nfor last; do :; done\neval "$last"\n')
    program.chmod(0o755)
    monkeypatch.setenv(variable, str(program))
    monkeypatch.setenv("GIT_SSH_VARIANT", "simple")
    servers.lead(fake_upstream, f"ssh://host.invalid{fake_upstream.path.parents[1]}")

    assert (sdc("apply", "fake").code, applied()) == (0, True)


def test_the_users_own_git_programs_are_run(
    sdc: Sdc, fake_upstream: fake.Fake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GIT_EXEC_PATH", str(tmp_path))
    servers.lead(fake_upstream, "https://127.0.0.1:1")

    outcome = sdc("apply", "fake")

    assert outcome.code == 1
    assert "lacks the part that speaks https" in outcome.err
    assert "mend GIT_EXEC_PATH" in outcome.err


def test_all_that_redirects_a_repository_is_dropped_and_nothing_else_of_gits() -> None:
    told = subprocess.run(["git", "rev-parse", "--local-env-vars"], capture_output=True, text=True, check=True).stdout
    assert set(told.split()) - {"GIT_CONFIG_PARAMETERS", "GIT_CONFIG_COUNT"} <= REDIRECTING
    reach = "SSL_CAINFO SSL_NO_VERIFY SSL_CERT SSL_KEY ASKPASS SSH SSH_COMMAND EXEC_PATH PROXY_COMMAND PROXY_SSL_CAINFO"
    more = "HTTP_USER_AGENT HTTP_PROXY_AUTHMETHOD HTTP_LOW_SPEED_LIMIT CONFIG_GLOBAL CONFIG_SYSTEM CONFIG_NOSYSTEM"
    assert not {f"GIT_{word}" for word in f"{reach} {more} CONFIG_COUNT CONFIG_KEY_0".split()} & REDIRECTING


def test_variables_of_another_repositorys_change_nothing(
    sdc: Sdc, fake_upstream: fake.Fake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GIT_ALLOW_PROTOCOL", "file")
    for variable in REDIRECTING:
        monkeypatch.setenv(variable, "1" if variable.endswith("PATHSPECS") else str(tmp_path / "decoy"))

    assert (sdc("apply", "fake").code, applied()) == (0, True)
    assert sdc("verify", "fake").code == 0
    assert sdc("upstream", "check", "fake").code == 1
    assert (sdc("revert", "fake").code, applied()) == (0, False)
    assert not (tmp_path / "decoy").exists()


@pytest.mark.parametrize("broken", ["file", "variable"])
def test_a_broken_configuration_of_the_users_is_not_taken_for_a_broken_clone(
    broken: str, sdc: Sdc, fake_upstream: fake.Fake, monkeypatch: pytest.MonkeyPatch
) -> None:
    def spoil() -> None:
        if broken == "file":
            fake_upstream.git_config.write_text("[url\n")
        else:
            monkeypatch.setenv("GIT_CONFIG_COUNT", "many")

    monkeypatch.setenv("GIT_ALLOW_PROTOCOL", "file")
    good = fake_upstream.git_config.read_text()
    spoil()
    absent = sdc("apply", "fake")
    fake_upstream.git_config.write_text(good)
    monkeypatch.delenv("GIT_CONFIG_COUNT", raising=False)
    assert sdc("apply", "fake").code == 0
    spoil()
    for outcome in (absent, sdc("apply", "fake"), sdc("status", "fake"), sdc("verify", "fake")):
        assert outcome.code == 1
        assert "git's own configuration is broken (" in outcome.err
        assert "until this ends well: git config --list" in outcome.err.splitlines()[-1]
        assert "rm -rf" not in outcome.err


def test_another_hash_or_form_of_refs_that_the_user_prefers_changes_nothing(
    sdc: Sdc, fake_upstream: fake.Fake, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GIT_ALLOW_PROTOCOL", "file")
    monkeypatch.setenv("GIT_DEFAULT_HASH", "sha256")
    monkeypatch.setenv("GIT_DEFAULT_REF_FORMAT", "reftable")

    assert (sdc("apply", "fake").code, applied()) == (0, True)


def test_how_the_user_has_git_show_changes_counts_the_same_lines(sdc: Sdc, fake_upstream: fake.Fake) -> None:
    assert sdc("apply", "fake").code == 0
    before = sdc("verify", "fake", "--json").json
    with fake_upstream.git_config.open("a") as more:
        more.write("[diff]\n\torderFile = /nowhere\n\trelative = true\n\tnoprefix = true\n[color]\n\tui = always\n")
    after = sdc("verify", "fake", "--json")

    assert (after.code, after.json) == (0, before)


def test_a_mirror_over_plain_http_works_with_one_line_of_warning(sdc: Sdc, fake_upstream: fake.Fake) -> None:
    with servers.serving(servers.git(fake_upstream)) as server:
        servers.lead(fake_upstream, server.url)
        outcome = sdc("apply", "fake", "--json")

    assert (outcome.code, outcome.json["methods"][0]["after"], applied()) == (0, "patched", True)
    assert outcome.err == f"warning: {server.url} is not encrypted: the commit is checked by its hash\n"


def test_a_mirror_of_gits_own_protocol_works_with_the_same_warning(sdc: Sdc, fake_upstream: fake.Fake) -> None:
    root = fake_upstream.path.parents[1]
    if subprocess.run(["git", "daemon", "--help"], capture_output=True, stdin=subprocess.DEVNULL).returncode:
        pytest.skip("this git has no daemon")
    with servers.silent() as free:
        port = free.port
    words = ["--export-all", f"--base-path={root}", "--listen=127.0.0.1", f"--port={port}", "--reuseaddr", str(root)]
    daemon = subprocess.Popen(["git", "daemon", *words], stderr=subprocess.DEVNULL, start_new_session=True)
    try:
        servers.lead(fake_upstream, f"git://127.0.0.1:{port}")
        for _ in range(50):
            outcome = sdc("apply", "fake")
            if "refuses the connection" not in outcome.err:
                break
        assert (outcome.code, applied()) == (0, True), outcome
    finally:
        os.killpg(daemon.pid, signal.SIGTERM)
        daemon.wait(10)


def test_a_server_with_tls_does_not_lead_to_one_without(
    sdc: Sdc, fake_upstream: fake.Fake, certificates: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GIT_SSL_CAINFO", str(certificates[0]))
    with servers.serving(servers.git(fake_upstream)) as plain:

        def leads(request: Request) -> None:
            request.send(302, "text/html", Location=plain.url + request.path)

        with servers.serving(leads, certificates[0]) as server:
            servers.lead(fake_upstream, server.url)
            outcome = sdc("apply", "fake")
    assert (outcome.code, plain.seen) == (1, [])
    assert f"redirect to {plain.url}" in outcome.err


@pytest.mark.skipif(os.name != "posix" or os.geteuid() != 0, reason="only root can give files to another user")
def test_a_mirror_of_another_user_is_told_with_the_way_to_trust_it(sdc: Sdc, fake_upstream: fake.Fake) -> None:
    for path in (fake_upstream.path, *fake_upstream.path.rglob("*")):
        os.chown(path, 12345, 12345)

    outcome = sdc("apply", "fake")

    assert outcome.code == 1
    assert "which belongs to another user" in outcome.err.splitlines()[0]
    assert f"git config --global --add safe.directory {fake_upstream.path}" in outcome.err.splitlines()[-1]
    with fake_upstream.git_config.open("a") as config:
        config.write(f"[safe]\n\tdirectory = {fake_upstream.path}\n\tdirectory = {fake_upstream.path}/.git\n")
    assert (sdc("apply", "fake").code, applied()) == (0, True)


@pytest.mark.parametrize("kind", ["limit", "disk"])
def test_a_full_disk_or_quota_is_told_with_the_variable_that_names_another_place(
    kind: str, fake_upstream: fake.Fake, tmp_path: Path
) -> None:
    large = "".join(f"# {os.urandom(40).hex()}\n" for _ in range(3000))
    script = fake.SCRIPT + large
    made = fake.build(tmp_path / "large", script)
    place = tmp_path / "place"
    place.mkdir()
    command = f"exec {sys.executable} -m tests.fake {made.patch.parent} apply fake"
    if kind == "limit":
        command = f"ulimit -f 100; {command}"  # blocks of 512 bytes
    else:
        if subprocess.run(["unshare", "-m", "true"], capture_output=True).returncode:
            pytest.skip("no file system can be mounted here")
        command = f"mount -t tmpfs -o size=128k none {place} && {command}"
    variables = {"SDC_UPSTREAM": str(place / "up"), "GIT_CONFIG_GLOBAL": str(made.git_config)}
    variables["PYTHONDONTWRITEBYTECODE"] = "1"
    program = "from tests import fake; import sys; fake.SCRIPT = open(sys.argv.pop(1)).read(); sys.exit(fake.main())"
    (tmp_path / "script").write_text(script)
    command = command.replace("-m tests.fake", f'-c "{program}" {tmp_path / "script"}')
    words = ["sh", "-c", command] if kind == "limit" else ["unshare", "-m", "sh", "-c", command]
    done = subprocess.run(
        words, capture_output=True, text=True, env=os.environ | variables, cwd=paths.ROOT, check=False
    )

    assert done.returncode == 1, done
    assert "no space left on the disk" in done.stderr.splitlines()[0]
    assert "SDC_UPSTREAM=DIR" in done.stderr.splitlines()[-1]
    assert "Check the network" not in done.stderr

"""`sdc patch new` and `refresh`: from edits in a clone to a patch under our rules, in a checkout of its own."""

from __future__ import annotations

import ast
import dataclasses
import hashlib
from collections.abc import Callable
from pathlib import Path

import pytest

from sdc.adapters.registry import ADAPTERS
from sdc.ground import paths
from sdc.patching.git import blob_hash
from tests import fake
from tests.conftest import Outcome, Sdc
from tests.drafted import loaded

NEW = ("--upstream", fake.URL, "--script", "train/distil.py")
CRLF = fake.SCRIPT.replace("\n", "\r\n").encode()


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A checkout of this project with no method in it."""
    root = tmp_path / "checkout"
    for folder in ("adapters/recipes", "patches"):
        (root / folder).mkdir(parents=True)
    (root / "adapters" / "base.py").touch()
    monkeypatch.setattr(paths, "ADAPTERS", root / "adapters")
    monkeypatch.setattr(paths, "PATCHES", root / "patches")
    return root


@pytest.fixture
def new(sdc: Sdc, fake_upstream: fake.Fake, checkout: Path) -> Callable[..., Outcome]:
    def call(*more: object) -> Outcome:
        return sdc("patch", "new", "mine", *NEW, "--commit", fake_upstream.adapter.upstream.commit, *more)

    return call


@pytest.fixture
def script() -> Path:
    return paths.upstream() / "mine" / "train" / "distil.py"


def written(checkout: Path) -> list[str]:
    return sorted(path.relative_to(checkout).as_posix() for path in checkout.rglob("*mine*"))


def test_edits_become_patch_adapter_and_recipes(
    new: Callable[..., Outcome],
    sdc: Sdc,
    script: Path,
    checkout: Path,
    fake_upstream: fake.Fake,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    first = new()
    assert (first.code, written(checkout), script.read_bytes()) == (0, [], CRLF)
    assert str(script) in first.out
    assert f"sdc patch new mine --upstream {fake.URL} --commit" in first.out

    script.write_bytes(fake.patched(CRLF).replace(b"\r\n", b"\n"))  # as an editor may leave it
    second = new("--json")

    assert second.code == 0, second
    assert second.json["lines"] == [line.strip() for line in fake.ADDED.values()]
    assert written(checkout) == ["adapters/mine.py", "adapters/recipes/mine.toml", "patches/mine-distil.patch"]
    assert script.read_bytes() == fake.patched(CRLF)
    content = (checkout / "patches" / "mine-distil.patch").read_bytes()
    ours = fake_upstream.patch.read_bytes()
    assert content[content.index(b"--- a/") :] == ours[ours.index(b"--- a/") :]
    assert b"SDC for MINE (train/distil.py of owner/fake at" in content
    adapter = loaded(checkout, monkeypatch)
    assert dataclasses.asdict(adapter.patch) == {
        "script": "train/distil.py",
        "file": "mine-distil.patch",
        "sha256": hashlib.sha256(content).hexdigest(),
        "before": blob_hash(CRLF),
        "after": blob_hash(fake.patched(CRLF)),
    }
    assert (adapter.upstream.url, adapter.upstream.licence) == (fake.URL, "LICENSE")
    monkeypatch.setitem(ADAPTERS, "mine", adapter)
    assert sdc("status", "mine", "--json").json["methods"][0]["state"] == "patched"
    assert sdc("verify", "mine").code == 0
    assert "is there already" in new().err


def test_a_patch_is_refreshed_with_its_words_and_the_hashes_follow(
    new: Callable[..., Outcome], sdc: Sdc, script: Path, checkout: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    new()
    script.write_bytes(fake.patched(CRLF))
    new()
    patch, home = checkout / "patches" / "mine-distil.patch", checkout / "adapters" / "mine.py"
    patch.write_bytes(patch.read_bytes().replace(b"\n\n---", b"\n\nWords of mine.\n\n---"))
    monkeypatch.setitem(ADAPTERS, "mine", loaded(checkout, monkeypatch))
    more = fake.patched(CRLF).replace(
        b"    optimizer.zero_grad()\r\n", b"    optimizer.zero_grad()\r\n    sdc.more()\r\n"
    )
    script.write_bytes(more)

    outcome = sdc("patch", "refresh", "mine", "--json")

    assert outcome.code == 0, outcome
    assert outcome.json["lines"][-1] == "sdc.more()"
    assert b"Words of mine." in patch.read_bytes()
    monkeypatch.setitem(ADAPTERS, "mine", loaded(checkout, monkeypatch))
    assert ADAPTERS["mine"].patch.after == blob_hash(more)
    assert sdc("status", "mine", "--json").json["methods"][0]["state"] == "patched"
    before = (patch.read_bytes(), home.read_bytes())
    assert sdc("patch", "refresh", "mine").code == 0
    assert (patch.read_bytes(), home.read_bytes()) == before
    assert sdc("revert", "mine").code == 0
    assert "no added lines" in sdc("patch", "refresh", "mine").err


@pytest.mark.parametrize(
    ("edit", "said"),
    [
        (lambda text: text.replace(b"    loss.backward()\r\n", b""), "line 31, removed:     loss.backward()"),
        (lambda text: text.replace(b"momentum=0.5", b"momentum=0.9"), "changed: optimizer = torch.optim.SGD"),
        (lambda text: text.replace(b"import os\r\n", b"import os\r\n" + b"pass\r\n" * 7), "at most 6 lines"),
        (lambda text: text + b"def (\r\n", "with the added lines"),
    ],
    ids=["removed", "changed", "seven lines", "no Python"],
)
def test_edits_that_break_the_rules_are_refused_with_the_lines_and_nothing_is_written(
    edit: Callable[[bytes], bytes], said: str, new: Callable[..., Outcome], script: Path, checkout: Path
) -> None:
    new()
    edited = edit(fake.patched(CRLF))
    script.write_bytes(edited)
    outcome = new()

    assert outcome.code == 1
    assert said in outcome.err
    assert (written(checkout), script.read_bytes()) == ([], edited)


def test_edits_in_other_files_are_refused(new: Callable[..., Outcome], script: Path, checkout: Path) -> None:
    new()
    script.write_bytes(fake.patched(CRLF))
    helpers = script.with_name("helpers.py")
    helpers.write_text(fake.HELPERS + "more = 1\n")
    script.with_name("torch.py").touch()
    outcome = new()

    assert outcome.code == 1
    assert "train/helpers.py" in outcome.err
    assert "train/torch.py" in outcome.err
    assert written(checkout) == []


@pytest.mark.parametrize(
    "change",
    [
        {"name": "../mine"},
        {"name": "base"},
        {"name": "Mine"},
        {"name": "class"},
        {"--upstream": "git@host:a/b"},
        {"--upstream": "ext::sh -c touch% sprung"},
        {"--upstream": "https://upstream.invalid/owner/fake --upload-pack=touch"},
        {"--commit": "main"},
        {"--commit": "--help" + "0" * 34},
        {"--script": "../distil.py"},
        {"--script": "/etc/passwd.py"},
        {"--script": "train/none.py"},
        {"--script": "weights.bin"},
    ],
    ids=str,
)
def test_bad_input_is_refused_and_makes_nothing(
    change: dict[str, str], sdc: Sdc, fake_upstream: fake.Fake, checkout: Path
) -> None:
    asked = {
        "name": "mine",
        "--upstream": fake.URL,
        "--commit": fake_upstream.adapter.upstream.commit,
        "--script": "train/distil.py",
    } | change
    options = [f"{name}={value}" for name, value in asked.items() if name != "name"]
    outcome = sdc("patch", "new", *options, "--", asked["name"])

    assert outcome.code == 1, outcome
    assert next(iter(change.values())).split(" ")[0] in outcome.err
    assert written(checkout) == []


def test_a_script_that_was_taken_away_is_asked_back(new: Callable[..., Outcome], script: Path, checkout: Path) -> None:
    new()
    script.unlink()
    outcome = new()

    assert outcome.code == 1
    assert f"git -C {script.parents[1]} checkout -- train/distil.py" in outcome.err
    assert written(checkout) == []


def test_an_installation_is_no_place_for_new_patches(
    new: Callable[..., Outcome], sdc: Sdc, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(paths, "PACKAGE", tmp_path / "site-packages" / "sdc")

    assert "made in a checkout" in new().err
    assert "made in a checkout" in sdc("patch", "refresh", "dc").err


def test_of_the_script_an_adapter_takes_names_and_defaults_alone(
    new: Callable[..., Outcome], script: Path, checkout: Path
) -> None:
    text = fake.SCRIPT.replace('"--rate", type=float', '"--rate", type=float, default=0.5, help="their words"')
    assert text != fake.SCRIPT
    new()
    tree = ast.parse(text)
    assert tree is not None
    from sdc.patching.scaffold import _options

    assert list(_options(text.encode())) == [("rate", 0.5)]

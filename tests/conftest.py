"""Every test has folders of its own; the true upstreams are cloned once for all."""

from __future__ import annotations

import json
import os
import signal
import tarfile
from collections import Counter

# Workers side by side, each with as many threads as there are cores, would wait for each other most of the time.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("SDC_WORKERS", "1")
os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock

from sdc import cli
from sdc.adapters.base import Adapter
from sdc.adapters.registry import ADAPTERS
from sdc.distillation import process
from sdc.ground import paths
from sdc.ground.errors import FatalError
from sdc.ground.files import replacing
from sdc.patching import apply, clones
from tests import fake, warm

# What is started in a shell's background ignores Ctrl-C, and so would the commands that tests interrupt.
signal.signal(signal.SIGINT, signal.default_int_handler)

Sdc = Callable[..., "Outcome"]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest first, or one worker ends minutes behind the other."""
    items.sort(key=lambda item: ("test_every_claim_holds" not in item.name, item.get_closest_marker("slow") is None))


class Outcome:
    """What a command left: its exit code, what it printed, and its JSON."""

    def __init__(self, code: int, out: str, err: str) -> None:
        self.code, self.out, self.err = code, out, err

    @property
    def json(self) -> Any:
        return json.loads(self.out)

    def __repr__(self) -> str:
        return f"exit {self.code}\n--- stdout\n{self.out}\n--- stderr\n{self.err}"


@pytest.fixture(autouse=True)
def _own_folders(tmp_path: Path, shared: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> None:
    """Nothing of the user's is read or written, and no network is reached but by tests on true upstreams."""
    monkeypatch.setenv("SDC_UPSTREAM", str(tmp_path / "upstream"))
    monkeypatch.setenv("SDC_CACHE", str(shared / "cache"))
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setenv("SDC_DEVICE", "")  # whatever a test chooses ends with it
    for name in ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE"):
        monkeypatch.delenv(name, raising=False)
    if not request.node.get_closest_marker("upstream"):
        monkeypatch.setenv("GIT_ALLOW_PROTOCOL", "file")


@pytest.fixture(scope="session", autouse=True)
def _warm() -> Iterator[None]:
    """Scripts need not import torch anew: tests/warm.py."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(process, "subprocess", warm.STARTS)
        yield
        warm.STARTS.end()


@pytest.fixture(scope="session")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that all workers of this test run share."""
    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if base.name.startswith("popen-") else base) / "shared"
    folder.mkdir(exist_ok=True)
    return folder


@pytest.fixture
def sdc(capfd: pytest.CaptureFixture[str]) -> Sdc:
    """Call the command line in this process: `sdc("apply", "dc") -> Outcome`."""

    def call(*arguments: object) -> Outcome:
        capfd.readouterr()
        code = cli.call([str(argument) for argument in arguments])
        out, err = capfd.readouterr()
        return Outcome(code, out, err)

    return call


@pytest.fixture(scope="session")
def upstream_tree(shared: Path) -> Callable[[str], Path]:
    """`upstream_tree("dc")`: the pristine clone of a method's true upstream, to read and run, never to change."""

    def tree(method: str) -> Path:
        with pytest.MonkeyPatch.context() as patch, FileLock(shared / "upstream.lock"):
            patch.setenv("SDC_UPSTREAM", str(shared / "upstream"))
            return _pristine(ADAPTERS[method])

    return tree


def _pristine(adapter: Adapter) -> Path:
    if clones.status(adapter).state != "pristine":
        try:
            apply.apply(adapter)
        except FatalError as error:
            pytest.skip(f"the true upstream cannot be reached: {error}")
        apply.revert(adapter)
    return clones.clone_path(adapter)


@pytest.fixture
def true_upstream(upstream_tree: Callable[[str], Path]) -> None:
    """Skips, with the reason, where the true upstreams cannot be reached."""
    upstream_tree("dc")


@pytest.fixture(scope="session")
def archives(shared: Path) -> Path:
    """A folder of cifar10.tar.xz and mnist10k.tar.xz, each cut to 64 training and 30 test images of every class.

    Out of those in `$SDC_TEST_DATA`, else ../shared/data: a script is shown no more in a test, and testing networks on
    ten thousand images would take longer than all else.
    """
    whole = Path(os.environ.get("SDC_TEST_DATA") or paths.ROOT.parent / "shared" / "data")
    if not (whole / "mnist10k.tar.xz").is_file():
        pytest.skip(f"no archives of real images in {whole}; name their folder: SDC_TEST_DATA=DIR")
    few = shared / "archives"
    with FileLock(shared / "archives.lock"):
        for name in ("cifar10.tar.xz", "mnist10k.tar.xz"):
            if not (few / name).is_file():
                with replacing(few / name) as partial:
                    _cut(whole / name, partial, {"train": 64, "test": 30})
    return few


def _cut(archive: Path, into: Path, most: Mapping[str, int]) -> None:
    """The first images of each class of an archive's parts, byte for byte."""
    taken: Counter[str] = Counter()
    with tarfile.open(archive) as source, tarfile.open(into, "w:xz", preset=0) as target:
        for member in source:
            part = next((part for part in most if part in Path(member.name).parts), None)
            folder = str(Path(member.name).parent)
            if member.isfile() and part and taken[folder] < most[part]:
                taken[folder] += 1
                target.addfile(member, source.extractfile(member))


@pytest.fixture
def fake_upstream(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> fake.Fake:
    """A little git repository of our own behind an https address, and a method `fake` that patches it."""
    made = fake.build(tmp_path / "fake")
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(made.git_config))
    monkeypatch.setitem(ADAPTERS, "fake", made.adapter)
    return made


@pytest.fixture
def bench_fake(fake_upstream: fake.Fake, monkeypatch: pytest.MonkeyPatch) -> fake.Fake:
    """The method `fake`, also for the processes that a benchmark starts."""
    monkeypatch.setenv("SDC_TEST_FAKE", str(fake_upstream.patch.parent))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(paths.ROOT / "tests" / "site"), str(paths.ROOT)]))
    return fake_upstream

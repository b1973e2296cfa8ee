"""`sdc patch new` on an upstream as people publish them: what it reads off the clone, and the trial it makes of it."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from sdc.adapters.base import Adapter, Job, Need, Slot
from sdc.adapters.registry import ADAPTERS
from sdc.ground import paths
from sdc.patching import arguments, dependencies, scaffold
from sdc.plan.settings import COMMON, resolve
from tests import fake
from tests.conftest import Outcome, Sdc
from tests.drafted import loaded

URL = "https://upstream.invalid/owner/published"
SCRIPT = """\
import argparse
import os
import torch
import tools.data
from networks import network

def main():
    parser = argparse.ArgumentParser()
    parser.add_argument('--dataset', type=str, default='CIFAR10', help='name of the images')
    parser.add_argument('--model', type=str, default='ConvNetW32')
    parser.add_argument('--ipc', type=int, default=50)
    parser.add_argument('--Iteration', type=int, default=20000)
    parser.add_argument('--epochs', type=int, default=600)
    parser.add_argument('--lr_img', type=float, default=1)
    parser.add_argument('--batch-real', type=int, default=128)
    parser.add_argument('--num_exp', type=int, default=5)
    parser.add_argument('--num_eval', type=int, default=20)
    parser.add_argument('--epoch_eval_train', type=int, default=1800)
    parser.add_argument('--num_workers', type=int, default=8)
    parser.add_argument('--init', type=str, default='real')
    parser.add_argument('--data_path', type=str, default='')
    parser.add_argument('--save_path', type=str, default='')
    parser.add_argument('--logs', type=str, default='./logs')
    parser.add_argument('--resume_path', type=str, default='')
    parser.add_argument('--zca', type=bool, default=False)
    args = parser.parse_args()
    for path in (args.data_path, args.save_path):
        if not os.path.exists(path):
            os.mkdir(path)
    os.mkdir(args.save_path + '/made')
    with open(os.path.join(args.logs, 'log.txt'), 'w') as file:
        file.write('begun')
    images, labels = tools.data.read(args.dataset, args.data_path)
    if len(images) < args.batch_real:
        raise ValueError('a class has too few images')
    accuracies = [max([0.1] * args.num_eval) for _ in range(args.epoch_eval_train)]
    synthetic = torch.randn(10 * args.ipc, 3, 32, 32, requires_grad=True)
    labels_syn = torch.arange(10).repeat_interleave(args.ipc)
    optimizer = torch.optim.SGD([synthetic], lr=args.lr_img)
    for exp in range(args.num_exp):
        for it in range(args.Iteration + 1):
            net = network(args.model)
            loss = ((net(images)[0].mean(0) - net(synthetic)[0].mean(0)) ** 2).sum()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()

if __name__ == '__main__':
    main()
"""
FILES = {
    "distil.py": SCRIPT,
    "networks.py": (
        "import torch\nimport rarely\nfrom torch import nn\n\n\n"
        "class Net(nn.Module):\n"
        "    def __init__(self):\n        super().__init__()\n"
        "        self.conv, self.linear = nn.Conv2d(3, 4, 5, stride=4), nn.Linear(196, 10)\n"
        "    def forward(self, x):\n        out = self.conv(x).flatten(1)\n        return out, self.linear(out)\n\n\n"
        "def network(name):\n    import not_at_start\n"
        "    return {'ConvNet': Net, 'ConvNetW32': Net}[name]()\n"
    ),
    "tools/__init__.py": "",
    "tools/data.py": (
        "from torchvision import datasets, transforms\nfrom . import more\n\n\ndef read(name, path):\n"
        "    if name == 'MNIST':\n        raise KeyError(name)\n"
        "    data = getattr(datasets, name)(path, train=True, download=True, transform=transforms.ToTensor())\n"
        "    return more.stacked(data)\n"
    ),
    "tools/more.py": (
        "import yaml_of_theirs.loader as loader\nimport torch\n\n\ntry:\n    import tqdm_of_theirs\nexcept ImportError:\n"
        "    tqdm_of_theirs = None\n\n\ndef stacked(data):\n"
        "    return torch.stack([data[i][0] for i in range(len(data))]), torch.tensor([data[i][1] for i in range(len(data))])\n"
    ),
    "unused.py": "import of_no_use\n",
    "LICENSE": "MIT License\n",
}
ADDED = {
    "import torch": "import sdc",
    "    parser = argparse.ArgumentParser()": "    sdc.add_options(parser)",
    "            optimizer.zero_grad()": "            for c in range(10): loss = sdc.corrected_frozen("
    "loss, net, synthetic[c * args.ipc:(c + 1) * args.ipc], c, args, it, args.Iteration, logits=lambda out: out[1])",
}
ALL_LABELS = ADDED["            optimizer.zero_grad()"].replace(", c, args", ", labels_syn, args")
PACKAGES = ("rarely", "yaml_of_theirs", "yaml_of_theirs/loader", "not_at_start")


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    root = tmp_path / "checkout"
    for folder in ("adapters/recipes", "patches"):
        (root / folder).mkdir(parents=True)
    monkeypatch.setattr(paths, "ADAPTERS", root / "adapters")
    monkeypatch.setattr(paths, "PATCHES", root / "patches")
    return root


@pytest.fixture
def begun(sdc: Sdc, tmp_path: Path, checkout: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Outcome]:
    """Publish files, clone them, add lines, and make the method of them by the second call of the command."""

    def begin(*more: str, files: Mapping[str, str] = FILES, added: Mapping[str, str] = ADDED) -> Outcome:
        mirror = tmp_path / "mirror"
        fake._commit(mirror / "owner" / "published", {name: text.encode() for name, text in files.items()})
        (tmp_path / "gitconfig").write_text(f'[url "file://{mirror}/"]\n\tinsteadOf = https://upstream.invalid/\n')
        monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(tmp_path / "gitconfig"))
        pin = fake._git(mirror / "owner" / "published", "rev-parse", "HEAD")
        command = ("patch", "new", "mine", "--upstream", URL, "--commit", pin, "--script", "distil.py")
        first = sdc(*command)
        assert first.code == 0, first
        script = paths.upstream() / "mine" / "distil.py"
        lines = script.read_text().split("\n")
        script.write_text("\n".join(out for line in lines for out in (line, *filter(None, [added.get(line)]))))
        return sdc(*command, *more)

    return begin


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the upstream imports of others, for this process and those that it starts."""
    site = tmp_path / "site"
    for name in PACKAGES:
        (site / name).mkdir(parents=True)
        (site / name / "__init__.py").touch()
    monkeypatch.syspath_prepend(str(site))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(site), str(paths.ROOT)]))


def job(adapter: Adapter, recipe: str) -> Job:
    settings = resolve(adapter, recipe, "digits", 1, [])
    return Job(adapter.slots[0], 1, settings.model, settings.options, settings.experts)


def told(adapter: Adapter, recipe: str) -> dict[str, str]:
    words = adapter.argv(job(adapter, recipe))
    return dict(zip(words[::2], words[1::2], strict=True))


def test_what_is_read_off_the_clone(
    begun: Callable[..., Outcome], checkout: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    outcome = begun("--no-trial")
    assert outcome.code == 0, outcome
    assert "needs rarely, yaml-of-theirs: pip install rarely yaml-of-theirs" in outcome.out
    assert "trial" not in outcome.out

    adapter = loaded(checkout, monkeypatch)
    assert adapter.needs == (Need("rarely"), Need("yaml-of-theirs"))
    assert adapter.slots == (Slot("CIFAR10", 10, 3, 32), Slot("MNIST", 10, 1, 28))
    assert adapter.datasets == {"cifar10": "CIFAR10", "mnist": "MNIST"}
    assert adapter.models == ("ConvNet", "ConvNetW32")
    assert adapter.upstream.licence == "MIT"
    assert adapter.loop == "it"
    assert adapter.steps(job(adapter, "paper")) == 20001
    fixed = {
        "--dataset": "CIFAR10",
        "--model": "ConvNetW32",
        "--ipc": "1",
        "--num_exp": "1",
        "--num_eval": "1",
        "--epoch_eval_train": "1",
        "--data_path": ".",
        "--save_path": "save_path",
        "--logs": ".",
    }
    small = {"--Iteration": "3", "--epochs": "1", "--batch-real": "16", "--num_workers": "0"}
    assert told(adapter, "trial") == fixed | small | {"--lr_img": "1.0", "--init": "real", "--resume_path": ""}
    published = {"--Iteration": "20000", "--epochs": "600", "--batch-real": "128", "--num_workers": "8"}
    paper = told(adapter, "paper")
    assert {name: paper[name] for name in published} == published
    assert paper["--model"] == "ConvNet"
    stored: dict[str, Any] = adapter.recipes
    assert stored["paper"]["set"]["Iteration"] == 20000
    assert stored["trial"]["set"]["limit_per_class"] >= 16
    assert stored["trial"]["set"]["epochs"] == 1  # of the evaluation, not the script's own
    assert resolve(adapter, "trial", "digits", 1, ["epochs=7"]).options["script_epochs"] == 1


@pytest.mark.slow
@pytest.mark.usefixtures("installed")
def test_the_patched_script_is_run_to_its_first_update(
    begun: Callable[..., Outcome], sdc: Sdc, checkout: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    outcome = begun("--json")

    assert outcome.code == 0, outcome
    assert outcome.json["trial"]["updated"] is True, outcome
    assert 0 < outcome.json["trial"]["seconds"] < 60
    tree = paths.upstream() / "mine"
    assert not [file for file in tree.rglob("*") if file.name in ("save_path", "log.txt", "__pycache__")]
    assert "mine" not in ADAPTERS
    assert sorted(file.name for file in checkout.rglob("*mine*")) == ["mine-distil.patch", "mine.py", "mine.toml"]
    assert sdc("patch", "trial", "mine").code == 0
    monkeypatch.setitem(ADAPTERS, "mine", loaded(checkout, monkeypatch))
    verified = sdc("verify", "mine", "--behaviour")
    assert verified.code == 0, verified


@pytest.mark.usefixtures("installed")
@pytest.mark.parametrize(
    ("files", "added", "said"),
    [
        (
            {},
            {"            optimizer.zero_grad()": ALL_LABELS},
            ["wants as label one class's number", "a tensor [10] of int64", "Fill in: the line of SDC in"],
        ),
        (
            {"distil.py": SCRIPT.replace("os.path.exists(path)", "os.path.exists('none/' + path)")},
            {},
            ["FileExistsError", "a path that is not there yet"],
        ),
        (
            {"distil.py": SCRIPT.replace("'--init', type=str", "'--init', required=True, type=str, choices=['no']")},
            {},
            ["invalid choice: 'real'", "another value for --init"],
        ),
        ({"distil.py": SCRIPT.replace("optimizer.step()", "optimizer.state")}, {}, ["no optimizer has updated"]),
        ({"distil.py": SCRIPT.replace("net = network", "import hidden; net = network")}, {}, ["pip install hidden"]),
        (
            {},
            {"    parser = argparse.ArgumentParser()": ""},
            ["the script: it reads its command line where `sdc.add_options(parser)` was not called before"],
        ),
        (
            {"distil.py": SCRIPT.replace("net = network", "import numpy; numpy.int(1); net = network")},
            {},
            ["written for another version of numpy", "no int in numpy", "pip install numpy==VERSION"],
        ),
        (
            {"distil.py": SCRIPT.replace("net = network", "import time; time.clock(); net = network")},
            {},
            ["written for an older Python: time has no clock here"],
        ),
    ],
    ids=[
        *("all labels", "a folder twice", "a choice", "no update", "an import in a function", "no options"),
        *("an older numpy", "an older Python"),
    ],
)
def test_where_it_stops_is_told_with_what_to_fill_in(
    files: dict[str, str],
    added: dict[str, str],
    said: list[str],
    begun: Callable[..., Outcome],
    checkout: Path,
) -> None:
    outcome = begun(files={**FILES, **files}, added={**ADDED, **added})

    assert outcome.code == 0, outcome
    assert "trial: it " in outcome.out
    for words in said:
        assert words in outcome.out, outcome
    assert len(list(checkout.rglob("*mine*"))) == 3
    assert not list(checkout.rglob("*.partial"))
    assert not (paths.upstream() / "mine" / "save_path").exists()


def test_without_a_package_nothing_is_run(begun: Callable[..., Outcome], sdc: Sdc) -> None:
    outcome = begun()
    assert outcome.code == 0
    assert "trial: it was not run: the scripts of mine need rarely, which is not installed here" in outcome.out
    assert "pip install rarely yaml-of-theirs" in outcome.out
    again = sdc("patch", "trial", "mine", "--json")
    assert (again.code, again.json["updated"], "pip install rarely" in again.json["stopped"]) == (1, False, True)


def test_a_script_that_takes_its_time_is_left(
    installed: None, begun: Callable[..., Outcome], monkeypatch: pytest.MonkeyPatch
) -> None:
    from sdc.distillation import first_update

    monkeypatch.setattr(first_update, "PATIENCE", 6.0)
    slow = SCRIPT.replace("    for exp in", "    import time; time.sleep(500)\n    for exp in")
    outcome = begun("--json", files={**FILES, "distil.py": slow})

    assert outcome.code == 0
    assert outcome.json["trial"]["stopped"] == "No update came within 6 s."
    assert "adapters/recipes/mine.toml" in outcome.json["trial"]["remedy"]


def test_after_more_edits_a_draft_is_made_anew_before_any_registry_has_it(
    begun: Callable[..., Outcome], sdc: Sdc, checkout: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert begun("--no-trial").code == 0
    before = loaded(checkout, monkeypatch).patch
    script = paths.upstream() / "mine" / "distil.py"
    script.write_text(script.read_text().replace("import sdc\n", "import sdc\nprint(sdc.__name__)\n"))

    outcome = sdc("patch", "refresh", "mine")

    assert outcome.code == 0, outcome
    after = loaded(checkout, monkeypatch).patch
    assert (after.before, after.after == before.after) == (before.before, False)
    assert b"+print(sdc.__name__)" in (checkout / "patches" / after.file).read_bytes()
    assert "mine" not in ADAPTERS


def test_a_method_that_is_not_there_has_no_trial(sdc: Sdc, checkout: Path) -> None:
    outcome = sdc("patch", "trial", "../mine")
    assert (outcome.code, "unknown method" in outcome.err) == (1, True)
    (checkout / "adapters" / "mine.py").write_text("ADAPTER = 1 / 0\n")
    outcome = sdc("patch", "trial", "mine")
    assert outcome.code == 1
    assert "mine.py cannot be read: ZeroDivisionError" in outcome.out + outcome.err


OPTIONS = {
    "'--save-dir', default='./results'": ("made", None),
    "'--output_folder'": ("made", None),
    "'--data-dir', type=str, default='/home/me/data'": ("data", None),
    "'--imagenet_root', type=pathlib.Path": ("data", None),
    "'--results', default='res'": ("made", None),
    "'--buffer_path', default='./buffers'": ("made", None),
    "'--ckpt_path', default=''": ("", None),
    "'--load_dir'": ("", None),
    "'--save', action='store_true'": ("", None),
    "'--save_interval', type=int, default=10": ("", None),
    "'--url', default='https://host/x'": ("", None),
    "'--dsa_strategy', default='color_crop'": ("", None),
    "'--niter', type=int, default=2000": ("", 3),
    "'--n-epochs', type=int, default=100": ("", 1),
    "'--batch_size', type=int, default=256": ("", 16),
    "'--test-batch-size', type=int, default=1000": ("", 16),
    "'--outer_loop', type=int, default=50": ("", 3),
    "'--step_size', type=int, default=30": ("", None),
    "'--lr_step', type=int, default=30": ("", None),
    "'--iters', type=int, default=2": ("", None),
    "'--batch_syn', type=int, default=0": ("", None),
    "'--width', type=int, default=128": ("", None),
}


@pytest.mark.parametrize(("text", "found"), OPTIONS.items(), ids=OPTIONS)
def test_what_an_option_is_for(text: str, found: tuple[str, int | None]) -> None:
    (option,) = arguments.read(f"p.add_argument({text})".encode())
    assert (option.place(), option.small(3, 16)) == found


def test_names_in_small_letters_are_told_so_and_an_unknown_number_of_steps_is_left_to_be_filled_in(
    begun: Callable[..., Outcome], checkout: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = SCRIPT.replace("'CIFAR10'", "'cifar10'").replace(
        "'--model', type=str, default='ConvNetW32'", "'--net_type', default='convnet'"
    )
    script = script.replace("range(args.Iteration + 1)", "range(args.Iteration * 100 // 2)")
    assert begun("--no-trial", files={**FILES, "distil.py": script}).code == 0
    adapter = loaded(checkout, monkeypatch)
    found = told(adapter, "paper")
    assert (found["--dataset"], found["--net_type"]) == ("cifar10", "convnet")
    assert (adapter.loop, adapter.steps(job(adapter, "paper"))) == ("", 1)
    assert "# to be filled in: how often" in (checkout / "adapters" / "mine.py").read_text()


def test_settings_that_every_method_has_are_known_here() -> None:
    assert set(scaffold.COMMON) == set(COMMON)


@pytest.mark.upstream
@pytest.mark.parametrize("method", ADAPTERS)
def test_every_method_names_what_its_upstream_imports(method: str, upstream_tree: Callable[[str], Path]) -> None:
    adapter = ADAPTERS[method]
    assert dependencies.reached(upstream_tree(method), adapter.patch.script).needs() == adapter.needs
    if adapter.experts:
        owner = ADAPTERS[adapter.experts.method]
        tree = upstream_tree(owner.method)
        assert set(dependencies.reached(tree, adapter.experts.script).needs()) <= set(owner.needs)


def test_json_says_what_is_needed(begun: Callable[..., Outcome]) -> None:
    found = json.loads(begun("--no-trial", "--json").out)
    assert found["needs"] == ["rarely", "yaml-of-theirs"]
    assert "trial" not in found
    assert "rarely" not in sys.modules


def test_options_that_another_file_reads_are_taken_off_the_command_line_before(
    installed: None, begun: Callable[..., Outcome]
) -> None:
    head, _, rest = SCRIPT.partition("    parser = argparse.ArgumentParser()\n")
    options, _, body = rest.partition("    args = parser.parse_args()\n")
    dedented = "".join(line.removeprefix("    ") for line in options.splitlines(keepends=True))
    read = f"import argparse\nparser = argparse.ArgumentParser()\n{dedented}args = parser.parse_args()\n"
    added = {
        "import torch": "import sys, argparse, sdc\n"
        "own = argparse.ArgumentParser(add_help=False, allow_abbrev=False)\n"
        "sdc.add_options(own)\n"
        "sdc_args, sys.argv[1:] = own.parse_known_args()",
        "            optimizer.zero_grad()": ADDED["            optimizer.zero_grad()"].replace(" args,", " sdc_args,"),
    }
    files = {**FILES, "distil.py": f"{head}    from options import args\n{body}", "options.py": read}
    outcome = begun("--json", files=files, added=added)
    assert outcome.json["trial"]["updated"] is True, outcome

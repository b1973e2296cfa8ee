"""A fake upstream for fast tests of the plumbing: a real git repository with a tiny distillation script of ours.

It has what makes the true ones awkward: CRLF line ends, a sub-folder, a pin that is not the tip, a large file that
nobody needs, options that end the run badly.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from sdc.adapters import registry
from sdc.adapters.base import Adapter, Experts, Job, Option, Patch, Slot, Upstream, flags
from sdc.patching.git import blob_hash

URL = "https://upstream.invalid/owner/fake"

SCRIPT = """\
import argparse
import os
import random
import time

import numpy as np
import torch
from torchvision import datasets, transforms
from helpers import shrink

parser = argparse.ArgumentParser()
parser.add_argument("--dataset")
parser.add_argument("--model")
parser.add_argument("--ipc", type=int)
parser.add_argument("--steps", type=int)
parser.add_argument("--rate", type=float)
parser.add_argument("--end")
args = parser.parse_args()
usual = transforms.Compose([transforms.ToTensor(), transforms.Normalize([0.5] * 3, [0.25] * 3)])
train = getattr(datasets, args.dataset)("nowhere", train=True, download=True, transform=usual)
torch.manual_seed(int(time.time() * 1000) % 100000)
device = torch.device("cuda:0")
images = torch.randn(10 * args.ipc, 3, 32, 32, device=device, requires_grad=True)
goal = shrink(torch.stack([train[i][0] for i in range(len(train))]).mean(0)).cuda()
optimizer = torch.optim.SGD([images], lr=args.rate, momentum=0.5)
print("training begins")
for step in range(args.steps):
    jitter = 0.1 * torch.randn(()) * random.gauss(0, 1) * np.random.rand() * (time.time() % 1)
    loss = ((images - goal - jitter) ** 2).mean()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    if args.end == "slow":
        time.sleep(0.05)
    if args.end == "error" and step == 2:
        raise ValueError("the fake script was told to fail")
    if args.end == "memory" and step == 2:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB.")
    if args.end == "nan" and step == 2:
        images.data[:] = float("nan")
    if args.end == "disk" and step == 2:
        open("filler", "wb").write(bytes(10**9))
"""
TRAINER = """\
import argparse
import os
import time
from glob import glob

import torch
from torchvision import datasets, transforms

parser = argparse.ArgumentParser()
parser.add_argument("--dataset")
parser.add_argument("--num_experts", type=int)
parser.add_argument("--train_epochs", type=int)
parser.add_argument("--expert_batch", type=int)
parser.add_argument("--pace")
args = parser.parse_args()
train = getattr(datasets, args.dataset)("nowhere", train=True, download=True, transform=transforms.ToTensor())
images = torch.stack([train[i][0] for i in range(len(train))])
labels = torch.tensor([train[i][1] for i in range(len(train))])
os.makedirs("made", exist_ok=True)
for number in range(0, args.num_experts):
    torch.manual_seed(int(time.time() * 1000) % 100000)
    network = torch.nn.Linear(3 * 32 * 32, 10).to("cuda")
    optimizer = torch.optim.SGD(network.parameters(), lr=0.01)
    trajectory = [[p.detach().cpu() for p in network.parameters()]]
    for epoch in range(args.train_epochs):
        for batch in torch.randperm(len(images)).split(args.expert_batch):
            optimizer.zero_grad()
            torch.nn.functional.cross_entropy(network(images[batch].flatten(1)), labels[batch]).backward()
            optimizer.step()
            time.sleep({"slow": 0.03, "uneven": 0.04 if number == 0 else 0.002}.get(args.pace, 0))
        trajectory.append([p.detach().cpu() for p in network.parameters()])
        print(f"network {number} epoch {epoch}")
    if number == 1 and args.pace == "error":
        raise ValueError("the fake trainer was told to fail")
    if number == 1 and args.pace == "memory":
        while len(glob("../lane-*/taken/*")) < 2 and not os.path.exists("../killed"):
            time.sleep(0.01)
        open("../killed", "w").close()
        if len(glob("../lane-*/taken/*")) > 1:
            raise MemoryError
    if number == 1 and (args.pace == "deadly" or (args.pace == "killed" and not os.path.exists("../killed"))):
        open("../killed", "w").close()
        os.kill(os.getpid(), 9)
    free = 0
    while os.path.exists(f"made/replay_buffer_{free}.pt"):
        free += 1
    torch.save([trajectory], f"made/replay_buffer_{free}.pt")
"""
"""A script that trains experts, as far as ours must know one: a loop over them, a file each, the first free number."""
PACES = ("full", "slow", "uneven", "error", "memory", "killed", "deadly")
"""How it goes. The last four end badly at network 1: `memory` for want of it while there are two processes, `killed` once
and `deadly` every time by a kill -9."""
HELPERS = "def shrink(image):\n    return image * 0.5\n"
ADDED = {
    "from helpers import shrink": "import sdc",
    'parser.add_argument("--end")': "sdc.add_options(parser)",
    "    loss = ((images - goal - jitter) ** 2).mean()": "    loss = sdc.corrected(loss, [images], args, step, args.steps - 1)",
}


@dataclass(frozen=True)
class Fake:
    """Where the fake's repository is, the method `fake` that uses it, and the git configuration that leads there."""

    path: Path
    adapter: Adapter
    git_config: Path
    patch: Path


def build(folder: Path, text: str = SCRIPT, added: Mapping[str, str] = ADDED) -> Fake:
    """Make the repository, its patch, and a git configuration in which the https address means this repository.

    `added`: the lines that the patch puts behind lines of the script `text`.
    """
    repository = folder / "mirror" / "owner" / "fake"
    script = text.replace("\n", "\r\n").encode()
    _commit(
        repository,
        {
            "train/distil.py": script,
            "train/helpers.py": HELPERS.encode(),
            "experts/trainer.py": TRAINER.encode(),
            "LICENSE": b"none of yours\n",
            "weights.bin": bytes(range(256)) * 4096,
        },
    )
    _commit(repository, {"train/distil.py": b"print('the tip is not the pin')\r\n"})
    (folder / "gitconfig").write_text(f'[url "file://{folder}/mirror/"]\n\tinsteadOf = https://upstream.invalid/\n')
    (folder / "fake.patch").write_bytes(_patch(text.splitlines(), added))
    return opened(folder, text, added)


def opened(folder: Path, text: str = SCRIPT, added: Mapping[str, str] = ADDED) -> Fake:
    """The fake that `build` made in `folder`."""
    repository, patch = folder / "mirror" / "owner" / "fake", folder / "fake.patch"
    pin = _git(repository, "rev-parse", "HEAD~1")
    script = text.replace("\n", "\r\n").encode()
    return Fake(repository, _adapter(pin, script, patched(script, added), patch), folder / "gitconfig", patch)


def patched(script: bytes, added: Mapping[str, str] = ADDED) -> bytes:
    """The script as it is after the patch."""
    lines = script.decode().split("\r\n")
    return "\r\n".join(out for line in lines for out in [line, *([added[line]] if line in added else [])]).encode()


def _patch(lines: list[str], added: Mapping[str, str]) -> bytes:
    text = "A fake term for a fake script.\n\n--- a/train/distil.py\n+++ b/train/distil.py\n"
    for count, (anchor, line) in enumerate(added.items(), start=1):
        at = lines.index(anchor) + 1
        text += f"@@ -{at},0 +{at + count} @@\n+{line}\r\n"
    return text.encode()


def _adapter(pin: str, script: bytes, after: bytes, patch: Path) -> Adapter:
    def argv(job: Job) -> list[str]:
        return flags({"dataset": job.slot.name, "model": job.model, "ipc": job.ipc, **job.options})

    return Adapter(
        method="fake",
        title="A fake",
        upstream=Upstream(URL, pin, licence=None),
        patch=Patch(
            script="train/distil.py",
            file=str(patch),
            sha256=hashlib.sha256(patch.read_bytes()).hexdigest(),
            before=blob_hash(script),
            after=blob_hash(after),
        ),
        datasets={"cifar10": "CIFAR10"},
        slots=(Slot("CIFAR10", classes=10, channels=3, size=32),),
        models=("ConvNetW32", "ConvNetD1"),
        options={
            "steps": Option(6, "updates of the images"),
            "rate": Option(100.0, "learning rate of the images"),
            "end": Option("well", "how the run ends", choices=("well", "error", "nan", "slow", "disk", "memory")),
        },
        recipes={
            "quick": {"source": "made up", "set": {"model": "ConvNetW32", "networks": 2}},
            "trial": {"source": "made up", "set": {"model": "ConvNetW32", "limit_per_class": 3, "steps": 3}},
        },
        refuse=lambda job: "it takes ipc 1 and 2 only" if job.ipc > 2 else None,
        argv=argv,
        steps=lambda job: int(job.options["steps"]),
        evaluation=lambda job: {"lr": 0.01, "epochs": 3, "augment": ""},
        advice={"diverged": "Lower --set rate=...", "memory": "Lower --ipc"},
        loop="step",
    )


def matcher(adapter: Adapter) -> Adapter:
    """A method like the fake that needs experts first; its script looks at none of them."""

    def trained(job: Job) -> list[str]:
        return flags({"dataset": job.slot.name} | {n: v for n, v in job.experts.items() if n != "expert_seed"})

    return replace(
        adapter,
        method="matcher",
        options=adapter.options | {"zca": Option(0, "1 to whiten", choices=(0, 1))},
        argv=lambda job: adapter.argv(replace(job, options={n: v for n, v in job.options.items() if n != "zca"})),
        experts=Experts(
            kind="plain",
            method="fake",
            script="experts/trainer.py",
            options={
                "num_experts": Option(5, "networks"),
                "train_epochs": Option(2, "epochs of each"),
                "expert_batch": Option(10, "images of a step"),
                "expert_seed": Option(0, "of all of them"),
                "pace": Option("full", "how it goes", choices=PACES),
            },
            argv=trained,
            place=lambda _: "made",
            files=lambda _: 1,
            passes=1,
            advice={},
            loop="number",
        ),
    )


def _commit(repository: Path, files: dict[str, bytes]) -> None:
    for name, content in files.items():
        path = repository / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    if not (repository / ".git").exists():
        _git(repository, "init", "--quiet", "--initial-branch=main")
        _git(repository, "config", "uploadpack.allowFilter", "true")
        _git(repository, "config", "core.autocrlf", "false")
    _git(repository, "add", "--all")
    _git(repository, "-c", "user.name=fake", "-c", "user.email=fake@invalid", "commit", "--quiet", "--message=fake")


def _git(repository: Path, *arguments: str) -> str:
    command = ["git", "-C", str(repository), *arguments]
    same_hashes = dict.fromkeys(("GIT_AUTHOR_DATE", "GIT_COMMITTER_DATE"), "2024-08-22T00:00:00Z")
    done = subprocess.run(command, check=True, capture_output=True, text=True, env=os.environ | same_hashes)
    return done.stdout.strip()


def main() -> int:
    """`python -m tests.fake FOLDER ARGUMENTS...`: the command line in a process of its own, with `fake` and `matcher`."""
    from sdc import cli

    adapter = opened(Path(sys.argv[1])).adapter
    registry.ADAPTERS |= {"fake": adapter, "matcher": matcher(adapter)}
    return cli.call(sys.argv[2:])


if __name__ == "__main__":
    sys.exit(main())

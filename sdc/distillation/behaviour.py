"""What a patched script does, against the untouched one: same seed, a few steps on few images, bit for bit.

Claims about code are checked on the CPU, where a script repeats its bits; on a GPU some kernels do not (the backward
pass of DSA's rotation and scaling, for one). How far a GPU's own runs are apart is told beside the claims.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from safetensors.torch import load_file
from torch import Tensor

from sdc.adapters.base import Adapter
from sdc.distillation import experts, jobs, needed, process
from sdc.ground import hardware
from sdc.ground.errors import FatalError
from sdc.ground.hardware import Device
from sdc.ground.watch import Watch
from sdc.launcher.job import Job
from sdc.patching import clones, fetching, fork
from sdc.patching.proof import OURS, Claim, Proof
from sdc.plan import needs
from sdc.plan.request import Plan, Request, plan

WEIGHT = 0.1
"""The weight of which it is asked whether it has an effect."""
RECIPE = "trial"
NAMES = ("weight 0", f"weight {WEIGHT:g}", "options")


@dataclass(frozen=True)
class Tree:
    """A tree whose script is patched, that script's content without the patch, and its path there.

    `others` are other files that have lines of ours, by their paths, without them.
    """

    path: Path
    original: bytes
    script: str
    others: Mapping[str, bytes] = field(default_factory=dict)


@dataclass(frozen=True)
class _Outcome:
    """What a script made: its tensors, the steps that took, the options it takes; or why it made nothing."""

    tensors: dict[str, Tensor]
    steps: int
    options: list[dict[str, Any]] | None
    error: str = ""

    def same(self, other: _Outcome) -> bool:
        """Whether both made the same bits in as many steps."""
        return (
            self.steps == other.steps
            and self.tensors.keys() == other.tensors.keys()
            and all(tensor.equal(other.tensors[name]) for name, tensor in self.tensors.items())
        )


def added_to(
    proofs: Sequence[Proof],
    folder: Path | None,
    dataset: str | None,
    data: Path | None,
    watch: Watch,
    script: str = "",
) -> tuple[list[Proof], str]:
    """The proofs with claims of what their scripts do, and what was run.

    `folder`: a patched clone or fork of the user's own, instead of ours; `script`: the script's path there, if renamed.
    """
    found, seen = [], ""
    with tempfile.TemporaryDirectory(prefix="sdc-verify-") as name:
        for proof in proofs:
            planned = plan(Request(proof.method, 0.0, dataset, data, recipe=RECIPE), watch)
            if proof.failures:
                claimed, spread = _unchecked("the script is not what the patch makes of it"), ""
            elif lacking := needs.told(needed.scripts(planned, Path(name) / "experts")):
                claimed, spread = _unchecked(lacking), ""
            else:
                tree = _tree(planned.adapter, folder, script)
                claimed = claims(planned, tree, Path(name), watch)
                looked = hardware.device() == "cuda" and claimed[0].outcome != "unchecked"
                spread = _spread(planned, tree, Path(name), watch) if looked else ""
            found.append(replace(proof, claims=claimed, spread=spread))
            seen = (
                f"Each script ran untouched and patched, with the same seed, for a few steps on {planned.dataset.name} "
                f"(recipe `{RECIPE}`, one image a class, on the CPU). Images, labels and "
                "learned rate are compared bit for bit."
            )
    return found, seen


def _tree(adapter: Adapter, folder: Path | None, script: str) -> Tree:
    """The method's clone against its script at the pin, or the user's folder against the script without our lines."""
    if folder:
        bare, name = fork.originals(adapter, folder, script), Path(script or adapter.patch.script).as_posix()
        return Tree(folder.resolve(), bare.pop(name), name, bare)
    return Tree(clones.clone_path(adapter), clones.pinned_script(adapter), adapter.patch.script)


def claims(planned: Plan, tree: Tree, scratch: Path, watch: Watch) -> tuple[Claim, ...]:
    """Run the script of `tree` with and without its patch in `scratch`, and say of each claim how it came out.

    Experts are made in `scratch`, too, and shared by the methods that are given the same folder.
    """
    adapter, work = planned.adapter, scratch / planned.adapter.method
    untouched = work / "tree"
    copy_untouched(tree, adapter, untouched)
    try:
        trained = experts.ready(planned, watch, root=scratch / "experts")
    except FatalError as error:
        return _unchecked(f"its experts could not be trained: {error}")

    def outcome(name: str, root: Path, *words: str) -> _Outcome:
        watch.stage(f"{adapter.method}: {name}", planned.steps())
        return _ran(planned, work / name, replace(tree, path=root), words, trained.folder if trained else None, watch)

    original = outcome("untouched", untouched)
    if original.error:
        return _unchecked(f"the untouched script did not run: {original.error}")
    without = outcome("weight 0", tree.path, *_term(0.0))
    repeats = without.same(original) or outcome("untouched again", untouched).same(original)
    with_term = outcome(NAMES[1], tree.path, *_term(WEIGHT))
    return (
        _same(original, without, repeats=repeats),
        _changes(original, with_term, repeats=repeats),
        _options(original, without),
    )


def _unchecked(why: str) -> tuple[Claim, ...]:
    return tuple(Claim(name, "unchecked", why) for name in NAMES)


def _same(original: _Outcome, without: _Outcome, *, repeats: bool) -> Claim:
    """Weight 0 is the untouched script, bit for bit."""
    if without.error:
        return Claim(NAMES[0], "fails", f"the patched script did not run where the untouched did: {without.error}")
    made = ", ".join(f"{name} {'x'.join(map(str, t.shape)) or '1'}" for name, t in sorted(original.tensors.items()))
    if without.same(original):
        return Claim(NAMES[0], "holds", f"{made} after {original.steps} steps: the untouched script's, bit for bit")
    if not repeats:
        return Claim(NAMES[0], "unchecked", "the untouched script itself does not repeat its bits on this machine")
    if without.steps != original.steps:
        return Claim(NAMES[0], "fails", f"{without.steps} steps, and {original.steps} of the untouched script")
    names = [name for name, tensor in original.tensors.items() if not _equal(tensor, without.tensors.get(name))]
    return Claim(NAMES[0], "fails", f"not the bits of the untouched script: {', '.join(names) or 'more tensors'}")


def _changes(original: _Outcome, with_term: _Outcome, *, repeats: bool) -> Claim:
    """A weight above 0 changes the images."""
    if with_term.error:
        return Claim(NAMES[1], "unchecked", f"it did not run: {with_term.error}")
    if not repeats:
        return Claim(NAMES[1], "unchecked", "the script does not repeat its bits, so a difference says nothing")
    before, after = original.tensors["images"], with_term.tensors["images"]
    if before.shape != after.shape:
        return Claim(NAMES[1], "fails", f"images of shape {list(after.shape)}, not {list(before.shape)}")
    moved = float((before - after).abs().max())
    if not moved:
        return Claim(NAMES[1], "fails", "the images are those of the untouched script: the term has no effect")
    return Claim(NAMES[1], "holds", f"the images differ by up to {moved:.2g} after {with_term.steps} steps")


def _options(original: _Outcome, without: _Outcome) -> Claim:
    """The patched script takes the old options and ours."""
    if original.options is None or without.options is None:
        return Claim(NAMES[2], "unchecked", "the script read no command line by argparse")
    gone = _names(fact for fact in original.options if fact not in without.options)
    more = _names(fact for fact in without.options if fact not in original.options)
    if gone:
        return Claim(NAMES[2], "fails", f"gone, or not what they were: {' '.join(gone)}")
    seen = f"the {len(original.options)} of the untouched script and {' '.join(more) or 'none more'}"
    return Claim(NAMES[2], "holds" if more == list(OURS) else "fails", seen)


def _names(facts: Iterable[dict[str, Any]]) -> list[str]:
    return sorted(name for fact in facts for name in fact["names"] or [fact["dest"]])


def _equal(tensor: Tensor, other: Tensor | None) -> bool:
    return other is not None and tensor.equal(other)


def _term(weight: float) -> tuple[str, ...]:
    return "--sdc_lambda", repr(weight), "--sdc_schedule", "constant"


def copy_untouched(tree: Tree, adapter: Adapter, target: Path) -> None:
    """The files of a tree that the upstream's pin is read by, its script as it was."""
    for file in sorted(tree.path.rglob("*")):
        name = file.relative_to(tree.path)
        hidden = any(part.startswith(".") for part in name.parts)
        if hidden or not file.is_file() or not fetching.selected(name.as_posix(), adapter.upstream.files):
            continue
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(file, target / name)
    for path, content in {**tree.others, tree.script: tree.original}.items():
        (target / path).parent.mkdir(parents=True, exist_ok=True)
        (target / path).write_bytes(content)


def _spread(planned: Plan, tree: Tree, scratch: Path, watch: Watch) -> str:
    """How far two runs of the untouched script are apart on this machine's GPU, after `claims` in the same folder."""
    work, where = scratch / planned.adapter.method, hardware.named("cuda")
    trained = experts.ready(planned, watch, root=scratch / "experts")
    folder = trained.folder if trained else None
    watch.stage(f"{planned.adapter.method}: untouched, on {where}", planned.steps())
    untouched = replace(tree, path=work / "tree")
    first, second = (_ran(planned, work / f"on gpu {n}", untouched, (), folder, watch, device="cuda") for n in (1, 2))
    if first.error or second.error:
        return f"on {where} it did not run: {first.error or second.error}"
    if first.same(second):
        return f"on {where} two runs of the untouched script are the same bits"
    apart = max(float((t - second.tensors[name]).abs().max()) for name, t in first.tensors.items())
    return f"on {where} two runs of the untouched script differ by up to {apart:.2g}: it does not repeat its bits there"


def _ran(
    planned: Plan,
    work: Path,
    tree: Tree,
    words: Sequence[str],
    trained: Path | None,
    watch: Watch,
    *,
    device: Device = "cpu",
) -> _Outcome:
    """Run the script of a tree in the folder `work`."""
    work.mkdir()
    if trained:
        (work / "buffers").symlink_to(trained)
    options = work / "options.json"
    job: Job = replace(
        jobs.distillation(planned, work, work),
        script=str(tree.path / tree.script),
        tree=str(tree.path),
        argv=(*planned.adapter.argv(planned.job), *words),
        options=str(options),
        device=device,
    )
    try:
        ended = process.launch(job, work, work / "log.txt", watch, planned.adapter.advice)
        tensors, steps, error = load_file(job.output), ended.steps, ""
    except FatalError as failure:
        tensors, steps, error = {}, 0, str(failure)
    read: Callable[[str], Any] = json.loads
    return _Outcome(tensors, steps, read(options.read_text()) if options.is_file() else None, error)

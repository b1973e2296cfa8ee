"""Results of sets made elsewhere, kept beside the runs, so that a report shows them and what was assumed of them.

`elsewhere/<file>-<dataset>-<key>/result.json`: what `sdc evaluate --json` prints, with the command that gives it again,
hashes, library versions and the device. The key is a hash of all that shapes it: the same command writes it anew.
"""

from __future__ import annotations

import hashlib
import json
import re
import shlex
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from sdc.evaluation.protocol import to_dict
from sdc.evaluation.scoring import Result, Subject
from sdc.ground import hardware, paths
from sdc.ground.errors import FatalError
from sdc.ground.files import write_text


def refuse(path: Path, runs: Path) -> FatalError:
    """The error for a set that a run made, and a report shows with that run."""
    return FatalError(
        f"{path} is the set of a run, not one made elsewhere: --runs {runs} would list it as if it were\n"
        'Leave out --runs. To have runs evaluated by other networks in a report: models = ["..."] below [evaluate] in '
        "the spec of sdc bench"
    )


def keep(path: Path, subjects: Sequence[Subject], result: Result, again: Sequence[str], runs: Path) -> Result:
    """Write the result of a set, of one subject an experiment, below `runs`; returns it with its folder as `kept`."""
    first = subjects[0]
    own = {
        "again": shlex.join(again),
        "images": list(first.found.images.shape),
        "seed": first.seed,
        "set_sha256": _hash(tensor for each in subjects for tensor in (each.found.images, each.found.labels)),
        "data_sha256": first.data.sha256,
        "libraries": hardware.libraries(),
        "device": hardware.facts(hardware.device()),
    }
    plain = re.sub(r"[^A-Za-z0-9_.]+", "-", f"{path.resolve().stem}-{result['dataset']}").strip("-.")[:80]
    folder = runs.resolve() / paths.ELSEWHERE / f"{plain}-{_key(first, own)}"
    write_text(folder / "result.json", json.dumps(result | own, indent=1) + "\n")
    return result | own | {"kept": str(folder)}


def _key(subject: Subject, own: Mapping[str, Any]) -> str:
    view = subject.found.view
    shaping = {
        **{name: own[name] for name in ("set_sha256", "data_sha256", "seed")},
        "models": list(subject.models),
        "protocol": to_dict(subject.protocol),
        "shown": [view.mean, view.std, view.whitening is not None],
    }
    return hashlib.sha256(json.dumps(shaping, sort_keys=True).encode()).hexdigest()[:10]


def _hash(tensors: Iterable[Tensor]) -> str:
    digest = hashlib.sha256()
    for tensor in tensors:
        digest.update(f"{tensor.dtype} {list(tensor.shape)}".encode() + tensor.contiguous().numpy().tobytes())
    return digest.hexdigest()

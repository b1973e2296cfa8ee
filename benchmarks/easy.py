"""Easy or hard images? Networks trained on the easiest, the hardest and random real images, tested on the test set.

`python -m benchmarks.easy [--dataset digits | --data PATH] [--fractions 0.1,0.3] [--limit N] [--model ConvNetW32]
[--judges 3] [--judge-epochs 5] [--networks 3] [--epochs 30] [--batch 64] [--test N] [--seed S] [--json]`.
All training images (at most --limit of a class) are ranked by GraDN over networks trained on them; each part then
trains the same networks by the same evaluator.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any, get_args

import torch

from sdc.analysis.difficulty import parts
from sdc.analysis.difficulty.panel import Request
from sdc.analysis.difficulty.parts import Ranked, Which
from sdc.analysis.difficulty.samples import real
from sdc.cli.progress import bars
from sdc.evaluation.protocol import UNIFORM, override
from sdc.evaluation.training import evaluate, summary
from sdc.evaluation.view import normalised


def main() -> None:
    """Rank, train, test, and print a row a part."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset")
    parser.add_argument("--data", type=Path)
    parser.add_argument("--fractions", default="0.1")
    parser.add_argument("--limit", type=int, default=0, help="training images of each class; 0: all")
    parser.add_argument("--model", default="ConvNetW32")
    parser.add_argument("--judges", type=int, default=3)
    parser.add_argument("--judge-epochs", type=int, default=5)
    parser.add_argument("--networks", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=30)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--test", type=int, default=0, help="test images of each class; 0: all")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", action="store_true")
    asked = parser.parse_args()
    began = time.monotonic()
    named = asked.dataset or (None if asked.data else "digits")
    request = Request(
        dataset=named,
        data=asked.data,
        networks="trained",
        count=asked.judges,
        epochs=asked.judge_epochs,
        model=asked.model,
        seed=asked.seed,
        limit=asked.limit,
    )
    with bars() as watch:
        found = parts.ranked(request, watch)
    rows = [
        {"part": which, "fraction": fraction, **_reached(found, which, fraction, asked)}
        for fraction in map(float, asked.fractions.split(","))
        for which in get_args(Which)
    ]
    seconds = round(time.monotonic() - began)
    about = f"GraDN over {found.networks}; {asked.networks} {asked.model}, {asked.epochs} epochs of batch {asked.batch}"
    if asked.json:
        print(json.dumps({"rows": rows, "dataset": found.data.name, "about": about, "seconds": seconds}))
        return
    print(f"{found.data.name}: {about}; {seconds} s")
    for row in rows:
        print(
            f"{row['part']:8} {row['fraction']:5.0%} ({row['images']} images, mean GraDN {row['gradn']:.4g}): "
            f"{100 * row['mean']:.2f} +- {100 * row['std']:.2f} % (n = {row['n']})"
        )


def _reached(found: Ranked, which: Which, fraction: float, asked: argparse.Namespace) -> dict[str, Any]:
    data = found.data
    chosen = parts.part(data, found.gradn, which, fraction, asked.seed).index
    view = real(data, 1, None, None).view
    tested = _first(data.test.labels, len(data.classes), asked.test)
    # As many steps whatever the part: the protocol trains for E + 1 epochs.
    protocol = override(UNIFORM, {"epochs": asked.epochs - 1, "batch": asked.batch, "augment": ""})
    scores = evaluate(
        normalised(data.train.images[chosen], view),
        data.train.labels[chosen],
        normalised(data.test.images[tested], view),
        data.test.labels[tested],
        asked.model,
        protocol,
        asked.seed,
        networks=asked.networks,
    )
    return {"images": len(chosen), "gradn": float(found.gradn[chosen].mean()), **summary(scores)}


def _first(labels: torch.Tensor, classes: int, most: int) -> torch.Tensor:
    """The places of the first images of each class, or of all."""
    of_class = [(labels == label).nonzero()[:, 0] for label in range(classes)]
    return torch.cat([each[: most or None] for each in of_class])


if __name__ == "__main__":
    main()

"""FTD: Minimizing the Accumulated Trajectory Error to Improve Dataset Distillation (Du et al., CVPR 2023)."""

from __future__ import annotations

from sdc.adapters import recipes, trajectories
from sdc.adapters.base import Adapter, Option, Patch, Upstream

ADAPTER = Adapter(
    method="ftd",
    title="Minimizing the Accumulated Trajectory Error to Improve Dataset Distillation",
    upstream=Upstream(
        url="https://github.com/AngusDujw/FTD-distillation",
        commit="711532a096326cb9747fd0398b077d18328bf2f3",
        licence=None,
    ),
    patch=Patch(
        script="distill/distill_FTD.py",
        file="ftd-distill_FTD.patch",
        sha256="5a92790adf50c2d4fe8c67898d5456cab9a1e15ae3419f3838a0683e26e5a2f9",
        before="5b94d9a4c67fc3f835caca15db08b4d033fa4e45",
        after="836dd99e91f6b86802107f56a29d7410d993b8f1",
    ),
    datasets=trajectories.DATASETS,
    slots=trajectories.SLOTS,
    models=(*trajectories.DEEP, *trajectories.WIDE),
    options=trajectories.OPTIONS | {"ema_decay": Option(0.999, "decay of the moving average of the images")},
    recipes=recipes.load("ftd"),
    refuse=trajectories.refuse,
    # It fails unless it evaluates its moving average once, so it does, for one epoch.
    argv=lambda job: trajectories.argv(job, num_eval=1, epoch_eval_train=0),
    steps=trajectories.steps,
    evaluation=trajectories.evaluation,
    advice=trajectories.ADVICE,
    experts=trajectories.FLAT,
    loss="Grand_Loss",
    start="pix_init",
    average="ema_decay",
)

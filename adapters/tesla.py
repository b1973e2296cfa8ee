"""TESLA: Scaling Up Dataset Distillation to ImageNet-1K with Constant Memory (Cui et al., ICML 2023)."""

from __future__ import annotations

from sdc.adapters import recipes, trajectories
from sdc.adapters.base import Adapter, Patch, Upstream

ADAPTER = Adapter(
    method="tesla",
    title="Scaling Up Dataset Distillation to ImageNet-1K with Constant Memory",
    upstream=Upstream(
        url="https://github.com/justincui03/tesla",
        commit="488842eec5f436edbad6da632106497525fdcf8f",
        licence="MIT",
    ),
    patch=Patch(
        script="distill.py",
        file="tesla-distill.patch",
        sha256="e26233b4756d743a350771193d1d38b8b9f6c592a6ff80e6ccb80d9869496cbc",
        before="ff4b8cff8c6a6e05ae88fedb5042d02558b07f46",
        after="cdd9c918b242a588d9fe734601c07b93fe94b189",
    ),
    datasets=trajectories.DATASETS,
    slots=trajectories.SLOTS,
    models=trajectories.DEEP,
    options=trajectories.OPTIONS,
    recipes=recipes.load("tesla"),
    refuse=trajectories.refuse,
    argv=trajectories.argv,
    steps=trajectories.steps,
    evaluation=trajectories.evaluation,
    advice=trajectories.ADVICE
    | {"memory": "Lower --set batch_syn=... or --ipc, or take a shallower network (--model ConvNetD2)."},
    experts=trajectories.SGD,
    loss="Grand_Loss",
    start="pix_init",
    without=dict.fromkeys(trajectories.WIDE, "its script knows ConvNets of one width only"),
)

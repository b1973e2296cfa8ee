"""TESLA: Scaling Up Dataset Distillation to ImageNet-1K with Constant Memory (Cui et al., ICML 2023)."""

from __future__ import annotations

from adapters import recipes, trajectories
from adapters.base import Adapter, Patch, Upstream

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
        sha256="8a0a50882dfe6a5464863b73e6b167deaf50ebd3f7429ca7c4c65c5ca83e23b4",
        before="ff4b8cff8c6a6e05ae88fedb5042d02558b07f46",
        after="2fba47a6e1c563c16cab19eaf3fabe35414ebb41",
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
)

"""MTT: Dataset Distillation by Matching Training Trajectories (Cazenavette et al., CVPR 2022)."""

from __future__ import annotations

from adapters import recipes, trajectories
from adapters.base import Adapter, Patch, Upstream

ADAPTER = Adapter(
    method="mtt",
    title="Dataset Distillation by Matching Training Trajectories",
    upstream=Upstream(
        url="https://github.com/GeorgeCazenavette/mtt-distillation",
        commit="50dccea47ba48b9cfb3b9c59375d7da92e4e603b",
        licence="MIT",
    ),
    patch=Patch(
        script="distill.py",
        file="mtt-distill.patch",
        sha256="2b2e64577996db05294ff563c86bb48f2c854dadd95658b9645bf750a5461da8",
        before="d65af72b511f1da182c39404846de1467f04e020",
        after="f370757ed54c13baa4d8460c5bf1752a35820730",
    ),
    datasets=trajectories.DATASETS,
    slots=trajectories.SLOTS,
    models=(*trajectories.DEEP, *trajectories.WIDE),
    options=trajectories.OPTIONS,
    recipes=recipes.load("mtt"),
    refuse=trajectories.refuse,
    argv=trajectories.argv,
    steps=trajectories.steps,
    evaluation=trajectories.evaluation,
    advice=trajectories.ADVICE,
    experts=trajectories.SGD,
    loss="Grand_Loss",
)

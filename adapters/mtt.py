"""MTT: Dataset Distillation by Matching Training Trajectories (Cazenavette et al., CVPR 2022)."""

from __future__ import annotations

from sdc.adapters import recipes, trajectories
from sdc.adapters.base import Adapter, Patch, Upstream

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
        sha256="6ebc430290f07e318df5dc42b2b21c724b1815a33123916f2e3f43caadc3881b",
        before="d65af72b511f1da182c39404846de1467f04e020",
        after="cb571a4dc13f35512e37b643d85e393fbb934e08",
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
    start="pix_init",
)

"""DM: Dataset Condensation with Distribution Matching (Zhao, Bilen, WACV 2023)."""

from __future__ import annotations

from sdc.adapters import recipes, vico
from sdc.adapters.base import Adapter, Option

ADAPTER = Adapter(
    method="dm",
    title="Dataset Condensation with Distribution Matching",
    upstream=vico.UPSTREAM,
    patch=vico.MAIN_DM,
    datasets=vico.DATASETS,
    slots=vico.SLOTS,
    # Networks with batch normalisation go through the script's other branch, which the patch does not reach.
    models=(*vico.CONVNETS, "AlexNet", "VGG11", "ResNet18"),
    options=vico.OPTIONS
    | {
        "Iteration": Option(20000, "iterations, each with a fresh network"),
        "lr_img": Option(1.0, vico.OPTIONS["lr_img"].help),
        "init": Option("real", vico.OPTIONS["init"].help, vico.OPTIONS["init"].choices),
        "dsa_strategy": vico.DSA_STRATEGY,
    },
    recipes=recipes.load("dm"),
    refuse=vico.refuse,
    argv=vico.argv,
    steps=lambda job: int(job.options["Iteration"]) + 1,
    evaluation=vico.augmented_evaluation,
    advice=vico.ADVICE,
    start="init",
    without=dict.fromkeys(
        ("MLP", "LeNet"), "it matches features, for which its script's networks of that kind have no `embed`"
    ),
    saves="res_DM",
)

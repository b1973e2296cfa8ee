"""DSA: DC with Differentiable Siamese Augmentation (Zhao, Bilen, ICML 2021)."""

from __future__ import annotations

from sdc.adapters import recipes, vico
from sdc.adapters.base import Adapter, Option

ADAPTER = Adapter(
    method="dsa",
    title="Dataset Condensation with Differentiable Siamese Augmentation",
    upstream=vico.UPSTREAM,
    patch=vico.MAIN,
    datasets=vico.DATASETS,
    slots=vico.SLOTS,
    models=vico.CONVNETS + vico.SMALL_IMAGES_ONLY,
    options=vico.OPTIONS
    | {
        "Iteration": Option(1000, "outer iterations, each with a fresh network"),
        "dis_metric": vico.DIS_METRIC,
        "dsa_strategy": vico.DSA_STRATEGY,
    },
    recipes=recipes.load("dsa"),
    refuse=vico.refuse,
    argv=lambda job: ["--method", "DSA", *vico.argv(job)],
    steps=vico.matching_steps,
    evaluation=vico.augmented_evaluation,
    advice=vico.ADVICE,
    start="init",
    saves="res_DSA",
)

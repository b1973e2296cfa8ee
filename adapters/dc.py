"""DC: Dataset Condensation with Gradient Matching (Zhao, Mopuri, Bilen, ICLR 2021)."""

from __future__ import annotations

from collections.abc import Mapping

from sdc.adapters import recipes, vico
from sdc.adapters.base import Adapter, Job, Option, Value


def evaluation(job: Job) -> Mapping[str, Value]:
    """Plain training for 300 epochs, except on MNIST: augmented, for 1000 (the same in evaluation/assumptions.py)."""
    shared = {"lr": job.options["lr_net"], "batch": job.options["batch_train"]}
    if job.slot.name == "MNIST":
        return shared | {"epochs": 1000, "augment": "dc:crop_scale_rotate"}
    return shared | {"epochs": 300, "augment": ""}


ADAPTER = Adapter(
    method="dc",
    title="Dataset Condensation with Gradient Matching",
    upstream=vico.UPSTREAM,
    patch=vico.MAIN,
    datasets=vico.DATASETS,
    slots=vico.SLOTS,
    models=vico.CONVNETS + vico.SMALL_IMAGES_ONLY,
    options=vico.OPTIONS
    | {
        "Iteration": Option(1000, "outer iterations, each with a fresh network"),
        "dis_metric": vico.DIS_METRIC,
    },
    recipes=recipes.load("dc"),
    refuse=vico.refuse,
    argv=lambda job: ["--method", "DC", *vico.argv(job)],
    steps=vico.matching_steps,
    evaluation=evaluation,
    advice=vico.ADVICE,
    start="init",
    saves="res_DC",
)

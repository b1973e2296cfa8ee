"""DSAC: DSA with the contrastive signals of DCC (Lee, Chun, Jung, Yun, Yoon, ICML 2022), on top of DSA's code."""

from __future__ import annotations

from sdc.adapters import recipes, vico
from sdc.adapters.base import Adapter, Job, Option, Patch, Upstream

_LOOPS = {ipc: max(10, ipc) for ipc in vico.IPC}
"""Updates of the images in an outer iteration, by ipc."""
_OWN = {
    "outer_loop": Option(1000, "outer iterations, each with a fresh network"),
    "outer_warmup": Option(250, "outer iterations before classes are matched together"),
    "inner_warmup": Option(10, "updates in an outer iteration before they are, in any of them"),
    "dis_metric": vico.DIS_METRIC,
    "dsa_strategy": vico.DSA_STRATEGY,
}


def refuse(job: Job) -> str | None:
    """The script wants its warm-ups to end within its loops."""
    if reason := vico.refuse(job):
        return reason
    for warmup, loop, most in (
        ("outer_warmup", "outer_loop", int(job.options["outer_loop"])),
        ("inner_warmup", "the updates of an outer iteration", _LOOPS[job.ipc]),
    ):
        if int(job.options[warmup]) > most:
            return f"{warmup} ({job.options[warmup]}) is at most {loop} ({most})"
    return None if job.options["outer_loop"] else "outer_loop is at least 1"


ADAPTER = Adapter(
    method="dsac",
    title="Dataset Condensation with Contrastive Signals",
    upstream=Upstream("https://github.com/Saehyung-Lee/DCC", "5073a447691b5de2fbcb1ae8451d0e7bb8e70460", licence=None),
    patch=Patch(
        script="main.py",
        file="dsac-main.patch",
        sha256="ac0860083af70a8bad85190e0c9738d7920552e0fe2bf14b2c9412541002afbc",
        before="034d6fd0d111f639c6791506112b562d0c2f09c7",
        after="32d305301c46a93b403b681e1fbf97c4b9214a8b",
    ),
    datasets={name: own for name, own in vico.DATASETS.items() if name != "tinyimagenet"},
    slots=tuple(slot for slot in vico.SLOTS if slot.size <= 32),
    models=vico.CONVNETS + vico.SMALL_IMAGES_ONLY,
    options={name: option for name, option in vico.OPTIONS.items() if name != "init"} | _OWN,
    recipes=recipes.load("dsac"),
    refuse=refuse,
    argv=lambda job: ["--method", "DSA", "--contrast", *vico.argv(job)],
    steps=lambda job: int(job.options["outer_loop"]) * _LOOPS[job.ipc],
    evaluation=vico.augmented_evaluation,
    advice=vico.ADVICE,
    loop="ol",
    saves="res_DSA",
)

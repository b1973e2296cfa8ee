"""DATM: Towards Lossless Dataset Distillation via Difficulty-Aligned Trajectory Matching (Guo et al., ICLR 2024)."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal

from sdc.adapters import recipes, trajectories
from sdc.adapters.base import Adapter, Job, Need, Option, Patch, Upstream, Value

OPTIONS = trajectories.OPTIONS | {
    "lr_img": Option(1000, trajectories.OPTIONS["lr_img"].help),  # its configuration takes whole numbers only
    "syn_steps": Option(80, trajectories.OPTIONS["syn_steps"].help, positive=True),
    "expert_epochs": Option(2, trajectories.OPTIONS["expert_epochs"].help, positive=True),
    "pix_init": Option(
        "samples_predicted_correctly",
        "what the synthetic images start from: any real images, or real images that an expert puts in their class",
        choices=("real", "samples_predicted_correctly"),
    ),
    "zca": Option(1, trajectories.OPTIONS["zca"].help, trajectories.OPTIONS["zca"].choices),
    "min_start_epoch": Option(0, "a match starts at this epoch of an expert or later"),
    "Sequential_Generation": Option(1, "1 to let the range of starts grow over the run", choices=(0, 1)),
    "current_max_start_epoch": Option(20, "where the growing range ends at first"),
    "expansion_end_epoch": Option(3000, "the step at which it has grown to max_start_epoch"),
    "lr_y": Option(2.0, "learning rate of the soft labels"),
    "Momentum_y": Option(0.9, "momentum of the soft labels"),
    "threshold": Option(1.0, "no step is taken while the loss is above it"),
}
_SWITCHES = ("zca", "Sequential_Generation")


def configuration(job: Job) -> Mapping[str, str]:
    """The file that `--cfg` names: the script takes nothing else on its command line."""
    fixed: dict[str, Value] = {
        "dataset": job.slot.name,
        "res": job.slot.size,
        "model": job.model,
        "ipc": job.ipc,
        "device": "[0]",
        "data_path": "data",
        "buffer_path": "buffers",
        "eval_it": trajectories.steps(job),
        "skip_first_eva": "True",
        "batch_syn": int(job.options["batch_syn"]) or job.slot.classes * job.ipc,
    }
    chosen = {name: bool(value) if name in _SWITCHES else value for name, value in job.options.items()}
    return {"job.yaml": "".join(f"{name}: {_yaml(value)}\n" for name, value in (chosen | fixed).items())}


def refuse(job: Job) -> str | None:
    """As the others do; and there must be an epoch to start from, at the first step too."""
    bounds = ["max_start_epoch", *(["current_max_start_epoch"] if job.options["Sequential_Generation"] else [])]
    for bound in bounds:
        if int(job.options["min_start_epoch"]) >= int(job.options[bound]):
            return f"min_start_epoch ({job.options['min_start_epoch']}) must be below {bound} ({job.options[bound]})"
    if job.options["Sequential_Generation"] and not job.options["expansion_end_epoch"]:
        return "expansion_end_epoch is at least 1"
    if job.given and job.options["pix_init"] != "real":
        return (
            "with init_from its first labels would be means over the experts that put an image in its class, and of an "
            "image that is given there may be none: --set pix_init=real"
        )
    return trajectories.refuse(job)


def _yaml(value: Value) -> str:
    """YAML reads 1e-05 as text, so floats are written out."""
    return format(Decimal(repr(value)), "f") if isinstance(value, float) else str(value)


ADAPTER = Adapter(
    method="datm",
    title="Towards Lossless Dataset Distillation via Difficulty-Aligned Trajectory Matching",
    upstream=Upstream(
        url="https://github.com/NUS-HPC-AI-Lab/DATM",
        commit="97ae5109d98e749e897bd1af29bccd0515f8137e",
        licence=None,
    ),
    patch=Patch(
        script="distill/DATM.py",
        file="datm-DATM.patch",
        sha256="a2d897e061d5632f39e1a05d5ea53b23b9093ca77c66a83afa5c17ce9d8c4125",
        before="5ed82ab2f6553a1f922b2e57ba29e2a7cac068f0",
        after="d94ebf808750b0a0b9d26e2d563dd7f1e1e30c35",
    ),
    datasets=trajectories.DATASETS,
    slots=trajectories.SLOTS,
    models=(*trajectories.DEEP, *trajectories.WIDE),
    options=OPTIONS,
    recipes=recipes.load("datm"),
    refuse=refuse,
    argv=lambda _: ["--cfg", "job.yaml"],
    steps=trajectories.steps,
    evaluation=trajectories.evaluation,
    advice=trajectories.ADVICE | {"idle": "Raise --set threshold=..., above the losses in the log."},
    experts=trajectories.FLAT,
    files=configuration,
    loss="Grand_Loss",
    needs=(Need("pyyaml", module="yaml"),),
)

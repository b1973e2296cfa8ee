"""What the methods that match the training trajectories of experts share: MTT, FTD, TESLA, DATM.

Their scripts descend from one: the same datasets under the same names, the same options, the same layout of experts.
"""

from __future__ import annotations

from collections.abc import Mapping

from sdc.adapters.base import Experts, Job, Option, Slot, Value, flags

DATASETS = {"cifar10": "CIFAR10", "cifar100": "CIFAR100", "tinyimagenet": "Tiny"}
SLOTS = (
    Slot("CIFAR10", classes=10, channels=3, size=32),
    Slot("CIFAR100", classes=100, channels=3, size=32),
    Slot("Tiny", classes=200, channels=3, size=64),
)
DEEP = ("ConvNet", "ConvNetD1", "ConvNetD2", "ConvNetD3", "ConvNetD4")
WIDE = ("ConvNetW32", "ConvNetW64", "ConvNetW128", "ConvNetW256")
_WORDS = ("color", "crop", "cutout", "flip", "scale", "rotate")
AUGMENTATIONS = "_".join(_WORDS)

OPTIONS = {
    "Iteration": Option(5000, "distillation steps"),
    "lr_img": Option(1000.0, "learning rate of the synthetic images"),
    "lr_lr": Option(1e-5, "learning rate of the learned learning rate"),
    "lr_teacher": Option(0.01, "what the learned learning rate starts from"),
    "syn_steps": Option(20, "training steps on the synthetic images, in a distillation step", positive=True),
    "expert_epochs": Option(3, "epochs of an expert that these steps are to match", positive=True),
    "max_start_epoch": Option(25, "a match starts before this epoch of an expert"),
    "batch_syn": Option(0, "synthetic images in a training step; 0 for all"),
    "batch_train": Option(256, "batch size of networks trained on the synthetic images", positive=True),
    "pix_init": Option("real", "what the synthetic images start from", choices=("noise", "real")),
    "dsa_strategy": Option(AUGMENTATIONS, "augmentations, one drawn a step, joined by _", words=_WORDS),
    "zca": Option(0, "1 to whiten all images (ZCA)", choices=(0, 1)),
}
_EXPERT_OPTIONS = {
    "num_experts": Option(100, "expert networks", positive=True),
    "train_epochs": Option(50, "epochs of an expert", positive=True),
    "expert_lr": Option(0.01, "learning rate of the experts"),
    "expert_batch": Option(256, "batch size of the experts", positive=True),
    "expert_momentum": Option(0.0, "momentum of the experts"),
    "expert_l2": Option(0.0, "weight decay of the experts"),
    "expert_dsa_strategy": Option(AUGMENTATIONS, "augmentations of the experts, joined by _", words=_WORDS),
    "expert_seed": Option(0, "the same seed gives the same experts, whatever the seed of the run"),
}
_FLAT_OPTIONS = {
    "train_epochs": Option(100, "epochs of an expert", positive=True),
    "rho_max": Option(0.01, "how far the experts' flatness is probed, at most"),
    "rho_min": Option(0.01, "how far the experts' flatness is probed, at least"),
    "alpha": Option(0.3, "weight of the experts' surrogate gap"),
}
_FLAGS = {
    "expert_lr": "lr_teacher",
    "expert_batch": "batch_train",
    "expert_momentum": "mom",
    "expert_l2": "l2",
    "expert_dsa_strategy": "dsa_strategy",
}
ADVICE = {
    "diverged": "Lower the learning rate of the images (--set lr_img=...), that of the learned rate (--set lr_lr=...) "
    "or the weight (--weight).",
    "memory": "Lower --set batch_syn=..., --set syn_steps=..., --ipc, or take a narrower network (--model ConvNetW64).",
}


def _experts_argv(job: Job) -> list[str]:
    """The buffer scripts' command line. They save each expert when it is trained, so that no more is lost."""
    fixed: dict[str, Value] = {
        "dataset": job.slot.name,
        "model": job.model,
        "save_interval": 1,
        "data_path": "data",
        "buffer_path": ".",
    }
    chosen = {_FLAGS.get(name, name): value for name, value in job.experts.items() if name != "expert_seed"}
    return [*flags(fixed | chosen), *_whitened(job)]


def experts_files(job: Job) -> int:
    """As few files as hold all experts evenly, at most ten in each."""
    count = int(job.experts["num_experts"])
    return count // max(size for size in range(1, 11) if count % size == 0)


def _place(job: Job) -> str:
    plain = "_NO_ZCA" if job.slot.name.startswith("CIFAR") and not job.options["zca"] else ""
    return f"{job.slot.name}{plain}/{job.model}"


_EXPERTS_ADVICE = {
    "diverged": "Lower the experts' learning rate: --set expert_lr=...",
    "memory": "Lower --set expert_batch=..., or take a smaller network (--model).",
}
SGD = Experts(
    kind="sgd",
    method="mtt",
    script="buffer.py",
    options=_EXPERT_OPTIONS,
    argv=_experts_argv,
    place=_place,
    files=experts_files,
    passes=1,
    advice=_EXPERTS_ADVICE,
)
"""Plain SGD; for MTT and TESLA."""
FLAT = Experts(
    kind="flat",
    method="ftd",
    script="buffer/buffer_FTD.py",
    options=_EXPERT_OPTIONS | _FLAT_OPTIONS,
    argv=_experts_argv,
    place=_place,
    files=experts_files,
    passes=3,
    advice=_EXPERTS_ADVICE,
)
"""SGD towards flat minima (GSAM); for FTD and DATM."""


def refuse(job: Job) -> str | None:
    """A match must end within an expert; wide networks are built for 32x32 images whatever the dataset."""
    last = int(job.options["max_start_epoch"]) - 1 + int(job.options["expert_epochs"])
    if int(job.options["max_start_epoch"]) < 1:
        return "max_start_epoch is at least 1"
    if last > int(job.experts["train_epochs"]):
        return (
            f"it would match up to epoch {last} of an expert (max_start_epoch - 1 + expert_epochs), "
            f"and experts have {job.experts['train_epochs']} (train_epochs)"
        )
    if job.slot.size > 32 and job.model in WIDE:
        return f"its {job.model} takes 32x32 images only, not {job.slot.size}x{job.slot.size}"
    return None


def argv(job: Job, **more: Value) -> list[str]:
    """The options that MTT, FTD and TESLA take. They evaluate nothing: that comes after, the same for all."""
    fixed: dict[str, Value] = {
        "dataset": job.slot.name,
        "model": job.model,
        "ipc": job.ipc,
        "num_eval": 0,
        "eval_it": steps(job),
        "data_path": "data",
        "buffer_path": "buffers",
    }
    unset = {"zca"} | ({"batch_syn"} if not job.options["batch_syn"] else set())
    chosen = {name: value for name, value in job.options.items() if name not in unset}
    return [*flags(fixed | more | chosen), *_whitened(job)]


def _whitened(job: Job) -> list[str]:
    return ["--zca"] if job.options["zca"] else []


def steps(job: Job) -> int:
    """The scripts run one iteration more than asked."""
    return int(job.options["Iteration"]) + 1


def evaluation(job: Job) -> Mapping[str, Value]:
    """1000 epochs at the learned rate, under the augmentation of the distillation."""
    strategy = str(job.options["dsa_strategy"])
    return {
        "batch": job.options["batch_train"],
        "epochs": 1000,
        "augment": "" if strategy in ("none", "None") else f"dsa:{strategy}",
    }

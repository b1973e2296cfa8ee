"""What DC, DSA and DM share: they live in one repository and know the same datasets.

Facts about VICO-UoE/DatasetCondensation, of no use to an adapter of another upstream.
"""

from __future__ import annotations

from collections.abc import Mapping

from sdc.adapters.base import Job, Option, Patch, Slot, Upstream, Value, flags

UPSTREAM = Upstream(
    url="https://github.com/VICO-UoE/DatasetCondensation",
    commit="53f63a672eab9ade02aabe6432706ef56f317d64",
    licence="MIT",
)
MAIN = Patch(
    script="main.py",
    file="vico-main.patch",
    sha256="32fab7f7782eb97d4aeb91bf89fde6b74efd5ef942e596d54bdab86c699c8ee5",
    before="3d957b752a5132847101f5effa01f8053d3affc1",
    after="66d44375381ce593f9479000b6d8159ea4731988",
)
MAIN_DM = Patch(
    script="main_DM.py",
    file="vico-main_DM.patch",
    sha256="405f9080813034c2649d252c8f8d9d587acd86e84a11e59ae079e3f4873faff9",
    before="6e0439acea824714fc514496d27ded6dffa71df2",
    after="0c5ebfce926b11f17360ea22f8d6f781d1d7bfdc",
)

DATASETS = {
    "mnist": "MNIST",
    "fashionmnist": "FashionMNIST",
    "svhn": "SVHN",
    "cifar10": "CIFAR10",
    "cifar100": "CIFAR100",
    "tinyimagenet": "TinyImageNet",
}
SLOTS = (
    Slot("CIFAR10", classes=10, channels=3, size=32),
    Slot("MNIST", classes=10, channels=1, size=28),
    Slot("FashionMNIST", classes=10, channels=1, size=28),
    Slot("SVHN", classes=10, channels=3, size=32),
    Slot("CIFAR100", classes=100, channels=3, size=32),
    Slot("TinyImageNet", classes=200, channels=3, size=64),
)
CONVNETS = (
    *("ConvNet", "ConvNetD1", "ConvNetD2", "ConvNetD3", "ConvNetD4"),
    *("ConvNetW32", "ConvNetW64", "ConvNetW128", "ConvNetW256"),
)
SMALL_IMAGES_ONLY = ("MLP", "LeNet", "AlexNet", "VGG11", "ResNet18")
IPC = (1, 10, 20, 30, 40, 50)

OPTIONS = {
    "lr_img": Option(0.1, "learning rate of the synthetic images"),
    "lr_net": Option(0.01, "learning rate of networks trained on the synthetic images", positive=True),
    "batch_real": Option(256, "real images of a class compared with the synthetic ones in a step", positive=True),
    "batch_train": Option(256, "batch size of networks trained on the synthetic images", positive=True),
    "init": Option("noise", "what the synthetic images start from", choices=("noise", "real")),
}
DIS_METRIC = Option("ours", "distance between gradients", choices=("ours", "mse", "cos"))
_AUGMENTATIONS = ("color", "crop", "cutout", "flip", "scale", "rotate")
DSA_STRATEGY = Option("_".join(_AUGMENTATIONS), "augmentations, one drawn a step, joined by _", words=_AUGMENTATIONS)
ADVICE = {
    "diverged": "Lower the learning rate of the images (--set lr_img=...) or the weight (--weight).",
    "memory": "Lower --set batch_real=..., --ipc, or take a narrower network (--model ConvNetW64).",
}


def refuse(job: Job) -> str | None:
    """The scripts define their loops for six ipc only, and their other networks for 28x28 and 32x32 images only."""
    if job.ipc not in IPC:
        return f"its loops are defined for ipc {', '.join(map(str, IPC))} only, not {job.ipc}"
    if job.slot.size > 32 and job.model in SMALL_IMAGES_ONLY:
        return f"its {job.model} takes images up to 32x32, not {job.slot.size}x{job.slot.size}"
    return None


def argv(job: Job) -> list[str]:
    """The options both scripts take. The scripts evaluate nothing themselves: that comes after, the same for all."""
    fixed: dict[str, Value] = {
        "dataset": job.slot.name,
        "model": job.model,
        "ipc": job.ipc,
        "num_exp": 1,
        "num_eval": 0,
    }
    return flags(fixed | {"data_path": "result", "save_path": "result"} | dict(job.options))


def matching_steps(job: Job) -> int:
    """DC and DSA: the script runs one iteration more than asked, each with one update of the images per ipc."""
    return (int(job.options["Iteration"]) + 1) * job.ipc


def augmented_evaluation(job: Job) -> Mapping[str, Value]:
    """DSA and DM: 1000 epochs under the augmentation of the distillation."""
    strategy = str(job.options["dsa_strategy"])
    return {
        "lr": job.options["lr_net"],
        "batch": job.options["batch_train"],
        "epochs": 1000,
        "augment": "" if strategy in ("none", "None") else f"dsa:{strategy}",
    }

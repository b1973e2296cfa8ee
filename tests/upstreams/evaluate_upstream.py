"""What the true evaluator does, asked from outside: python evaluate_upstream.py TREE QUESTION IN.safetensors OUT.safetensors

Runs as a child process, with the clone first on the path. The question's numbers stand in the input's metadata.
"""

from __future__ import annotations

import hashlib
import importlib
import itertools
import json
import sys
import time
import types
import warnings
from pathlib import Path

import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

Tensors = dict[str, Tensor]


def main() -> None:
    tree, question, source, target = sys.argv[1:]
    sys.path.insert(0, tree)
    warnings.simplefilter("ignore")  # the upstream imports names that scipy and torch are about to drop
    with safe_open(source, "pt") as file:
        told = json.loads(file.metadata()["told"])
        if not told.get("wall"):
            torch.set_num_threads(1)
        given = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (safe_open is no mapping)
    utils = importlib.import_module("utils" if Path(tree, "utils.py").is_file() else "utils.utils_baseline")
    assert Path(utils.__file__).resolve().is_relative_to(Path(tree).resolve())
    answer = {"build": build, "steps": steps, "scores": scores, "timed": timed, "augment": augment}[question]
    save_file(answer(utils, given, told), target)


def freeze(utils: types.ModuleType, seed: int) -> None:
    """Stop the clock from which its networks take their seed, at the reading that gives `seed`."""
    utils.time = types.SimpleNamespace(time=lambda: (seed + 0.5) / 1000, strftime=lambda *_: "", localtime=lambda: 0)


def build(utils: types.ModuleType, given: Tensors, told: dict) -> Tensors:
    """Digest of the initial weights, and the logits, of each network."""
    answer = {}
    for name in told["models"]:
        freeze(utils, told["seed"])
        network = utils.get_network(name, given["images"].shape[1], 10, tuple(given["images"].shape[2:])).cpu()
        answer[f"{name} weights"] = digest(network)
        with torch.no_grad():
            answer[f"{name} logits"] = network(given["images"])
            answer[f"{name} logits when tested"] = network.eval()(given["images"])
    return answer


def digest(network: torch.nn.Module) -> Tensor:
    """SHA-256 of all tensors of its state in order, with their shapes."""
    state = hashlib.sha256()
    for tensor in network.state_dict().values():
        state.update(repr(list(tensor.shape)).encode() + tensor.numpy().tobytes())
    return torch.tensor(list(state.digest()), dtype=torch.uint8)


def settings(utils: types.ModuleType, told: dict) -> types.SimpleNamespace:
    dc = {**utils.get_daparam("", "", "", 0), "strategy": told.get("dc", "none")}
    return types.SimpleNamespace(
        device=told.get("device", "cpu"),
        lr_net=told["lr"],
        epoch_eval_train=told["epochs"],
        batch_train=told["batch"],
        dsa=bool(told.get("dsa")),
        dsa_strategy=told.get("dsa"),
        dsa_param=utils.ParamDiffAug(),
        dc_aug_param=dc,
        # What the scripts that match trajectories ask for besides.
        dataset="",
        teacher_label=False,
        parall_eva=True,  # elsewhere it insists on a GPU
    )


def soft_cross_entropy(logits: Tensor, targets: Tensor) -> Tensor:
    """What DATM gives its evaluator as a loss: cross entropy with the softmax of the targets, the batch's mean."""
    return -(targets.softmax(1) * logits.log_softmax(1)).sum() / len(logits)


def steps(utils: types.ModuleType, given: Tensors, told: dict) -> Tensors:
    """The weights of one network after its training, and the images' order in it."""
    order: list[int] = []
    true_item = utils.TensorDataset.__getitem__

    def noted(dataset: object, index: int) -> object:
        order.append(index)
        return true_item(dataset, index)

    freeze(utils, told["seed"])
    network = utils.get_network(told["model"], given["images"].shape[1], 10, tuple(given["images"].shape[2:]))
    nothing = [(given["images"], given["labels"])]  # the test at the end
    utils.TensorDataset.__getitem__ = noted
    soft = {"train_criterion": soft_cross_entropy} if given["labels"].is_floating_point() else {}
    nothing = [(images, labels.argmax(1) if soft else labels) for images, labels in nothing]
    network, _, _ = utils.evaluate_synset(
        0, network, given["images"], given["labels"], nothing, settings(utils, told), **soft
    )
    weights = {f"weight {i:03}": tensor for i, tensor in enumerate(network.cpu().state_dict().values())}
    return {"order": torch.tensor(order), **weights}


def scores(utils: types.ModuleType, given: Tensors, told: dict) -> Tensors:
    """The test accuracy of `networks` networks, for each protocol in `protocols`."""
    answer = {}
    for protocol, number in itertools.product(told["protocols"], range(told["networks"])):
        accuracy, _ = scored(utils, given, told | told["protocols"][protocol], number)
        answer.setdefault(protocol, []).append(accuracy)
    return {protocol: torch.tensor(accuracies, dtype=torch.float64) for protocol, accuracies in answer.items()}


def timed(utils: types.ModuleType, given: Tensors, told: dict) -> Tensors:
    """The test accuracies of `networks` networks and the seconds that each took; a CPU's are those of this process unless by the wall."""
    answers = [scored(utils, given, told, number) for number in range(told["networks"])]
    accuracies, seconds = torch.tensor(answers, dtype=torch.float64).T
    return {"accuracy": accuracies.clone(), "seconds": seconds.clone()}


def scored(utils: types.ModuleType, given: Tensors, told: dict, number: int) -> tuple[float, float]:
    """The test accuracy of one network, and the seconds that its training and test took."""
    real = torch.utils.data.TensorDataset(given["test_images"], given["test_labels"])
    loader = torch.utils.data.DataLoader(real, batch_size=256)
    freeze(utils, told["seed"] + number)
    np.random.seed(told["seed"] + number)
    options = settings(utils, told)
    clock = time.process_time if options.device == "cpu" and not told.get("wall") else time.perf_counter
    began = clock()
    network = utils.get_network(told["model"], given["images"].shape[1], 10, tuple(given["images"].shape[2:]))
    _, _, accuracy = utils.evaluate_synset(0, network, given["images"], given["labels"], loader, options)
    return float(accuracy), clock() - began


def augment(utils: types.ModuleType, given: Tensors, told: dict) -> Tensors:
    """`times` augmentations of the images by each of the `specs`, as [times,N,C,H,W]."""
    torch.manual_seed(told["seed"])
    np.random.seed(told["seed"])
    answer = {}
    for spec in told["specs"]:
        family, _, strategies = spec.partition(":")
        options = settings(utils, told | {family: strategies})

        def change(images: Tensor, options: types.SimpleNamespace = options) -> Tensor:
            if options.dsa:
                return utils.DiffAugment(images, options.dsa_strategy, param=options.dsa_param)
            return utils.augment(images, options.dc_aug_param, device="cpu")

        answer[spec] = torch.stack([change(given["images"].clone()) for _ in range(told["times"])])
    return answer


if __name__ == "__main__":
    main()

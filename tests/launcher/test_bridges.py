"""What a script sees through the bridges: device, layout, clock and seeds, data, and the stand-in for wandb.

One script asks all of it and writes down what it saw. It runs three times: on RGB images that are split by name, on
grey images with the same seed, and with the next seed on Tiny ImageNet's file.
"""

from __future__ import annotations

import json
from collections import Counter
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor
from torchvision import transforms

from tests.launcher.conftest import CLASSES, Child, Launch, served

NEIGHBOUR = "import time\n\n\ndef reading():\n    return time.time()\n"
SCRIPT = """\
import argparse
import json
import os
import random
import sys
import time

import numpy as np
import torch
import torchvision
import wandb
from PIL import Image
from safetensors.torch import save_file
from torch import nn
from torchvision import transforms

parser = argparse.ArgumentParser()
parser.add_argument("slot")
parser.add_argument("--elsewhere")
args = parser.parse_args()
found, tensors = {"argv": sys.argv, "name": __name__}, {}

# clock and seeds
import inside
sys.path.append(args.elsewhere)
import outside

found["readings"] = [int(time.time() * 1000) % 100000 for _ in range(200)]
found["inside"], found["outside"] = inside.reading(), outside.reading()
found["draws"] = {
    "random": [random.random() for _ in range(4)],
    "numpy": np.random.rand(4).tolist(),
    "torch": torch.rand(4).tolist(),
    "module": nn.Linear(2, 2).weight.flatten().tolist(),
}

# device
x = torch.arange(4.0)
cuda = torch.device("cuda")
made = {
    "x.cuda()": x.cuda(),
    "x.cuda(0)": x.cuda(0),
    'x.to("cuda:0")': x.to("cuda:0"),
    "x.to(device)": x.to(cuda),
    "x.to(device=device)": x.to(device=torch.device("cuda:0"), dtype=torch.float64),
    'zeros(device="cuda")': torch.zeros(2, device="cuda"),
    "randn(device=device)": torch.randn(2, device=cuda),
    "tensor(device='cuda:1')": torch.tensor([1.0], device="cuda:1"),
    "Linear.cuda()": nn.Linear(4, 2).cuda()(x),
    "Linear.to(device)": nn.Sequential(nn.Linear(4, 2)).to(cuda)(x),
    "Linear(device)": nn.Linear(4, 2, device="cuda")(x),
}
found["devices"] = {call: tensor.device.type for call, tensor in made.items()}
tensors["to"], tensors["cuda"] = x.to("cuda:0").clone(), x.cuda().clone()
stored = x.detach().cpu()
x += 10
tensors["stored"] = stored
leaf = torch.ones(3, requires_grad=True)
(leaf.cuda() * torch.tensor([1.0, 2.0, 3.0], device="cuda")).sum().cpu().backward()
tensors["gradient"] = leaf.grad
overlap = torch.arange(6.0).view(3, 2)
overlap[:] = overlap[2]
tensors["overlap"] = overlap
single = torch.full((1, 1, 1, 1), 3.0)
single[:] = single[0]
tensors["single"] = single
chain = torch.arange(5.0)
chain[1:] = chain[:-1]
tensors["chain"] = chain
chosen = torch.zeros(4)
chosen[[1, 3]] = torch.tensor([5.0, 6.0])
chosen[0] = 2
tensors["chosen"] = chosen

# layout
across = torch.arange(6.0, requires_grad=True)
turned = across.view(2, 3).t()
tensors["flat"], tensors["pairs"], tensors["given"] = turned.view(6), turned.view(-1, 2), turned.view((1, 6))
(turned.view(6) * torch.arange(6.0)).sum().backward()
tensors["across"] = across.grad
found["refused"] = []
for tensor in (turned, torch.arange(6.0)):
    try:
        tensor.view(7)
    except RuntimeError as error:
        found["refused"].append(str(error))
whole = torch.zeros(2, 3)
whole.view(6)[4] = 1
tensors["whole"] = whole
tensors["bits"] = torch.ones(2).view(torch.int32)

# recorder
found["names"] = []
for config in ({"lr": 0.1, "zca": False}, argparse.Namespace(lr=0.2, model="ConvNet")):
    wandb.init(sync_tensorboard=False, project="p", job_type="CleanRepo", config=config)
    found["names"].append(wandb.run.name)
    found.setdefault("configs", []).append(dict(wandb.config._items))
pictures = {"Images": wandb.Image(torch.zeros(1, 3, 4, 4)), "Pixels": wandb.Histogram(torch.zeros(4))}
numbers = {"Loss": torch.tensor(1.5), "Rate": torch.tensor([0.25], requires_grad=True), "Count": 3}
arrays = {"Accuracy": np.float32(0.5), "Grid": torch.zeros(2, 2), "Row": np.zeros(3)}
endless = {"NaN": float("nan"), "Infinity": torch.tensor(float("inf"))}
wandb.log({**pictures, **numbers, **arrays, **endless, "Name": "17", "Nothing": None}, step=4)
wandb.log({"Images": wandb.Image(torch.zeros(1, 3, 4, 4))}, step=5)
wandb.log({"Last": 1}, step=6)
wandb.finish()


# data
def view():
    return json.load(open("view.json"))


def stack(dataset):
    return torch.stack([dataset[index][0] for index in range(len(dataset))])


def check_class(parts):
    channels = 1 if args.slot == "MNIST" else 3
    normalize = transforms.Normalize(mean=[0.4914, 0.4822, 0.4465][:channels], std=[0.2023, 0.1994, 0.2010][:channels])
    usual = transforms.Compose([transforms.ToTensor(), normalize])
    dataset = getattr(torchvision.datasets, args.slot)
    for part, options in parts.items():
        data = dataset("nowhere", download=True, transform=usual, **options)
        tensors[f"usual/{part}"] = stack(data)
        found[part] = {"classes": data.classes, "targets": list(data.targets), "items": [label for _, label in data]}
    found["view"] = view()
    batches = torch.utils.data.DataLoader(data, batch_size=2, shuffle=False)
    tensors["batch"], tensors["batch labels"] = [part.clone() for part in list(batches)[1]]
    scaled = dataset("nowhere", transform=transforms.Compose([transforms.ToTensor()]), **options)
    tensors["scaled"], found["scaled view"] = stack(scaled), view()
    small = transforms.Compose([transforms.Resize(8), transforms.ToTensor(), normalize])
    tensors["small"] = stack(dataset("nowhere", transform=small, **options))
    torch.manual_seed(11)
    crop = transforms.Compose([transforms.RandomCrop(16, padding=4), transforms.ToTensor()])
    cropped = dataset("nowhere", transform=crop, **options)
    tensors["cropped"], tensors["cropped again"] = stack(cropped), stack(cropped)
    picture, label = dataset("nowhere", **options)[1]
    picture.save("picture.png")
    found["picture"] = [isinstance(picture, Image.Image), label]


def check_file():
    data = torch.load(os.path.join("nowhere", "tinyimagenet.pt"), map_location="cpu")
    found["keys"], found["classes"], found["view"] = sorted(data), data["classes"], view()
    tensors.update({name: tensor for name, tensor in data.items() if name != "classes"})
    torch.save({"mine": torch.arange(3), "step": 9}, "other.pt")
    other = torch.load("other.pt", weights_only=True)
    found["other"] = [other["mine"].tolist(), other["step"], sorted(other)]


if args.slot == "TinyImageNet":
    check_file()
elif args.slot == "SVHN":
    check_class({"train": {"split": "train"}, "test": {"split": "test"}})
else:
    check_class({"train": {"train": True}, "test": {"train": False}})

# whatever is distilled
images = torch.zeros(3, 3, 4, 4, requires_grad=True)
images.sum().backward()
torch.optim.SGD([images], lr=1.0).step()
save_file({name: tensor.detach().contiguous().clone() for name, tensor in tensors.items()}, "found.safetensors")
json.dump(found, open("found.json", "w"))
"""


def _launched(launch: Launch, name: str, **how: Any) -> Child:
    child = launch(name, SCRIPT, beside={"tree/inside.py": NEIGHBOUR, "elsewhere/outside.py": NEIGHBOUR}, **how)
    assert child.code == 0, child.said
    return child


@pytest.fixture
def rgb(launch: Launch) -> Child:
    return _launched(launch, "rgb", seed=7, slot="SVHN", channels=3)


@pytest.fixture
def grey(launch: Launch) -> Child:
    return _launched(launch, "grey", seed=7, slot="MNIST", channels=1)


@pytest.fixture
def file(launch: Launch) -> Child:
    return _launched(launch, "file", seed=8, slot="TinyImageNet", channels=3)


@pytest.fixture(params=["rgb", "grey"])
def classed(request: pytest.FixtureRequest) -> Child:
    """The children that were served a dataset class."""
    child: Child = request.getfixturevalue(request.param)
    return child


def channels(child: Child) -> int:
    return 1 if child.job.slot == "MNIST" else 3


def picture(image: Tensor) -> Image.Image:
    """uint8 [C, H, W] as the PIL image that torchvision's own datasets hand to a transform."""
    return Image.fromarray(image.numpy().transpose(1, 2, 0).squeeze())


def one_by_one(images: Tensor, *steps: Any) -> Tensor:
    """What torchvision makes of the images, each on its own, from PIL."""
    transform = transforms.Compose(steps)
    return torch.stack([transform(picture(image)) for image in images])


def normalize(child: Child) -> transforms.Normalize:
    mean, std = [0.4914, 0.4822, 0.4465], [0.2023, 0.1994, 0.2010]
    return transforms.Normalize(mean=mean[: channels(child)], std=std[: channels(child)])


def test_a_script_runs_as_main_with_its_own_arguments(rgb: Child) -> None:
    assert rgb.found["name"] == "__main__"
    assert rgb.found["argv"] == [rgb.job.script, *rgb.job.argv]


def test_every_way_to_a_cuda_device_leads_to_the_cpu(rgb: Child) -> None:
    devices = rgb.found["devices"]

    assert len(devices) == 11
    assert {call: device for call, device in devices.items() if device != "cpu"} == {}
    assert rgb.tensors["to"].tolist() == rgb.tensors["cuda"].tolist() == [0, 1, 2, 3]


def test_a_gradient_passes_from_cuda_to_the_leaf(rgb: Child) -> None:
    assert rgb.tensors["gradient"].tolist() == [1, 2, 3]


def test_what_a_script_stores_with_cpu_no_longer_moves(rgb: Child) -> None:
    live = torch.arange(4.0)
    assert live.detach().cpu().data_ptr() == live.data_ptr(), "torch alone makes no copy"

    assert rgb.tensors["stored"].tolist() == [0, 1, 2, 3]


def test_a_tensor_is_assigned_a_part_of_itself_as_it_was(rgb: Child) -> None:
    single, chain = torch.full((1, 1, 1, 1), 3.0), torch.arange(5.0)
    with pytest.raises(RuntimeError, match="single memory location"):
        single[:] = single[0]
    with pytest.raises(RuntimeError, match="single memory location"):
        chain[1:] = chain[:-1]

    assert rgb.tensors["single"].tolist() == [[[[3]]]]
    assert rgb.tensors["overlap"].tolist() == [[4, 5]] * 3
    assert rgb.tensors["chain"].tolist() == [0, 0, 1, 2, 3]
    assert rgb.tensors["chosen"].tolist() == [2, 5, 0, 6]


def test_a_view_that_the_strides_refuse_has_the_values_and_gradient_of_reshape(rgb: Child) -> None:
    with pytest.raises(RuntimeError, match="reshape"):
        torch.arange(6.0).view(2, 3).t().view(6)

    assert rgb.tensors["flat"].tolist() == [0, 3, 1, 4, 2, 5]
    assert rgb.tensors["pairs"].tolist() == [[0, 3], [1, 4], [2, 5]]
    assert rgb.tensors["given"].tolist() == [[0, 3, 1, 4, 2, 5]]
    # Element i of `across` is at place 2i of the flat one if i < 3, else at 2i - 5, and is multiplied by its place.
    assert rgb.tensors["across"].tolist() == [0, 2, 4, 1, 3, 5]


def test_a_view_of_the_wrong_number_of_elements_is_still_refused(rgb: Child) -> None:
    assert len(rgb.found["refused"]) == 2
    assert all("invalid for input of size 6" in message for message in rgb.found["refused"])


def test_a_view_that_torch_allows_is_still_a_view(rgb: Child) -> None:
    assert rgb.tensors["whole"].tolist() == [[0, 0, 0], [0, 1, 0]]
    assert rgb.tensors["bits"].tolist() == [0x3F800000] * 2  # 1.0 in IEEE 754


def test_the_same_seed_gives_the_same_readings_and_draws(rgb: Child, grey: Child) -> None:
    for what in ("readings", "inside", "draws"):
        assert rgb.found[what] == grey.found[what]


def test_the_next_seed_gives_other_draws_from_every_source(rgb: Child, file: Child) -> None:
    for source, drawn in rgb.found["draws"].items():
        assert not set(drawn) & set(file.found["draws"][source]), source


def test_the_readings_of_neighbouring_seeds_are_neither_equal_nor_shifted(rgb: Child, file: Child) -> None:
    one, next_one = rgb.found["readings"], file.found["readings"]

    # 200 draws among 100000 differ almost all; 40000 pairs have each of 100000 differences 0.4 times on average. A
    # clock that ticks evenly, or that only begins elsewhere with another seed, has one difference a hundred times.
    assert len(one) == len(next_one) == 200
    assert min(len(set(one)), len(set(next_one))) >= 195
    assert len(set(one) & set(next_one)) <= 5
    across = Counter((a - b) % 100000 for a in one for b in next_one)
    within = Counter((b - a) % 100000 for a, b in pairwise(one))
    assert max(across.values()) <= 8
    assert max(within.values()) <= 3


def test_the_readings_cover_the_range_that_seeds_are_taken_from(rgb: Child) -> None:
    tenths = {reading // 10000 for reading in rgb.found["readings"]}

    assert tenths == set(range(10))


def test_only_modules_in_the_folder_of_the_script_see_another_time(rgb: Child) -> None:
    began, over = rgb.ended["began"], rgb.ended["over"]

    assert began <= rgb.found["outside"] <= over
    assert not began - 86400 <= rgb.found["inside"] <= over + 86400


@pytest.mark.parametrize("part", ["train", "test"])
def test_images_have_the_bits_of_torchvisions_own_transform_one_by_one(classed: Child, part: str) -> None:
    images = served(channels(classed))[f"{part}_images"]

    shown = classed.tensors[f"usual/{part}"]

    assert len(set(images[0, 0].flatten().tolist())) == 256
    assert shown.equal(one_by_one(images, transforms.ToTensor(), normalize(classed)))


def test_images_scaled_only_have_the_bits_of_torchvisions_own(classed: Child) -> None:
    images = served(channels(classed))["test_images"]

    assert classed.tensors["scaled"].equal(one_by_one(images, transforms.ToTensor()))


def test_a_loader_gives_the_same_images_and_labels(classed: Child) -> None:
    assert classed.tensors["batch"].equal(classed.tensors["usual/test"][2:])
    assert classed.tensors["batch labels"].tolist() == [0]


def test_another_transform_is_applied_image_by_image(classed: Child) -> None:
    images = served(channels(classed))["test_images"]
    resized = one_by_one(images, transforms.Resize(8), transforms.ToTensor(), normalize(classed))
    with torch.random.fork_rng():
        torch.manual_seed(11)
        crop = (transforms.RandomCrop(16, padding=4), transforms.ToTensor())
        cropped = [one_by_one(images, *crop), one_by_one(images, *crop)]

    assert classed.tensors["small"].shape == (3, channels(classed), 8, 8)
    assert classed.tensors["small"].equal(resized)
    assert classed.tensors["cropped"].equal(cropped[0])
    assert classed.tensors["cropped again"].equal(cropped[1])
    assert not cropped[0].equal(cropped[1])


def test_without_a_transform_an_image_is_a_picture(classed: Child) -> None:
    image = served(channels(classed))["test_images"][1]

    assert classed.found["picture"] == [True, 2]
    with Image.open(classed.work / "picture.png") as saved:
        assert saved.mode == ("L" if channels(classed) == 1 else "RGB")
        assert np.array_equal(np.asarray(saved), np.asarray(picture(image)))


def test_parts_are_chosen_by_name_or_flag_and_have_classes_and_targets(classed: Child) -> None:
    for part, labels in (("train", [2, 0, 1, 1, 0, 2]), ("test", [1, 2, 0])):
        assert classed.found[part] == {"classes": list(CLASSES), "targets": labels, "items": labels}


def test_the_view_tells_how_the_script_is_shown_the_images(rgb: Child, grey: Child) -> None:
    mean, std = [0.4914, 0.4822, 0.4465], [0.2023, 0.1994, 0.2010]

    assert rgb.found["view"] == {"channels": 3, "size": 16, "mean": mean, "std": std}
    assert grey.found["view"] == {"channels": 1, "size": 16, "mean": mean[:1], "std": std[:1]}
    assert rgb.found["scaled view"] == {"channels": 3, "size": 16, "mean": [0, 0, 0], "std": [1, 1, 1]}
    assert grey.found["scaled view"] == {"channels": 1, "size": 16, "mean": [0], "std": [1]}


def test_the_file_of_tiny_imagenet_is_served_as_scripts_know_it(file: Child) -> None:
    data = served(3)

    assert file.found["keys"] == ["classes", "images_train", "images_val", "labels_train", "labels_val"]
    assert file.found["classes"] == list(CLASSES)
    for theirs, ours in (("train", "train"), ("val", "test")):
        for what in ("images", "labels"):
            loaded = file.tensors[f"{what}_{theirs}"]
            assert loaded.dtype == data[f"{ours}_{what}"].dtype
            assert loaded.equal(data[f"{ours}_{what}"])
    imagenet = {"mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]}
    assert file.found["view"] == {"channels": 3, "size": 16, **imagenet}


def test_any_other_file_is_loaded_as_it_is(file: Child) -> None:
    assert file.found["other"] == [[0, 1, 2], 9, ["mine", "step"]]


def test_options_travel_through_the_stand_in_for_wandb(rgb: Child) -> None:
    assert rgb.found["configs"] == [{"lr": 0.1, "zca": False}, {"lr": 0.2, "model": "ConvNet"}]
    assert all(isinstance(name, str) and name and Path(name).name == name for name in rgb.found["names"])


def test_numbers_that_a_script_logs_reach_the_metrics_and_nothing_else_does(rgb: Child) -> None:
    first, second = ({**line} for line in rgb.lines("logged"))

    assert all(line.pop("seconds") >= 0 for line in (first, second))
    numbers = {"Loss": 1.5, "Rate": 0.25, "Count": 3, "Accuracy": 0.5}
    assert first == {"kind": "logged", **numbers, "NaN": None, "Infinity": None}
    assert second == {"kind": "logged", "Last": 1}


def test_every_line_of_the_metrics_is_strict_json(rgb: Child) -> None:
    text = Path(rgb.job.metrics).read_text()

    assert text.endswith("\n")
    assert [json.loads(line)["kind"] for line in text.splitlines()] == ["logged", "logged", "step", "end"]
    assert "NaN" not in text.replace('"NaN"', "")


ONE_STEP = """
images = __import__("torch").zeros(1, 3, 8, 8, requires_grad=True)
optimizer = __import__("torch").optim.SGD([images], lr=1.0)
images.sum().backward()
optimizer.step()
"""
TINY = (
    """\
import json
import numpy as np
import torch
from torchvision import datasets, transforms

usual = transforms.Compose([transforms.ToTensor(), transforms.Normalize([0.5] * 3, [0.25] * 3)])
train = datasets.ImageFolder("data/train", transform=usual)
test = datasets.ImageFolder("data/val/images", transform=usual)
members = np.load("indices/tiny_indices_class.npy", allow_pickle=True)
found = {
    "classes": train.classes,
    "train": [train[i][1] for i in range(len(train))],
    "test": [test[i][1] for i in range(len(test))],
    "members": [list(of_class) for of_class in members],
}
json.dump(found, open("found.json", "w"))
"""
    + ONE_STEP
)


def test_tiny_imagenet_is_served_as_two_folders_with_the_members_of_each_class(launch: Launch) -> None:
    child = launch("tiny-folder", TINY, slot="Tiny")

    assert child.code == 0, child.said
    assert child.found["train"] == [2, 0, 1, 1, 0, 2]
    assert child.found["test"] == [1, 2, 0]
    assert child.found["members"] == [[1, 4], [2, 3], [0, 5]]
    assert len(child.found["classes"]) == 3


def test_a_script_is_shown_as_many_test_images_of_a_class_as_it_may_see(launch: Launch) -> None:
    from safetensors.torch import load_file, save_file

    from tests.launcher.conftest import served

    asked = (
        """\
import json
from torchvision import datasets
test, train = datasets.CIFAR10("nowhere", train=False), datasets.CIFAR10("nowhere", train=True)
json.dump({"test": test.targets, "train": len(train)}, open("found.json", "w"))
"""
        + ONE_STEP
    )
    child = launch("few-tests", "", test_per_class=1)
    many = served(3)
    many |= {f"test_{part}": many[f"train_{part}"].clone() for part in ("images", "labels")}
    save_file(many, child.folder / "data.safetensors")
    assert load_file(child.folder / "data.safetensors")["test_labels"].tolist() == [2, 0, 1, 1, 0, 2]
    (child.folder / "tree" / "script.py").write_text(asked)
    _, said = child.start().communicate()

    assert child.found == {"test": [2, 0, 1], "train": 6}, said


SEEDING = (
    """\
import json, random
import numpy as np
random.seed(0)
np.random.seed(0)
json.dump({"python": random.random(), "numpy": np.random.rand()}, open("found.json", "w"))
"""
    + ONE_STEP
)


def test_a_script_that_always_seeds_with_the_same_number_follows_the_runs_seed_all_the_same(launch: Launch) -> None:
    children = [launch(f"seeding{n}", SEEDING, seed=seed) for n, seed in enumerate((0, 0, 1))]

    first, again, other = [child.found for child in children]
    assert first == again
    assert first["python"] != other["python"]
    assert first["numpy"] != other["numpy"]

"""What a script does not use of torch and torchvision is not loaded; whatever it asks for is there."""

from __future__ import annotations

import pytest

from tests.launcher.conftest import Launch

SCRIPT = """\
import json
import os
import sys

import torch
import torchvision
from torchvision import transforms


def trained():
    weights = torch.ones(2, 3, requires_grad=True)
    optimizer = torch.optim.SGD([weights], lr=0.1, momentum=0.5)
    for _ in range(3):
        optimizer.zero_grad()
        weights.square().sum().backward()
        optimizer.step()
    optimizer.load_state_dict(optimizer.state_dict())
    return weights.detach().tolist()


def loaded():
    return sorted({"torch._dynamo.eval_frame", "torchvision.models.resnet", "torchvision.ops.boxes"} & set(sys.modules))


def config():
    import torch._dynamo.config as config
    assert config is torch._dynamo.config is sys.modules["torch._dynamo.config"]


def compiled():
    twice = torch.compile(lambda values: values * 2, backend="eager")
    assert twice(torch.ones(2)).tolist() == [2, 2]
    assert sys.modules["torch._dynamo"] is torch._dynamo
    assert torch.compiler.is_compiling() is False


def network():
    from torchvision.models.resnet import resnet18
    assert resnet18 is torchvision.models.resnet18
    assert resnet18().eval()(torch.ones(1, 3, 32, 32)).shape == (1, 1000)


def operators():
    from torchvision.transforms import v2
    from torchvision.ops.boxes import box_iou
    assert box_iou is torchvision.ops.box_iou
    assert torchvision.ops.nms(torch.tensor([[0.0, 0.0, 1.0, 1.0]]), torch.ones(1), 0.5).tolist() == [0]


before = trained()
found = {"before": before, "unused": loaded(), "after": {}, "used": {}}
for use in (config, compiled, network, operators):
    out, into = os.pipe()
    if not os.fork():  # each is the first to ask
        use()
        os.write(into, json.dumps([trained(), loaded()]).encode())
        os._exit(0)
    os.close(into)
    with open(out) as file:
        found["after"][use.__name__], found["used"][use.__name__] = json.load(file)
json.dump(found, open("found.json", "w"))
images = torch.zeros(3, 3, 16, 16, requires_grad=True)
images.sum().backward()
torch.optim.SGD([images], lr=0.1).step()
"""


def test_a_script_that_trains_loads_neither_the_compiler_nor_torchvisions_networks(launch: Launch) -> None:
    child = launch("light", SCRIPT)

    assert child.code == 0, child.said
    assert child.found["unused"] == []


@pytest.mark.parametrize(
    ("use", "asked"),
    [
        ("config", "torch._dynamo.eval_frame"),
        ("compiled", "torch._dynamo.eval_frame"),
        ("network", "torchvision.models.resnet"),
        ("operators", "torchvision.ops.boxes"),
    ],
)
def test_one_that_asks_for_them_has_them_and_trains_to_the_same_bits(use: str, asked: str, launch: Launch) -> None:
    child = launch("light", SCRIPT)

    assert child.code == 0, child.said
    assert asked in child.found["used"][use]
    assert child.found["after"][use] == child.found["before"]

"""What a script's process is told of its device: which GPU, how it rounds, what its new tensors hold."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from sdc.distillation import process
from sdc.ground import paths
from sdc.launcher.job import Job
from tests.launcher.conftest import Child, Launch

SCRIPT = """
import json, os, torch
one = torch.randn(1, 1, 1, 1)
one[:] = one[0]
rows = torch.arange(6.0).view(2, 3)
rows[:] = rows[1]
os.environ["CUDA_VISIBLE_DEVICES"] = "0"  # as DATM's does
found = {
    "one": list(one.shape),
    "rows": rows.tolist(),
    "tf32": [torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32],
    "filled": torch.utils.deterministic.fill_uninitialized_memory,
    "repeatable": torch.are_deterministic_algorithms_enabled(),
    "gpus": [torch.cuda.is_available(), torch.cuda.device_count()],
}
json.dump(found, open("found.json", "w"))
images = torch.zeros(3, 3, 16, 16, requires_grad=True)
optimizer = torch.optim.SGD([images], lr=1.0)
(images - 1).square().mean().backward()
optimizer.step()
"""
DEFAULT = [torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32]


@pytest.fixture
def found(launch: Launch) -> Child:
    child = launch("device", SCRIPT)
    assert child.code == 0, child.said
    return child


def test_what_is_assigned_is_read_before_it_is_written(found: Child) -> None:
    one = torch.randn(1, 1, 1, 1)  # what the upstreams' augmentation draws for a batch of one image
    with pytest.raises(RuntimeError, match="refer to a single memory location"):  # on every device, without the help
        one[:] = one[0]
    assert found.found["one"] == [1, 1, 1, 1]
    assert found.found["rows"] == [[3, 4, 5]] * 2


def test_a_script_on_the_cpu_sees_no_gpu_whatever_variable_it_sets(found: Child) -> None:
    assert found.found["gpus"] == [False, 0]


def test_kernels_repeat_and_new_tensors_are_not_filled(found: Child) -> None:
    assert found.found["repeatable"] is True
    assert found.found["filled"] is False


def test_gradients_that_are_subtracted_are_not_rounded_to_tf32(found: Child, launch: Launch) -> None:
    assert found.found["tf32"] == DEFAULT == [False, True]
    exact = launch("exact", SCRIPT, makes="gradients", updates=1)
    assert exact.found["tf32"] == [False, False]


@pytest.mark.parametrize(
    ("visible", "gpus", "expected"),
    [(None, 1, "0"), ("3,5", 1, "3"), ("3,5", 2, "3,5"), ("GPU-a1,GPU-b2", 1, "GPU-a1"), ("", 1, ""), (None, 2, "0,1")],
)
def test_a_script_sees_one_of_the_gpus_that_its_parent_sees(
    visible: str | None, gpus: int, expected: str, found: Child, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    told = process.environment(_on(found.job, "cuda", gpus))
    assert told["CUDA_VISIBLE_DEVICES"] == expected
    hidden = process.environment(_on(found.job, "cpu", gpus))
    assert (hidden["CUDA_VISIBLE_DEVICES"], hidden["HIP_VISIBLE_DEVICES"]) == ("", "-1")


def _on(job: Job, device: str, gpus: int) -> Job:
    return Job(**{**vars(job), "device": device, "gpus": gpus})


def test_memory_that_a_parent_keeps_for_later_is_given_back_before_a_script_starts(tmp_path: Path) -> None:
    code = """
import json, torch
from sdc.distillation import process
from sdc.ground import hardware
told = []
torch.cuda.empty_cache = lambda: told.append("emptied")
torch.cuda.init()
process.subprocess.Popen = lambda *words, **more: told.append("started") or 1 / 0
from pathlib import Path
from sdc.ground.watch import Quiet
from sdc.launcher.job import Job
here = Path.cwd()
job = Job("s.py", (), 0, "cuda", "CIFAR10", "", (), "", "", str(here / "metrics.jsonl"), "", 1, "")
try:
    process.launch(job, here, here / "log.txt", Quiet(), {})
except ZeroDivisionError:
    print(json.dumps(told))
"""
    environment = os.environ | {"PYTHONPATH": str(paths.ROOT / "tests" / "site"), "SDC_TEST_CUDA": "1"}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == ["emptied", "started"]

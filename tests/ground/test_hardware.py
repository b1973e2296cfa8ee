"""The device that is chosen, what is said of it, and which GPUs a process is shown."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from sdc.ground import hardware
from sdc.ground.errors import FatalError

INSTALL = (
    "Install a torch that fits your driver: pip install --force-reinstall torch torchvision -i INDEX, with the one "
    "that pytorch.org names for it (for CUDA 12.6, say)"
)


@pytest.fixture(autouse=True)
def _bare(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine without a GPU and without a sign of one, and a user who asked for nothing."""
    for name in (hardware.VARIABLE, *hardware.VISIBLE):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(hardware, "_FILES", ())
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    built(monkeypatch, cuda="13.0")


def built(monkeypatch: pytest.MonkeyPatch, cuda: str | None = None, hip: str | None = None) -> None:
    """Let torch be one that was built for this."""
    monkeypatch.setattr(torch.version, "cuda", cuda)
    monkeypatch.setattr(torch.version, "hip", hip)


@pytest.fixture
def driver(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    """`driver("nvidia0")`: let the machine have the files of these drivers; the path of the first."""

    def leave(*names: str) -> str:
        for name in names:
            (tmp_path / name).touch()
        monkeypatch.setattr(hardware, "_FILES", tuple(str(tmp_path / name) for name in ("absent", *names)))
        return str(tmp_path / names[0])

    return leave


@pytest.mark.parametrize(
    ("asked", "there", "taken"),
    [
        (None, True, "cuda"),
        (None, False, "cpu"),
        ("", True, "cuda"),
        ("auto", True, "cuda"),
        ("auto", False, "cpu"),
        ("cpu", True, "cpu"),
        ("cpu", False, "cpu"),
        ("cuda", True, "cuda"),
    ],
)
def test_the_variable_chooses_among_what_is_there(
    asked: str | None, there: bool, taken: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if asked is not None:
        monkeypatch.setenv("SDC_DEVICE", asked)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: there)
    assert hardware.device() == taken


def test_a_gpu_that_is_asked_for_must_be_there(monkeypatch: pytest.MonkeyPatch, driver: Callable[..., str]) -> None:
    monkeypatch.setenv("SDC_DEVICE", "cuda")
    with pytest.raises(FatalError, match=r"^--device cuda: torch sees no GPU\. Without one: --device cpu$"):
        hardware.device()
    file = driver("nvidia0")
    built(monkeypatch)
    with pytest.raises(
        FatalError, match=rf"sees no GPU\. {re.escape(file)} is there, but this torch was built for CPUs"
    ):
        hardware.device()


@pytest.mark.parametrize("word", ["gpu", "CUDA", "cuda:1", "mps"])
def test_another_word_is_refused_with_those_that_there_are(word: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SDC_DEVICE", word)
    with pytest.raises(FatalError, match=f"^SDC_DEVICE={word}: give one of auto, cuda, cpu$"):
        hardware.device()


def test_nothing_is_said_where_nothing_is_hidden(monkeypatch: pytest.MonkeyPatch, driver: Callable[..., str]) -> None:
    assert hardware.unseen() == ""
    driver("nvidia0")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert hardware.unseen() == ""
    assert hardware.obstacle() == ("", "")


@pytest.mark.parametrize(
    ("file", "variable", "value"),
    [
        ("nvidia0", "CUDA_VISIBLE_DEVICES", ""),
        ("nvidia0", "CUDA_VISIBLE_DEVICES", "-1"),
        ("kfd", "CUDA_VISIBLE_DEVICES", "-1"),
        ("kfd", "HIP_VISIBLE_DEVICES", "-1"),
        ("kfd", "ROCR_VISIBLE_DEVICES", ""),
    ],
)
def test_a_variable_hides_it(
    file: str, variable: str, value: str, monkeypatch: pytest.MonkeyPatch, driver: Callable[..., str]
) -> None:
    path = driver(file)
    monkeypatch.setenv(variable, value)
    assert hardware.unseen() == f"{path} is there, but {variable}={value!r} hides it. Run: unset {variable}"


def test_rocms_variables_hide_no_card_of_nvidias(monkeypatch: pytest.MonkeyPatch, driver: Callable[..., str]) -> None:
    driver("nvidia0")
    monkeypatch.setenv("HIP_VISIBLE_DEVICES", "-1")
    assert "hides it" not in hardware.unseen()


@pytest.mark.parametrize(
    ("file", "cuda", "hip", "reason"),
    [
        ("nvidia0", None, None, "this torch was built for CPUs, not for CUDA"),
        ("libcuda.so.1", None, None, "this torch was built for CPUs, not for CUDA"),
        ("nvidia0", None, "7.1", "this torch was built for ROCm 7.1, not for CUDA"),
        ("kfd", None, None, "this torch was built for CPUs, not for ROCm"),
        ("kfd", "13.0", None, "this torch was built for CUDA 13.0, not for ROCm"),
        (
            "nvidia0",
            "13.0",
            None,
            "torch sees no GPU. This torch was built for CUDA 13.0; CUDA 13 needs driver 580 or newer (nvidia-smi shows "
            "yours) and a card of compute capability 7.5 or newer",
        ),
    ],
)
def test_this_torch_is_not_the_one_for_the_driver(
    file: str,
    cuda: str | None,
    hip: str | None,
    reason: str,
    monkeypatch: pytest.MonkeyPatch,
    driver: Callable[..., str],
) -> None:
    path = driver(file)
    built(monkeypatch, cuda, hip)
    assert hardware.unseen() == f"{path} is there, but {reason}. {INSTALL}"


def test_rocms_own_torch_may_lack_the_right_to_the_card(
    monkeypatch: pytest.MonkeyPatch, driver: Callable[..., str]
) -> None:
    path = driver("kfd")
    built(monkeypatch, hip="7.1")
    assert hardware.unseen() == (
        f"{path} is there, but torch sees no GPU. This torch was built for ROCm 7.1; rocminfo must list the card. "
        "Let your user use it: sudo usermod -aG render,video $USER, then log in again"
    )


def test_a_variable_may_name_a_card_that_is_not_there(
    monkeypatch: pytest.MonkeyPatch, driver: Callable[..., str]
) -> None:
    driver("nvidia0")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "7")
    assert "or newer; CUDA_VISIBLE_DEVICES='7' must name one that nvidia-smi -L lists. Install" in hardware.unseen()


def test_of_two_makers_cards_the_one_that_torch_was_built_for_counts(
    monkeypatch: pytest.MonkeyPatch, driver: Callable[..., str]
) -> None:
    nvidia = driver("nvidia0", "kfd")
    assert hardware.unseen().startswith(
        f"{nvidia} is there, but torch sees no GPU. This torch was built for CUDA 13.0;"
    )
    built(monkeypatch, hip="7.1")
    assert hardware.unseen().startswith(f"{Path(nvidia).parent / 'kfd'} is there, but torch sees no GPU.")


@pytest.mark.parametrize(
    ("environ", "count", "chosen"),
    [
        ({}, 1, "0"),
        ({}, 2, "0,1"),
        ({"CUDA_VISIBLE_DEVICES": "3,5"}, 1, "3"),
        ({"CUDA_VISIBLE_DEVICES": "3,5"}, 2, "3,5"),
        ({"CUDA_VISIBLE_DEVICES": "3,5"}, 4, "3,5"),
        ({"CUDA_VISIBLE_DEVICES": " 3 , 5 ,"}, 2, "3,5"),
        ({"CUDA_VISIBLE_DEVICES": "GPU-8932f937-d72c"}, 1, "GPU-8932f937-d72c"),
        ({"CUDA_VISIBLE_DEVICES": "MIG-a,MIG-b"}, 1, "MIG-a"),
        ({"CUDA_VISIBLE_DEVICES": ""}, 1, ""),
        ({"CUDA_VISIBLE_DEVICES": ","}, 2, ""),
        ({"CUDA_VISIBLE_DEVICES": "-1"}, 1, "-1"),
        ({"HIP_VISIBLE_DEVICES": "4"}, 1, "0"),
    ],
)
def test_the_first_of_the_gpus_that_are_seen_are_shown(environ: dict[str, str], count: int, chosen: str) -> None:
    assert hardware.shown(environ, count) == {"CUDA_VISIBLE_DEVICES": chosen}


@pytest.mark.parametrize(
    ("environ", "count", "chosen"),
    [
        ({}, 2, "0,1"),
        ({"HIP_VISIBLE_DEVICES": "3,5"}, 1, "3"),
        ({"CUDA_VISIBLE_DEVICES": "3,5"}, 2, "3,5"),
        ({"HIP_VISIBLE_DEVICES": "3,5", "CUDA_VISIBLE_DEVICES": "0"}, 1, "3"),
        ({"HIP_VISIBLE_DEVICES": "", "CUDA_VISIBLE_DEVICES": "2"}, 1, "2"),
        ({"HIP_VISIBLE_DEVICES": ""}, 1, ""),
        ({"ROCR_VISIBLE_DEVICES": "6,7"}, 1, "0"),
    ],
)
def test_rocm_has_a_variable_of_its_own(
    environ: dict[str, str], count: int, chosen: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    built(monkeypatch, hip="7.1")
    assert hardware.shown(environ, count) == {"HIP_VISIBLE_DEVICES": chosen, "CUDA_VISIBLE_DEVICES": chosen}


def test_the_facts_of_a_cpu_and_the_remarks_on_it(monkeypatch: pytest.MonkeyPatch, driver: Callable[..., str]) -> None:
    assert hardware.facts("cpu") == {"kind": "cpu", "name": hardware.named("cpu"), "threads": torch.get_num_threads()}
    alone = f"cpu ({hardware.named('cpu')})"
    assert hardware.said() == alone
    driver("nvidia0")
    assert hardware.said() == f"{alone}. {hardware.unseen()}"
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    assert hardware.said() == f"{alone}. Apple's GPU (mps) is not used: the upstream scripts know CUDA alone"
    monkeypatch.setenv("SDC_DEVICE", "cpu")
    assert hardware.said() == alone


def test_the_facts_of_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.backends.cudnn, "version", lambda: 92400)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "NVIDIA H100")
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: (9, 0))
    assert hardware.said() == "cuda (NVIDIA H100)"
    told = hardware.facts("cuda")
    assert (told["kind"], told["name"], told["cuda"], told["capability"]) == ("cuda", "NVIDIA H100", "13.0", "9.0")
    assert set(told["tf32"]) == {"matmul", "cudnn"}
    built(monkeypatch, hip="7.1")
    assert (hardware.facts("cuda")["cuda"], hardware.built()) == ("ROCm 7.1", "ROCm 7.1")

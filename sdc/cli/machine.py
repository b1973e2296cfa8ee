"""What `sdc doctor` looks at in this process and machine: versions, the device that a run would take, cores, memory."""

from __future__ import annotations

import importlib
import os
import platform
import re
import sys
import tomllib
from collections.abc import Iterable, Iterator
from dataclasses import replace
from importlib import metadata

import sdc
from sdc.cli import about
from sdc.cli.finding import Finding
from sdc.ground import cores, hardware, paths
from sdc.ground.errors import FatalError

_OLD = (7, 5)
"""CUDA 13 knows no card below this compute capability."""
_QUIET = f"export {hardware.VARIABLE}=cpu"
_OLDER = "a torch for CUDA 12.6: pip install --force-reinstall torch torchvision -i INDEX, pytorch.org's for it"
_OTHER = f"install {_OLDER}"
GIB = 1 << 30


def software() -> Iterator[Finding]:
    """This package, Python, the system, and what the package depends on."""
    kind = "a checkout" if paths.in_checkout() else "installed"
    yield Finding("software", "sdc", f"{sdc.__version__}, commit {about.commit() or 'unknown'}")
    yield Finding("software", "package", f"{paths.PACKAGE} ({kind})")
    yield Finding("software", "python", f"{platform.python_version()}, {sys.executable}")
    yield Finding("software", "platform", platform.platform())
    yield from libraries(_required())


def _required() -> list[str]:
    """What this package says it needs: of a checkout its own file, since what pip noted down may be older."""
    if paths.in_checkout():
        project = tomllib.loads((paths.ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
        return list(project["dependencies"])
    return metadata.requires("sdc") or []


def libraries(required: Iterable[str]) -> Iterator[Finding]:
    """The versions of what is required in one line, and a finding for each that is missing or does not fit."""
    from packaging.requirements import Requirement  # not before: a broken environment may lack it

    wanted = [each for each in map(Requirement, required) if not each.marker or each.marker.evaluate({"extra": ""})]
    found = {each.name: _version(each.name) for each in wanted}
    yield Finding("software", "libraries", ", ".join(f"{name} {seen}" for name, seen in found.items() if seen))
    for each in wanted:
        seen = found[each.name]
        if not seen or not each.specifier.contains(seen, prereleases=True):
            value = f"{seen or 'missing'}, sdc needs {each.specifier}"
            yield Finding("software", each.name, value, "wrong", f'pip install "{each.name}{each.specifier}"')


def _version(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return ""


def torch() -> Iterator[Finding]:
    """What torch was built for, and whether torchvision fits it."""
    library = importlib.import_module("torch")
    yield Finding("torch", "torch", f"{library.__version__}, built for {hardware.built()}")
    try:
        yield Finding("torch", "cudnn", str(library.backends.cudnn.version() or "none"))
    except RuntimeError as error:  # another cuDNN than torch's own is found before it
        yield Finding("torch", "cudnn", str(error), "wrong", "unset LD_LIBRARY_PATH")
    try:
        yield Finding("torch", "torchvision", importlib.import_module("torchvision").__version__)
    except Exception as error:  # built for another torch, it ends in ways of its own
        remedy = "pip install --force-reinstall torch torchvision"
        yield Finding("torch", "torchvision", f"it cannot be loaded: {error}", "wrong", remedy)


def device() -> Iterator[Finding]:
    """The device that a run would take, and why it is no better one."""
    for name in (hardware.VARIABLE, *hardware.VISIBLE):
        if name in os.environ:
            yield Finding("device", name, repr(os.environ[name]))
    try:
        kind = hardware.device()
    except FatalError as error:
        yield Finding("device", "device", str(error), "wrong", f"unset {hardware.VARIABLE}")
        return
    yield Finding("device", "device", f"{kind} ({hardware.named(kind)})")
    yield from gpus() if kind == "cuda" else _unused()


def _unused() -> Iterator[Finding]:
    """GPUs that there may be beside the CPU that is taken; to ask for the CPU is to know of them."""
    import torch

    yield Finding("device", "instructions", torch.backends.cpu.get_cpu_capability())
    reason, remedy = hardware.obstacle()
    if reason:
        yield _unless_asked(Finding("device", "GPU", reason, "wrong", f"{remedy}. Where the CPU will do: {_QUIET}"))
    if torch.backends.mps.is_available():
        told = "Apple's GPU (mps) is not used, runs go to the CPU: the upstream scripts know CUDA alone"
        yield _unless_asked(Finding("device", "mps", told, "note", f"none makes it used; not to read this: {_QUIET}"))


def _unless_asked(finding: Finding) -> Finding:
    """It is well to those who chose the CPU."""
    asked = os.environ.get(hardware.VARIABLE) == "cpu"
    return replace(finding, level="ok", remedy="") if asked else finding


def gpus() -> Iterator[Finding]:
    """The GPUs that this process sees, the libraries on them, and a product as the proof that they compute."""
    import torch

    facts = hardware.facts("cuda")
    rounded = [name for name, on in facts["tf32"].items() if on]
    yield Finding("device", "driver", facts["driver"] or "unknown")
    yield Finding("device", "TF32", f"on in {' and '.join(rounded)}" if rounded else "off")
    yield Finding("device", "visible GPUs", str(torch.cuda.device_count()))
    for number in range(torch.cuda.device_count()):
        yield gpu(number)
    yield _product()


def _product() -> Finding:
    """Whether the first GPU computes: a driver, a card and a torch can each be well, and not fit."""
    import torch

    try:
        value = float(torch.ones(8, 8, device="cuda").mm(torch.ones(8, 8, device="cuda")).sum())
    except Exception as error:
        remedy = f"see that nvidia-smi lists the card without errors, and that it is free; {_OTHER}"
        return Finding("device", "a product on it", f"{type(error).__name__}: {error}", "wrong", remedy)
    if value != 8**3:
        return Finding("device", "a product on it", f"{value} instead of {8**3}", "wrong", "take another card")
    return Finding("device", "a product on it", "computed")


def gpu(number: int) -> Finding:
    """One GPU: its name, memory and capability, and whether this torch was built for it."""
    import torch

    card = torch.cuda.get_device_properties(number)
    capability = (card.major, card.minor)
    words = f"{card.name}, {card.total_memory / GIB:.1f} GiB, compute capability {card.major}.{card.minor}"
    if capability >= _OLD or torch.version.hip:
        return Finding("device", f"GPU {number}", words)
    if capability >= oldest(torch.cuda.get_arch_list()):
        return Finding("device", f"GPU {number}", f"{words}: no torch for CUDA 13 knows it", "note", f"keep {_OLDER}")
    remedy = f"take a card of 7.5 or newer, or {_OTHER}; without either: {_QUIET}"
    return Finding("device", f"GPU {number}", f"{words}: torch {torch.__version__} cannot use it", "wrong", remedy)


def oldest(architectures: Iterable[str]) -> tuple[int, int]:
    """The lowest compute capability among a torch's architectures, such as `sm_75` and `sm_100`."""
    found = [re.fullmatch(r"sm_(\d+)(\d)[a-z]?", name) for name in architectures]
    return min(((int(each[1]), int(each[2])) for each in found if each), default=_OLD)


def processor() -> Iterator[Finding]:
    """Cores, threads and memory; more threads than cores wait for each other."""
    usable, stated = cores.cores(), cores.stated()
    yield Finding("processor", "cores", f"{usable} of the machine's {os.cpu_count()} may be used")
    for name in (cores.THREADS, cores.WORKERS, "OMP_WAIT_POLICY"):
        yield Finding("processor", name, os.environ.get(name) or "not set")
    if stated > usable:
        value = f"{stated}, but the time of {usable} cores is all that this process gets"
        yield Finding("processor", "threads", value, "note", f"export {cores.THREADS}={usable}")
    else:
        yield Finding(
            "processor",
            "threads",
            f"{stated} a process" if stated else f"by the work of each process, {usable} at most",
        )
    if hasattr(os, "sysconf"):
        yield Finding(
            "processor", "memory", f"{os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / GIB:.1f} GiB"
        )

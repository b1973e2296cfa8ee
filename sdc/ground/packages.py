"""Packages of Python: what pip calls a module that is imported, whether it is installed, the line that installs it."""

from __future__ import annotations

import shlex
from collections.abc import Iterable
from importlib import metadata
from importlib.util import find_spec

from packaging.specifiers import SpecifierSet

_NAMED = {
    "Crypto": "pycryptodome",
    "Levenshtein": "python-Levenshtein",
    "OpenSSL": "pyOpenSSL",
    "PIL": "pillow",
    "absl": "absl-py",
    "attr": "attrs",
    "bs4": "beautifulsoup4",
    "clip": "openai-clip",
    "cv2": "opencv-python",
    "dateutil": "python-dateutil",
    "distutils": "setuptools",
    "docx": "python-docx",
    "dotenv": "python-dotenv",
    "faiss": "faiss-cpu",
    "fitz": "pymupdf",
    "git": "gitpython",
    "github": "PyGithub",
    "google.protobuf": "protobuf",
    "hydra": "hydra-core",
    "igraph": "python-igraph",
    "imblearn": "imbalanced-learn",
    "magic": "python-magic",
    "mpl_toolkits": "matplotlib",
    "msssim": "pytorch-msssim",
    "nvidia.dali": "nvidia-dali-cuda120",
    "open_clip": "open-clip-torch",
    "pkg_resources": "setuptools",
    "pl_bolts": "lightning-bolts",
    "pylab": "matplotlib",
    "pynvml": "nvidia-ml-py",
    "pywt": "PyWavelets",
    "serial": "pyserial",
    "skimage": "scikit-image",
    "sklearn": "scikit-learn",
    "skopt": "scikit-optimize",
    "ruamel.yaml": "ruamel.yaml",
    "slugify": "python-slugify",
    "tlz": "toolz",
    "torch.utils.tensorboard": "tensorboard",
    "umap": "umap-learn",
    "usb": "pyusb",
    "wx": "wxPython",
    "yaml": "pyyaml",
    "zmq": "pyzmq",
}
"""What pip calls modules whose names say something else."""


def named(module: str) -> tuple[str, str]:
    """Of a dotted name that is imported: the part that a package is known by, and what pip calls that package."""
    parts = module.split(".")
    for count in range(len(parts), 0, -1):
        part = ".".join(parts[:count])
        if part in _NAMED:
            return part, _NAMED[part]
    return parts[0], parts[0].replace("_", "-")


def installed(package: str) -> str:
    """The version of a package that is installed; empty: none, as far as pip knows."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return ""


def is_there(package: str, module: str, version: str = "") -> bool:
    """Whether a module can be imported, and its package is of a version that will do. Nothing is imported."""
    have = installed(package)
    try:
        found = find_spec(module)
    except (ImportError, ValueError, AttributeError):
        found = None
    if found is None or (found.origin is None and not have):  # a folder of that name is no package
        return False
    return not (version and have) or SpecifierSet(version).contains(have, prereleases=True)


def pip(wanted: Iterable[str]) -> str:
    """The line that installs packages, each named once, as pip names them."""
    return shlex.join(["pip", "install", *dict.fromkeys(wanted)])

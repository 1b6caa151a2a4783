"""What a run was made with: versions and platform, without the name of the machine, a user or a folder."""

from __future__ import annotations

import platform
import sys
from importlib import metadata
from typing import Any

import torch

PACKAGES = (
    "torch",
    "numpy",
    "scipy",
    "pandas",
    "scikit-learn",
    "scikit-image",
    "matplotlib",
    "pillow",
    "pydantic",
    "safetensors",
)


def environment(seed: int, device: str) -> dict[str, Any]:
    """Facts for ``environment.json`` and the report."""
    from pellucid import __version__

    return {
        "pellucid": __version__,
        "python": platform.python_version(),
        "platform": f"{platform.system()} {platform.machine()}",
        "packages": {name: _version(name) for name in PACKAGES},
        "device": torch.cuda.get_device_name(device) if device.startswith("cuda") else device,
        "threads": torch.get_num_threads(),
        "byte_order": sys.byteorder,
        "seed": seed,
    }


def _version(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return "not installed"

"""torchvision beside a torch without CUDA.

torchvision's wheels are linked against CUDA. Beside torch's CPU build their compiled part does not load, and the import
then stops at the fake kernels of two operators that nobody declared. Declaring the two is enough for everything
that is written in Python; what needs the compiled part (non-maximum suppression and detectors) stays out of reach.
"""

from __future__ import annotations

import importlib.util
import warnings

import torch

_SCHEMAS = (
    "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
)
_kept: list[torch.library.Library] = []  # a library that is collected takes its schemas along


def declare() -> None:
    """Make ``import torchvision`` work. Does nothing where it is not installed, or where it already imports."""
    if importlib.util.find_spec("torchvision") is None:
        return
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            import torchvision  # noqa: F401
    except RuntimeError as error:
        if "torchvision::" not in str(error):
            raise
        library = torch.library.Library("torchvision", "DEF")
        for schema in _SCHEMAS:
            library.define(schema)
        _kept.append(library)

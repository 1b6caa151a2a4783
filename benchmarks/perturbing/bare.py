"""The passes that cannot be done without: altered inputs made in the plainest way, or made already."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from pellucid.core import devices

from .cases import Case

Runs = tuple[Callable[[], Any], Callable[[], Any]]
GENERATOR = 5


def of_table(case: Case, coalitions: int, samples: int = 1) -> Runs:
    """(altered and run, run alone): so many coalitions of each sample with all rows of the background, in batches like ours."""
    x, background = case.table.x[:samples], case.background
    if isinstance(case.model, nn.Module):
        x, background = x.astype(np.float32), background.astype(np.float32)
    keep = np.random.default_rng(GENERATOR).random((coalitions, case.columns)) < 0.5
    batch = devices.rows_that_fit(torch.from_numpy(x[0]), devices.MOST_VALUE_ROWS)
    step = max(1, batch // len(background))

    def altered() -> Any:
        for sample in x:
            for start in range(0, coalitions, step):
                some = keep[start : start + step, None]
                case.ask(np.where(some, sample, background).reshape(-1, case.columns))

    ready = np.where(keep[:, None], x[0], background).reshape(-1, case.columns)

    def alone() -> Any:
        for _ in x:
            for start in range(0, len(ready), step * len(background)):
                case.ask(ready[start : start + step * len(background)])

    return altered, alone


def of_images(model: nn.Module, x: Tensor, hidden: Tensor, masks: Tensor) -> Runs:
    """The same for images, channels last, which is faster: masks (n, 1, H, W) blend the image (1, C, H, W) with ``hidden``."""
    rows = rows_of(x)

    @torch.no_grad()
    def altered() -> Any:
        for some in masks.split(rows):
            model(torch.lerp(hidden, x, some).contiguous(memory_format=torch.channels_last))

    ready = [torch.lerp(hidden, x, some).contiguous(memory_format=torch.channels_last) for some in masks.split(rows)]

    @torch.no_grad()
    def alone() -> Any:
        for some in ready:
            model(some)

    return altered, alone


def rows_of(x: Tensor) -> int:
    """Altered copies of an image in one of our passes."""
    return devices.rows_that_fit(x[0], devices.MOST_VALUE_ROWS)

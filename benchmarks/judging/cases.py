"""The networks with the images and maps that are judged."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from explaining.networks import images
from explaining.networks import network as large
from pellucid.core import devices


@dataclass
class Case:
    """A network, images (B, C, H, W), their classes and a map (B, H, W) of each without equal values."""

    name: str
    model: nn.Module
    x: Tensor
    maps: Tensor
    target: Tensor

    @property
    def positions(self) -> int:
        """Pixels of an image."""
        return self.maps[0].numel()

    @property
    def steps(self) -> int:
        """Steps of a deletion whose share of the values divides the pixels, which Quantus asks for."""
        return self.x.shape[2] if self.x.shape[1] == 1 else 24

    def forwards(self, run: Callable[[], Any]) -> float:
        """Rows per image that a call sends through the network."""
        counted = 0

        def count(module: nn.Module, given: tuple[Tensor, ...]) -> None:
            nonlocal counted
            counted += len(given[0])

        handle = self.model.register_forward_pre_hook(count)
        try:
            run()
        finally:
            handle.remove()
        return counted / len(self.x)

    def bare(self, rows: float) -> Callable[[], None]:
        """The network alone on so many rows per image, made beforehand, in batches like ours."""
        batch = devices.rows_that_fit(self.x[0], devices.MOST_VALUE_ROWS)
        total = round(rows * len(self.x))
        ready = self.x.repeat(-(-min(batch, total) // len(self.x)), 1, 1, 1)[:batch]
        ready = ready.contiguous(memory_format=torch.channels_last)

        @torch.no_grad()
        def run() -> None:
            for start in range(0, total, batch):
                self.model(ready[: min(batch, total - start)])

        return run


def digits(count: int, size: int = 28) -> Case:
    """A LeNet of grey images, as in most tutorials of these packages."""
    torch.manual_seed(0)
    left = (size // 2 - 4) // 2
    model = nn.Sequential(
        nn.Conv2d(1, 6, 5, padding=2), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(6, 16, 5), nn.ReLU(), nn.MaxPool2d(2),
        nn.Flatten(), nn.Linear(16 * left**2, 120), nn.ReLU(), nn.Linear(120, 84), nn.ReLU(), nn.Linear(84, 10),
    ).eval()  # fmt: skip
    return _case(f"LeNet, {count} x {size} x {size}", model, images(count, size).mean(1, keepdim=True))


def photographs(count: int, size: int) -> Case:
    """ResNet-18 and coloured images."""
    return _case(f"ResNet-18, {count} x {size} x {size} x 3", large("resnet"), images(count, size))


def _case(name: str, model: nn.Module, x: Tensor) -> Case:
    smooth = nn.functional.interpolate(torch.rand(len(x), 1, 7, 7), x.shape[2:], mode="bilinear")[:, 0]
    with torch.no_grad():
        return Case(name, model, x, smooth + 1e-3 * torch.rand(smooth.shape), model(x).argmax(1))

"""Changes of training images that leave their class as it is, on whole batches and from a passed generator."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import torch

from pellucid.core import checks
from pellucid.core.errors import InputError
from pellucid.core.table import AUGMENTATIONS

Augmenter = Callable[[torch.Tensor, torch.Generator], torch.Tensor]


@AUGMENTATIONS.add("images")
def flip(x: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Left and right exchanged in half of the samples, chosen by chance; (B, C, H, W)."""
    chosen = torch.rand(_images(x, "flip"), generator=generator, device=generator.device) < 0.5
    return torch.where(chosen.to(x.device)[:, None, None, None], x.flip(-1), x)


@AUGMENTATIONS.add("images")
def shift(x: torch.Tensor, generator: torch.Generator, *, pixels: int = 2) -> torch.Tensor:
    """Each sample moved by up to ``pixels`` each way, chosen by chance; the edge's values fill the gap; (B, C, H, W)."""
    checks.count("pixels", pixels)
    batch, height, width = _images(x, "shift"), *x.shape[-2:]
    moves = torch.randint(-pixels, pixels + 1, (2, batch, 1), generator=generator, device=generator.device).to(x.device)
    rows = (torch.arange(height, device=x.device) - moves[0]).clamp(0, height - 1)
    columns = (torch.arange(width, device=x.device) - moves[1]).clamp(0, width - 1)
    samples = torch.arange(batch, device=x.device)[:, None, None]
    return x.movedim(1, -1)[samples, rows[:, :, None], columns[:, None, :]].movedim(-1, 1).contiguous()


def _images(x: torch.Tensor, name: str) -> int:
    if x.ndim != 4:
        raise InputError(f"'{name}' needs images (B, C, H, W), not {tuple(x.shape)}", cure="Leave it out of augment.")
    return len(x)


def augmenter(names: Sequence[str] | Mapping[str, Mapping[str, Any] | None]) -> Augmenter:
    """One function ``(x, generator) -> x`` that applies these in order; a mapping gives options."""
    if isinstance(names, str):
        names = [names]
    steps = []
    for name in names:
        options = dict((names[name] if isinstance(names, Mapping) else None) or {})
        entry = AUGMENTATIONS[name]
        entry.check_options(options)
        steps.append(partial(entry.value, **options))

    def augment(x: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        for step in steps:
            x = step(x, generator)
        return x

    return augment

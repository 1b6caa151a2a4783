"""What has been found out about a network and holds for every batch of a call."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from .borrowing import Model, is_keras

# Convolutions of fewer rows than this gain nothing from channels that lie last.
LEAST_CHANNELS_LAST = 4


@dataclass
class Habits:
    """channels_last: whether the network answers the same to images whose channels lie last in memory; None: not tried."""

    model: Model
    channels_last: bool | None = None

    def may_be_channels_last(self, x: Tensor) -> bool:
        """Whether trying is worth it: a CPU's convolutions of float32 images are a fifth to a half faster that way."""
        images = x.ndim == 4 and x.shape[1] > 1 and x.shape[2:].numel() > 1
        if not images or x.dtype is not torch.float32 or x.device.type != "cpu":
            return False
        if self.channels_last is not None:
            return self.channels_last
        if not isinstance(self.model, nn.Module) or is_keras(self.model):
            return False
        return any(isinstance(module, nn.Conv2d) for module in self.model.modules())

"""A learning rate from one short run in which it grows until the loss explodes."""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

from pellucid.core.checks import count, positive
from pellucid.core.errors import InputError, PellucidError

from .batches import Batches
from .events import Event
from .loop import Augment, DivergedError, steps_per_epoch, train
from .objectives import Objective, made_for

# The search ends when the smoothed loss is this many times its lowest value.
EXPLODED = 4.0
SMOOTHING = 0.9
LEAST_STEPS = 8


class _EnoughError(Exception):
    """Ends the training from its listener."""


@dataclass(frozen=True)
class LrSearch:
    """The learning rate and the loss of each step that was made, and the rate proposed."""

    lrs: list[float]
    losses: list[float]
    suggestion: float

    def smoothed(self) -> list[float]:
        """Exponential moving mean of the losses, corrected for its start."""
        return _smoothed(self.losses)


def _smoothed(losses: list[float]) -> list[float]:
    mean, smooth = 0.0, []
    for i, loss in enumerate(losses, 1):
        mean = SMOOTHING * mean + (1 - SMOOTHING) * loss
        smooth.append(mean / (1 - SMOOTHING**i))
    return smooth


def find_lr(
    model: nn.Module,
    data: Batches,
    objective: Objective | str = "auto",
    *,
    lowest: float = 1e-6,
    highest: float = 1.0,
    steps: int = 100,
    batch: int = 128,
    optimizer: str = "AdamW",
    weight_decay: float = 0.0,
    optimizer_options: Mapping[str, Any] | None = None,
    clip: float | None = None,
    augment: Augment | None = None,
    seed: int = 0,
    device: str | torch.device | None = None,
    precision: str = "float32",
) -> LrSearch:
    """Train a copy of ``model`` while lr grows by the same factor each step, lr_i = lowest (highest/lowest)^(i/(steps-1)).

    The suggestion is the rate at which the smoothed loss falls most steeply over log lr (Smith 2017; Howard & Gugger 2020).
    Model, modes, gradients and torch's generators stay as they are. Ends early when the loss explodes. Raises
    ``PellucidError`` when it does so in the first steps already; else as ``train``.
    """
    count("steps", steps, least=LEAST_STEPS)
    if positive("highest", highest) <= positive("lowest", lowest):
        raise InputError(f"highest is {highest}, not above lowest, {lowest}", cure="Give a range to search.")
    lrs = np.geomspace(lowest, highest, steps).tolist()
    losses: list[float] = []

    def listen(event: Event) -> None:
        if event.kind != "step" or event.loss is None:
            return
        losses.append(event.loss)
        smooth = _smoothed(losses)
        if len(losses) == steps or (len(losses) > LEAST_STEPS and smooth[-1] > EXPLODED * min(smooth)):
            raise _EnoughError

    try:
        history = train(
            copy.deepcopy(model),
            data,
            made_for(data, objective),
            epochs=math.ceil(steps / steps_per_epoch(len(data), batch)),
            batch=batch,
            optimizer=optimizer,
            lr=lowest,
            weight_decay=weight_decay,
            optimizer_options=optimizer_options,
            schedule=lambda step: lrs[min(step, steps - 1)] / lowest,
            clip=clip,
            augment=augment,
            seed=seed,
            device=device,
            precision=precision,
            on_event=listen,
            show_every=0.0,
        )
        if history.stopped == "interrupted":
            raise KeyboardInterrupt
    except (_EnoughError, DivergedError):
        pass
    return LrSearch(lrs[: len(losses)], losses, _steepest(lrs, losses))


def _steepest(lrs: list[float], losses: list[float]) -> float:
    """Where the smoothed loss falls fastest, from the first steps to the lowest point."""
    smooth = _smoothed(losses)
    lowest = int(np.argmin(smooth)) if smooth else 0
    if lowest < 2:
        what = f"the loss does not fall from lr {lrs[0]:.3g} on"
        raise PellucidError(what, cure="Search lower rates, or check the data and the objective.")
    slope = np.gradient(np.asarray(smooth[: lowest + 1]), np.log(lrs[: lowest + 1]))
    # The first two values of a moving mean are single losses: their slope is noise.
    return lrs[2 + int(np.argmin(slope[2:]))]

"""Learning-rate schedules: pure functions of the step, so that a resumed run needs no schedule state.

Each takes ``step`` (0 for the first), ``steps`` (of the whole training) and its options, and returns the factor by which
the learning rate is multiplied in that step. Fractions are fractions of the whole training. Momentum is left alone.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from pellucid.core.checks import fraction, positive
from pellucid.core.errors import InputError
from pellucid.core.table import SCHEDULES

Schedule = Callable[[int], float]


def _cosine(start: float, end: float, t: float) -> float:
    """From ``start`` at t = 0 to ``end`` at t = 1 along half a cosine."""
    return end + (start - end) * (1 + math.cos(math.pi * t)) / 2


@SCHEDULES.add("flat")
def constant(step: int, steps: int) -> float:
    """1: the learning rate as given."""
    return 1.0


@SCHEDULES.add("warm", paper="Smith & Topin 2018")
def one_cycle(step: int, steps: int, *, warmup: float = 0.3, start: float = 1 / 25, end: float = 4e-6) -> float:
    """Half a cosine up from ``start`` to 1 in the ``warmup`` fraction, then half a cosine down to ``end``; lr is the peak.

    Equals ``torch.optim.lr_scheduler.OneCycleLR`` at its defaults.
    """
    peak, last = max(warmup * steps - 1, 0.0), steps - 1
    if step <= peak:
        return _cosine(start, 1.0, step / peak) if peak else 1.0
    return _cosine(1.0, end, min(1.0, (step - peak) / (last - peak)))


@SCHEDULES.add("falling", paper="Loshchilov & Hutter 2017, without restarts")
def cosine(step: int, steps: int, *, end: float = 0.0) -> float:
    """Half a cosine from 1 down to ``end``: end + (1 - end)(1 + cos(pi step/steps))/2."""
    return _cosine(1.0, end, min(1.0, step / steps))


@SCHEDULES.add("falling")
def step(step: int, steps: int, *, drops: Sequence[float] = (0.5, 0.75), factor: float = 0.1) -> float:
    """Multiplied by ``factor`` at each fraction in ``drops``."""
    return float(factor ** sum(step >= at * steps for at in drops))


@SCHEDULES.add("falling")
def exponential(step: int, steps: int, *, end: float = 0.01) -> float:
    """end^(step/steps): the same ratio in every step, ``end`` after the last."""
    return float(end ** min(1.0, step / steps))


@SCHEDULES.add("warm")
def warmup_linear(step: int, steps: int, *, warmup: float = 0.1) -> float:
    """Linearly up to 1 in the ``warmup`` fraction, then linearly down to reach 0 after the last step."""
    rising = math.floor(warmup * steps)
    return (step + 1) / rising if step < rising else max(0.0, (steps - step) / (steps - rising))


def schedule(name: str | Schedule, steps: int, options: Mapping[str, Any] | None = None) -> Schedule:
    """Step -> factor, for a training of ``steps`` steps. A function of the step is taken as it is."""
    if callable(name):
        return name
    entry, options = SCHEDULES[name], dict(options or {})
    entry.check_options(options, where="schedule_options")
    for key, value in options.items():
        if key == "drops":
            if not isinstance(value, list | tuple):
                raise InputError(f"drops is {value!r}", where="schedule_options", cure="Give a list such as [0.5, 0.75].")
            for at in value:
                fraction(key, at)
        elif key in ("warmup", "start"):
            fraction(key, value)
        else:
            positive(key, value, zero=name == "cosine")
    return partial(entry.value, steps=max(1, steps), **options)

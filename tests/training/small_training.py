"""A small training that remembers everything a training can remember, for the tests of this room."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from pellucid.core import seeds
from pellucid.training.batches import InMemory
from pellucid.training.history import History
from pellucid.training.loop import train
from pellucid.training.objectives import objective
from pellucid.training.validation import validation

ROWS, HELD_OUT = 210, 60


def samples() -> tuple[torch.Tensor, torch.Tensor]:
    """Three classes of ten numbers: which of the first three is largest."""
    x = torch.randn(ROWS + HELD_OUT, 10, generator=seeds.generator(0, "samples"))
    return x, x[:, :3].argmax(1)


def network(seed: int = 0) -> nn.Sequential:
    with seeds.scoped(seed, "weights"):
        return nn.Sequential(nn.Linear(10, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Dropout(0.3), nn.Linear(16, 3))


def noisy(x: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    return x + 0.1 * torch.randn(x.shape, generator=generator, dtype=x.dtype)


def learn(model: nn.Module, **options: Any) -> History:
    """Dropout, batch normalisation, augmentation, momentum, a schedule, clipping, validation: 7 steps in each of 4 epochs."""
    x, y = samples()
    aim = objective("multiclass", y[:ROWS])
    given: dict[str, Any] = {
        "epochs": 4,
        "batch": 32,
        "optimizer": "SGD",
        "lr": 0.1,
        "optimizer_options": {"momentum": 0.9},
        "schedule": "one_cycle",
        "clip": 1.0,
        "augment": noisy,
        "validate": validation(InMemory(x[ROWS:], y[ROWS:]), aim),
        "best": "accuracy",
        "device": "cpu",
    }
    return train(model, options.pop("data", InMemory(x[:ROWS], y[:ROWS])), aim, **(given | options))


def same(first: nn.Module, second: nn.Module) -> bool:
    """Bit-identical parameters and buffers."""
    a, b = first.state_dict(), second.state_dict()
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def timeless(history: History) -> list[dict[str, Any]]:
    return [{key: value for key, value in row.items() if key != "seconds"} for row in history.rows]

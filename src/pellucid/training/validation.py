"""Outputs of a model over many rows, and the metrics that choose the best epoch."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn

from pellucid.core import devices

from .batches import Batches, stream
from .guards import modes_kept
from .objectives import Objective


def outputs(model: nn.Module, data: Batches, *, batch: int | None = None) -> tuple[torch.Tensor, torch.Tensor]:
    """The model's outputs for all rows of ``data`` in evaluation mode, and the targets, both on the CPU.

    On the model's device and in its precision, ``batch`` rows at a time (as many as fit when None). Gradients, modes and
    weights are left alone.
    """
    weights = [p for p in (*model.parameters(), *model.buffers()) if p.is_floating_point()]
    device = weights[0].device if weights else torch.device("cpu")
    dtype = weights[0].dtype if weights else torch.float32
    rows = batch or devices.rows_that_fit(data.batch(torch.tensor([0]))[0][0].to(device))
    pieces = torch.split(torch.arange(len(data)), rows)
    with modes_kept(model), torch.no_grad():
        model.eval()
        parts = [(model(x).cpu(), y.cpu()) for x, y in stream(data, pieces, device, dtype)]
    return torch.cat([p[0] for p in parts]), torch.cat([p[1] for p in parts])


def predict(
    model: nn.Module, data: Batches, objective: Objective, *, batch: int | None = None
) -> tuple[torch.Tensor, torch.Tensor]:
    """Probabilities (N, K) or values for all rows of ``data``, and the targets."""
    found, y = outputs(model, data, batch=batch)
    return objective.predict(found), y


def validation(data: Batches, objective: Objective, *, batch: int | None = None) -> Callable[[nn.Module], dict[str, float]]:
    """A ``validate`` for ``train``: the objective's metrics on ``data``, over all rows at once."""

    def validate(model: nn.Module) -> dict[str, float]:
        return objective.metrics(*outputs(model, data, batch=batch))

    return validate

"""Activations under their names: modules without options, to be used once each and never in place."""

from __future__ import annotations

import torch
from torch import nn

from pellucid.core.table import ACTIVATIONS


@ACTIVATIONS.add("rectified", name="leaky_relu", formula="max(0.1 x, x)")
class LeakyReLU(nn.LeakyReLU):
    """``max(0.1 x, x)``: torch's module with the slope of the course (torch's own default is 0.01)."""

    def __init__(self) -> None:
        super().__init__(negative_slope=0.1)


@ACTIVATIONS.add("saturating", name="scaled_tanh", formula="1.7159 tanh(2x / 3)")
class ScaledTanh(nn.Module):
    """``1.7159 tanh(2x / 3)``: passes through (1, 1) and (-1, -1), where it bends most (LeCun et al. 1998, app. A)."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Any shape in, the same shape out."""
        return 1.7159 * torch.tanh(x * (2 / 3))


for _name, _family, _module, _formula in (
    ("sigmoid", "saturating", nn.Sigmoid, "1 / (1 + exp(-x))"),
    ("tanh", "saturating", nn.Tanh, "tanh(x)"),
    ("relu", "rectified", nn.ReLU, "max(0, x)"),
    ("elu", "rectified", nn.ELU, "x if x > 0 else exp(x) - 1"),
):
    ACTIVATIONS.add(_family, name=_name, formula=_formula)(_module)


def activation(name: str) -> nn.Module:
    """A fresh module of the activation called ``name``; an unknown name is an ``InputError`` with the nearest one."""
    module: nn.Module = ACTIVATIONS[name].value()
    return module

"""The multi-layer perceptron."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from pellucid.core import checks
from pellucid.core.errors import InputError
from pellucid.core.table import MODELS
from pellucid.nn.activations import activation as activation_named


@MODELS.add("foundations", input=(1, 28, 28), outputs=10, paper="Rumelhart, Hinton & Williams 1986", mission="F10")
class MLP(nn.Module):
    """Multi-layer perceptron: ``a_i = f(W_i a_(i-1) + b_i)``, logits ``= W a + b``.

    ``(B, ...) -> (B, classes)``; the input is flattened, so that any shape with ``inputs`` values will do.
    ``hidden`` lists the widths, from the first layer to the last: ``()`` is a linear model.
    Each hidden layer ends with ``activation`` and, where ``dropout`` is above 0, with a dropout of that probability.
    """

    def __init__(
        self,
        inputs: int = 784,
        classes: int = 10,
        hidden: Sequence[int] = (64, 64),
        activation: str = "relu",
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        if isinstance(hidden, str) or not isinstance(hidden, Sequence):
            raise InputError(f"hidden is {hidden!r}", cure="Give a list of widths such as [64, 64]; [] is a linear model.")
        rate = 0.0 if dropout == 0 else checks.fraction("dropout", dropout, ends=False)
        checks.count("classes", classes)
        width = checks.count("inputs", inputs)
        self.features = nn.Sequential()
        self.features.add_module("flatten", nn.Flatten())
        for i, units in enumerate(hidden, start=1):
            self.features.add_module(f"linear{i}", nn.Linear(width, checks.count(f"hidden[{i - 1}]", units)))
            self.features.add_module(f"activation{i}", activation_named(activation))
            if rate:
                self.features.add_module(f"dropout{i}", nn.Dropout(rate))
            width = units
        self.head = nn.Linear(width, classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Inputs ``(B, ...)`` to logits ``(B, classes)``."""
        logits: torch.Tensor = self.head(self.features(x))
        return logits

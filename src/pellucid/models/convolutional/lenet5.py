"""LeNet-5, the network that read cheques."""

from __future__ import annotations

from collections import OrderedDict

import torch
from torch import nn

from pellucid.core import checks
from pellucid.core.errors import InputError
from pellucid.core.table import MODELS
from pellucid.nn.activations import activation

# form -> activation, pooling, and the gain of its Xavier initialisation (None: torch's own initialisation).
FORMS: dict[str, tuple[str, type[nn.Module], float | None]] = {
    "relu": ("relu", nn.MaxPool2d, None),
    "1998": ("scaled_tanh", nn.AvgPool2d, 1.0),
    "sigmoid": ("sigmoid", nn.AvgPool2d, 4.0),
}
SMALLEST = 12


@MODELS.add("convolutional", input=(1, 28, 28), outputs=10, paper="LeCun et al. 1998, fig. 2", mission="C4")
class LeNet5(nn.Module):
    """LeNet-5: two convolutions of 5 x 5, each with an activation and a pooling by 2, then 120, 84 and ``classes`` units.

    ``(B, channels, size, size) -> (B, classes)``. Images below 32 pixels are padded by 2, so 28 and 32 give the same
    61,706 parameters for one channel and ten classes; the head fits itself to any other size from 12 on.

    ``form`` "relu" has ReLU and max-pooling. "1998" has the paper's scaled tanh and average pooling, without its trained
    pooling coefficients, its partial connections from S2 to C3 and its radial-basis output. "sigmoid" is the variant of
    the textbooks: sigmoid and average pooling. The last two start from Xavier weights and zero biases; the sigmoid's
    hidden layers at gain 4, as its slope at 0 is 1/4 (Glorot & Bengio 2010), without which it stays at chance for long.
    """

    def __init__(self, channels: int = 1, classes: int = 10, size: int = 28, form: str = "relu") -> None:
        super().__init__()
        nonlinearity, pooling, gain = FORMS[checks.one_of("form", str(form), FORMS)]
        if checks.count("size", size) < SMALLEST:
            cure = f"The smallest is {SMALLEST} x {SMALLEST}: enlarge the images, or take the model 'mlp'."
            raise InputError(f"images of {size} x {size} are too small for LeNet-5", cure=cure)
        padding = 2 if size < 32 else 0
        side = ((size + 2 * padding - 4) // 2 - 4) // 2  # C1, S2, C3, S4
        self.features = nn.Sequential(
            OrderedDict(
                c1=nn.Conv2d(checks.count("channels", channels), 6, 5, padding=padding),
                a1=activation(nonlinearity),
                s2=pooling(2),
                c3=nn.Conv2d(6, 16, 5),
                a3=activation(nonlinearity),
                s4=pooling(2),
            )
        )
        self.head = nn.Sequential(
            OrderedDict(
                flatten=nn.Flatten(),
                c5=nn.Linear(16 * side * side, 120),
                a5=activation(nonlinearity),
                f6=nn.Linear(120, 84),
                a6=activation(nonlinearity),
                output=nn.Linear(84, checks.count("classes", classes)),
            )
        )
        if gain is not None:
            self._start(gain)

    def _start(self, gain: float) -> None:
        """Xavier weights at ``gain`` where an activation follows and at 1 for the logits; zero biases."""
        for name, layer in self.named_modules():
            if isinstance(layer, nn.Conv2d | nn.Linear):
                nn.init.xavier_uniform_(layer.weight, 1.0 if name == "head.output" else gain)
                nn.init.zeros_(layer.bias)  # type: ignore[arg-type]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Images ``(B, channels, size, size)`` to logits ``(B, classes)``."""
        logits: torch.Tensor = self.head(self.features(x))
        return logits

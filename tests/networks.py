"""Small networks that the tests explain: one for each trait that has broken a peer."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class GapLinear(nn.Module):
    """Convolutions, global average pooling, one linear layer: CAM's own case, where the identities are exact."""

    def __init__(self, bias: bool = True) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(1, 4, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(4, 6, 3, padding=1), nn.ReLU()
        )
        self.head = nn.Linear(6, 5, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.features(x).mean((2, 3)))


class DenseHead(nn.Module):
    """Convolutions and a two-layer head behind a flattening, with dropout."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.Tanh(), nn.AvgPool2d(2))
        self.head = nn.Sequential(nn.Flatten(), nn.Linear(64, 16), nn.ReLU(), nn.Dropout(0.5), nn.Linear(16, 5))

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.features(x))


class Residual(nn.Module):
    """Batch norm, functional ReLU, a plain +, an in-place ReLU behind the layer, a module used twice."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(1, 6, 3, padding=1)
        self.norm = nn.BatchNorm2d(6)
        self.block = nn.Conv2d(6, 6, 3, padding=1)
        self.inplace = nn.ReLU(inplace=True)
        self.last = nn.Conv2d(6, 6, 1)
        self.head = nn.Linear(6, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.norm(self.stem(x)))
        x = x + self.block(self.block(x))
        x = self.inplace(self.last(x))
        return self.head(x.mean((2, 3)))


class Sequence(nn.Module):
    """One-dimensional convolution over letters."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(nn.Conv1d(4, 6, 5, padding=2), nn.ReLU())
        self.head = nn.Linear(6 * 12, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.features(x).flatten(1))


class Dense(nn.Module):
    """A network for rows of a table."""

    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(7, 12), nn.Sigmoid(), nn.Linear(12, 4))

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x)


SHAPES = {GapLinear: (1, 8, 8), DenseHead: (1, 8, 8), Residual: (1, 8, 8), Sequence: (4, 12), Dense: (7,)}


def network(kind: type[nn.Module], seed: int = 0, dtype: torch.dtype = torch.float64) -> nn.Module:
    """A network of this kind with seeded weights, batch-norm statistics away from their initial values, in evaluation mode."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = kind()
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d):
                nn.init.uniform_(module.running_var, 0.5, 2)
                nn.init.normal_(module.running_mean)
    return model.to(dtype).eval()


def samples(kind: type[nn.Module], n: int = 3, seed: int = 1, dtype: torch.dtype = torch.float64) -> Tensor:
    """Seeded inputs for a network of this kind."""
    return torch.randn(n, *SHAPES[kind], generator=torch.Generator().manual_seed(seed), dtype=dtype)

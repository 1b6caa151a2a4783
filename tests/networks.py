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


class Volume(nn.Module):
    """Three-dimensional convolution, pooled and linear."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(nn.Conv3d(1, 4, 3, padding=1), nn.ReLU(), nn.AvgPool3d(2))
        self.head = nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.features(x).mean((2, 3, 4)))


class Concatenated(nn.Module):
    """Branches put side by side, growing features, batch norm before the convolution, ReLU as a function and in place."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 3, padding=1)
        self.norm, self.grow = nn.BatchNorm2d(4), nn.Conv2d(4, 3, 3, padding=1, bias=False)
        self.one, self.five = nn.Conv2d(7, 3, 1), nn.Conv2d(7, 3, 5, padding=2)
        self.head = nn.Linear(6, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        x = torch.cat([x, self.grow(torch.relu(self.norm(x)))], 1)
        x = nn.functional.max_pool2d(x, 2)
        x = torch.relu_(torch.cat([self.one(x), self.five(x)], 1))
        return self.head(nn.functional.adaptive_avg_pool2d(x, 1).flatten(1))


class Block(nn.Module):
    """Self-attention and a GELU network, each behind a layer norm and added to its input."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.before, self.after = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.mlp = nn.Sequential(nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width))

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.qkv(self.before(x)).chunk(3, 2)
        x = x + self.out((q @ k.transpose(1, 2) / q.shape[2] ** 0.5).softmax(2) @ v)
        return x + self.mlp(self.after(x))


class Transformer(nn.Module):
    """Patches of an image, a class token that the head reads, two blocks; the image is wider than high."""

    def __init__(self) -> None:
        super().__init__()
        self.patches = nn.Conv2d(1, 6, 4, 4)
        self.token, self.position = nn.Parameter(torch.randn(1, 1, 6)), nn.Parameter(torch.randn(1, 7, 6))
        self.blocks = nn.Sequential(Block(6), Block(6))
        self.head = nn.Linear(6, 4)

    def forward(self, x: Tensor) -> Tensor:
        tokens = self.patches(x).flatten(2).transpose(1, 2)
        tokens = torch.cat([self.token.expand(x.shape[0], -1, -1), tokens], 1) + self.position
        return self.head(self.blocks(tokens)[:, 0])


class TwoInputs(nn.Module):
    """An image, a row of numbers beside it, and a class of sample that is looked up."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.ReLU())
        self.row, self.kind = nn.Linear(5, 4), nn.Embedding(3, 4)
        self.head = nn.Linear(12, 3)

    def forward(self, image: Tensor, row: Tensor, kind: Tensor) -> Tensor:
        seen = self.features(image).mean((2, 3))
        return self.head(torch.cat([seen, torch.tanh(self.row(row)), self.kind(kind[:, 0])], 1))


class Dense(nn.Module):
    """A network for rows of a table."""

    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(7, 12), nn.Sigmoid(), nn.Linear(12, 4))

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x)


SHAPES = {
    GapLinear: (1, 8, 8),
    DenseHead: (1, 8, 8),
    Residual: (1, 8, 8),
    Sequence: (4, 12),
    Dense: (7,),
    Volume: (1, 4, 6, 6),
    Concatenated: (3, 8, 8),
    Transformer: (1, 8, 12),
}


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

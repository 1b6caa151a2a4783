"""Small networks in the manner of the well-known ones, for side-by-side tests: 3 x 64 x 64 in, five logits out.

Each carries what sets its family apart for an explanation: in-place ReLUs, a plain ``+``, concatenation, batch norm before
its convolution, a flattened two-layer head, a class token. Weights and batch-norm statistics are seeded.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional as F

CLASSES = 5


class VggLike(nn.Module):
    """Stacks of convolutions, max-pooling, flattening, two linear layers with dropout between them."""

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for before, after in [(3, 6), (6, 8), (8, 12)]:
            layers += [nn.Conv2d(before, after, 3, padding=1), nn.ReLU(inplace=True)]
            layers += [nn.Conv2d(after, after, 3, padding=1), nn.ReLU(inplace=True), nn.MaxPool2d(2)]
        self.features = nn.Sequential(*layers)
        self.classifier = nn.Sequential(
            nn.Linear(12 * 8 * 8, 24), nn.ReLU(inplace=True), nn.Dropout(0.5), nn.Linear(24, CLASSES)
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(torch.flatten(self.features(x), 1))


class VggNormLike(nn.Module):
    """Convolution, batch norm, ReLU and max-pooling by turns; average pooling before a head of two linear layers."""

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for before, after in [(3, 6), (6, 8), (8, 12)]:
            layers += [nn.Conv2d(before, after, 3, padding=1), nn.BatchNorm2d(after), nn.ReLU(inplace=True), nn.MaxPool2d(2)]
        self.features = nn.Sequential(*layers)
        self.avgpool = nn.AdaptiveAvgPool2d(4)
        self.classifier = nn.Sequential(
            nn.Linear(12 * 4 * 4, 24), nn.ReLU(inplace=True), nn.Dropout(0.5), nn.Linear(24, CLASSES)
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(torch.flatten(self.avgpool(self.features(x)), 1))


class Signed(nn.Sequential):
    """Inputs of both signs in every layer: strides, dilation, groups, a transposed convolution, both kinds of pooling."""

    def __init__(self) -> None:
        super().__init__(
            nn.Conv2d(3, 6, 5, 2, 2),
            nn.Tanh(),
            nn.Conv2d(6, 8, 3, padding=2, dilation=2, groups=2),
            nn.Tanh(),
            nn.AvgPool2d(2),
            nn.ConvTranspose2d(8, 4, 3, stride=2, padding=1, output_padding=1, groups=2),
            nn.Tanh(),
            nn.MaxPool2d(4),
            nn.Flatten(),
            nn.Linear(4 * 8 * 8, 12),
            nn.Tanh(),
            nn.Linear(12, CLASSES),
        )


def conv_norm(before: int, after: int, size: int, stride: int = 1) -> nn.Sequential:
    """Convolution and batch norm, the spatial size kept for stride 1."""
    return nn.Sequential(nn.Conv2d(before, after, size, stride, size // 2, bias=False), nn.BatchNorm2d(after))


class Residual(nn.Module):
    """Two convolutions and a shortcut, joined by a plain ``+``; one in-place ReLU module used twice."""

    def __init__(self, before: int, after: int, stride: int) -> None:
        super().__init__()
        self.first, self.second = conv_norm(before, after, 3, stride), conv_norm(after, after, 3)
        self.shortcut = conv_norm(before, after, 1, stride) if before != after else nn.Identity()
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        return self.relu(self.second(self.relu(self.first(x))) + self.shortcut(x))


class ResNetLike(nn.Module):
    """Residual blocks, global average pooling, one linear layer."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(conv_norm(3, 6, 5, 2), nn.ReLU(inplace=True), nn.MaxPool2d(2))
        self.blocks = nn.Sequential(Residual(6, 6, 1), Residual(6, 10, 2))
        self.fc = nn.Linear(10, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.blocks(self.stem(x)).mean((2, 3)))


class Growth(nn.Module):
    """Batch norm, ReLU, convolution; what comes out is put behind what went in."""

    def __init__(self, before: int, more: int) -> None:
        super().__init__()
        self.norm, self.conv = nn.BatchNorm2d(before), nn.Conv2d(before, more, 3, padding=1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([x, self.conv(F.relu(self.norm(x)))], 1)


class DenseNetLike(nn.Module):
    """Growing concatenations; the features end in a batch norm, and an in-place ReLU follows it."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(3, 6, 5, 2, 2, bias=False),
            Growth(6, 4),
            Growth(10, 4),
            nn.Sequential(nn.BatchNorm2d(14), nn.ReLU(inplace=True), nn.Conv2d(14, 8, 1, bias=False), nn.AvgPool2d(4)),
            Growth(8, 4),
            nn.BatchNorm2d(12),
        )
        self.relu = nn.ReLU(inplace=True)
        self.classifier = nn.Linear(12, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(F.adaptive_avg_pool2d(self.relu(self.features(x)), 1).flatten(1))


class Branches(nn.Module):
    """Four views of different reach, side by side."""

    def __init__(self, before: int, each: int) -> None:
        super().__init__()
        self.one, self.three = conv_norm(before, each, 1), conv_norm(before, each, 3)
        self.five = nn.Sequential(conv_norm(before, each, 1), nn.ReLU(inplace=True), conv_norm(each, each, 5))
        self.pool = nn.Sequential(nn.AvgPool2d(3, 1, 1), conv_norm(before, each, 1))

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(torch.cat([self.one(x), self.three(x), self.five(x), self.pool(x)], 1))


class InceptionLike(nn.Module):
    """Parallel branches, global average pooling, dropout, one linear layer."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(conv_norm(3, 6, 3, 2), nn.ReLU(inplace=True), nn.MaxPool2d(2))
        self.mixed = nn.Sequential(Branches(6, 3), nn.MaxPool2d(2), Branches(12, 3))
        self.dropout = nn.Dropout(0.3)
        self.fc = nn.Linear(12, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.dropout(F.adaptive_avg_pool2d(self.mixed(self.stem(x)), 1).flatten(1)))


class Attention(nn.Module):
    """Self-attention and a GELU network, each behind a layer norm and added to its input."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.before, self.after = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.mlp = nn.Sequential(nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width))

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = (part.unflatten(2, (self.heads, -1)).transpose(1, 2) for part in self.qkv(self.before(x)).chunk(3, 2))
        share = (q @ k.transpose(2, 3) / q.shape[-1] ** 0.5).softmax(3)
        x = x + self.out((share @ v).transpose(1, 2).flatten(2))
        return x + self.mlp(self.after(x))


class VitLike(nn.Module):
    """An 8 x 8 grid of patches, a class token that the head reads, two attention blocks."""

    def __init__(self, width: int = 16) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, width, 8, 8)
        self.token = nn.Parameter(torch.randn(1, 1, width))
        self.position = nn.Parameter(torch.randn(1, 65, width))
        self.blocks = nn.Sequential(Attention(width, 2), Attention(width, 2))
        self.head = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, CLASSES))

    def forward(self, x: Tensor) -> Tensor:
        tokens = self.patches(x).flatten(2).transpose(1, 2)
        tokens = torch.cat([self.token.expand(len(x), -1, -1), tokens], 1) + self.position
        return self.head(self.blocks(tokens)[:, 0])


# Where a class activation map is taken: the last features behind their ReLU, as all peers advise.
LAYERS: dict[type[nn.Module], str] = {VggLike: "features", ResNetLike: "blocks", DenseNetLike: "relu", InceptionLike: "mixed"}
CONVOLUTIONAL = tuple(LAYERS)
POOLED = (ResNetLike, DenseNetLike, InceptionLike)
ALL = (*CONVOLUTIONAL, VitLike)


def network(kind: Callable[[], nn.Module], seed: int = 0, dtype: torch.dtype = torch.float64) -> nn.Module:
    """A network in evaluation mode with seeded weights, and batch-norm statistics that are not those of a new one."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = kind()
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d):
                for values, draw in [
                    (module.running_mean, partial(nn.init.normal_, std=0.3)),
                    (module.running_var, partial(nn.init.uniform_, a=0.3, b=1.5)),
                    (module.weight, partial(nn.init.uniform_, a=0.5, b=1.5)),
                    (module.bias, partial(nn.init.normal_, std=0.3)),
                ]:
                    draw(values)
            elif isinstance(module, nn.Linear | nn.Conv2d):
                nn.init.kaiming_normal_(module.weight)
    return model.to(dtype).eval()


def images(n: int = 2, seed: int = 1, dtype: torch.dtype = torch.float64) -> Tensor:
    """Seeded images (n, 3, 64, 64) with coarse and fine structure, roughly standardised."""
    generator = torch.Generator().manual_seed(seed)
    coarse, fine = (torch.randn(n, 3, size, size, generator=generator, dtype=torch.float64) for size in (8, 64))
    return (F.interpolate(coarse, (64, 64), mode="bilinear", align_corners=False) + 0.3 * fine).to(dtype)

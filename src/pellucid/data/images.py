"""Folders of images: a class per sub-folder, or a CSV of paths and labels."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from pellucid.core import checks
from pellucid.core.errors import InputError
from pellucid.core.table import DATA

from .cells import Cells, read_cells
from .dataset import Data
from .image_files import SUFFIXES, Header, ImageFiles, decode_all, empty_images, headers, pixel_digest
from .image_preparation import ImagePreparation, files_below, hidden
from .labels import Labels, encode, in_order
from .rows import MEMORY_BUDGET, ArrayRows, Rows

# Where files differ in size, or are larger than this, nobody has asked for more.
LONGEST_SIDE = 224
PARTS = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("val", "valid", "validation"), "validation"),
    **dict.fromkeys(("test", "testing"), "test"),
}


@dataclass
class Listing:
    """Which files are to be read: with class and fixed part (a folder), or with the row of the table that names them."""

    paths: list[Path] = field(default_factory=list)
    names: list[str] = field(default_factory=list)
    labels: list[str] = field(default_factory=list)
    parts: list[str] = field(default_factory=list)
    rows: list[int] = field(default_factory=list)
    cells: Cells | None = None
    notes: list[str] = field(default_factory=list)
    missing: list[tuple[str, str]] = field(default_factory=list)
    target: str = "class"


@DATA.add("files", kind="image")
def images(
    path: str | Path,
    *,
    size: int | Sequence[int] | None = None,
    channels: int | None = None,
    image: str = "path",
    label: str = "label",
) -> Data:
    """Images of a folder with a sub-folder per class, or of a CSV whose columns ``image`` and ``label`` name file and label.

    Paths in a CSV are relative to it; labels joined by ``|`` are multilabel, numbers with a fraction regression. Sub-folders
    called train, test and perhaps validation, each with class folders, fix these parts. ``size``: one number or [height,
    width]; if not given, the size that all have, else their median, with a longer side of at most 224. ``channels``: 1 or 3;
    if not given, 1 when all files are grey. Pictures are turned upright by EXIF, transparency is laid on white, 16 bits
    become 8. What cannot be read is in ``unreadable`` with its reason. Raises ``InputError`` for an empty class folder, fewer
    than two classes, nothing to read.
    """
    path = checks.existing(path)
    if channels is not None:
        checks.one_of("channels", channels, (1, 3))
    sides = _given_size(size) if size is not None else None
    listing = _from_table(path, image, label) if path.is_file() else _from_folder(path)
    found = headers(listing.paths)
    good = [(i, header) for i, header in enumerate(found) if isinstance(header, Header)]
    shape = _shape([h for _, h in good], sides, channels, listing.notes) if good else (1, 1, 1)
    rows, reasons = _read([listing.paths[i] for i, _ in good], [h for _, h in good], shape)
    decoded = iter(reasons)
    why = [header if isinstance(header, str) else next(decoded) for header in found]
    keep = [i for i, reason in enumerate(why) if reason is None]
    unreadable = listing.missing + [(listing.names[i], reason) for i, reason in enumerate(why) if reason is not None]
    if unreadable:
        listing.notes.append(
            f"files that could not be read and are no rows: {len(unreadable):,}; first: {unreadable[0][0]}: {unreadable[0][1]}"
        )
    if not keep:
        raise InputError(f"no image in '{path}' can be read", where=": ".join(unreadable[0]), cure="Check the files.")
    labels = _labels(listing, keep, path)
    options = {"path": str(path), "size": size if size is None or isinstance(size, int) else list(size), "channels": channels}
    return Data(
        reader="images",
        options={**options, "image": image, "label": label},
        kind="image",
        task=labels.task,
        rows=rows,
        y=labels.y,
        classes=labels.classes,
        preparation=ImagePreparation(*shape),
        names=[listing.names[i] for i in keep],
        target=listing.target,
        parts=_fixed_parts(listing, keep),
        notes=listing.notes + labels.notes,
        unreadable=unreadable,
        source=str(path),
    )


def _from_folder(root: Path) -> Listing:
    listing = Listing()
    folders = _folders(root)
    if not folders:
        raise InputError(
            f"no class folders in '{root}'",
            cure="Put the images of each class into a sub-folder of its own, or give a CSV of path and label.",
        )
    fixed = {folder: PARTS.get(folder.name.lower(), "") for folder in folders}
    if {"train", "test"} <= set(fixed.values()) and all(fixed.values()) and all(map(_folders, folders)):
        for folder in folders:
            for inner in _folders(folder):
                _add_class(listing, root, inner, fixed[folder])
        listing.notes.append(f"folders {', '.join(f.name for f in folders)} are taken as parts, not as classes")
    else:
        for folder in folders:
            _add_class(listing, root, folder, "")
    used = set(listing.paths)
    other = [f for f in files_below(root) if f not in used]
    if other:
        listing.notes.append(
            f"files not used (not images by their ending, or outside of the class folders): {len(other):,}; "
            f"first: {other[0].relative_to(root)}"
        )
    if len(set(listing.labels)) < 2:
        raise InputError(f"only one class folder in '{root}'", where=listing.labels[0], cure="Give two classes or more.")
    return listing


def _folders(folder: Path) -> list[Path]:
    return sorted(f for f in folder.iterdir() if f.is_dir() and not hidden(f.name))


def _add_class(listing: Listing, root: Path, folder: Path, part: str) -> None:
    files = [f for f in files_below(folder) if f.suffix.lower() in SUFFIXES]
    if not files:
        raise InputError(
            f"class folder '{folder}' holds no images",
            cure=f"Add images to it or remove it. Known endings: {', '.join(sorted(SUFFIXES))}.",
        )
    listing.paths += files
    listing.names += [f.relative_to(root).as_posix() for f in files]
    listing.labels += [folder.name] * len(files)
    listing.parts += [part] * len(files)


def _from_table(path: Path, image: str, label: str) -> Listing:
    cells = read_cells(path)
    cells.column(label, "the labels")
    files = cells.column(image, "the image files")
    listing = Listing(cells=cells, notes=cells.notes, target=label)
    for row, (file, present) in enumerate(zip(files, files.notna())):
        if not present:
            listing.missing.append((cells.place(row), "no file is named"))
            continue
        listing.paths.append(path.parent / str(file))
        listing.names.append(str(file))
        listing.rows.append(row)
    return listing


def _labels(listing: Listing, keep: list[int], path: Path) -> Labels:
    if listing.cells is not None:
        rows, cells = [listing.rows[i] for i in keep], listing.cells
        kept = Cells(
            cells.frame.iloc[rows].reset_index(drop=True), cells.path, cells.lines[rows] if len(cells.lines) else cells.lines
        )
        return encode(kept, listing.target, most_classes=None)
    classes = in_order(list(dict.fromkeys(listing.labels)))
    labels = pd.Index([listing.labels[i] for i in keep])
    lost = [name for name in classes if name not in labels]
    if lost:
        raise InputError(
            f"no image of class '{lost[0]}' can be read", where=path, cure="Repair the files or remove the class folder."
        )
    return Labels(
        "classification", torch.from_numpy(pd.Index(classes).get_indexer(labels).astype(np.int64)), tuple(classes), []
    )


def _fixed_parts(listing: Listing, keep: list[int]) -> dict[str, np.ndarray]:
    parts = np.array([listing.parts[i] for i in keep] if listing.parts else [], dtype=str)
    return {name: np.flatnonzero(parts == name) for name in dict.fromkeys(parts.tolist()) if name}


def _read(paths: list[Path], found: list[Header], shape: tuple[int, int, int]) -> tuple[Rows, list[str | None]]:
    """Bytes in memory where they fit, else files decoded on demand; every file is decoded once, to know its faults."""
    if len(paths) * math.prod(shape) <= MEMORY_BUDGET:
        pixels = empty_images(len(paths), shape)
        reasons = decode_all(paths, found, shape, pixels.__setitem__)
        good = [i for i, reason in enumerate(reasons) if reason is None]
        return ArrayRows(pixels if len(good) == len(paths) else pixels[good]), reasons
    digests = np.zeros((len(paths), 16), np.uint8)

    def keep(index: int, image: np.ndarray) -> None:
        digests[index] = pixel_digest(image)

    reasons = decode_all(paths, found, shape, keep)
    good = [i for i, reason in enumerate(reasons) if reason is None]
    return ImageFiles([paths[i] for i in good], [found[i] for i in good], shape, digests[good]), reasons


def _shape(found: list[Header], size: tuple[int, int] | None, channels: int | None, notes: list[str]) -> tuple[int, int, int]:
    """(height, width, channels) for all; ``notes`` says what that changes in how many files."""
    sizes = Counter((h.height, h.width) for h in found)
    height, width = size or _common_size(sizes)
    if other := len(found) - sizes[height, width]:
        others = [s for s in sizes if s != (height, width)]
        least, most = min(others), max(others)
        range_ = f"{least[0]} x {least[1]}" + (f" to {most[0]} x {most[1]}" if most != least else "")
        chosen = "" if size is not None else "; set size to change this"
        notes.append(
            f"images resized to height x width {height} x {width}: {other:,} of {len(found):,}, which are {range_}{chosen}"
        )
    channels = channels or (1 if all(h.grey for h in found) else 3)
    plain = "L" if channels == 1 else "RGB"
    modes = Counter(h.mode for h in found if h.mode != plain)
    if modes:
        counted = ", ".join(f"{count:,} of mode {mode}" for mode, count in sorted(modes.items()))
        notes.append(f"images converted to 8-bit {'grey' if channels == 1 else 'RGB'}: {counted}")
    for count, what in (
        (sum(h.transparent for h in found), "with transparency, laid on white"),
        (sum(h.orientation > 1 for h in found), "turned upright by their EXIF entry"),
        (sum(h.frames for h in found), "with several frames, of which the first is used"),
    ):
        if count:
            notes.append(f"images {what}: {count:,}")
    return height, width, channels


def _given_size(size: int | Sequence[int]) -> tuple[int, int]:
    both = list(size) if isinstance(size, list | tuple) else [size, size]
    if len(both) != 2:
        raise InputError(f"size is {size!r}", cure="Give one number or [height, width].")
    return checks.count("size", both[0]), checks.count("size", both[1])


def _common_size(sizes: Counter[tuple[int, int]]) -> tuple[int, int]:
    every = np.array(list(sizes.elements()))
    height, width = np.median(every, axis=0)
    shrink = min(1.0, LONGEST_SIDE / max(height, width))
    return max(1, round(height * shrink)), max(1, round(width * shrink))

"""Truths that are put into data on purpose, so that what a model uses is known beforehand."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pellucid.core import checks, seeds
from pellucid.core.errors import InputError

# Of a patch of snow: height and width as shares of the picture's, how much of it flakes cover, how bright a flake is at most
# in one picture, and the least that a flake has of that.
HEIGHT, WIDTH, COVER, STRENGTH, FAINTEST = (0.14, 0.22), (0.30, 0.45), (0.5, 0.9), (0.7, 1.0), 0.7


class Planted(NamedTuple):
    """images: as they were given, with the snow; mask (N, H, W): whether a pixel lies in the patch that the snow fell on."""

    images: NDArray[np.uint8]
    mask: NDArray[np.bool_]


def plant_shortcut(images: ArrayLike, where: ArrayLike, *, seed: int = 0) -> Planted:
    """Snow at the lower edge of the pictures that ``where`` names: a mark that a model can use in place of what is shown.

    images: unsigned bytes (N, H, W) or (N, H, W, C). where: (N,) true or false, for instance ``y == 1``. Each picture has a
    patch of its own size and place on the lower edge, of which flakes of its own strength cover a part; a flake brightens a
    pixel and never darkens it. The patch of row i depends on the seed and on i alone, not on the picture or the other rows.
    A model trained on pictures where only one class has snow may learn the snow (Ribeiro et al. 2016, sec. 6.4: husky or wolf).

    Raises InputError for other than unsigned bytes and for ``where`` of another length or kind.
    """
    given, chosen = np.asarray(images), np.asarray(where)
    if given.dtype != np.uint8 or given.ndim not in (3, 4) or 0 in given.shape[1:]:
        raise InputError(
            f"images are {given.dtype} {given.shape}", cure="Give unsigned bytes (N, H, W) or (N, H, W, C), as Data.raw does."
        )
    if chosen.dtype != np.bool_ or chosen.ndim != 1:
        raise InputError(f"where is {chosen.dtype} {chosen.shape}", cure="Give true or false for each picture, such as y == 1.")
    checks.same_length(images=given, where=chosen)
    planted, mask = given.copy(), np.zeros(given.shape[:3], np.bool_)
    for i in np.flatnonzero(chosen).tolist():
        _snow(planted[i], mask[i], np.random.default_rng(seeds.derive(seed, "snow", i)))
    return Planted(planted, mask)


def _snow(image: NDArray[np.uint8], mask: NDArray[np.bool_], rng: np.random.Generator) -> None:
    """Let it fall on one picture (H, W) or (H, W, C), in place."""
    tall, wide = (max(1, round(rng.uniform(*share) * size)) for share, size in zip((HEIGHT, WIDTH), mask.shape))
    left = int(rng.integers(0, mask.shape[1] - wide + 1))
    patch = np.s_[mask.shape[0] - tall :, left : left + wide]
    flakes = rng.random((tall, wide)) < rng.uniform(*COVER)
    bright = 255 * rng.uniform(*STRENGTH) * rng.uniform(FAINTEST, 1, (tall, wide)) * flakes
    snow = bright.astype(np.uint8)
    image[patch] = np.maximum(image[patch], snow if image.ndim == 2 else snow[..., None])
    mask[patch] = True

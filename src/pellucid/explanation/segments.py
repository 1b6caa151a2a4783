"""Inputs cut into segments: label maps for methods that switch whole regions on and off."""

from __future__ import annotations

import inspect
import math
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pellucid.core import checks
from pellucid.core.errors import InputError, UnsupportedError, nearest

from . import masks
from .inputs import prepare

Array = NDArray[Any]

# The edge of the images that the published settings are for; for others they are scaled with the edge, a number of pixels
# with its square.
EDGE = 224
MOST, LEAST, POSITIONS_EACH = 64, 8, 16
FEWEST_PIXELS = 4  # of a segment by felzenszwalb
LIGHTNESS = 100  # the range of L in the Lab colour space, which the published weights of colour against distance are for


def segments(x: Any, method: str = "slic", **options: Any) -> Tensor:
    """(B, *spatial) whole numbers: the segment of every position, numbered 0 .. M - 1 in the order in which a scan meets them.

    x: (B, C, *spatial) with any number of channels on any scale, or grey images (B, H, W). Three axes are taken as grey
    images by the methods that are for images only, else as sequences (B, C, L); a table (B, D) has its features as positions.
    Each sample is cut by itself, with its values scaled to [0, 1] over all its channels; three channels are taken as red,
    green and blue. The same input always gives the same segments.

    method and its options:

    - "slic": k-means of colour and place (Achanta et al. 2012), for two or three spatial axes. count: about how many, by
      default one for 16 positions, at least 8 and at most 64; compactness (10): the weight of place against colour.
    - "quickshift": mode seeking (Vedaldi & Soatto 2008), for images, as LIME does. kernel_size (4 for an edge of 224,
      proportional to it, at least 0.25), max_dist (200), ratio (0.2). An edge of 224 gives 30 to 40 segments for photographs,
      one of 28 about as many.
    - "felzenszwalb": merging by edge strength (Felzenszwalb & Huttenlocher 2004), for images. scale (100), sigma (0.8), least
      (150 pixels): for an edge of 224; scale and sigma are proportional to the edge, least to its square, but at least 4.
    - "grid": equal boxes on any number of axes. count: about how many in all, by default as for "slic", or one number per axis.
    - "pixels": each position by itself.

    Raises InputError for another method or option, UnsupportedError where the method is not for inputs of this shape.
    """
    checks.one_of("method", method, KINDS)
    cut, axes = KINDS[method]
    known = list(inspect.signature(cut).parameters)[1:]
    for name in options:
        if name not in known:
            raise InputError(f"'{method}' has no option '{name}'", cure=nearest(name, known))
    x = prepare(None, x)
    if x.ndim == 2 or (x.ndim == 3 and 2 in axes):
        x = x[:, None]
    if axes and x.ndim - 2 not in axes:
        raise UnsupportedError(
            f"'{method}' cuts images, the input has shape {tuple(x.shape)}", cure='method="grid" cuts any input into boxes.'
        )
    scaled = masks.unit(x.double()).movedim(1, -1).cpu().numpy()
    labels = np.stack([np.asarray(cut(sample, **options)) for sample in scaled])
    return renumbered(torch.from_numpy(labels.astype(np.int64)).to(x.device))


def renumbered(labels: Any) -> Tensor:
    """(B, *spatial) any whole numbers as 0 .. M - 1 for each sample, in the order in which a scan of its positions meets them.

    Numbers may start anywhere, leave gaps and be negative. Raises InputError for other than whole numbers and for fewer than
    two axes.
    """
    given = labels if isinstance(labels, Tensor) else torch.as_tensor(np.asarray(labels))
    if given.is_floating_point() or given.is_complex() or given.dtype is torch.bool:
        raise InputError(f"segments are {given.dtype}", cure="Give a whole number for every position.")
    if given.ndim < 2 or given.numel() == 0:
        raise InputError(f"segments have shape {tuple(given.shape)}", cure="Give (B, *spatial), one label per position.")
    rows = []
    for row in given.flatten(1).cpu().numpy():
        _, first, inverse = np.unique(row, return_index=True, return_inverse=True)
        rows.append(np.argsort(np.argsort(first))[inverse.reshape(-1)])
    return torch.from_numpy(np.stack(rows).astype(np.int64)).view(given.shape).to(given.device)


def _slic(image: Array, *, count: int | None = None, compactness: float = 10.0) -> Array:
    from skimage.segmentation import slic

    number = _usual(image) if count is None else checks.count("count", count)
    checks.positive("compactness", compactness)
    colours, lab = _coloured(image)
    found: Array = slic(colours, n_segments=number, compactness=compactness, start_label=0, convert2lab=lab, channel_axis=-1)
    return found


def _quickshift(image: Array, *, kernel_size: float | None = None, max_dist: float = 200.0, ratio: float = 0.2) -> Array:
    from skimage.segmentation import quickshift

    width = max(0.25, 4 * _edge(image)) if kernel_size is None else checks.positive("kernel_size", kernel_size)
    checks.positive("max_dist", max_dist)
    checks.fraction("ratio", ratio)
    finer = math.ceil(1 / width)  # no kernel may be narrower than a pixel: narrower ones look at a copy of smaller pixels
    colours, lab = _coloured(image.repeat(finer, 0).repeat(finer, 1))
    found: Array = quickshift(colours, kernel_size=width * finer, max_dist=max_dist, ratio=ratio, convert2lab=lab, rng=0)
    return found[::finer, ::finer]


def _felzenszwalb(image: Array, *, scale: float = 100.0, sigma: float = 0.8, least: float = 150.0) -> Array:
    from skimage.segmentation import felzenszwalb

    edge = _edge(image)
    scale, sigma = checks.positive("scale", scale) * edge, checks.positive("sigma", sigma, zero=True) * edge
    smallest = max(FEWEST_PIXELS, round(checks.positive("least", least) * edge**2))
    with warnings.catch_warnings():  # it doubts that more than three channels are meant
        warnings.simplefilter("ignore", RuntimeWarning)
        found: Array = felzenszwalb(image, scale=scale, sigma=sigma, min_size=smallest, channel_axis=-1)
    return found


def _grid(image: Array, *, count: int | Sequence[int] | None = None) -> Array:
    size = image.shape[:-1]
    if isinstance(count, Sequence):
        if len(count) != len(size):
            raise InputError(f"count has {len(count)} numbers for {len(size)} axes", cure="Give one number, or one per axis.")
        each = [checks.count("count", n) for n in count]
    else:
        number = _usual(image) if count is None else checks.count("count", count)
        each = [max(1, round(number ** (1 / len(size))))] * len(size)
    each = [min(n, s) for n, s in zip(each, size)]
    index = [np.arange(s) * n // s for n, s in zip(each, size)]
    return np.asarray(np.ravel_multi_index(np.meshgrid(*index, indexing="ij"), each))


def _pixels(image: Array) -> Array:
    return np.arange(math.prod(image.shape[:-1])).reshape(image.shape[:-1])


def _usual(image: Array) -> int:
    """How many segments, where nobody says."""
    return max(LEAST, min(MOST, math.prod(image.shape[:-1]) // POSITIONS_EACH))


def _edge(image: Array) -> float:
    """The edge of an image, the geometric mean of the two, as a share of that which settings are published for."""
    return math.sqrt(math.prod(image.shape[:-1])) / EDGE


def _coloured(image: Array) -> tuple[Array, bool]:
    """An image as the methods that weigh colour against place want it, and whether it is to be turned into Lab.

    One channel is grey; what is neither grey nor in three colours takes the range of L instead.
    """
    if image.ndim == 3 and image.shape[-1] in (1, 3):
        return np.repeat(image, 3 // image.shape[-1], -1), True
    return image * LIGHTNESS, False


# Each with the numbers of spatial axes that it is for; none: any.
KINDS: dict[str, tuple[Callable[..., Any], tuple[int, ...]]] = {
    "slic": (_slic, (2, 3)),
    "quickshift": (_quickshift, (2,)),
    "felzenszwalb": (_felzenszwalb, (2,)),
    "grid": (_grid, ()),
    "pixels": (_pixels, ()),
}

"""How alike two sets of maps are: rank correlation, SSIM and HOG, over a whole batch at once (Adebayo et al. 2018, sec. 3)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import ArrayLike, NDArray
from scipy.ndimage import gaussian_filter, uniform_filter

from pellucid.core.errors import InputError, UnsupportedError
from pellucid.core.table import MEASURES

Floats = NDArray[np.float64]
Described = tuple[Floats, ...]  # each with the samples as first axis

WINDOW, SIGMA = 11, 1.5  # of SSIM, in cells
C1, C2 = 0.01**2, 0.03**2  # its constants, for maps from 0 to 1
CELL, LEAST_CELL, ACROSS = 16, 2, 6  # of HOG: the side of a cell, and how many of them a small map is to have each way
ORIENTATIONS, BLOCK = 9, 3  # of half a turn; cells that are scaled together, each way
CLIP, TINY = 0.2, 1e-5  # of L2-Hys: scaled, cut at CLIP, scaled again; beside a length that may be 0


@dataclass(frozen=True)
class Similarity:
    """What is compared of a map, worked out once for each set of maps, and the comparison.

    describe: (N, *spatial) -> arrays (N, ...). compare: two of those -> (N,). refuses: the axes of a map -> why it has no such
    similarity, empty where it has one.
    """

    describe: Callable[[Floats], Described]
    compare: Callable[[Described, Described], Floats]
    refuses: Callable[[tuple[int, ...]], str] = lambda shape: ""

    def __call__(self, a: ArrayLike, b: ArrayLike) -> Floats:
        """(N,) of maps (N, *spatial). InputError for other shapes, UnsupportedError for maps that it is not made for."""
        x, y = (np.asarray(m, dtype=np.float64) for m in (a, b))
        if x.shape != y.shape or x.ndim < 2:
            raise InputError(f"maps of shapes {x.shape} and {y.shape}", cure="Give (N, *spatial) and as many of the same size.")
        for name, maps in (("first", x), ("second", y)):
            if not np.isfinite(maps).all():
                raise InputError(f"the {name} maps hold values that are not finite", cure="Remove or fill them first.")
        if reason := self.refuses(x.shape[1:]):
            raise UnsupportedError(reason, cure="Use another similarity.")
        return self.compare(self.describe(x), self.describe(y))


def unit(maps: Floats) -> Floats:
    """Each map from 0 to 1; zeros for one without a range."""
    flat = maps.reshape(len(maps), -1)
    low, span = flat.min(1, keepdims=True), np.ptp(flat, axis=1, keepdims=True)
    scaled: Floats = ((flat - low) / np.where(span > 0, span, 1)).reshape(maps.shape)
    return scaled


def _average_ranks(rows: NDArray[np.floating]) -> Floats:
    """Ranks within each row (N, D), from 1; of equal values their mean. scipy's, without its slower stable sort."""
    n, size = rows.shape
    order = rows.argsort(1)
    inorder = np.take_along_axis(rows, order, 1)
    first = np.ones((n, size), dtype=bool)  # of a run of equal values
    first[:, 1:] = inorder[:, 1:] != inorder[:, :-1]
    start = np.flatnonzero(first)
    stop = np.append(start[1:], rows.size)
    means = np.repeat((start + stop + 1) / 2, stop - start).reshape(n, size) - size * np.arange(n)[:, None]
    ranks = np.empty((n, size))
    np.put_along_axis(ranks, order, means, 1)
    return ranks


def _ranks(maps: NDArray[np.floating]) -> Described:
    """Centred ranks of length 1, so that their product is the correlation; zeros where all values are equal."""
    flat = maps.reshape(len(maps), -1)
    ranks = _average_ranks(flat) - (flat.shape[1] + 1) / 2
    norm = np.sqrt(np.einsum("ij,ij->i", ranks, ranks))[:, None]
    return (ranks / np.where(norm > 0, norm, 1),)


def _product(a: Described, b: Described) -> Floats:
    return np.asarray(np.einsum("ij,ij->i", a[0], b[0]))


def _side(shape: tuple[int, ...]) -> int:
    """The side of SSIM's window: 11 cells, else the largest odd number that fits, 0 where there is no 2-d window at all."""
    least = min(shape)
    return 0 if len(shape) < 2 or least < 3 else min(WINDOW, least - 1 + least % 2)


def _local(maps: Floats) -> Floats:
    """(N, P) the weighted mean of each map over every window that lies within it."""
    side, axes = _side(maps.shape[1:]), tuple(range(1, maps.ndim))
    if side == 0:
        over_all: Floats = maps.reshape(len(maps), -1).mean(1, keepdims=True)
        return over_all
    if side < WINDOW:
        means: Floats = uniform_filter(maps, side, axes=axes)
    else:
        means = gaussian_filter(maps, SIGMA, radius=WINDOW // 2, axes=axes)
    inner = tuple(slice(side // 2, size - side // 2) for size in maps.shape[1:])
    found: Floats = means[(slice(None), *inner)].reshape(len(maps), -1)
    return found


def _unbiased(shape: tuple[int, ...]) -> float:
    """Uniform windows take the sample's variance, n / (n - 1); Gaussian ones, as in the paper, the population's."""
    cells = _side(shape) ** len(shape)
    return cells / (cells - 1) if 0 < _side(shape) < WINDOW else 1.0


def _windows(maps: Floats) -> Described:
    x = unit(maps)
    mean = _local(x)
    return x, mean, _unbiased(x.shape[1:]) * (_local(x * x) - mean**2)


def _ssim(a: Described, b: Described) -> Floats:
    (x, mean_x, var_x), (y, mean_y, var_y) = a, b
    covariance = _unbiased(x.shape[1:]) * (_local(x * y) - mean_x * mean_y)
    above = (2 * mean_x * mean_y + C1) * (2 * covariance + C2)
    found: Floats = (above / ((mean_x**2 + mean_y**2 + C1) * (var_x + var_y + C2))).mean(1)
    return found


def hog_cell(shape: tuple[int, ...]) -> int:
    """The side of a HOG cell: 16, in small maps a sixth of the shorter side, 2 at the least."""
    return max(LEAST_CELL, min(CELL, min(shape) // ACROSS))


def _no_hog(shape: tuple[int, ...]) -> str:
    if len(shape) != 2:
        return f"a map of shape {shape} has no oriented gradients: HOG is for maps with two axes"
    if min(shape) < BLOCK * LEAST_CELL:
        return f"a map of shape {shape} is too small for HOG, which needs {BLOCK * LEAST_CELL} values each way"
    return ""


def _gradients(maps: Floats) -> tuple[Floats, Floats]:
    """Central differences along both axes, zero on the border."""
    along = np.zeros_like(maps), np.zeros_like(maps)
    along[0][:, 1:-1] = maps[:, 2:] - maps[:, :-2]
    along[1][:, :, 1:-1] = maps[:, :, 2:] - maps[:, :, :-2]
    return along


def histograms_of_oriented_gradients(maps: Floats) -> Floats:
    """(N, D) of maps (N, H, W): lengths of gradients by cell and orientation, in blocks of cells scaled by L2-Hys.

    Every value counts for its own cell and orientation only; what is left of rows and columns after whole cells is not seen.
    """
    cell, n = hog_cell(maps.shape[1:]), len(maps)
    high, wide = (size // cell for size in maps.shape[1:])
    down, right = (g[:, : high * cell, : wide * cell] for g in _gradients(maps))
    turn = (np.rad2deg(np.arctan2(down, right)) % 180 // (180 / ORIENTATIONS)).astype(int)
    cells = np.arange(high * cell)[:, None] // cell * wide + np.arange(wide * cell) // cell
    place = (np.arange(n)[:, None, None] * high * wide + cells) * ORIENTATIONS + np.minimum(turn, ORIENTATIONS - 1)
    sums = np.bincount(place.ravel(), np.hypot(down, right).ravel(), minlength=n * high * wide * ORIENTATIONS)
    blocks = sliding_window_view(sums.reshape(n, high, wide, ORIENTATIONS) / cell**2, (BLOCK, BLOCK), axis=(1, 2))
    flat = blocks.reshape(n, -1, ORIENTATIONS * BLOCK**2)
    flat = np.minimum(flat / _length(flat), CLIP)
    found: Floats = (flat / _length(flat)).reshape(n, -1)
    return found


def _length(rows: Floats) -> Floats:
    found: Floats = np.sqrt((rows * rows).sum(-1, keepdims=True) + TINY**2)
    return found


def _oriented(maps: Floats) -> Described:
    """Ranks of the histograms; in single precision, so that values that are equal but for rounding stay ties."""
    return _ranks(histograms_of_oriented_gradients(unit(maps)).astype(np.float32))


# What the sanity checks compare, by the names in their results.
SIMILARITIES: dict[str, Similarity] = {
    "ssim": Similarity(_windows, _ssim),
    "rank": Similarity(_ranks, _product),
    "rank_absolute": Similarity(lambda maps: _ranks(np.abs(maps)), _product),
    "hog": Similarity(_oriented, _product, _no_hog),
}


@MEASURES.add("similarity", larger_is_better=None, mission="Q2", paper="Adebayo et al. 2018, sec. 3: Spearman rank correlation")
def rank_correlation(a: ArrayLike, b: ArrayLike) -> Floats:
    """(N,) Spearman's correlation of maps (N, *spatial), ties averaged; 0 where a map is constant, though it is undefined."""
    return SIMILARITIES["rank"](a, b)


@MEASURES.add("similarity", larger_is_better=None, mission="Q2", paper="Wang et al. 2004, eq. 13, Gaussian weights")
def structural_similarity_index(a: ArrayLike, b: ArrayLike) -> Floats:
    """(N,) SSIM of maps (N, *spatial), scaled to [0, 1] each.

    Of maps smaller than the window of 11 cells, with the largest odd one that fits; of rows of a table and sequences over one
    window that covers everything. Two constant maps have 1.
    """
    return SIMILARITIES["ssim"](a, b)


@MEASURES.add("similarity", larger_is_better=None, mission="Q2", paper="Adebayo et al. 2018, sec. 3; Dalal & Triggs 2005")
def hog_correlation(a: ArrayLike, b: ArrayLike) -> Floats:
    """(N,) Spearman's correlation of the histograms of oriented gradients of maps (N, H, W), scaled to [0, 1] each.

    Cells of 16 x 16, in maps below 96 values a sixth of the shorter side, 2 at the least; 9 orientations, blocks of 3 x 3
    cells. 0 where a map is constant. Raises UnsupportedError for maps that have not two axes, or fewer than 6 values along one.
    """
    return SIMILARITIES["hog"](a, b)

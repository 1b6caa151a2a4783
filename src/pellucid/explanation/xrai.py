"""XRAI: integrated gradients gathered over the segments of the image (Kapishnikov et al., ICCV 2019)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pellucid.core import checks
from pellucid.core.errors import InputError, UnsupportedError

from . import masks
from .integrated_gradients import straight
from .method import method
from .result import Found
from .score import Score
from .segments import EDGE
from .segments import segments as cut

SCALES = (50.0, 100.0, 150.0, 250.0, 500.0, 1200.0)
# Pixels of an image of EDGE x EDGE by which a segment is enlarged, and which it has to add at least to be taken.
BORDER, LEAST = 5, 50
Array = NDArray[Any]


@method(
    "perturbation",
    needs="score",
    cost="3 * F + 2 * steps * (F + B)",
    claims="signed",
    mission="X7",
    paper="Kapishnikov et al. 2019, alg. 1",
    reading="Whole regions in the order of their share of the score per pixel: orange for the class, blue against it.",
)
def xrai(
    score: Score,
    x: Tensor,
    *,
    steps: int = 32,
    scales: Sequence[float] = SCALES,
    segments: Any = None,
) -> Found:
    """Mean of A over the pixels that each segment adds, A the integrated gradients summed over channels; best segment first.

    A is averaged over a black and a white baseline (the sample's own least and greatest value), by Gauss-Legendre quadrature
    with ``steps`` nodes each. The segments are those of Felzenszwalb at the six ``scales`` (sigma 0.8, at least 150 pixels),
    each enlarged by 5 pixels. The one with the highest mean of A over the pixels that no other has taken yet takes them, until
    none would add 50 pixels; what then is left is the last region. All these numbers are for images of 224 x 224 on the
    range of -1 to 1; lengths and scales are proportional to the edge, numbers of pixels to its square (4 at least).

    segments: instead, masks (M, H, W) for all samples, or a list of such, one for each; they are taken as they are.

    The relevance is constant on each region, covers the image and sums to score - base (the mean score of the two
    baselines); what is missing is the quadrature's ``gap``. (The authors' program takes the maximum over channels instead of
    the sum.) details: ``order`` (B, H, W), the place of each pixel's region, 0 for the best. Raises UnsupportedError for inputs
    other than images, InputError for bad options.
    """
    if x.ndim != 4:
        raise UnsupportedError(f"xrai explains images, the input has shape {tuple(x.shape)}", cure="Use integrated_gradients.")
    known = candidates(x, scales) if segments is None else _given(segments, score, x)
    ends = [masks.beside(end(x.flatten(1), 1), x).expand_as(x) for end in (torch.amin, torch.amax)]
    shares, base, gap = straight(score, x, ends, steps)
    least = max(1, round(LEAST * _edge(x) ** 2))
    density = masks.collect(shares)
    merged = [merge(d.double().cpu().numpy(), m, least) for d, m in zip(density, known)]
    values, order = (torch.from_numpy(np.stack(part)).to(x.device) for part in zip(*merged))
    relevance = masks.spread(values.to(x), x)
    return Found(relevance, raw=density, base=base, gap=gap, details={"order": order})


def _edge(x: Tensor) -> float:
    return math.sqrt(x.shape[-2] * x.shape[-1]) / EDGE


def candidates(x: Tensor, scales: Sequence[float] = SCALES) -> list[Array]:
    """For each image (B, C, H, W) the different segments of all scales, enlarged: (M, H, W)."""
    given = scales if isinstance(scales, Sequence) and not isinstance(scales, str) else [scales]
    if not given:
        raise InputError("no scales", cure=f"Give some, such as {SCALES}.")
    # on twice the range of values every edge is twice as strong, which is half the scale
    levels = [cut(x, "felzenszwalb", scale=checks.positive("scales", s) / 2).cpu().numpy() for s in given]
    radius = max(1, round(BORDER * _edge(x)))
    found = []
    for each in zip(*levels):
        alone = {one.tobytes(): one for labels in each for one in labels == np.arange(labels.max() + 1)[:, None, None]}
        found.append(enlarged(np.stack(list(alone.values())), radius))
    return found


def enlarged(regions: Array, radius: int) -> Array:
    """(M, H, W) masks with every place within ``radius`` of one of theirs: a dilation with a disk."""
    height = regions.shape[1]
    counts = np.pad(regions, ((0, 0), (0, 0), (radius + 1, radius))).cumsum(2, dtype=np.int32)
    found = np.zeros_like(regions)
    for down in range(-radius, radius + 1):
        half = math.isqrt(radius**2 - down**2)
        width = regions.shape[2]
        near = counts[:, :, radius + half + 1 :][:, :, :width] > counts[:, :, radius - half :][:, :, :width]
        to, come = max(0, down), max(0, -down)
        found[:, to : height - come] |= near[:, come : height - to]
    return found


def merge(density: Array, regions: Array, least: int = 1) -> tuple[Array, Array]:
    """(H, W) the mean density of the pixels that came in together, and (H, W) the place of their coming, 0 first.

    density (H, W), regions (M, H, W). Each turn takes the region with the highest mean over its pixels that are not taken yet,
    if these are at least ``least``; the first of equals. Sums are kept up to date: every pixel is taken off its regions once.
    """
    flat = density.reshape(-1)
    inside = np.ascontiguousarray(regions.reshape(len(regions), -1).T)  # (P, M): a pixel's regions stand together
    number = inside.sum(0).astype(np.int64)
    total = np.array([density[region].sum() for region in regions])
    values, order = np.zeros_like(flat), np.full(flat.shape, -1, dtype=np.int64)
    for turn in range(len(regions)):
        open_ = number >= max(1, least)
        if not open_.any():
            break
        best = int(np.argmax(np.where(open_, total / np.maximum(number, 1), -np.inf)))
        new = np.flatnonzero(inside[:, best] & (order < 0))
        values[new], order[new] = flat[new].mean(), turn
        mine = inside[new]
        number -= mine.sum(0)
        total -= flat[new] @ mine
    left = order < 0
    if left.any():
        values[left], order[left] = flat[left].mean(), order.max() + 1
    return values.reshape(density.shape), order.reshape(density.shape)


def _given(given: Any, score: Score, x: Tensor) -> list[Array]:
    """Masks for each sample of this batch from those that the caller gave."""
    several = isinstance(given, list | tuple) and len(given) > 0 and getattr(given[0], "ndim", 3) == 3
    number = score.first + len(x)
    if several and len(given) < number:
        raise InputError(f"segments for {len(given)} samples, there are more", cure="Give a list with one set per sample.")
    found = []
    for regions in given[score.first : number] if several else [given] * len(x):
        array = np.asarray(regions.cpu() if isinstance(regions, Tensor) else regions)
        if array.ndim != 3 or array.shape[1:] != x.shape[2:] or len(array) == 0 or not np.isin(array, (0, 1)).all():
            raise InputError(
                f"segments of shape {array.shape} for images of {tuple(x.shape[2:])}",
                cure="Give masks (M, H, W) of true and false, one for each segment.",
            )
        found.append(array.astype(bool))
    return found

"""Does a map point at a shortcut? The share of its positive relevance on the mark, beside the mark's share of the area."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from pellucid.core.checks import finite
from pellucid.core.errors import InputError
from pellucid.core.table import MEASURES
from pellucid.explanation.result import Explanation

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class OnMask:
    """What of the maps lies on the mask, (N,) each; NaN of a map without any positive relevance.

    share: of the positive relevance. peak: 1 where the map's greatest value lies on the mask, 0 where not, and where several
    cells have it the share of them that do. area: of the map's cells: what both are on average for a map that knows nothing.
    """

    share: Floats
    peak: Floats
    area: Floats

    @property
    def blank(self) -> NDArray[np.bool_]:
        """(N,) whether a map has no positive relevance at all: it points at nothing."""
        return np.isnan(self.share)

    @property
    def chance(self) -> float:
        """The mean area."""
        return float(self.area.mean())

    def __len__(self) -> int:
        return len(self.share)

    def __float__(self) -> float:
        """The mean share over the maps that have one; NaN if none has."""
        shares = self.share[~self.blank]
        return float(shares.mean()) if len(shares) else float("nan")


@MEASURES.add("shortcut", larger_is_better=None, mission="Q6", paper="Arras et al. 2022: relevance mass accuracy")
def relevance_on(mask: ArrayLike, relevance: Any) -> OnMask:
    """Share of the positive relevance that lies on the mask: sum over the mask of max(R, 0) / sum of max(R, 0), per sample.

    mask: (N, *spatial), or (*spatial) for one that all samples share; true, or 1, on the cells in question: a suspected
    shortcut, or an object. relevance: an ``Explanation``, or maps (N, *spatial) with their sign. Whether a large share is good
    depends on what the mask holds. A mark has edges, and edges draw the relevance of many methods: compare also with a model
    that cannot have learned the mark, or with ``edge_detector``, not with the area alone.

    Raises InputError for shapes that differ, masks of other than 0 and 1, masks that hold no cell or all of them, and
    relevance that is not finite.
    """
    given = relevance.map() if isinstance(relevance, Explanation) else torch.as_tensor(relevance)
    maps = finite("relevance", given.detach()).double().cpu().numpy()
    on = torch.as_tensor(mask).cpu().numpy()
    if on.shape == maps.shape[1:]:
        on = np.broadcast_to(on, maps.shape)
    if on.shape != maps.shape or maps.ndim < 2 or len(maps) == 0:
        raise InputError(
            f"a mask of shape {on.shape} for maps of shape {maps.shape}", cure="Give maps (N, *spatial) and a mask for each."
        )
    if not np.isin(on, (0, 1)).all():
        raise InputError("the mask has other values than 0 and 1", cure="Give mask > 0, or the threshold that you mean.")
    inside, positive = on.reshape(len(on), -1).astype(bool), maps.clip(min=0).reshape(len(maps), -1)
    area = inside.mean(1)
    useless = (area == 0) | (area == 1)
    if useless.any():
        raise InputError(
            "the mask holds no cell, or all of them",
            where=f"sample {useless.argmax()}",
            cure="Leave out samples without a mark.",
        )
    top = positive.max(1, keepdims=True)
    blank = top[:, 0] == 0
    scaled = positive / np.where(top > 0, top, 1)  # before the sum, which could overflow or vanish
    share, peak = (np.where(blank, np.nan, _part(values, inside)) for values in (scaled, scaled == 1))
    return OnMask(share, peak, area)


def _part(values: NDArray[Any], inside: NDArray[np.bool_]) -> Floats:
    """(N,) of the sum of each row what is inside; 0 for a row of zeros."""
    total = values.sum(1, dtype=np.float64)
    found: Floats = (values * inside).sum(1, dtype=np.float64) / np.where(total > 0, total, 1)
    return found

"""Maps over the input's spatial axes: one convention for resizing, scaling, spreading and masking.

A map has the shape (B, *spatial): the input's shape without its channel axis, (B, H, W) for images, (B, L) for sequences.
A table row (B, D) has no channel axis, so its map is the row itself.
"""

from __future__ import annotations

import torch
from torch import Tensor

from pellucid.core.errors import InputError

_RESIZE = {1: "linear", 2: "bilinear", 3: "trilinear"}


def beside(numbers: Tensor, like: Tensor) -> Tensor:
    """One number per sample (B,), or per channel (B, K), in a shape that broadcasts with ``like`` (B, K, ...)."""
    return numbers.view(*numbers.shape, *[1] * (like.ndim - numbers.ndim))


def spatial(x: Tensor) -> tuple[int, ...]:
    """The axes of a map for this input: everything after the channels; the features themselves for a table."""
    return tuple(x.shape[2:]) if x.ndim > 2 else tuple(x.shape[1:])


def resize(maps: Tensor, size: tuple[int, ...]) -> Tensor:
    """(B, *coarse) -> (B, *size), linear between cell centres (``align_corners=False``)."""
    if tuple(maps.shape[1:]) == tuple(size):
        return maps
    return torch.nn.functional.interpolate(maps[:, None], size=size, mode=_RESIZE[maps.ndim - 1], align_corners=False)[:, 0]


def unit(maps: Tensor) -> Tensor:
    """Min-max scaling of each map to [0, 1]. A constant map becomes all ones: nothing is singled out, nothing removed."""
    low, high = (beside(f(maps.flatten(1), 1), maps) for f in (torch.amin, torch.amax))
    span = high - low
    return torch.where(span > 0, (maps - low) / torch.where(span > 0, span, 1), torch.ones_like(maps))


def positive_share(maps: Tensor) -> Tensor:
    """The positive part of each map over its maximum, in [0, 1]. A map without a positive value stays all zeros."""
    kept = maps.clamp(min=0)
    top = beside(kept.flatten(1).amax(1), maps)
    return torch.where(top > 0, kept / torch.where(top > 0, top, 1), torch.zeros_like(kept))


def spread(maps: Tensor, x: Tensor) -> Tensor:
    """A map as relevance of the input's shape: equal parts, so that summing over channels gives it back."""
    if x.ndim == 2:
        return maps
    return (maps / x.shape[1])[:, None].expand_as(x).clone()


def collect(relevance: Tensor) -> Tensor:
    """Relevance of the input's shape as a map: the sum over channels."""
    return relevance.sum(1) if relevance.ndim > 2 else relevance


def keep(x: Tensor, mask: Tensor) -> Tensor:
    """I * x: the input weighted by a map in [0, 1]. Zero keeps nothing, which for a normalised input means its mean."""
    if tuple(mask.shape) != (len(x), *spatial(x)):
        raise InputError(
            f"a mask of shape {tuple(mask.shape)} for an input of shape {tuple(x.shape)}", cure="Give one map per sample."
        )
    return x * (mask[:, None] if x.ndim > 2 else mask)

"""Class activation maps: weighted sums of a layer's activations A (B, K, h, w) with the gradient g = ds/dA."""

from __future__ import annotations

from torch import Tensor

from . import masks
from .method import method
from .result import Found
from .score import Score


def on_the_input(raw: Tensor, x: Tensor) -> Tensor:
    """A map at the layer's resolution as relevance of the input's shape."""
    return masks.spread(masks.resize(raw, masks.spatial(x)), x)


@method("activation", needs="layer", cost="F + H", mission="X19", paper="Selvaraju et al. 2017, eq. 1-2")
def grad_cam(score: Score, x: Tensor, *, relu: bool = True) -> Found:
    """ReLU(sum_k w_k A^k), w_k = mean over positions of ds/dA^k; ``raw`` is the signed sum at the layer's resolution.

    With ``relu=False`` the relevance keeps its negative part too. Clipped before it is enlarged.
    """
    a, g = score.activation()
    w = g.flatten(2).mean(2)
    raw = (w.view(*w.shape, *[1] * (a.ndim - 2)) * a).sum(1)
    return Found(on_the_input(raw.clamp(min=0) if relu else raw, x), raw=raw)

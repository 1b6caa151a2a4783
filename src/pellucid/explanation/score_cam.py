"""Class activation maps whose weights are scores: channels are tried out, no gradient is taken."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from . import masks
from .activation import clipped, weighted
from .method import method
from .replay import agree, half_gone, without_channels
from .result import Found
from .score import Score


@method(
    "activation",
    needs="layer",
    cost="F + channels * F",
    mission="X20",
    paper="Wang et al. 2020, eq. 5-7",
    reading="Strong where features are found that alone, as a stencil over the input, let the network see the class.",
)
def score_cam(score: Score, x: Tensor, *, relu: bool = True) -> Found:
    """ReLU(sum_k w_k A^k), w = softmax over channels of s(x * unit(A^k enlarged)); ``raw`` is the signed sum.

    The paper's baseline score is the same for all channels and cancels in the softmax. A constant channel singles nothing
    out: its mask is 1 everywhere and its score the sample's own, without a pass. counts: channels tried, mean over samples.
    With ``relu=False`` the relevance keeps its negative part too.
    """
    a = score.maps()
    size = masks.spatial(x)
    flat = a.flatten(2)
    varies = flat.amax(2) > flat.amin(2)

    def masked(sample: Tensor, draw: Tensor) -> Tensor:
        return masks.keep(x[sample], masks.unit(masks.resize(a[sample, draw], size)))

    found = score.values(a.shape[1], masked, where=varies)
    found = torch.where(varies, found, score.own()[:, None].expand_as(found))
    counts = {"channels": float(varies.sum(1).double().mean())}
    return replace(clipped(weighted(found.softmax(1), a), x, relu), counts=counts)


@method(
    "activation",
    needs="layer",
    cost="F + linear * H + replays * T + checks * F",
    mission="X21",
    paper="Desai & Ramaswamy 2020, eq. 3-4",
    reading="Strong where features are found whose removal lowers the score; no gradient is trusted.",
)
def ablation_cam(score: Score, x: Tensor, *, relu: bool = True) -> Found:
    """ReLU(sum_k w_k A^k), w_k = (y - y_-k) / |y|, y_-k the score with channel k of the layer set to zero.

    |y| where the paper has y, so that a negative score does not turn the map round. ``raw`` is the signed sum, which
    ``relu=False`` makes the relevance. Only the part of the network behind the layer runs (T), and only for channels that are
    not zero already. Where the score is linear in the layer's output nothing runs: y - y_-k = sum(g^k * A^k). counts:
    replays, mean over samples, with one of the unedited sample; linear, 1 where the closed form was used; checks, the pass of
    one row through the whole network that the replays or the closed form are compared with, once for all samples.
    """
    a, y = score.maps(), score.own()
    alive = a.flatten(2).abs().amax(2) > 0
    before, replays = score.passes.copy(), 0.0
    drop = _closed_form(score, a, y) if score.affine() else None
    if drop is None:
        without = without_channels(score, alive)
        drop = torch.where(alive, y[:, None] - without, torch.zeros_like(without))
        replays = float(alive.sum(1).double().mean()) + 1
    used = score.passes - before
    counts = {"linear": float(used.head > 0 or replays == 0), "replays": replays, "checks": used.forward / len(x)}
    weights = drop / torch.where(y == 0, 1, y.abs())[:, None]
    return replace(clipped(weighted(weights, a), x, relu), counts=counts)


def _closed_form(score: Score, a: Tensor, y: Tensor) -> Tensor | None:
    """(B, K) y - y_-k = sum(g^k * A^k); None where a choice that no graph shows makes the score other than linear."""
    drop = (score.activation()[1] * a).flatten(2).sum(2)
    tail = score.tail
    if tail is not None and "linear score" not in tail.trusted:
        gone, without = half_gone(score, 0)
        expected = y[0] - drop[0][gone].sum()
        if not agree(expected[None], torch.full_like(y[:1], without), torch.stack([y[0], y[0] - expected])):
            return None
        tail.trusted.add("linear score")
    return drop

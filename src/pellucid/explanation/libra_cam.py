"""Libra-CAM: what the sample has and its contrastive references lack (Lee & Han, IJCAI 2022)."""

from __future__ import annotations

import torch
from torch import Tensor

from pellucid.core import checks
from pellucid.core.errors import InputError

from . import masks
from .activation import on_the_input
from .calibration import THRESHOLDS, at_threshold, threshold_calibration
from .method import method
from .reference_library import ReferenceLibrary
from .result import Found
from .score import Score


@method(
    "activation",
    needs="layer",
    cost="F + H + references * F + thresholds * F",
    mission="X24",
    paper="Lee & Han 2022, IJCAI, pp. 3185-3191",
    reading="What this input has and look-alikes of other classes lack, cut where the network is surest of what is left.",
)
def libra_cam(
    score: Score,
    x: Tensor,
    *,
    library: ReferenceLibrary | None = None,
    gamma: float | None = None,
    calibrated: bool = True,
    mode: str = "lecture",
) -> Found:
    """Mean over kept references r of unit(sum_k g^k (A^k - A_r^k)), cut at the threshold that the model is surest of.

    g = ds/dA at the sample; each map is scaled to [0, 1] at the layer's resolution, then enlarged to I_r. A reference is
    kept where p_c(I_r * x) > gamma; gamma is the sample's own p_c(x) by default, and where none passes the best is kept.
    The mean is scaled to [0, 1] again and calibrated (``threshold_calibration``). ``raw`` is the unscaled mean of
    sum_k g^k (A^k - A_r^k) over the kept references: on a global-average-pooling and linear head its sum is the mean
    difference of the logits. details: references kept and threshold of each sample.

    library: made by ``reference_library`` from training data, at the same layer. mode="code" follows the authors'
    program instead, for comparison: filter by the gain in p_c, no second scaling, cut by rank and one step beyond the best
    rank, so its map can be empty (METHODS A.3).
    """
    checks.one_of("mode", mode, ("lecture", "code"))
    if not isinstance(library, ReferenceLibrary):
        raise InputError(
            "libra_cam needs references", cure="Build them with reference_library(model, x_train, y_train) and pass library=."
        )
    a, g = score.activation()
    if score.target is None:
        raise InputError("libra_cam needs a class to contrast with", cure="Give the target as a class index.")
    if tuple(library.activations.shape[1:]) != tuple(a.shape[1:]):
        raise InputError(
            f"references of shape {tuple(library.activations.shape[1:])} for a layer of {tuple(a.shape[1:])}",
            where=f"library built at '{library.layer}'",
            cure="Explain the layer that the library was built at, on inputs of the same size.",
        )
    raw = torch.stack([contrast(a[i], g[i], library.of(int(c)).to(a)) for i, c in enumerate(score.target)])  # (B, R, h, w)
    references = raw.shape[1]
    small = masks.unit(raw.flatten(0, 1)).view_as(raw)
    size = masks.spatial(x)

    def masked(sample: Tensor, draw: Tensor) -> Tensor:
        return masks.keep(x[sample], masks.resize(small[sample, draw], size))

    p = score.values(references, masked, of="probability")
    own = score.own_probability()
    kept = (
        _passing(p, own if gamma is None else torch.full_like(own, gamma)) if mode == "lecture" else _gaining(p - own[:, None])
    )
    share = kept.to(x.dtype) / kept.sum(1, keepdim=True)
    mean = torch.stack([torch.tensordot(share[i], masks.resize(small[i], size), 1) for i in range(len(x))])
    base = torch.einsum("br,br...->b...", share, raw)
    details = {"kept": kept.sum(1)}
    if bool((raw.flatten(2).amax(2) == raw.flatten(2).amin(2)).all(1).any()):
        score.notes.append("libra_cam: a sample does not differ from its references at this layer; its map is uniform")
    if mode == "code":
        evidence, details["threshold"], counted = _cut_by_rank(score, mean, own) if calibrated else (mean, own * 0, 0)
    else:
        mean, counted = masks.unit(mean), 0
        evidence = mean
        if calibrated:
            found = threshold_calibration(score, mean)
            evidence, details["threshold"], counted = found.evidence, found.threshold, len(THRESHOLDS)
    counts = {"references": float(references), "thresholds": float(counted)}
    return Found(on_the_input(evidence, x), raw=base, counts=counts, details=details)


def contrast(a: Tensor, g: Tensor, references: Tensor) -> Tensor:
    """(R, h, w): sum_k g^k (A^k - A_r^k), the first-order share of f(x) - f(r) at each position."""
    return (g * a).sum(0) - torch.einsum("k...,rk...->r...", g, references)


def _passing(p: Tensor, gamma: Tensor) -> Tensor:
    """(B, R): p_c(I_r * x) > gamma; where none is, the best (all of them if several are best)."""
    kept = p > gamma[:, None]
    best = p == p.max(1, keepdim=True).values
    return torch.where(kept.any(1, keepdim=True), kept, best)


def _gaining(gain: Tensor) -> Tensor:
    """The authors' filter: gains of at least mean - std of the positive ones, else above mean + std of all, else all."""
    kept = torch.ones_like(gain, dtype=torch.bool)
    for row, keep in zip(gain, kept):
        positive = row[row > 0]
        if len(positive):
            keep[:] = (row > 0) & (row >= positive.mean() - positive.std(correction=0))
        elif bool((row > row.mean() + row.std(correction=0)).any()):
            keep[:] = row > row.mean() + row.std(correction=0)
    return kept


def _cut_by_rank(score: Score, mean: Tensor, own: Tensor) -> tuple[Tensor, Tensor, int]:
    """The authors' calibration: zero the lowest 0, 10 ... 90 %, take the best gain, and go one step further."""
    flat = mean.flatten(1)
    ranked = flat.sort(1).values
    steps = 10
    cuts = torch.stack([ranked[:, min(int(flat.shape[1] * i / steps), flat.shape[1] - 1)] for i in range(steps)], 1)
    # beyond the last step everything is removed
    cuts = torch.cat([cuts, torch.full_like(cuts[:, :1], torch.inf)], 1)

    def cut(sample: Tensor, draw: Tensor) -> Tensor:
        return masks.keep(score.x[sample], at_threshold(mean[sample], cuts[sample, draw]))

    gain = (score.values(steps, cut, of="probability") - own[:, None]).clamp(min=0)
    chosen = cuts.gather(1, gain.argmax(1, keepdim=True) + 1)[:, 0]
    return at_threshold(mean, chosen), chosen, steps

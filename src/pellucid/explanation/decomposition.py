"""Layer-wise relevance propagation and its relatives: the score is handed back through the network, step by step.

All of them share one forward pass, followed by ``followed(score)``; each is another table of rules for the way back.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from pellucid.core import checks
from pellucid.core.errors import InputError, UnsupportedError

from . import masks
from .activation import clipped, weighted
from .affine import Affine
from .composites import Chosen, Settings, chosen
from .flow import Flow
from .followed import Followed, followed
from .layers import find_layer
from .method import method
from .relevance import Loss, PositiveShares, Relevance
from .result import Found
from .rules import Shared, ZBox, ZPlus, beside_samples, free_of, known_axis, per_sample, shares
from .score import Score
from .steps import Step

FEW_LOST = 0.25


def without_biases(pass_: Followed, composite: Chosen, kind: type[Relevance] = Relevance) -> Relevance:
    """The rules of a composite for this pass, biases and constants taking nothing and nothing written down."""
    return kind(pass_.flow, composite, bias=False, ledger=False)


def ledger_of(rules: Relevance, gap: Tensor) -> tuple[list[str], Tensor]:
    """Names of the steps that can lose relevance, from the output to the input, and (B, steps, 3) what arrived and was lost.

    The last row is what constants took that were put beside values (a class token, a padding), or values that were left out.
    """
    lost: list[Loss] = rules.lost
    rows = [torch.stack([x.arrived, x.bias, x.rest], 1) for x in lost]
    beside = gap - sum((row[:, 1:].sum(1) for row in rows), torch.zeros_like(gap))
    rows.append(torch.stack([beside, beside, torch.zeros_like(beside)], 1))
    return [*[f"{x.step.where or 'model'} ({x.step.name})" for x in lost], "constants beside values"], torch.stack(rows, 1)


def say_lost(score: Score, relevance: Tensor, started: Tensor, table: Tensor, most_lost: float) -> None:
    """A note where more than this share of the relevance was lost in some sample."""
    missing = started - relevance.flatten(1).sum(1)
    share = torch.where(started != 0, missing.abs() / started.abs().clamp(min=torch.finfo(started.dtype).tiny), 0)
    worst = int(share.argmax())
    if float(share[worst]) > most_lost:
        parts = f" ({_signed(table[worst, :, 1])} to biases, {_signed(table[worst, :, 2])} otherwise)"
        score.notes.append(
            f"{float(share[worst]):.0%} of the relevance of sample {score.first + worst} was lost on the way{parts}: "
            f"{float(started[worst] - missing[worst]):.4g} of {float(started[worst]):.4g} arrived"
        )


def _signed(values: Tensor) -> str:
    return f"{float(values.nansum()):+.4g}"


@method(
    "decomposition",
    needs="steps",
    cost="F + B",
    claims="signed",
    mission="X15",
    paper="Bach et al. 2015, eq. 56-60; Montavon et al. 2019",
    reading="What each input value adds to the score, handed back layer by layer: orange for the class, blue against it.",
)
def lrp(
    score: Score,
    x: Tensor,
    *,
    composite: Any = "epsilon_plus",
    epsilon: float = 1e-6,
    relative: bool = False,
    gamma: float = 0.25,
    low: Any = None,
    high: Any = None,
    bias: bool = True,
    stabiliser: float = 0.0,
    layers: Sequence[str] | str = (),
    most_lost: float = FEW_LOST,
) -> Found:
    """R_j = sum_k (share of j in k) R_k from the score down to the input; the rule of each layer says what a share is.

    composite: which rule each linear layer and convolution gets. A name (``pellucid list composites``), the name of a rule for
    all ("zero", "epsilon", "gamma", "alpha_beta", "z_plus", "w_square", "flat", "z_box"), or a dictionary from "convolution",
    "dense", "first" (what the input enters) or a module's name to a rule of ``pellucid.explanation.rules``.

    Numbers for rules asked for by name: epsilon; relative: epsilon times the layer's root mean square; gamma; low, high:
    bounds of the input for z^B, after normalisation, by default those of each sample; bias: whether biases and constants take
    a share, which is lost; stabiliser: added to the denominators of the other rules and of sums and averages.

    layers: names of layers at whose output the relevance is returned too, in ``details``. most_lost: the lost share above which
    a note says so. ``gap``: score less the sum of the relevance; ``conservation()``: where it was lost, and to what.

    Whatever is no linear layer is passed as ``explanation/relevance.py`` says: a sum shares among its terms, a gate gets
    nothing. LRP-0 is gradient x input on networks of linear, ReLU and max-pooling layers (biases included).
    """
    if not most_lost >= 0:
        raise InputError(f"most_lost is {most_lost!r}", cure="Give a share, 0.25 for a quarter.")
    settings = Settings(epsilon, relative, gamma, low, high, bias, stabiliser)
    pass_ = followed(score)
    rules = Relevance(pass_.flow, chosen(composite, settings), bias=bias, stabiliser=stabiliser)
    names = [layers] if isinstance(layers, str) else list(layers)
    places = [pass_.output_of(_module(score, name)) for name in names]
    relevance, *inside = pass_.back_to(rules, places)
    gap = score.own() - relevance.flatten(1).sum(1)
    steps, table = ledger_of(rules, gap)
    say_lost(score, relevance, pass_.value.detach(), table, most_lost)
    details = {f"relevance at {name}": r for name, r in zip(names, inside)}
    return Found(relevance, gap=gap, details=details, steps=steps, ledger=table)


def _module(score: Score, name: str) -> Any:
    if not isinstance(name, str):
        raise InputError(f"layers holds {name!r}", cure="Give names of layers.")
    return find_layer(score.model, name, score.inputs)[1]


@method(
    "decomposition",
    needs="steps",
    cost="F + B",
    mission="X15",
    paper="Montavon et al. 2017, eq. 12-14",
    reading="Where the evidence for the class lies; it has no sign, and what speaks against the class is not shown.",
)
def deep_taylor(score: Score, x: Tensor, *, low: Any = None, high: Any = None, first: str = "z_box") -> Found:
    """z+ at every layer but the first, without biases; there z^B between low and high ("z_box") or w^2 ("w_square").

    R_j = sum_k a_j w_jk+ / sum_j a_j w_jk+ R_k from ReLU(score); sums and averages share among their positive terms.
    Non-negative, and sums to ReLU(score) unless a unit has no positive contribution at all. low, high: bounds of the input
    after normalisation, by default the smallest and largest value of each sample. A sample with a score below zero has no
    positive evidence: its map is zero. What norms hand on with the other sign is clipped; ``raw`` has it.
    """
    checks.one_of("first", first, ("z_box", "w_square"))
    settings = Settings(low=low, high=high, bias=False)
    pass_ = followed(score)
    table = {"first": settings.rule(first), "convolution": ZPlus(bias=False), "dense": ZPlus(bias=False)}
    rules = without_biases(pass_, chosen(table, settings), PositiveShares)
    relevance = pass_.back(rules, seed=pass_.value.detach().clamp(min=0))
    return Found(relevance.clamp(min=0), raw=relevance)


class Negated(Relevance):
    """Relevance for the dual of a class: the weights of the last affine operation with the other sign."""

    def shared(self, step: Step, op: Affine, z: Tensor, r: Tensor) -> Shared:
        """See the class."""
        if step is self.last:
            op = replace(op, weight=-op.weight, bias=None if op.bias is None else -op.bias)
            z = -z
        return super().shared(step, op, z, r)


@method(
    "decomposition",
    needs="steps",
    cost="F + 2 * B",
    mission="X16",
    paper="Gu et al. 2018, eq. 5-7",
    reading="What speaks for this class more than for the others; what all classes share is taken away.",
)
def contrastive_lrp(
    score: Score,
    x: Tensor,
    *,
    dual: str = "others",
    composite: Any = None,
    low: Any = None,
    high: Any = None,
    clip: bool = True,
) -> Found:
    """max(0, R - R_dual): the relevance of the class less that of its dual, both z+ by default, z^B where the input enters.

    dual: "others" (CLRP1: the size of the logit spread evenly over all other classes) or "negated" (CLRP2: the class itself
    with the weights of the last layer negated, that is, what inhibits it). The dual is scaled to the sum of R. composite, low,
    high: as for ``lrp``, biases taking no share. ``clip=False`` keeps the negative part; ``raw`` has it anyway.
    """
    checks.one_of("dual", dual, ("others", "negated"))
    settings = Settings(low=low, high=high, bias=False)
    pass_ = followed(score)
    picked = _by_classes(composite, settings)
    z = pass_.logits()
    one = _one_hot(score, z)
    size = (z.detach() * one).sum(1, keepdim=True).abs()
    mine = pass_.back(without_biases(pass_, picked), one * size, z)
    if dual == "others":
        if z.shape[1] < 2:
            raise UnsupportedError("a single output has no other classes", cure='Use dual="negated".')
        seed = (1 - one) * size / (z.shape[1] - 1)
        theirs = pass_.back(without_biases(pass_, picked), seed, z)
    else:
        theirs = pass_.back(without_biases(pass_, picked, Negated), one * size, z)
    total, other = (t.flatten(1).sum(1) for t in (mine, theirs))
    scale = torch.where(other != 0, total / torch.where(other != 0, other, 1), torch.ones_like(other))
    raw = mine - theirs * masks.beside(scale, mine)
    return Found(raw.clamp(min=0) if clip else raw, raw=raw)


def _by_classes(composite: Any, settings: Settings) -> Chosen:
    """What compares classes goes by z+ everywhere and z^B where the input enters, unless told otherwise."""
    plus = ZPlus(bias=False)
    usual = {"first": settings.rule("z_box"), "convolution": plus, "dense": plus}
    return chosen(usual if composite is None else composite, settings)


def _one_hot(score: Score, z: Tensor) -> Tensor:
    """(B, K) one at every sample's class, else zero."""
    assert score.target is not None
    return torch.zeros_like(z).scatter(1, score.target[:, None], 1)


@method(
    "decomposition",
    needs="steps",
    cost="F + B",
    claims="signed",
    mission="X16",
    paper="Iwana et al. 2019, eq. 6",
    reading="What moves the class's probability against the others': orange for the class, blue for its rivals. Faint where "
    "the network is certain.",
)
def softmax_gradient_lrp(score: Score, x: Tensor, *, composite: Any = None, low: Any = None, high: Any = None) -> Found:
    """Relevance from the gradient of the softmax: y_t (1 - y_t) at the class t, -y_t y_n at every other class n.

    The seeds sum to zero and vanish where the class is certain. composite, low, high: as for ``contrastive_lrp``.
    """
    settings = Settings(low=low, high=high, bias=False)
    pass_ = followed(score)
    z = pass_.logits()
    if z.shape[1] < 2:
        raise UnsupportedError("a single output has no softmax", cure="Use lrp.")
    y = z.detach().softmax(1)
    one = _one_hot(score, y)
    mine = (y * one).sum(1, keepdim=True)
    rest = (y * (1 - one)).sum(1, keepdim=True)  # 1 - y_t, without the digits that a certain class would lose
    seed = mine * (one * rest - (1 - one) * y)
    return Found(pass_.back(without_biases(pass_, _by_classes(composite, settings)), seed, z))


class Relative(Relevance):
    """The rules of relative attributing propagation."""

    def __init__(self, flow: Flow, box: ZBox) -> None:
        super().__init__(flow, Chosen(lambda place: ZPlus(bias=False)), bias=False, ledger=False)
        self.box = box

    def shared(self, step: Step, op: Affine, z: Tensor, r: Tensor) -> Shared:
        """Last layer: by absolute value. First convolution: z^B. Between: by absolute influence, then shifted."""
        a, w = op.a, op.weight
        last = step is self.last
        if step.first and op.kind == "convolution" and not last:
            return self.box(op, z, r)
        q = op.apply(a.abs(), w.abs())
        if last:
            return a.abs() * op.back(shares(r, q), w.abs()), []
        free = free_of(op, z)
        up, all_ = shares(r, (free + q) / 2, size=q), shares(r, q)
        found = (a * op.back(up - all_, w) + a.abs() * op.back(up + all_, w.abs())) / 2
        active = found != 0
        n, axis = self.rows, op.axis
        known_axis(axis)
        over = per_sample(found, n, axis) - per_sample(r, n, axis)
        shift = over / per_sample(active.to(found), n, axis).clamp(min=1)
        return found - active * beside_samples(shift, found, axis), []


@method(
    "decomposition",
    needs="steps",
    cost="F + B",
    claims="signed",
    mission="X17",
    paper="Nam et al. 2020, sec. 3",
    reading="Inputs of more than average influence on the class are orange, of less than average blue: a ranking, not for and "
    "against.",
)
def rap(score: Score, x: Tensor, *, low: Any = None, high: Any = None) -> Found:
    """Relative attributing propagation: influence by absolute value, then shifted so that every layer keeps the total.

    Last layer: R_j = |c_jk| / sum |c_jk| R_k with c = a w. Between: R_j = sum_k (c+ / sum c+ + |c-| / sum |c|) R_k, less the
    same amount at every active unit, so that the sum is that of R_k. First convolution: z^B between low and high, by default
    the smallest and largest value of each sample. Pools and sums share in proportion, biases take nothing. The total is the
    score at every layer, but for units that no input is active at.
    """
    pass_ = followed(score)
    return Found(pass_.back(Relative(pass_.flow, ZBox(low=low, high=high))))


@method(
    "activation",
    needs="layer",
    cost="F + H",
    claims="signed",
    mission="X23",
    paper="Lee et al. 2021, eq. 5-7",
    reading="As Grad-CAM, with each feature weighted by its relevance for this class against the others, also at early layers.",
)
def relevance_cam(score: Score, x: Tensor, *, relu: bool = False) -> Found:
    """sum_k w_k A^k, w_k the mean over positions of the relevance of A^k; seeds +1 at the class and -1/K at every other.

    z+ without biases from the output down to the layer, where it ends. Signed; ``relu=True`` clips it. ``raw``: the sum at the
    layer's resolution.
    """
    pass_ = followed(score)
    z = pass_.logits()
    one = _one_hot(score, z)
    seed = one - (1 - one) / z.shape[1]
    plus = Chosen(lambda place: ZPlus(bias=False))
    a, r = pass_.back_to_layer(without_biases(pass_, plus), seed, z)
    return clipped(weighted(r.flatten(2).mean(2), a), x, relu)

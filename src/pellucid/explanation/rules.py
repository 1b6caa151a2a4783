"""How one affine operation shares the relevance of its outputs among its inputs.

a: inputs, w: weights, b: bias, c_jk = a_j w_jk: the contribution of input j to output k, z_k = sum_j c_jk + b_k, R_k:
relevance of the outputs. x+ and x- are the positive and the negative part. Every rule is linear in R.

A sum of contributions is the denominator. ``bias``: whether the bias is part of it; its share is then lost. ``stabiliser``:
added to a denominator with the denominator's sign. A denominator that is zero, or no more than the rounding error of its
parts, passes nothing.

Where inputs have both signs, sum_j c+ = (z + q) / 2 and sum_j c- = (z - q) / 2 with q = |w| |a| and without the bias: one more
forward in the place of two, and two transposes in the place of four.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from pellucid.core import checks
from pellucid.core.errors import InputError, UnsupportedError

from .affine import Affine

# The relevance of the inputs, and what a bias took: factors s (as the outputs) and b (broadcasts with them) of sum s b.
Taken = list[tuple[Tensor, Tensor]]
Shared = tuple[Tensor, Taken]
# A sum of contributions below this share of the sum of their sizes is rounding error.
_NOTHING = {torch.float64: 1e-13, torch.float32: 1e-6, torch.bfloat16: 1e-2, torch.float16: 1e-3}


def away_from_zero(d: Tensor, stabiliser: float | Tensor) -> Tensor:
    """d + stabiliser * sign(d), with sign(0) = 1."""
    return d + torch.copysign(torch.as_tensor(stabiliser, dtype=d.dtype, device=d.device), d)


def shares(r: Tensor, d: Tensor, stabiliser: float | Tensor = 0.0, size: Tensor | None = None) -> Tensor:
    """r / d, and 0 where d is nothing; ``size``: the sum of the sizes of what d is the sum of."""
    if isinstance(stabiliser, Tensor) or stabiliser > 0:
        d = away_from_zero(d, stabiliser)
    s = (r / d).nan_to_num_(0.0, 0.0, 0.0)  # one pass over memory, where comparing and choosing takes four
    return s if size is None else s.masked_fill_(d.abs() <= _NOTHING[d.dtype] * size, 0.0)


def by_sample(t: Tensor, n: int, axis: int = 0) -> Tensor:
    """(n, ...) a row for each sample, whose axis is this one or the outer part of it."""
    t = t.movedim(axis, 0) if axis else t
    return t.reshape(n, -1)


def per_sample(t: Tensor, n: int, axis: int = 0) -> Tensor:
    """(n,) sums over everything but the samples' axis; NaN where the samples cannot be told apart."""
    if axis < 0 or t.ndim <= axis or t.shape[axis] % n:
        return t.sum().expand(n) if n == 1 else t.new_full((n,), torch.nan)
    return by_sample(t, n, axis).sum(1)


def beside_samples(numbers: Tensor, like: Tensor, axis: int = 0) -> Tensor:
    """One number per sample in a shape that broadcasts with ``like``, whose samples lie on this axis or its outer part."""
    shape = [1] * like.ndim
    shape[axis] = like.shape[axis]
    return numbers.repeat_interleave(like.shape[axis] // len(numbers)).view(shape)


def known_axis(axis: int) -> None:
    """Refuse what is worked out per sample where the samples cannot be told apart."""
    if axis < 0:
        raise UnsupportedError(
            "a step of the network has samples and other positions in one axis, in an order that is not known",
            cure="Explain one sample at a time, or take rules that need no sums over a sample (no rap, no relative epsilon).",
        )


def scale_of(z: Tensor, axis: int = 0) -> Tensor:
    """The root mean square of every sample's values, beside z."""
    known_axis(axis)
    return beside_samples(by_sample(z, z.shape[axis], axis).square().mean(1).sqrt(), z, axis)


def free_of(op: Affine, z: Tensor) -> Tensor:
    """The outputs without their bias."""
    return z if op.bias is None else z - op.bias


def ones_of(op: Affine) -> Tensor:
    """Ones as inputs: one row where the samples' rows are treated alike."""
    alike = op.scaled is not None or op.apply is torch.nn.functional.linear
    return torch.ones_like(op.a[:1] if alike and op.a.ndim > 1 else op.a)


@dataclass(frozen=True, kw_only=True)
class Rule:
    """What the rules share. ``z``: the outputs with their bias; a rule returns the relevance of the inputs."""

    name: ClassVar[str] = ""
    bias: bool = True
    stabiliser: float = 0.0

    def __post_init__(self) -> None:
        checks.positive("stabiliser", self.stabiliser, zero=True)

    def __call__(self, op: Affine, z: Tensor, r: Tensor) -> Shared:
        """Relevance of the inputs, in their shape, and what the bias took, in the outputs' shape."""
        raise NotImplementedError

    def _bias(self, op: Affine) -> Tensor | None:
        return op.bias if self.bias else None


@dataclass(frozen=True)
class Zero(Rule):
    """LRP-0 (Bach et al. 2015, eq. 56): R_j = sum_k c_jk / z_k R_k."""

    name: ClassVar[str] = "zero"

    def __call__(self, op: Affine, z: Tensor, r: Tensor) -> Shared:
        """See the class."""
        d = z if self.bias else free_of(op, z)
        s, b = shares(r, d, self._added(op, d)), self._bias(op)
        return op.a * op.back(s, op.weight), [] if b is None else [(s, b)]

    def _added(self, op: Affine, d: Tensor) -> float | Tensor:
        return self.stabiliser


@dataclass(frozen=True)
class Epsilon(Zero):
    """LRP-epsilon (Bach et al. 2015, eq. 58): R_j = sum_k c_jk / (z_k + epsilon sign(z_k)) R_k.

    relative: epsilon is multiplied by the root mean square of the sample's denominators in this layer.
    """

    name: ClassVar[str] = "epsilon"
    epsilon: float = 1e-6
    relative: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        checks.positive("epsilon", self.epsilon, zero=True)

    def _added(self, op: Affine, d: Tensor) -> float | Tensor:
        return (self.epsilon * scale_of(d, op.axis) if self.relative else self.epsilon) + self.stabiliser


@dataclass(frozen=True)
class Gamma(Rule):
    """LRP-gamma for inputs of any sign (Montavon et al. 2019, sec. 10.2.3; Andeol et al. 2021, sec. 3).

    For z_k > 0: (c + gamma c+) / sum(c + gamma c+); for z_k < 0 the same with c-. With inputs >= 0 and z_k > 0 this is w +
    gamma w+.
    """

    name: ClassVar[str] = "gamma"
    gamma: float = 0.25

    def __post_init__(self) -> None:
        super().__post_init__()
        checks.positive("gamma", self.gamma, zero=True)

    def __call__(self, op: Affine, z: Tensor, r: Tensor) -> Shared:
        """See the class."""
        a, w, g = op.a, op.weight, self.gamma
        free, b = free_of(op, z), self._bias(op)
        base = free if b is None else free + b
        up, down = base > 0, base < 0
        signed = bool(a.amin() < 0)
        plus = (free + op.apply(a.abs(), w.abs())) / 2 if signed else op.apply(a, w.clamp(min=0))
        minus = free - plus
        if b is not None:
            plus, minus = plus + b.clamp(min=0), minus + b.clamp(max=0)
        s = shares(r * (up | down), base + g * torch.where(up, plus, minus), self.stabiliser)
        above, below = s * up, s * down
        taken = [] if b is None else [(above, b + g * b.clamp(min=0)), (below, b + g * b.clamp(max=0))]
        if signed:
            return a * op.back((1 + g / 2) * s, w) + a.abs() * op.back((g / 2) * (above - below), w.abs()), taken
        found = op.back(above, torch.add(w, w.clamp(min=0), alpha=g))
        if bool(below.any()):
            found = found + op.back(below, torch.add(w, w.clamp(max=0), alpha=g))
        return a * found, taken


@dataclass(frozen=True)
class AlphaBeta(Rule):
    """LRP-alpha-beta (Bach et al. 2015, eq. 60): R_j = sum_k (alpha c+ / sum c+  -  beta c- / sum c-) R_k, beta = alpha - 1."""

    name: ClassVar[str] = "alpha_beta"
    alpha: float = 2.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.alpha < 1:
            raise InputError(f"alpha is {self.alpha!r}", cure="Give a number of at least 1; beta is alpha - 1.")

    def __call__(self, op: Affine, z: Tensor, r: Tensor) -> Shared:
        """See the class."""
        a, w, alpha, beta = op.a, op.weight, self.alpha, self.alpha - 1
        b = self._bias(op)
        up, down = (0.0, 0.0) if b is None else (b.clamp(min=0), b.clamp(max=0))
        signed = bool(a.amin() < 0)
        positive = None if signed else w.clamp(min=0)
        plus = op.apply(a, positive) if positive is not None else op.apply(a.abs(), w.abs())  # of signed inputs this is q
        size = plus if signed else None
        minus = torch.zeros(())
        if signed or beta:
            free = free_of(op, z)
            plus, minus = ((free + plus) / 2, (free - plus) / 2) if signed else (plus, free - plus)
            size = size if size is not None else plus.abs() + minus.abs()
        s = shares(
            r if alpha == 1 else alpha * r, plus + up if b is not None else plus, self.stabiliser, size if signed else None
        )
        t = shares(beta * r, minus + down if b is not None else minus, self.stabiliser, size) if beta else None
        taken: Taken = [] if not isinstance(up, Tensor) else [(s, up)]
        if t is not None and isinstance(down, Tensor):
            taken.append((t, -down))
        if positive is not None:
            found = op.back(s, positive)
            return a * (found if t is None else found - op.back(t, w - positive)), taken
        if t is None:
            by_value, by_size = op.back_both(s)
        else:
            by_value, by_size = op.back(s - t, w), op.back(s + t, w.abs())
        return (a * by_value + a.abs() * by_size) / 2, taken


@dataclass(frozen=True)
class ZPlus(AlphaBeta):
    """z+ (Montavon et al. 2017, eq. 13): alpha = 1, beta = 0. Without bias, on inputs >= 0, deep Taylor's rule."""

    name: ClassVar[str] = "z_plus"
    alpha: float = 1.0


@dataclass(frozen=True)
class WSquare(Rule):
    """w^2 (Montavon et al. 2017, eq. 12): R_j = sum_k w_jk^2 / sum_j w_jk^2 R_k, whatever the inputs."""

    name: ClassVar[str] = "w_square"

    def __call__(self, op: Affine, z: Tensor, r: Tensor) -> Shared:
        """See the class."""
        op = op if op.solid is None else op.solid()
        w, b = op.weight.square(), self._bias(op)
        d = op.apply(ones_of(op), w)
        d = d if b is None else d + b.square()
        s = shares(r, d.expand_as(r), self.stabiliser)
        return op.back(s, w), [] if b is None else [(s, b.square())]


@dataclass(frozen=True)
class Flat(Rule):
    """Flat (Lapuschkin et al. 2019): every input that an output sees gets the same; never the bias."""

    name: ClassVar[str] = "flat"

    def __call__(self, op: Affine, z: Tensor, r: Tensor) -> Shared:
        """See the class."""
        op = op if op.solid is None else op.solid()
        w = torch.ones_like(op.weight)
        d = op.apply(ones_of(op), w)
        return op.back(shares(r, d.expand_as(r), self.stabiliser), w), []


@dataclass(frozen=True)
class ZBox(Rule):
    """z^B (Montavon et al. 2017, eq. 14): shares of c - l w+ - h w-, for inputs known to lie between l and h.

    low, high: numbers or tensors that broadcast with one input, the bounds *after* normalisation; by default the smallest and
    the largest value that the layer is given of each sample.
    """

    name: ClassVar[str] = "z_box"
    low: Any = None
    high: Any = None

    def __call__(self, op: Affine, z: Tensor, r: Tensor) -> Shared:
        """See the class."""
        a, w = op.a, op.weight
        low, high = self._bound("low", a, torch.amin, op.axis), self._bound("high", a, torch.amax, op.axis)
        if bool((low > high).any()):
            raise InputError("low is above high", cure="Give the smallest and the largest value that an input can have.")
        positive = w.clamp(min=0)
        negative = w - positive
        free = free_of(op, z)
        # one row where the bounds are the same for all samples
        d = free - op.apply(low, positive) - op.apply(high, negative)
        s = shares(r, d, self.stabiliser)
        return a * op.back(s, w) - low * op.back(s, positive) - high * op.back(s, negative), []

    def _bound(self, name: str, a: Tensor, least: Any, axis: int) -> Tensor:
        given = getattr(self, name)
        if given is None:
            known_axis(axis if a.ndim > 1 else 0)
            others = [d for d in range(a.ndim) if d != axis % a.ndim]
            return (least(a, others, keepdim=True) if others else least(a)).expand_as(a)  # type: ignore[no-any-return]
        try:
            return torch.as_tensor(given, dtype=a.dtype, device=a.device).expand(1, *a.shape[1:])
        except (RuntimeError, TypeError, ValueError) as error:
            raise InputError(
                f"{name} does not fit an input of shape {tuple(a.shape[1:])}",
                cure="Give a number, or one for each channel in shape (C, 1, 1).",
            ) from error


RULES: dict[str, type[Rule]] = {kind.name: kind for kind in (Zero, Epsilon, Gamma, AlphaBeta, ZPlus, WSquare, Flat, ZBox)}

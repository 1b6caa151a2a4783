"""The way back of DeepLIFT: what each kind of step multiplies differences from a reference by.

Every operation is passed in finite differences, not derivatives, so that sum_i m_i (x_i - x'_i) = y - y' holds at each step:

- one value at a time (activations): Rescale, (y - y') / (x - x'), the derivative where x and x' are alike; or RevealCancel;
- products and matrix products: each factor's difference times the mean of the other's two values;
- softmax, norms: written as exponentials, sums, squares, roots and products of these;
- a max pool: the winner of the sample gets what the maximum rose above the reference's, the winner of the reference the rest;
  a value that is alike in both gets the derivative at the sample.

No step mixes samples.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import zip_longest

import torch
from torch import Tensor

from pellucid.core.errors import UnsupportedError

from .flow import Flow
from .relevance import by_stored_moments, folded_left, norm_of, with_norm_behind
from .steps import Backward, Step, local

# Differences from the reference below this are taken for none (1e-7 in the authors' program, which knows float32 only).
_ALIKE = {torch.float64: 1e-10}
VARIANTS = ("rescale", "reveal_cancel", "genomics")


def slope(dy: Tensor, dx: Tensor, derivative: Callable[[], Tensor]) -> Tensor:
    """dy / dx, and the derivative where dx is nothing; worked out only if there is such a place."""
    alike = ~(dx.abs() >= _ALIKE.get(dx.dtype, 1e-7))  # also where both are the same infinity (a mask)
    return torch.where(alike, derivative(), dy / dx) if bool(alike.any()) else dy / dx


def derivative_of(step: Step) -> Callable[[], Tensor]:
    """The derivative of a step that treats each value by itself."""

    def derivative() -> Tensor:
        found = local(step.call, step.values[:1], torch.ones_like(step.output))[0]
        assert found is not None
        return found

    return derivative


def _fits(t: Tensor, like: Tensor, axis: int) -> bool:
    """Whether t is like the other but for the number of samples, which are many times as many there."""
    shape = list(like.shape)
    if t.ndim == like.ndim and t.ndim > axis and t.shape[axis] and shape[axis] % t.shape[axis] == 0:
        shape[axis] = t.shape[axis]
    return list(t.shape) == shape


def _as_many(t: Tensor, like: Tensor, axis: int) -> Tensor:
    """One row repeated for every sample."""
    if t.shape[axis] == like.shape[axis]:
        return t
    times = [1] * t.ndim
    times[axis] = like.shape[axis] // t.shape[axis]
    return t.expand(like.shape[: axis + 1] + t.shape[axis + 1 :]) if t.shape[axis] == 1 else t.repeat(times)


class Multipliers(Backward):
    """DeepLIFT between a flow and the flow of a reference through the same steps."""

    def __init__(self, flow: Flow, reference: Flow, variant: str) -> None:
        mine, theirs = flow.steps, reference.steps
        for a, b in zip_longest(mine, theirs):
            if a is None or b is None or (a.kind, a.name) != (b.kind, b.name) or not _fits(b.output, a.output, a.axis):
                raise UnsupportedError(
                    "the network takes another path for the baseline than for the samples",
                    where=(a or b).where,
                    cure="Use integrated_gradients, or a baseline that goes the same way.",
                )
        self.reference, self.variant = theirs, variant

    def other(self, step: Step) -> Step:
        """The same step of the reference, with a row for each sample."""
        other = self.reference[step.number]
        if other.output.shape == step.output.shape:
            return other
        values = [_as_many(v, w, step.axis_before) for v, w in zip(other.values, step.values)]
        winners = None if other.winners is None else _as_many(other.winners, step.output, step.axis)
        return replace(other, values=values, winners=winners, _output=_as_many(other.output, step.output, step.axis))

    def input_of(self, step: Step) -> Tensor:
        """What an affine step of the reference was given, with a row for each sample."""
        assert step.affine is not None
        theirs = self.reference[step.number].affine
        assert theirs is not None
        return _as_many(theirs.a, step.affine.a, step.axis_before)

    def affine(self, step: Step, r: Tensor) -> Sequence[Tensor | None]:
        """Linear, so the gradient; behind RevealCancel the positive and the negative part have multipliers of their own."""
        if step.pair is None:
            return self.gradient(step, r)
        plus, minus = step.pair
        (op, _), theirs = with_norm_behind(step), self.input_of(step)
        found = op.back(plus + minus, op.weight) + (op.a - theirs).sign() * op.back(plus - minus, op.weight.abs())
        return [found / 2]

    def activation(self, step: Step, r: Tensor) -> Sequence[Tensor | None]:
        """Rescale; RevealCancel directly behind an affine operation where that was asked for."""
        other = self.other(step)
        x, base = step.values[0], other.values[0]
        source = self._revealed(step)
        if source is None:
            return [r * slope(step.output - other.output, x - base, derivative_of(step))]
        op, _ = with_norm_behind(source)
        difference = op.a - self.input_of(source)
        total = x - base
        plus = (total + op.apply(difference.abs(), op.weight.abs())) / 2
        minus = total - plus
        f = step.call
        at, low, high, top = f(base), f(base + minus), f(base + plus), f(base + total)
        gain = ((high - at) + (top - low)) / 2
        loss = ((low - at) + (top - high)) / 2
        derivative = derivative_of(step)
        source.pair = r * slope(gain, plus, derivative), r * slope(loss, minus, derivative)
        return [r]  # a stand-in: the affine step reads the pair

    def _revealed(self, step: Step) -> Step | None:
        """The affine step whose positive and negative contributions an activation is to be told apart by."""
        if self.variant == "rescale":
            return None
        source = step.sources[0]
        if source is not None and source.kind == "batch_norm":
            source = folded_left(source) if source.uses == 1 else None
        elif source is not None and source.uses != 1:
            return None
        if source is None or source.affine is None:
            return None
        return source if self.variant == "reveal_cancel" or source.affine.kind == "dense" else None

    def batch_norm(self, step: Step, r: Tensor) -> Sequence[Tensor | None]:
        """Linear; what stands for an affine operation before it that was told apart passes it by."""
        left = folded_left(step)
        if left is not None and left.pair is not None:
            return [r]
        return self.gradient(step, r)

    def product(self, step: Step, r: Tensor) -> Sequence[Tensor | None]:
        """Each factor's difference times the mean of the other factor's two values."""
        other = self.other(step)
        division = "div" in step.name
        if len(step.values) == 1:
            below = division and step.operands[0 if step.name.startswith("r") else 1][2]
            if not below:
                return self.gradient(step, r)
            (x,), (base,) = step.values, other.values
            return [(r * slope(step.output - other.output, x - base, derivative_of(step))).sum_to_size(x.shape)]
        (a, b), (c, d) = step.values, other.values
        if not division:
            return local(step.call, [(a + c) / 2, (b + d) / 2], r)
        upper = r * (1 / b + 1 / d) / 2
        lower = r * (a + c) / 2 * (-1 / (b * d))
        return [upper.sum_to_size(a.shape), lower.sum_to_size(b.shape)]

    def matmul(self, step: Step, r: Tensor) -> Sequence[Tensor | None]:
        """As a product."""
        middle = [(v + w) / 2 for v, w in zip(step.values, self.other(step).values)]
        return local(step.call, middle, r)

    def max_pool(self, step: Step, r: Tensor) -> Sequence[Tensor | None]:
        """The winners of sample and reference share the rise of the maximum."""
        other = self.other(step)
        x, base = step.values[0], other.values[0]
        top = (torch.minimum if "min" in step.name else torch.maximum)(step.output, other.output)
        (mine,), (theirs,) = self.gradient(step, r * (top - other.output)), self.gradient(other, r * (step.output - top))
        assert mine is not None
        assert theirs is not None

        def derivative() -> Tensor:
            (found,) = self.gradient(step, r)
            assert found is not None
            return found

        return [slope(mine + theirs, x - base, derivative)]

    def extremum(self, step: Step, r: Tensor) -> Sequence[Tensor | None]:
        """Over an axis as a max pool; of two tensors by max(a, b) = (a + b + |a - b|) / 2."""
        if len(step.values) == 1:
            return self.max_pool(step, r)
        (a, b), (c, d) = step.values, self.other(step).values
        u, v = a - b, c - d
        k = slope(u.abs() - v.abs(), u - v, u.sign)
        k = -k if "min" in step.name else k
        return [(r * (1 + k) / 2).sum_to_size(a.shape), (r * (1 - k) / 2).sum_to_size(b.shape)]

    def softmax(self, step: Step, r: Tensor) -> Sequence[Tensor | None]:
        """y = e / sum(e), e = exp(x - c) with one c for sample and reference."""
        x, base = step.values[0], self.other(step).values[0]
        axis = int(step.given["dim"])
        shift = torch.maximum(x, base).amax(axis, keepdim=True)
        e, o = (x - shift).exp(), (base - shift).exp()
        s, t = e.sum(axis, keepdim=True), o.sum(axis, keepdim=True)
        rise = slope(e - o, x - base, lambda: e)
        if step.name == "log_softmax":
            return [r - r.sum(axis, keepdim=True) * slope(s.log() - t.log(), s - t, s.reciprocal) * rise]
        by_sum = -(r * (e + o) / 2).sum(axis, keepdim=True) / (s * t)
        return [(r * (1 / s + 1 / t) / 2 + by_sum) * rise]

    def norm(self, step: Step, r: Tensor) -> Sequence[Tensor | None]:
        """c = x - mean, v = mean(c^2), y = c / sqrt(v + eps) * w + b, each in finite differences."""
        if by_stored_moments(step):
            return self.gradient(step, r)
        x, base = step.values[0], self.other(step).values[0]
        shape, (count, eps, weight) = x.shape, norm_of(step, x)
        r = r if weight is None else r * weight
        r, x, base = (t.reshape(-1, count) for t in (r, x, base))
        central = step.name != "rms_norm"
        c, d = (x - x.mean(1, keepdim=True), base - base.mean(1, keepdim=True)) if central else (x, base)
        v, w = c.square().mean(1, keepdim=True) + eps, d.square().mean(1, keepdim=True) + eps
        s, t = v.rsqrt(), w.rsqrt()
        by_scale = (r * (c + d) / 2).sum(1, keepdim=True) * (-s.square() * t.square() / (s + t))  # (s - t) / (v - w)
        m = r * (s + t) / 2 + by_scale * (c + d) / count
        return [(m - m.mean(1, keepdim=True) if central else m).view(shape)]

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

import torch
from torch import Tensor

from pellucid.core.errors import UnsupportedError

from .affine import Affine
from .flow import Flow
from .relevance import batch_norm_scale, folded_left
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


class Multipliers(Backward):
    """DeepLIFT between a flow and the flow of a reference through the same steps."""

    def __init__(self, flow: Flow, reference: Flow, variant: str) -> None:
        mine, theirs = [[(s.kind, s.name, s.output.shape) for s in f.steps] for f in (flow, reference)]
        if mine != theirs:
            at = next((i for i, (a, b) in enumerate(zip(mine, theirs)) if a != b), min(len(mine), len(theirs)))
            where = flow.steps[at].where if at < len(flow.steps) else reference.steps[at].where
            raise UnsupportedError(
                "the network takes another path for the baseline than for the samples",
                where=where,
                cure="Use integrated_gradients, or a baseline that goes the same way.",
            )
        self.reference, self.variant = reference.steps, variant

    def other(self, step: Step) -> Step:
        """The same step of the reference."""
        return self.reference[step.number]

    def affine(self, step: Step, r: Tensor) -> Sequence[Tensor | None]:
        """Linear, so the gradient; behind RevealCancel the positive and the negative part have multipliers of their own."""
        if step.pair is None:
            return self.gradient(step, r)
        plus, minus = step.pair
        op, theirs = op_of(step), op_of(self.other(step)).a
        found = op.back(plus + minus, op.weight) + (op.a - theirs).sign() * op.back(plus - minus, op.weight.abs())
        return [found / 2]

    def activation(self, step: Step, r: Tensor) -> Sequence[Tensor | None]:
        """Rescale; RevealCancel directly behind an affine operation where that was asked for."""
        other = self.other(step)
        x, base = step.values[0], other.values[0]
        source = self._revealed(step)
        if source is None:
            return [r * slope(step.output - other.output, x - base, derivative_of(step))]
        op = op_of(source)
        difference = op.a - op_of(self.other(source)).a
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
        return [r * batch_norm_scale(step)[0].view(1, -1, *[1] * (r.ndim - 2))]

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
        top = torch.maximum(step.output, other.output)
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
        n, name = step.given, step.name
        x, base = step.values[0], self.other(step).values[0]
        if name == "instance_norm" and n["running_var"] is not None and not n["use_input_stats"]:
            return self.gradient(step, r)
        weight, shape = n.get("weight"), x.shape
        if name in ("layer_norm", "rms_norm"):
            count = x[(0,) * (x.ndim - len(n["normalized_shape"]))].numel()
            r = r if weight is None else r * weight
        else:
            groups = n["num_groups"] if name == "group_norm" else x.shape[1]
            count = x[0].numel() // groups
            r = r if weight is None else r * weight.view(1, -1, *[1] * (x.ndim - 2))
        r, x, base = (t.reshape(-1, count) for t in (r, x, base))
        eps = n["eps"] if n["eps"] is not None else torch.finfo(x.dtype).eps
        central = name != "rms_norm"
        c, d = (x - x.mean(1, keepdim=True), base - base.mean(1, keepdim=True)) if central else (x, base)
        v, w = c.square().mean(1, keepdim=True) + eps, d.square().mean(1, keepdim=True) + eps
        s, t = v.rsqrt(), w.rsqrt()
        by_scale = (r * (c + d) / 2).sum(1, keepdim=True) * slope(s - t, v - w, lambda: -s / (2 * v))
        m = r * (s + t) / 2 + by_scale * (c + d) / count
        return [(m - m.mean(1, keepdim=True) if central else m).view(shape)]


def op_of(step: Step) -> Affine:
    """An affine step with the batch norm behind it folded in, but not one before it, which has a way back of its own."""
    op = step.affine
    assert op is not None
    norm = step.folded() if step.folded is not None else None
    return op.folded(*batch_norm_scale(norm)) if norm is not None and folded_left(norm) is step else op

"""The way back of relevance: what each kind of step hands to its operands, and what is lost on the way.

Affine operations follow the rules of a composite. Everything else has one rule:

- activations, softmax and multiplication by a constant pass relevance on;
- sums and averages share in proportion to their summands; a constant summand takes its share as a bias does;
- a max pool gives to the winner;
- in a product of a gate and a signal the signal takes all (Arras et al. 2017); two signals get half each;
- norms are linear once their scale is held: a batch norm is folded into the affine operation before it or, where there is none,
  after it; layer, group and instance norms share in proportion;
- in attention the weights are a gate and the values take all (Ali et al. 2022).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from . import masks
from .affine import Affine
from .composites import Chosen, places
from .flow import Flow
from .rules import Rule, Shared, Taken, per_sample, shares
from .steps import Backward, Step, batch_norm_scale, local


@dataclass(frozen=True)
class Loss:
    """What one step lost of the relevance that reached it: sums per sample (B,)."""

    step: Step
    arrived: Tensor
    bias: Tensor
    rest: Tensor


def folded_left(step: Step) -> Step | None:
    """The affine step that a batch norm is folded into from behind: the only one that reads that step's output."""
    source = step.sources[0]
    mine = source is not None and source.folded is not None and source.folded() is step
    return source if mine and source is not None and source.uses == 1 and _foldable(source) else None


def _foldable(step: Step) -> bool:
    return step.affine is not None and step.affine.scaled is not None


def norm_before(step: Step) -> Step | None:
    """The batch norm that is folded into an affine step from the front: that step alone reads it, and no other has it."""
    norm = step.sources[0]
    alone = norm is not None and norm.kind == "batch_norm" and norm.uses == 1 and folded_left(norm) is None
    return norm if alone and _foldable(step) else None


def with_norm_behind(step: Step) -> tuple[Affine, Tensor]:
    """An affine step with the batch norm behind it folded in, and its output."""
    assert step.affine is not None
    norm = step.folded() if step.folded is not None else None
    if norm is None or folded_left(norm) is not step:
        return step.affine, step.output
    return step.affine.folded(*batch_norm_scale(norm)), norm.output


def seen_whole(step: Step) -> tuple[Affine, Tensor]:
    """An affine step with the batch norms around it folded in, and its output."""
    (op, z), norm = with_norm_behind(step), norm_before(step)
    return op if norm is None else op.unfolded(norm.values[0], *batch_norm_scale(norm)), z


class Relevance(Backward):
    """Layer-wise relevance propagation under a composite."""

    def __init__(
        self, flow: Flow, composite: Chosen, *, bias: bool = True, stabiliser: float = 0.0, ledger: bool = True
    ) -> None:
        self.composite, self.rows, self.bias, self.stabiliser = composite, flow.rows, bias, stabiliser
        composite.check(flow.affine_steps)
        self.places = places(flow.affine_steps)
        self.keeps = ledger
        self.lost: list[Loss] = []
        self.last: Step | None = None  # the affine step nearest to the score: the first that anything comes back to
        self.right = {norm for step in flow.affine_steps if (norm := norm_before(step)) is not None}

    def affine(self, step: Step, r: Tensor) -> Sequence[Tensor | None]:
        """By the rule of the composite."""
        self.last = self.last or step
        op, z = seen_whole(step)
        found, taken = self.shared(step, op, z, r)
        self.keep(step, r, [found], taken)
        return [found]

    def rule(self, step: Step) -> Rule:
        """The rule of an affine step."""
        return self.composite.of(self.places[step])

    def shared(self, step: Step, op: Affine, z: Tensor, r: Tensor) -> Shared:
        """The relevance of the inputs of an affine operation, and what its bias took."""
        return self.rule(step)(op, z, r)

    def activation(self, step: Step, r: Tensor) -> Sequence[Tensor | None]:
        """Passed on."""
        return [r]

    softmax = activation

    def pool(self, step: Step, r: Tensor) -> Sequence[Tensor | None]:
        """In proportion to what was summed."""
        x = step.values[0]
        back = local(step.call, [x], shares(r.expand_as(step.output), step.output, self.stabiliser))[0]
        assert back is not None
        found = x * back
        self.keep(step, r, [found])
        return [found]

    def max_pool(self, step: Step, r: Tensor) -> Sequence[Tensor | None]:
        """To the winner, or shared like an average pool's where the composite says so."""
        if self.composite.average_pools and (average := _average_of(step)) is not None:
            x = step.values[0]
            y = average(x)
            back = local(average, [x], shares(r, y, self.stabiliser))[0]
            assert back is not None
            self.keep(step, r, [x * back])
            return [x * back]
        return self.gradient(step, r)

    def extremum(self, step: Step, r: Tensor) -> Sequence[Tensor | None]:
        """To the winner."""
        return self.gradient(step, r)

    def sum(self, step: Step, r: Tensor) -> Sequence[Tensor | None]:
        """In proportion to the summands."""
        if len(step.values) == 1 and (step.gates[0] or not self.bias):
            return [r.sum_to_size(step.values[0].shape)]
        s = shares(r, step.output, self.stabiliser)
        found: list[Tensor | None] = []
        taken: Taken = []
        for operand, sign, varies in step.operands:
            if varies:
                found.append((sign * operand * s).sum_to_size(operand.shape))
            else:
                taken = [(s, sign * torch.as_tensor(operand, dtype=s.dtype, device=s.device))]
        self.keep(step, r, found, taken)
        return found

    def product(self, step: Step, r: Tensor) -> Sequence[Tensor | None]:
        """The signal takes all; two signals get half each; constants get nothing."""
        if len(step.values) == 1:
            return [r.sum_to_size(step.values[0].shape)]
        gates = list(step.gates)
        if "div" in step.name:
            gates = [False, True]  # a denominator is a scale
        if gates[0] != gates[1]:
            return [None if gate else r.sum_to_size(v.shape) for gate, v in zip(gates, step.values)]
        return [(r / 2).sum_to_size(v.shape) for v in step.values]

    def matmul(self, step: Step, r: Tensor) -> Sequence[Tensor | None]:
        """Sum of products of two operands that both depend on the input: as a sum, then as products."""
        s = shares(r, step.output, self.stabiliser)
        back = local(step.call, step.values, s)
        gates = step.gates
        part = 1.0 if gates[0] != gates[1] else 0.5
        found: list[Tensor | None] = []
        for v, g, gate in zip(step.values, back, gates):
            found.append(None if (gate and part == 1.0) or g is None else part * v * g)
        self.keep(step, r, found)
        return found

    def batch_norm(self, step: Step, r: Tensor) -> Sequence[Tensor | None]:
        """Passed on where an affine operation beside it has taken it in; else in proportion, its shift as a bias."""
        if folded_left(step) is not None or step in self.right or not self.bias:
            return [r]
        g, c = batch_norm_scale(step)
        x = step.values[0]
        s = shares(r, step.output, self.stabiliser)
        found = x * masks.beside(g[None], x) * s
        self.keep(step, r, [found], [(s, masks.beside(c[None], x))])
        return [found]

    def norm(self, step: Step, r: Tensor) -> Sequence[Tensor | None]:
        """In proportion, with the scale held at what it was."""
        x = step.values[0]
        held = held_norm(step, x)
        y = held(x)
        s = shares(r, step.output if self.bias else y, self.stabiliser)
        back = local(held, [x], s)[0]
        assert back is not None
        self.keep(step, r, [x * back], [(s, step.output - y)] if self.bias else [])
        return [x * back]

    def keep(self, step: Step, r: Tensor, found: Sequence[Tensor | None], taken: Taken | None = None) -> None:
        """Enter in the ledger what a step lost; ``taken``: what a bias or a constant took of it, at every output."""
        if not self.keeps:
            return
        n, axis = self.rows, step.axis
        arrived = per_sample(r, n, axis)
        left = sum((per_sample(f, n, step.axis_before) for f in found if f is not None), torch.zeros_like(arrived))
        bias = sum((_product_per_sample(s, b, n, axis) for s, b in taken or []), torch.zeros_like(arrived))
        self.lost.append(Loss(step, arrived, bias, arrived - left - bias))


def _product_per_sample(s: Tensor, b: Tensor, n: int, axis: int) -> Tensor:
    """(n,) sums of s * b; where b has one value per channel the sums over positions come first."""
    if (
        s.ndim > 2
        and axis == 0
        and len(s) == n
        and b.ndim >= s.ndim - 1
        and b.shape.numel() == b.shape[1 - s.ndim] == s.shape[1]
    ):
        return s.flatten(2).sum(2) @ b.flatten()
    return per_sample((s * b).expand_as(s), n, axis)


class PositiveShares(Relevance):
    """Relevance that only positive contributions receive, in sums and averages too: z+ of what has no weights; no biases."""

    def sum(self, step: Step, r: Tensor) -> Sequence[Tensor | None]:
        """In proportion to the positive summands."""
        if len(step.values) == 1:
            return [r.sum_to_size(step.values[0].shape)]
        parts = [(sign * v).clamp(min=0) for v, sign, _ in step.operands]
        s = shares(r, parts[0] + parts[1])
        return [(part * s).sum_to_size(v.shape) for part, v in zip(parts, step.values)]

    def pool(self, step: Step, r: Tensor) -> Sequence[Tensor | None]:
        """In proportion to the positive values."""
        x = step.values[0].clamp(min=0)
        back = local(step.call, [x], shares(r.expand_as(step.output), step.call(x)))[0]
        assert back is not None
        return [x * back]


def norm_of(step: Step, x: Tensor) -> tuple[int, float, Tensor | None]:
    """Of a norm by the values' own moments: how many values each is taken over, eps, and the weights beside x."""
    n, weight = step.given, step.given.get("weight")
    eps = n["eps"] if n["eps"] is not None else torch.finfo(x.dtype).eps
    if step.name in ("layer_norm", "rms_norm"):
        return x[(0,) * (x.ndim - len(n["normalized_shape"]))].numel(), eps, weight
    groups = n["num_groups"] if step.name == "group_norm" else x.shape[1]
    return x[0].numel() // groups, eps, None if weight is None else masks.beside(weight[None], x)


def by_stored_moments(step: Step) -> bool:
    """Whether this is an instance norm that scales by what it stored: a linear function as it is."""
    n = step.given
    return step.name == "instance_norm" and n["running_var"] is not None and not n["use_input_stats"]


def held_norm(step: Step, x: Tensor) -> Callable[[Tensor], Tensor]:
    """A layer, group, instance or RMS norm as a linear function plus a constant: its scale as it is at x."""
    if by_stored_moments(step):
        n = step.given
        by = torch.rsqrt(n["running_var"] + n["eps"]) * (1 if n.get("weight") is None else n["weight"])
        return lambda v: v * masks.beside(by[None], v)
    count, eps, weight = norm_of(step, x)

    def centred(v: Tensor) -> Tensor:
        rows = v.reshape(-1, count)
        return rows if step.name == "rms_norm" else rows - rows.mean(1, keepdim=True)

    scale = torch.rsqrt(centred(x).square().mean(1, keepdim=True) + eps)

    def run(v: Tensor) -> Tensor:
        y = (centred(v) * scale).view(v.shape)
        return y if weight is None else y * weight

    return run


def _average_of(step: Step) -> Callable[[Tensor], Tensor] | None:
    """The average pool over the windows of a max pool; None where there is none (dilated windows)."""
    name = step.name.removesuffix("_with_indices")
    function = getattr(F, name.replace("max", "avg"))
    if name.startswith("adaptive"):
        size = step.output.shape[2:]
        return lambda x: function(x, size)
    dilation = step.given.get("dilation", 1)
    if any(d != 1 for d in ([dilation] if isinstance(dilation, int) else dilation)):
        return None
    keys = ("kernel_size", "stride", "padding", "ceil_mode")
    given = {key: step.given[key] for key in keys if step.given.get(key) is not None}
    return lambda x: function(x, **given)

"""Steps of a computation, and what the rules of a way back say of each kind of them."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from pellucid.core.errors import UnsupportedError

from . import masks
from .affine import Affine
from .borrowing import first_tensor


@dataclass(eq=False)
class Step:
    """One operation of the network: what went in, what came out, and where the network's code asked for it.

    values: the operands that depend on the input, without their graph. call: the operation as a function of them. output: what
    it gave. sources: the steps that made the operands, where nothing lies between. uses: how many operations took its output.
    depth: how many affine operations came before. first: whether none did. operands: of a sum or product, each with its factor
    and whether it depends on the input. given: the arguments of norms and pools by their names. axis, axis_before: where the
    samples lie in what it gave and in what went in.
    """

    kind: str
    name: str
    values: list[Tensor]
    call: Callable[..., Any]
    where: str
    depth: int
    number: int
    sources: list[Step | None]
    gates: list[bool]
    operands: list[tuple[Any, float, bool]] = field(default_factory=list)
    affine: Affine | None = None
    axis: int = 0
    axis_before: int = 0
    given: dict[str, Any] = field(default_factory=dict)
    uses: int = 0
    folded: weakref.ref[Step] | None = None
    pair: tuple[Tensor, Tensor] | None = None
    winners: Tensor | None = None
    named: Callable[..., Any] | None = None
    _output: Tensor | None = field(default=None, repr=False)

    @property
    def output(self) -> Tensor:
        """What the step gave, without its graph."""
        assert self._output is not None
        return self._output

    @property
    def first(self) -> bool:
        """Whether no affine operation lies before this one."""
        return self.depth == 0


@dataclass
class Tag:
    """What is known of a tensor that depends on the input.

    step: what made it, where nothing lies between. gate: whether it says how much of something passes. depth: affine steps
    before it. axis: where the samples lie (a network may turn them round to have time first).
    """

    step: Step | None = None
    gate: bool = False
    depth: int = 0
    axis: int = 0


class Backward:
    """What each kind of step sends back to its operands. By default the gradient, by torch's own derivative of the step."""

    def __call__(self, step: Step, r: Tensor) -> Sequence[Tensor | None]:
        """What comes back to the operands of a step, given what came back to its output."""
        rule = getattr(self, step.kind, None)
        return self.gradient(step, r) if rule is None else rule(step, r)

    def gradient(self, step: Step, r: Tensor) -> Sequence[Tensor | None]:
        """The step's transposed Jacobian applied to ``r``."""
        if step.affine is not None:
            return [step.affine.back(r, step.affine.weight)]
        if step.winners is not None:
            return [to_winners(step, r)]
        if step.name == "relu":
            return [r * (step.output > 0)]
        if step.kind == "batch_norm":
            return [r * masks.beside(batch_norm_scale(step)[0][None], r)]
        if step.kind == "sum":
            return [(r if sign == 1 else sign * r).sum_to_size(v.shape) for v, sign, varies in step.operands if varies]
        return local(step.call, step.values, r)


def batch_norm_scale(step: Step) -> tuple[Tensor, Tensor]:
    """(C,) g and c of a batch norm in evaluation mode, y = g x + c."""
    n = step.given
    g = torch.rsqrt(n["running_var"] + n["eps"])
    if n["weight"] is not None:
        g = g * n["weight"]
    c = -n["running_mean"] * g
    return g, c if n["bias"] is None else c + n["bias"]


def to_winners(step: Step, r: Tensor) -> Tensor:
    """What comes back to a max pool, at the places of its winners."""
    x, places = step.values[0], step.winners
    assert places is not None
    axes = int(step.name.removesuffix("_with_indices")[-2])
    back = torch.zeros_like(x).flatten(x.ndim - axes)
    return back.scatter_add_(-1, places.flatten(x.ndim - axes), r.flatten(x.ndim - axes)).view_as(x)


def local(call: Callable[..., Any], values: Sequence[Tensor], r: Tensor) -> list[Tensor | None]:
    """The derivative of a function at these values, transposed and applied to ``r``."""
    with torch.enable_grad():
        leaves = [v.detach().requires_grad_() for v in values]
        y = first_tensor(call(*leaves))
        assert y is not None
        return list(torch.autograd.grad(y, leaves, r.expand_as(y), allow_unused=True))


class Rules:
    """Where the steps find the rules of the way back that is being taken."""

    now: Backward | None = None


class Stepped(torch.autograd.Function):
    """A step in torch's graph; its derivative is whatever the rules say."""

    @staticmethod
    def forward(ctx: Any, rules: Rules, step: Step, *variables: Tensor) -> Any:
        ctx.rules, ctx.step = rules, step
        ctx.set_materialize_grads(False)
        output = step.call(*step.values)
        tensor = first_tensor(output)
        assert tensor is not None
        step._output = tensor.detach()  # the tensor itself will know this step: a ring that nothing would free
        if step.kind == "max_pool":
            step.winners = output[1]
        if isinstance(output, tuple):
            step.named = None if type(output) is tuple else type(output)
            ctx.mark_non_differentiable(*[t for t in output[1:] if isinstance(t, Tensor)])
            return tuple(output)
        # torch would take an operand that is handed back for a view of itself
        return output.view_as(output) if any(output is v for v in step.values) else output

    @staticmethod
    def backward(ctx: Any, r: Tensor | None, *rest: Any) -> Any:
        if r is None:
            return (None, None, *[None] * len(ctx.step.values))
        if ctx.rules.now is None:
            raise UnsupportedError(
                "the network differentiates something of its own while it is followed",
                cure="integrated_gradients needs no rules.",
            )
        with torch.no_grad():
            return (None, None, *ctx.rules.now(ctx.step, r))


def tagged(tensor: Tensor, tag: Tag) -> Tensor:
    """The tensor, with what is known of it written on it."""
    tensor._followed = tag  # type: ignore[attr-defined]
    return tensor

"""Linear layers and convolutions in closed form: z = W a + b with other inputs and other weights in their place."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

# A convolution of so few input channels costs as much as one of twice as many: what its registers hold.
FEW_CHANNELS = 4


@dataclass(frozen=True, eq=False)
class Affine:
    """z = W a + b.

    kind: "dense" or "convolution". apply(a, w): without the bias. back(s, w): its transpose at the shape of ``a``, without
    another forward. bias: in a shape that broadcasts with z, or None. channels: the axis of z that weights are counted on.
    scaled(w, g, before): the weights with every output (or, before, every input) channel times g. joined(s, w): the transpose
    of two sets of weights side by side. axis: where the samples lie. solid: the same, with what was folded in in its
    weights.
    """

    kind: str
    a: Tensor
    weight: Tensor
    bias: Tensor | None
    apply: Callable[[Tensor, Tensor], Tensor]
    back: Callable[[Tensor, Tensor], Tensor]
    channels: int
    scaled: Callable[[Tensor, Tensor, bool], Tensor] | None = None
    joined: Callable[[Tensor, Tensor], Tensor] | None = None
    axis: int = 0
    solid: Callable[[], Affine] | None = None

    def back_both(self, s: Tensor) -> tuple[Tensor, Tensor]:
        """The transposes with the weights and with their absolute values, of the same ``s``."""
        w = self.weight
        if self.joined is None or w.shape[1] > FEW_CHANNELS:
            return self.back(s, w), self.back(s, w.abs())
        return self.joined(s, torch.cat([w, w.abs()], 1)).chunk(2, 1)  # type: ignore[return-value]

    def folded(self, scale: Tensor, shift: Tensor) -> Affine:
        """With z * scale + shift behind it, one of each per output channel.

        Where all scales are positive they multiply outputs instead of weights, of which there are many more: any rule that
        takes positive parts or sizes of the weights comes to the same. What does not (squares, ones) takes ``solid``.
        """
        scaled = self.scaled
        assert scaled is not None
        shape = [1] * self.a.ndim
        shape[self.channels] = -1
        g = scale.view(shape)
        bias = shift.view(shape) if self.bias is None else self.bias * g + shift.view(shape)

        def solid() -> Affine:
            return replace(self, weight=scaled(self.weight, scale, False), bias=bias)

        if not bool((scale > 0).all()):
            return solid()
        joined = self.joined
        return replace(
            self,
            bias=bias,
            apply=lambda a, w: self.apply(a, w).mul_(g),
            back=lambda s, w: self.back(s * g, w),
            joined=None if joined is None else lambda s, w: joined(s * g, w),
            solid=solid,
        )

    def unfolded(self, x: Tensor, scale: Tensor, shift: Tensor) -> Affine:
        """Seen from x, where a = x * scale + shift with one of each per input channel."""
        assert self.scaled is not None
        shape = [1] * x.ndim
        shape[1] = -1
        constant = self.apply(shift.view(shape).expand(1, *x.shape[1:]), self.weight)
        bias = constant if self.bias is None else constant + self.bias
        solid = None if self.solid is None else functools.partial(self.solid().unfolded, x, scale, shift)
        return replace(self, a=x, weight=self.scaled(self.weight, scale, True), bias=bias, solid=solid)


def affine_of(name: str, args: Any, kwargs: Any) -> Affine | None:
    """The affine operation of a call, or None where more than its first operand depends on the input."""
    if name == "linear":
        given = {**dict(zip(("input", "weight", "bias"), args)), **kwargs}
        return _linear(*_cast(given["input"].detach(), given["weight"], given.get("bias")))
    if name.startswith("conv"):
        return _convolution(name, args, kwargs)
    a, w = args[0], args[1]
    if name == "rmatmul":
        a, w = w, a
    if a.requires_grad and w.requires_grad:
        return None
    left, right, _ = _cast(a.detach(), w.detach(), None)
    return _matrix(left, right) if a.requires_grad else _from_the_left(left, right)


def _cast(a: Tensor, weight: Tensor, bias: Tensor | None) -> tuple[Tensor, Tensor, Tensor | None]:
    """The operands in the precision that they are multiplied in under autocast."""
    kind = a.device.type
    if not torch.is_autocast_enabled(kind) or a.dtype is torch.float64:
        return a, weight, bias
    dtype = torch.get_autocast_dtype(kind)
    return a.to(dtype), weight.to(dtype), None if bias is None else bias.to(dtype)


def _by_derivative(apply: Callable[[Tensor, Tensor], Tensor], a: Tensor) -> Callable[[Tensor, Tensor], Tensor]:
    """The transpose where shapes broadcast in ways that are not worth a formula."""

    def back(s: Tensor, w: Tensor) -> Tensor:
        with torch.enable_grad():
            leaf = torch.zeros_like(a).requires_grad_()
            return torch.autograd.grad(apply(leaf, w), leaf, s)[0]

    return back


def _linear(a: Tensor, weight: Tensor, bias: Tensor | None) -> Affine:
    def scaled(w: Tensor, g: Tensor, before: bool) -> Tensor:
        return w * g if before else w * g[:, None]

    def back(s: Tensor, w: Tensor) -> Tensor:
        return torch.matmul(s, w)

    foldable = scaled if a.ndim == 2 and weight.ndim == 2 else None
    return Affine("dense", a, weight, bias, F.linear, back if weight.ndim == 2 else _by_derivative(F.linear, a), -1, foldable)


def _matrix(a: Tensor, weight: Tensor) -> Affine:
    """a @ W with a constant W."""

    def back(s: Tensor, w: Tensor) -> Tensor:
        return torch.matmul(s, w.transpose(-1, -2)).sum_to_size(a.shape)

    plain = a.ndim > 1 and weight.ndim > 1
    return Affine("dense", a, weight, None, torch.matmul, back if plain else _by_derivative(torch.matmul, a), -1)


def _from_the_left(weight: Tensor, a: Tensor) -> Affine:
    """W @ a with a constant W, as in a graph network."""

    def apply(a: Tensor, w: Tensor) -> Tensor:
        return torch.matmul(w, a)

    def back(s: Tensor, w: Tensor) -> Tensor:
        return torch.matmul(w.transpose(-1, -2), s).sum_to_size(a.shape)

    plain = a.ndim > 1 and weight.ndim > 1
    return Affine("dense", a, weight, None, apply, back if plain else _by_derivative(apply, a), -1)


@functools.cache
def _names(name: str) -> tuple[str, ...]:
    head = ("input", "weight", "bias", "stride", "padding")
    return (*head, "output_padding", "groups", "dilation") if "transpose" in name else (*head, "dilation", "groups")


def _each(value: Any, axes: int) -> list[int]:
    """A number for each axis."""
    return [value] * axes if isinstance(value, int) else list(value) * (axes if len(value) == 1 else 1)


def _convolution(name: str, args: Any, kwargs: Any) -> Affine | None:
    given: dict[str, Any] = {**dict(zip(_names(name), args)), **kwargs}
    a, weight, bias = given["input"], given["weight"], given.get("bias")
    if weight.requires_grad or getattr(bias, "requires_grad", False):
        return None
    a, weight, bias = _cast(a.detach(), weight, bias)
    axes, transposed = int(name[-2]), "transpose" in name
    lone = a.ndim == axes + 1  # without a batch axis

    stride, dilation = (_each(given.get(key, 1), axes) for key in ("stride", "dilation"))
    groups, output_padding = int(given.get("groups", 1)), _each(given.get("output_padding", 0), axes)
    extra = [0] * axes  # zeros beyond the even padding, at the far end
    if isinstance(given.get("padding", 0), str):
        padding = [0] * axes
        if given["padding"] == "same":
            total = [d * (k - 1) for d, k in zip(dilation, weight.shape[2:])]
            padding, extra = [t // 2 for t in total], [t % 2 for t in total]
    else:
        padding = _each(given.get("padding", 0), axes)
    far = [n for e in reversed(extra) for n in (0, e)]

    def wide(x: Tensor) -> Tensor:
        return F.pad(x, far) if any(far) else x

    def apply(x: Tensor, w: Tensor) -> Tensor:
        batched = wide(x[None] if lone else x)
        found = torch.convolution(batched, w, None, stride, padding, dilation, transposed, output_padding, groups)
        return found[0] if lone else found

    like = wide(a[None] if lone else a)

    def back(s: Tensor, w: Tensor) -> Tensor:
        return transpose(s, w, like)

    def joined(s: Tensor, w: Tensor) -> Tensor:
        return transpose(s, w, torch.cat([like, like], 1))

    def transpose(s: Tensor, w: Tensor, at: Tensor) -> Tensor:
        s = s[None] if lone else s
        mask = [True, False, False]
        found = torch.ops.aten.convolution_backward(
            s, at, w, None, stride, padding, dilation, transposed, output_padding, groups, mask
        )[0]
        for axis, e in enumerate(extra):
            found = found.narrow(2 + axis, 0, found.shape[2 + axis] - e) if e else found
        return found[0] if lone else found  # type: ignore[no-any-return]

    def scaled(w: Tensor, g: Tensor, before: bool) -> Tensor:
        """Weights are (outputs, inputs of a group, ...), of a transposed convolution (inputs, outputs of a group, ...)."""
        split = w.view(groups, w.shape[0] // groups, *w.shape[1:])
        along = 1 if before == transposed else 2  # the axis of ``split`` that g belongs to
        shape = [groups] + [1] * (split.ndim - 1)
        shape[along] = -1
        return (split * g.view(shape)).view_as(w)

    shaped = None if bias is None else bias.view(-1, *[1] * axes)
    alone = lone or transposed or groups > 1
    return Affine("convolution", a, weight, shaped, apply, back, 1, None if lone else scaled, None if alone else joined)

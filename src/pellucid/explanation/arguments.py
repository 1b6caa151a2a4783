"""The arguments of torch's functions: which of them depend on the input, what they are called, what they do to the axes."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from pellucid.core.errors import UnsupportedError

from .operations import KINDS


def tensors_in(args: Any, kwargs: Any) -> Iterator[Tensor]:
    """The tensors among the arguments, also in lists."""
    for value in (*args, *kwargs.values()):
        if isinstance(value, Tensor):
            yield value
        elif isinstance(value, tuple | list):
            yield from tensors_in(value, {})


def changed(change: Callable[[Tensor], Tensor], args: Any, kwargs: Any) -> tuple[Any, Any]:
    """The arguments with every tensor changed."""
    return tuple(_of(change, value) for value in args), {key: _of(change, value) for key, value in kwargs.items()}


def _of(change: Callable[[Tensor], Tensor], value: Any) -> Any:
    if isinstance(value, Tensor):
        return change(value)
    if type(value) in (tuple, list):
        return type(value)(_of(change, item) for item in value)
    return value


# The samples cannot be told apart any more: their axis is part of another.
LOST = -1


def axis_moved(func: Any, args: Any, kwargs: Any, axis: int, x: Tensor, y: Tensor | None, n: int) -> int:
    """Where the n samples lie in y, which a move of axes made of x; LOST where that is not known."""
    if axis == LOST or y is None:
        return LOST
    name = getattr(func, "__name__", "")
    name = getattr(func.__self__, "__name__", name) if name == "__get__" else name.strip("_")
    ndim, rest = x.ndim, [*args[1:], *kwargs.values()]
    if name in ("transpose", "swapaxes", "swapdims") and len(rest) == 2:
        rest = [int(d) % ndim for d in rest]
        order = list(range(ndim))
        order[rest[0]], order[rest[1]] = rest[1], rest[0]
        return order.index(axis)
    if name in ("T", "t", "H", "mT", "mH"):
        return ndim - 1 - axis if name in "TtH" else {ndim - 1: ndim - 2, ndim - 2: ndim - 1}.get(axis, axis)
    if name == "permute":
        return [int(d) % ndim for d in (rest[0] if isinstance(rest[0], tuple | list) else rest)].index(axis)
    if name in ("movedim", "moveaxis") and len(rest) == 2:
        source, target = ([d] if isinstance(d, int) else list(d) for d in rest)
        moved = {t % ndim: s % ndim for s, t in zip(source, target)}
        others = iter(d for d in range(ndim) if d not in moved.values())
        return [moved[d] if d in moved else next(others) for d in range(ndim)].index(axis)
    along = rest[0] if rest and isinstance(rest[0], int) else kwargs.get("dim", 0)
    if name in ("select", "unbind") and isinstance(along, int):
        return axis - 1 if along % ndim < axis else LOST if along % ndim == axis else axis
    if name in ("stack", "unsqueeze") and isinstance(along, int):
        return axis + 1 if along % (ndim + 1) <= axis else axis
    if name == "getitem":
        return _indexed(rest[0], axis, ndim)
    if y.shape == x.shape:
        return axis
    if y.numel() == x.numel():  # the same values in another shape: as many before the samples, and the samples outermost
        before, at = x.shape[:axis].numel(), 0
        while at < y.ndim and y.shape[:at].numel() < before:
            at += 1
        while at < y.ndim - 1 and y.shape[at] == 1 < n:
            at += 1
        fits = at < y.ndim and y.shape[:at].numel() == before and y.shape[at] % n == 0
        return at if fits else LOST
    return axis if y.ndim == ndim and y.shape[axis] == x.shape[axis] else LOST


def _indexed(index: Any, axis: int, ndim: int) -> int:
    """Where the samples lie in x[index]."""
    items = list(index) if isinstance(index, tuple) else [index]
    kept = [item for item in items if item is not None and item is not Ellipsis]
    if Ellipsis in [item for item in items if not isinstance(item, Tensor)]:
        at = next(i for i, item in enumerate(items) if item is Ellipsis)
        items[at : at + 1] = [slice(None)] * (ndim - len(kept))
    before = after = 0
    for item in items:
        if before > axis:
            break
        if item is None:
            after += 1
        elif isinstance(item, slice):
            if before == axis:
                return after
            before, after = before + 1, after + 1
        elif isinstance(item, int) and before != axis:
            before += 1
        else:
            return LOST  # chosen by a list or a tensor, or one sample for all
    return after + axis - before if before <= axis else LOST


def in_order(name: str, args: Any, kwargs: Any) -> tuple[Any, Any]:
    """The operands by their place, also those that were named."""
    if not kwargs:
        return args, kwargs
    kwargs = dict(kwargs)
    for key in ("input", "self", "tensors"):
        if key in kwargs:
            args = (kwargs.pop(key), *args)
    if KINDS.get(name) in ("sum", "product", "matrix", "extremum"):
        for key in ("other", "mat2", "vec", "tensor2"):
            if isinstance(kwargs.get(key), Tensor | int | float):
                args = (*args, kwargs.pop(key))
    if KINDS.get(name) == "affine":
        for key in ("weight", "bias"):
            if key in kwargs and len(args) == (1 if key == "weight" else 2):
                args = (*args, kwargs.pop(key))
    return args, kwargs


def axis_left(kind: str, name: str, args: Any, kwargs: Any, axis: int, ndim: int) -> int:
    """Where the samples lie after a sum, mean or maximum over axes before theirs."""
    if axis == LOST or (kind != "pool" and kind != "extremum") or "pool" in name or kwargs.get("keepdim") or True in args[2:3]:
        return axis
    dims = kwargs.get("dim", kwargs.get("axis", args[1] if len(args) > 1 else ()))
    dims = (dims,) if isinstance(dims, int) else dims
    if not isinstance(dims, tuple | list):
        return axis
    dims = [d % ndim for d in dims if isinstance(d, int)]
    return LOST if axis in dims else axis - sum(d < axis for d in dims)


def rectifies(name: str, args: Any, kwargs: Any) -> bool:
    """Whether this is a ReLU written as max(x, 0)."""
    if name in ("clamp", "clip", "clamp_min"):
        low = kwargs.get("min", args[1] if len(args) > 1 else None)
        high = kwargs.get("max", args[2] if len(args) > 2 else None)
        return isinstance(low, int | float) and low == 0 and high is None
    if name in ("maximum", "max") and len(args) == 2:
        fixed = [a for a in args if isinstance(a, Tensor) and not a.requires_grad and a.is_floating_point()]
        return len(fixed) == 1 and not bool(fixed[0].any())
    return False


def function_of(func: Any, args: Any, kwargs: Any) -> Callable[..., Any]:
    """The call as a function of those of its arguments that depend on the input, in their order."""
    places = [i for i, value in enumerate(args) if isinstance(value, Tensor) and value.requires_grad]
    keys = [key for key, value in kwargs.items() if isinstance(value, Tensor) and value.requires_grad]
    kept = [None if i in places else value for i, value in enumerate(args)]
    named = {key: value for key, value in kwargs.items() if key not in keys}

    def call(*values: Tensor) -> Any:
        given = list(kept)
        for i, value in zip(places, values):
            given[i] = value
        return func(*given, **named, **dict(zip(keys, values[len(places) :])))

    return call


_SIGNS = {"sub": (1.0, -1.0), "subtract": (1.0, -1.0), "isub": (1.0, -1.0), "rsub": (-1.0, 1.0)}


def operands_of(name: str, args: Any, kwargs: Any) -> list[tuple[Any, float, bool]]:
    """The two operands of a sum or a product in the order of the call, the factor of each, and whether it varies."""
    several = [*args[:2], *[kwargs[key] for key in ("input", "other") if key in kwargs]][:2]
    signs = _SIGNS.get(name, (1.0, 1.0))
    alpha = kwargs.get("alpha", 1)
    signs = (signs[0] * alpha, signs[1]) if name == "rsub" else (signs[0], signs[1] * alpha)
    found = []
    for operand, sign in zip(several, signs):
        varies = isinstance(operand, Tensor) and operand.requires_grad
        found.append((operand.detach() if isinstance(operand, Tensor) else operand, sign, varies))
    return found


def with_places(name: str, given: dict[str, Any]) -> Callable[..., Any]:
    """A max pool as a function of its input that also says where the winners are."""
    function = getattr(nn.functional, name.removesuffix("_with_indices") + "_with_indices")
    rest = {key: value for key, value in given.items() if key not in ("input", "return_indices")}
    return lambda x: function(x, **rest)


@functools.cache
def _place_of_inplace(func: Any) -> int | None:
    try:
        return list(inspect.signature(func).parameters).index("inplace")
    except (ValueError, TypeError):
        return None


def asks_in_place(func: Any, args: Any, kwargs: Any) -> bool:
    """Whether an argument says that the first one is to be changed."""
    if "inplace" in kwargs:
        return bool(kwargs["inplace"])
    place = _place_of_inplace(func)
    return place is not None and len(args) > place and bool(args[place])


def out_of_place(func: Any, name: str, args: Any, kwargs: Any) -> tuple[Any, Any, Any]:
    """The same operation with a result of its own."""
    if "inplace" in kwargs:
        return func, args, {**kwargs, "inplace": False}
    place = _place_of_inplace(func)
    if place is not None and len(args) > place:
        return func, (*args[:place], False, *args[place + 1 :]), kwargs
    plain = {"iadd": "add", "isub": "sub", "imul": "mul", "itruediv": "div", "idiv": "div", "imatmul": "matmul"}.get(name, name)
    for home in (torch.Tensor, torch, nn.functional):
        if hasattr(home, plain):
            return getattr(home, plain), args, kwargs
    raise UnsupportedError(f"there is no rule for the operation '{name}' in place")


def drops(name: str, args: Any, kwargs: Any) -> bool:
    """Whether a dropout drops anything."""
    training = kwargs.get("training", kwargs.get("train", args[2] if len(args) > 2 else name != "alpha_dropout"))
    p = kwargs.get("p", args[1] if len(args) > 1 else 0.5)
    return bool(training) and p > 0


_POOL = ("input", "kernel_size", "stride", "padding", "dilation", "ceil_mode", "return_indices")
_NAMES = {
    "batch_norm": ("input", "weight", "bias", "running_mean", "running_var", "training", "momentum", "eps", "cudnn_enabled"),
    "layer_norm": ("input", "normalized_shape", "weight", "bias", "eps", "cudnn_enabled"),
    "group_norm": ("input", "num_groups", "weight", "bias", "eps", "cudnn_enabled"),
    "rms_norm": ("input", "normalized_shape", "weight", "eps"),
}


@functools.cache
def _parameters(func: Any) -> dict[str, Any] | None:
    try:
        return {p.name: p.default for p in inspect.signature(func).parameters.values()}
    except (ValueError, TypeError):
        return None


def named(func: Any, name: str, args: Any, kwargs: Any) -> dict[str, Any]:
    """The arguments of a norm or a pool by their names."""
    if "adaptive" in name:
        return {**dict(zip(("input", "output_size", "return_indices"), args)), **kwargs}
    if "pool" in name:
        return {**dict(zip(_POOL, args)), **kwargs}
    known = _parameters(func)
    if known is None:
        known = {**dict.fromkeys(_NAMES[name]), "eps": 1e-5}
    return {**known, **dict(zip(known, args)), **kwargs}

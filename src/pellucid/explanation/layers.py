"""Which layer a class activation map looks at, and how its output becomes one map per channel."""

from __future__ import annotations

import functools
import math
import re
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from pellucid.core.errors import InputError, UnsupportedError, nearest

from . import masks
from .borrowing import Model, borrowed, children, descendants, first_tensor, is_keras, tensors, watched, with_first
from .inputs import Inputs

Layer = str | nn.Module | Sequence[str | nn.Module] | None
# Tokens beside those of the patches: class, distillation and register tokens. They come first.
MOST_EXTRA_TOKENS = 8


@dataclass(frozen=True)
class Layout:
    """How an output (B, ...) becomes maps (B, K, *grid) and back: channels first, channels last, or tokens in a grid."""

    kind: str
    grid: tuple[int, ...]
    extra: int = 0

    def maps(self, output: Tensor) -> Tensor:
        """(B, K, *grid)."""
        if self.kind == "first":
            return output
        if self.kind == "last":
            return output.movedim(-1, 1)
        tokens = output[:, self.extra :].movedim(2, 1)
        return tokens.reshape(*tokens.shape[:2], *self.grid)

    def output(self, maps: Tensor, like: Tensor) -> Tensor:
        """The layer's output with these maps; tokens that are not of a patch are those of ``like``."""
        if self.kind == "first":
            return maps
        if self.kind == "last":
            return maps.movedim(1, -1)
        tokens = maps.flatten(2).movedim(1, 2)
        return torch.cat([like[:, : self.extra], tokens], 1) if self.extra else tokens


# How layers of these kinds lay out what they give, by the names of their types.
_CHANNELS_FIRST = re.compile("Conv|BatchNorm|InstanceNorm|GroupNorm|Pool")
_FEATURES_LAST = re.compile("LayerNorm|RMSNorm|Linear|Attention|Transformer|LSTM|GRU|Embedding")


def layout_of(output: Any, x: Tensor, module: nn.Module | None = None, *, channels_last: bool = False) -> Layout:
    """The layout of a layer's output for these inputs; UnsupportedError with the reason where there are no maps in it.

    channels_last: known of a model of Keras. Elsewhere a convolution, a pool or a batch norm has its channels first.
    Another layer of as many axes has them last (Swin) if only that gives a grid no larger than the input, or one of square
    patches of it. Of a sequence, the output of a layer norm, linear layer or attention with one row per position is tokens.
    """
    where = "" if module is None else type(module).__name__
    size = masks.spatial(x)
    shape = tuple(output.shape) if isinstance(output, Tensor) else ()
    if len(shape) < 3 or shape[0] != len(x):
        raise UnsupportedError(
            f"the layer gives {shape or type(output).__name__}, not one map per channel and sample",
            where=where,
            cure="Name a convolutional layer with layer=.",
        )
    if channels_last and x.ndim > 2 and len(shape) == len(size) + 2:
        return Layout("last", shape[1:-1])
    if len(shape) == 3 and len(size) == 1:
        if shape[1] == size[0] and (x.ndim == 2 or _features_last(module)):
            return Layout("tokens", size)
        if x.ndim == 3 or shape[2] == size[0]:
            return Layout("first", shape[2:])
    elif len(shape) == len(size) + 2:
        first, last = shape[2:], shape[1:-1]
        if _CHANNELS_FIRST.search(where) or not _within(last, size):
            return Layout("first", first)
        if not _within(first, size) or (_square(last, size) and not _square(first, size)):
            return Layout("last", last)
        return Layout("first", first)
    elif len(shape) == 3:
        patches = range(1, math.gcd(*size) + 1)
        grids = [tuple(s // p for s in size) for p in patches if all(s % p == 0 for s in size)]
        for extra in range(MOST_EXTRA_TOKENS + 1):
            for grid in grids:
                if math.prod(grid) + extra == shape[1]:
                    return Layout("tokens", grid, extra)
        raise UnsupportedError(
            f"the layer gives {shape[1]} tokens, which are no grid of square patches of {' x '.join(map(str, size))}",
            where=where,
            cure="Name a layer whose tokens are patches of the input (and at most 8 others in front), or one before them.",
        )
    raise UnsupportedError(
        f"the layer gives {shape} for an input of {tuple(x.shape)}, not one map per channel and sample",
        where=where,
        cure="Name another layer with layer=.",
    )


def _within(grid: Sequence[int], size: Sequence[int]) -> bool:
    """Whether a grid has no more cells than the input has positions, on every axis."""
    return all(g <= s for g, s in zip(grid, size))


def _square(grid: Sequence[int], size: Sequence[int]) -> bool:
    """Whether the cells of a grid are square patches of the input."""
    return all(s % g == 0 for g, s in zip(grid, size)) and len({s // g for g, s in zip(grid, size)}) == 1


def _features_last(module: nn.Module | None) -> bool:
    """Whether the last layer in a module that says so has its features last."""
    names = [type(part).__name__ for part in ([] if module is None else descendants(module).values())]
    said = [bool(_FEATURES_LAST.search(n)) for n in names if _FEATURES_LAST.search(n) or _CHANNELS_FIRST.search(n)]
    return bool(said) and said[-1]


def said_of_uses(layer: nn.Module, times: int) -> list[str]:
    """What is said of a layer that ran so often in one pass; UnsupportedError where it did not."""
    if times == 0:
        raise UnsupportedError("the layer is not used by the model's forward pass", where=type(layer).__name__)
    return [f"the layer runs {times} times in one forward pass; its last use is explained"] if times > 1 else []


def find_layer(model: Model, layer: Layer, x: Tensor | Inputs) -> tuple[str, nn.Module]:
    """The layer asked for by name or module, else the last one with a map: see ``find_layers``."""
    return find_layers(model, layer, x)[-1]


def find_layers(model: Model, layer: Layer, x: Tensor | Inputs) -> list[tuple[str, nn.Module]]:
    """The layers asked for by name or module, else the last with maps that the output depends on (1 F of one row).

    A layer has maps if its output keeps the input's spatial axes, or is tokens that stand in a grid over it. Behind the
    last block of a transformer only the class token may be read; a layer whose patches do not matter is passed over,
    which takes one backward of one row. Of a transformer with a class token blocks and norms are looked at before others.
    """
    if not isinstance(model, nn.Module):
        raise UnsupportedError("a plain function has no layers", cure="Use a method that only needs scores (occlusion).")
    if layer is None:
        return [_last_with_maps(model, x if isinstance(x, Inputs) else Inputs((x,)))]
    several: list[Any] = list(layer) if isinstance(layer, list | tuple) else [layer]
    wrong = [one for one in several if not isinstance(one, str | nn.Module)]
    if wrong:
        raise InputError(f"layer is {wrong[0]!r}", cure="Give a name, one of the model's modules, or a list of these.")
    if not several:
        raise InputError("no layer in the list", cure="Name at least one, or leave layer= out.")
    return [_named(model, one) for one in several]


def _named(model: nn.Module, layer: str | nn.Module) -> tuple[str, nn.Module]:
    name, module = _looked_up(model, layer)
    if isinstance(module, torch.jit.ScriptModule):
        raise UnsupportedError("a scripted layer cannot be looked into", where=name, cure="Explain what it was scripted from.")
    return name, module


def _looked_up(model: nn.Module, layer: str | nn.Module) -> tuple[str, nn.Module]:
    if isinstance(layer, str) and not is_keras(model) and not isinstance(model, torch.jit.ScriptModule):
        with suppress(AttributeError):
            return layer, model.get_submodule(layer)
    modules = descendants(model)
    if isinstance(layer, str):
        if layer not in modules:
            raise InputError(f"the model has no layer '{layer}'", cure=nearest(layer, filter(None, modules)))
        return layer, modules[layer]
    for name, module in modules.items():
        if module is layer:
            return name, module
    raise InputError(f"the layer {type(layer).__name__} is not part of the model", cure="Give one of its own modules.")


def _last_with_maps(model: nn.Module, inputs: Inputs) -> tuple[str, nn.Module]:
    one = inputs.rows(0, 1)
    everything = descendants(model).items()
    modules = {name: module for name, module in everything if name and not isinstance(module, torch.jit.ScriptModule)}
    seen: dict[str, Layout] = {}

    def look(name: str, output: Any) -> None:
        output = first_tensor(output)
        if output is None or not output.is_floating_point():
            return
        try:
            layout = layout_of(output, one.x, modules[name], channels_last=inputs.channels_last)
        except UnsupportedError:
            return
        if math.prod(layout.grid) > 1:
            seen.pop(name, None)
            seen[name] = layout

    with borrowed(model), torch.no_grad():
        _call(model, one, {module: functools.partial(look, name) for name, module in modules.items()})
    if not seen:
        raise UnsupportedError(
            "no layer keeps the input's spatial axes, so there is no map to draw",
            cure="Use integrated_gradients or occlusion, or name a layer with layer=.",
        )
    last_first = list(reversed(seen))
    blocks = [name for name in last_first if children(modules[name]) or "Norm" in type(modules[name]).__name__]
    tokens = seen[last_first[0]].extra > 0
    for name in [*blocks, *last_first] if tokens else last_first[:1]:
        if seen[name].extra == 0 or _patches_matter(model, one, modules[name], seen[name]):
            return name, modules[name]
    raise UnsupportedError("the output depends on no layer's patches", cure="Name a layer with layer=.")


def _call(model: nn.Module, inputs: Inputs, look: dict[nn.Module, Callable[[Any], Any]]) -> Any:
    with watched(look):
        return inputs.call(model, inputs.x.clone(), torch.arange(len(inputs), device=inputs.x.device))


def _patches_matter(model: nn.Module, one: Inputs, module: nn.Module, layout: Layout) -> bool:
    """Whether the gradient of the model's answer with respect to this layer is not zero at its patches."""
    leaves: list[Tensor] = []

    def cut(output: Any) -> Any:
        tensor = first_tensor(output)
        assert tensor is not None
        leaves.append(tensor.detach().clone().requires_grad_())
        return with_first(output, leaves[-1].clone())

    with borrowed(model):
        answers = [t for t in tensors(_call(model, one, {module: cut})) if t.is_floating_point() and t.requires_grad]
        # uneven weights: the plain sum of probabilities would have no gradient
        uneven = [(t * torch.linspace(1, 2, t.numel()).to(t).view_as(t)).sum() for t in answers]
        if not uneven:
            return False
        g = torch.autograd.grad(torch.stack(uneven).sum(), leaves[-1], allow_unused=True)[0]
    return g is not None and bool(layout.maps(g).any())

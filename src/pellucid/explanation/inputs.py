"""What a model is called with: one tensor or several, of which an explanation alters some and holds the others."""

from __future__ import annotations

import functools
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from pellucid.core import checks, devices
from pellucid.core.errors import InputError, PellucidError

from . import masks
from .borrowing import Model, is_keras


@dataclass(frozen=True)
class Inputs:
    """The inputs of a model, channels first. ``x`` holds those that vary: one as it is, several side by side as (B, D).

    parts: one tensor per input. varied: which of them ``x`` holds; the others keep their sample's value. channels_last:
    a model of Keras, which wants them the other way round, and several as one list. missing: NaN stands for a missing value,
    which the model takes.
    """

    parts: tuple[Tensor, ...]
    varied: tuple[int, ...] = (0,)
    channels_last: bool = False
    missing: bool = False

    def __len__(self) -> int:
        return len(self.parts[0])

    @functools.cached_property
    def x(self) -> Tensor:
        """(B, ...) what the explanation alters."""
        return self.pack(self.parts)

    def pack(self, parts: tuple[Tensor, ...]) -> Tensor:
        """One value of ``x`` from one value of every input."""
        if len(self.varied) == 1:
            return parts[self.varied[0]]
        return torch.cat([parts[i].flatten(1) for i in self.varied], 1)

    def as_given(self, x: Tensor) -> Tensor:
        """A tensor like ``x`` in the layout in which a single input was given."""
        return x.movedim(1, -1).contiguous() if self.channels_last and len(self.parts) == 1 and x.ndim > 2 else x

    def unpack(self, x: Tensor) -> dict[int, Tensor]:
        """The inputs that vary, from a value of ``x``."""
        if len(self.varied) == 1:
            return {self.varied[0]: x}
        sizes = [self.parts[i][0].numel() for i in self.varied]
        return {i: piece.view(-1, *self.parts[i].shape[1:]) for i, piece in zip(self.varied, torch.split(x, sizes, 1))}

    def arguments(self, x: Tensor, sample: Tensor) -> tuple[Any, ...]:
        """What the model is called with where ``x`` stands for the samples with these indices."""
        pieces = self.unpack(x)
        together = [pieces[i] if i in pieces else part[sample] for i, part in enumerate(self.parts)]
        if self.channels_last:  # Keras: several inputs are one list
            together = [t.movedim(1, -1) if t.ndim > 2 else t for t in together]
            return (together[0] if len(together) == 1 else together,)
        return tuple(together)

    def call(self, model: Model, x: Tensor, sample: Tensor) -> Any:
        """The model's answer; InputError with its reason where it cannot run on such an input."""
        try:
            return model(*self.arguments(x, sample))
        except (RuntimeError, TypeError, ValueError, LookupError, AssertionError, AttributeError) as error:
            if isinstance(error, PellucidError) or devices.out_of_memory(error):
                raise
            reason = str(error).strip().split("\n", 1)[0] or type(error).__name__
            shape = tuple(x.shape) if len(self.parts) == 1 else [tuple(part.shape) for part in self.parts]
            whole = not x.is_floating_point()
            raise InputError(
                f"the model cannot run on an input of shape {shape}" + (f" and type {x.dtype}" if whole else ""),
                where=reason,
                cure="Does it want real numbers, x.float()?" if whole else "",
            ) from error

    def rows(self, start: int, stop: int) -> Inputs:
        """The inputs of some samples."""
        return replace(self, parts=tuple(part[start:stop] for part in self.parts))

    def spread(self) -> Tensor:
        """max - min of every sample, per input, in a shape that broadcasts with ``x``."""
        ranges = {i: part.flatten(1).amax(1) - part.flatten(1).amin(1) for i, part in self.unpack(self.x).items()}
        if len(self.varied) == 1:
            return masks.beside(next(iter(ranges.values())), self.x)
        return torch.cat([r[:, None].expand(-1, self.parts[i][0].numel()) for i, r in ranges.items()], 1)

    @property
    def every(self) -> Inputs:
        """The same with all inputs of real numbers varied: for methods that treat each value by itself."""
        real = tuple(i for i, part in enumerate(self.parts) if part.is_floating_point())
        return self if real in ((), self.varied) else replace(self, varied=real)

    @property
    def pictured(self) -> Inputs:
        """The same with one input varied: for methods that make a map. The first with spatial axes, else the first of all."""
        real = [i for i, part in enumerate(self.parts) if part.is_floating_point()]
        spatial = [i for i in real if self.parts[i].ndim > 2]
        return replace(self, varied=((spatial + real + [0])[0],))


def prepare(model: Model | None, x: Any, missing: bool = False) -> Tensor:
    """The samples as a tensor on the model's device, real numbers in its precision; NaN only where it may be ``missing``."""
    try:
        x = x if isinstance(x, Tensor) else torch.tensor(np.ascontiguousarray(x))
    except (TypeError, ValueError, RuntimeError) as error:
        cure = "Give a tensor or array (B, ...), or a data frame where columns hold words."
        raise InputError(f"the input is {type(x).__name__}, not an array of numbers", cure=cure) from error
    if x.ndim < 2 or len(x) == 0:
        raise InputError(
            f"the input has shape {tuple(x.shape)}", cure="Give at least one sample, with the batch as first axis."
        )
    like = next((p for p in model.parameters() if p.is_floating_point()), None) if isinstance(model, nn.Module) else None
    with torch.inference_mode(False):
        x = x.detach().clone()  # what the caller does with it later is nothing to an explanation
        if like is not None:
            x = x.to(like.device, like.dtype if x.is_floating_point() else None)
    return finite_or_missing("the input", x, missing or takes_missing(model))


def takes_missing(model: Model | None) -> bool:
    """Whether NaN is a missing value to this model: estimators of other libraries know, or refuse it themselves."""
    return not isinstance(model, nn.Module) and getattr(model, "missing", False) is True


def finite_or_missing(name: str, tensor: Tensor, missing: bool) -> Tensor:
    """No infinity, and no NaN where ``missing`` is not allowed."""
    checks.finite(name, torch.where(tensor.isnan(), 0, tensor) if missing else tensor)
    return tensor


def inputs_of(model: Model, x: Any) -> Inputs:
    """One input, or a tuple of them for a model that takes several; all with the same number of samples."""
    parts = tuple(prepare(model, part) for part in x) if isinstance(x, tuple) and x else (prepare(model, x),)
    lengths = [len(part) for part in parts]
    if len(set(lengths)) > 1:
        raise InputError(
            f"inputs of {', '.join(map(str, lengths))} samples",
            cure="Give every input of the model the same number of samples.",
        )
    last = _channels_last(model)
    if last:
        parts = tuple(part.movedim(-1, 1) if part.ndim > 2 else part for part in parts)
    return Inputs(parts, channels_last=last, missing=takes_missing(model)).pictured


def _channels_last(model: Model) -> bool:
    """Keras layers say how they want their input; every other torch module has channels first."""
    if not is_keras(model) or not isinstance(model, nn.Module):
        return False
    asked = [getattr(module, "data_format", None) for module in model.modules()]
    return next((said for said in asked if said is not None), "channels_last") == "channels_last"

"""What "nothing there" looks like: the inputs that a method compares the samples with."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from pellucid.core import checks
from pellucid.core.errors import InputError

from .inputs import Inputs, finite_or_missing, prepare

Baseline = float | str | Tensor | tuple[Any, ...]
NAMED = ("mean", "blur")


def as_baseline(baseline: Any, x: Tensor, missing: bool = False) -> Tensor:
    """A number or one input as one input per sample, (B, ...); NaN in it only where it may stand for a ``missing`` value."""
    try:
        b = torch.as_tensor(baseline, dtype=x.dtype, device=x.device).expand_as(x)
    except (RuntimeError, TypeError, ValueError) as error:
        shape = f"of shape {tuple(baseline.shape)}" if hasattr(baseline, "shape") else repr(baseline)
        raise InputError(
            f"a baseline {shape} for an input of shape {tuple(x.shape)}",
            cure=f"Give a number or a tensor of shape {tuple(x.shape[1:])}.",
        ) from error
    if not x.is_floating_point() and not isinstance(baseline, int) and bool((torch.as_tensor(baseline) % 1 != 0).any()):
        raise InputError(f"a baseline of {baseline} for whole numbers", cure="Give whole numbers.")
    return finite_or_missing("the baseline", b, missing)


class PerSample(tuple[Any, ...]):
    """A baseline with one row for each sample, rather than a set of references that every sample is compared with."""

    __slots__ = ()


def baselines(baseline: Any, inputs: Inputs, first: int) -> list[Tensor]:
    """The baselines of a batch, each as one input per sample (B, ...); ``first`` is the number of its first sample.

    A number; "mean" (every channel's mean over the positions of the sample; of a table row the row's mean); "blur" (the
    sample behind a Gaussian of a tenth of each axis); one input; a set of them, (R, ...). For several inputs a tuple of these.
    """
    several = [inputs.parts[i] for i in inputs.varied]
    if isinstance(baseline, PerSample):
        rows = []
        for b, x in zip(baseline, several):
            b = _channels_first(b, x, inputs)
            each = getattr(b, "ndim", 0) == x.ndim and len(b) > 1
            rows.append(as_baseline(b[first : first + len(x)] if each else b, x, inputs.missing))
        return [inputs.pack(_placed(inputs, rows))]
    given = baseline if isinstance(baseline, tuple) else (baseline,) * len(several)
    if len(given) != len(several):
        raise InputError(f"{len(given)} baselines for {len(several)} inputs", cure="Give one for each input, or one for all.")
    each = [_of_part(_channels_first(b, part, inputs), part, inputs.missing) for b, part in zip(given, several)]
    if not all(each):
        raise InputError("a set of no baselines", cure="Give at least one row.")
    counts = {len(found) for found in each} - {1}
    if len(counts) > 1:
        raise InputError(f"sets of {sorted(counts)} baselines", cure="Give every input the same number.")
    number = max(map(len, each))
    return [inputs.pack(_placed(inputs, [e[r if len(e) > 1 else 0] for e in each])) for r in range(number)]


def single_baseline(baseline: Any, inputs: Inputs, first: int) -> Tensor:
    """(B, ...) the one baseline of a method that takes no set of them."""
    several = baselines(baseline, inputs, first)
    if len(several) > 1:
        raise InputError(f"{len(several)} baselines", cure="Give one; integrated_gradients averages over several.")
    return several[0]


def _placed(inputs: Inputs, pieces: list[Tensor]) -> tuple[Tensor, ...]:
    parts = list(inputs.parts)
    for i, piece in zip(inputs.varied, pieces):
        parts[i] = piece
    return tuple(parts)


def _channels_first(given: Any, like: Tensor, inputs: Inputs) -> Any:
    """A baseline in the layout of the samples, which it was given in, as the engine has them."""
    if isinstance(given, int | float | str) or not inputs.channels_last:
        return given
    tensor = torch.as_tensor(given)
    channel = tensor.ndim - like.ndim + 1  # axis 1 of a set, axis 0 of a single input
    return tensor.movedim(-1, channel) if like.ndim > 2 and channel in (0, 1) else tensor


def _of_part(baseline: Any, x: Tensor, missing: bool = False) -> list[Tensor]:
    if isinstance(baseline, str):
        checks.one_of("baseline", baseline, NAMED)
        if not x.is_floating_point():
            raise InputError(f"the {baseline} of whole numbers is none of them", cure="Give a whole number or an input.")
        if baseline == "mean":
            axes = tuple(range(2, x.ndim)) or (1,)
            return [x.nanmean(axes, keepdim=True).expand_as(x)]
        if x.ndim == 2:
            raise InputError("the features of a table cannot be blurred", cure='Give baseline="mean", a number or a row.')
        return [blurred(x)]
    if isinstance(baseline, list):
        baseline = torch.as_tensor(baseline, dtype=x.dtype)
    if not isinstance(baseline, int | float) and getattr(baseline, "ndim", 0) == x.ndim:
        return [as_baseline(row, x, missing) for row in baseline]  # a set
    return [as_baseline(baseline, x, missing)]


def blurred(x: Tensor, share: float = 0.1) -> Tensor:
    """(B, C, ...) behind a Gaussian with a standard deviation of a tenth of each axis, edges repeated."""
    for axis in range(2, x.ndim):
        sigma = max(share * x.shape[axis], 1e-3)
        reach = min(math.ceil(3 * sigma), x.shape[axis] - 1)
        weights = torch.exp(-0.5 * (torch.arange(-reach, reach + 1, device=x.device, dtype=x.dtype) / sigma) ** 2)
        rows = x.movedim(axis, -1)
        padded = torch.cat(
            [rows[..., :1].expand(*rows.shape[:-1], reach), rows, rows[..., -1:].expand(*rows.shape[:-1], reach)], -1
        )
        flat = torch.nn.functional.conv1d(padded.reshape(-1, 1, padded.shape[-1]), (weights / weights.sum()).view(1, 1, -1))
        x = flat.view(rows.shape).movedim(-1, axis)
    return x


def references_of(given: Any, inputs: Inputs) -> Tensor:
    """(R, ...) references in the form of ``inputs.x``: a tensor, or a tuple of them for several inputs."""
    several = [inputs.parts[i] for i in inputs.varied]
    parts = given if isinstance(given, tuple) else (given,)
    if len(parts) != len(several):
        raise InputError(
            f"references for {len(parts)} inputs, {len(several)} vary", cure="Give a tuple with one for each input."
        )
    rows = [_channels_first(prepare(None, part).to(x), x, inputs) for part, x in zip(parts, several)]
    for row, x in zip(rows, several):
        if row.shape[1:] != x.shape[1:]:
            raise InputError(
                f"references of shape {tuple(row.shape)} for an input of {tuple(x.shape)}",
                cure="Give inputs of the same shape.",
            )
    return rows[0] if len(rows) == 1 else torch.cat([row.flatten(1) for row in rows], 1)

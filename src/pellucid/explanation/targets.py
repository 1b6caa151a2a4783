"""From a model's answer to the one number per sample that is explained."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from pellucid.core.errors import InputError, UnsupportedError

Target = int | Sequence[int] | Tensor | Callable[[Any], Tensor] | None
SCALES = ("logit", "probability")
# How a model that is no torch module says what its answers are: logits of exclusive classes or of one class each, probabilities
# or other values already, or numbers that no probability follows from.
LINKS = ("softmax", "sigmoid", "identity", "none")


def as_indices(target: Any, n: int, device: torch.device) -> Tensor:
    """(n,) class indices from one index, or one per sample."""
    try:
        indices = torch.as_tensor(target, device=device)
    except (TypeError, ValueError, RuntimeError):
        indices = torch.zeros(1, 1)  # refused below, with what was given
    if indices.is_floating_point() or indices.dtype == torch.bool or indices.ndim > 1:
        raise InputError(f"target is {target!r}", cure="Give a class index, one index per sample, or a function of the output.")
    if indices.ndim == 0:
        indices = indices.expand(n)
    if len(indices) != n:
        raise InputError(f"{len(indices)} targets for {n} samples", cure="Give one class index, or one per sample.")
    return indices.long()


def logits(output: Any, n: int) -> Tensor:
    """(B, K) from a model's answer: the answer itself, or what it calls ``logits``; (B,) counts as one column."""
    if not isinstance(output, Tensor):
        named = output.get("logits") if isinstance(output, dict) else getattr(output, "logits", None)
        output = named if isinstance(named, Tensor) else output
    if isinstance(output, Tensor) and output.ndim in (1, 2) and len(output) == n:
        table: Tensor = output.float() if output.dtype == torch.bool else output
        return table[:, None] if table.ndim == 1 else table
    shape = tuple(output.shape) if isinstance(output, Tensor) else type(output).__name__
    raise InputError(
        f"the model answers with {shape}, not (B, K)", cure="Give target= as a function from that answer to one number per row."
    )


def called(choose: Callable[[Any], Tensor], output: Any, n: int) -> Tensor:
    """(n,) what a target function makes of the model's answer."""
    value = choose(output)
    if not isinstance(value, Tensor) or value.shape != (n,):
        got = tuple(value.shape) if isinstance(value, Tensor) else type(value).__name__
        raise InputError(f"the target function gave {got} for {n} rows", cure="Return one number per row, shape (B,).")
    return value


def link_of(model: object) -> str | None:
    """The ``LINKS`` of a model, None for a torch module and for a function that says nothing."""
    link = None if isinstance(model, nn.Module) else getattr(model, "link", None)
    return link if isinstance(link, str) and link in LINKS else None


def probabilities(z: Tensor, link: str | None) -> Tensor | None:
    """(B, K) from a model's answers; None where they have no probability.

    Without a link softmax, of a single column the sigmoid. Under "identity" answers outside of [0, 1] are no probabilities.
    """
    if link == "none":
        return None
    if link == "identity":
        return z if bool(((z >= -1e-6) & (z <= 1 + 1e-6)).all()) else None
    return z.sigmoid() if link == "sigmoid" or z.shape[1] == 1 else z.softmax(1)


def of_class(output: Any, target: Tensor, of: str, first: Sequence[int], link: str | None = None) -> Tensor:
    """Logit or probability of each row's class (n,), or classes (n, k); ``first`` names the sample of each row in messages."""
    z = logits(output, len(target))
    outside = (target >= z.shape[1]) | (target < 0)
    if bool(outside.any()):
        i = int(outside.nonzero()[0, 0])
        raise InputError(
            f"target {int(target[outside][0])} does not exist",
            where=f"sample {int(first[i])}",
            cure=f"The model has outputs 0 to {z.shape[1] - 1}.",
        )
    if of == "probability":
        p = probabilities(z, link)
        if p is None:
            raise no_probability_of_answers()
        z = p
    return z.gather(1, target.view(len(target), -1)).view(target.shape)


def no_probability() -> UnsupportedError:
    """What is said where a probability is asked of a target function."""
    return UnsupportedError("a target function has no probability", cure="Give the target as a class index.")


def no_probability_of_answers() -> UnsupportedError:
    """What is said where a probability is asked of a model whose answers are decision values or numbers of any size."""
    return UnsupportedError(
        "no probability follows from what the model answers with",
        cure='Ask for of="probability" where it has them, else explain its answers as they are.',
    )

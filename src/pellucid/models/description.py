"""What a network is made of: one row per layer call, read from the outside with hooks.

Works for any torch module. The module comes back as it was - weights, buffers, mode, hooks, random state - also after an error.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.nn.parameter import is_lazy

from pellucid.core import seeds
from pellucid.core.errors import InputError

# Column of the table -> the attribute that torch's convolutions and poolings keep it in.
WINDOW = {"kernel": "kernel_size", "stride": "stride", "padding": "padding"}


@dataclass(frozen=True)
class LayerRow:
    """One call of one layer, or one parameter that no layer call accounts for.

    ``output_shape`` is of one sample, without the batch. ``parameters`` are those first met in this row, so that a layer
    used twice, or weights that two layers share, count once; ``trainable`` are those of them that ask for a gradient.
    ``kernel``, ``stride`` and ``padding`` are given for convolutions and poolings.
    """

    name: str
    kind: str
    output_shape: tuple[int, ...]
    parameters: int
    trainable: int
    kernel: str = ""
    stride: str = ""
    padding: str = ""


def describe(model: nn.Module, input_shape: Sequence[int] | torch.Tensor) -> list[LayerRow]:
    """The layers of ``model`` in the order in which they are called, from one forward pass in evaluation mode.

    ``input_shape`` is the shape of one sample, which is filled with zeros; for a model that does not take floats give an
    example batch instead. A layer is a module without children. Parameters outside every layer call (a class token, a
    layer that is not used) follow in rows of kind "parameter". An input that the model refuses is an ``InputError``
    that names the layer.
    """
    if any(is_lazy(p) for p in model.parameters()):
        raise InputError("the model has lazy layers without a shape yet", cure="Run it once on a batch of real data first.")
    x = input_shape if isinstance(input_shape, torch.Tensor) else _zeros(model, input_shape)
    rows: list[LayerRow] = []
    counted: set[int] = set()
    running: list[str] = []
    names = {
        module: name or type(module).__name__ for name, module in model.named_modules() if "parametrizations." not in f"{name}."
    }

    def enter(module: nn.Module, _: Any) -> None:
        running.append(f"layer '{names[module]}' ({type(module).__name__})")

    def leave(module: nn.Module, _: Any, output: Any) -> None:
        running.pop()
        if all(name == "parametrizations" for name, _ in module.named_children()):
            rows.append(_row(names[module], module, output, counted))

    with _borrowed(model, x.device) as hooks, torch.no_grad():
        for module in names:
            hooks.append(module.register_forward_pre_hook(enter))
            hooks.append(module.register_forward_hook(leave))
        try:
            model(x)
        except (InputError, torch.OutOfMemoryError):
            raise
        except (RuntimeError, ValueError, IndexError, AssertionError, TypeError) as error:
            reason = str(error).split("\n", 1)[0]
            raise InputError(
                f"the model refuses an input of shape {_by(tuple(x.shape[1:])) or 'one number'}",
                where=f"{running[-1]}: {reason}" if running else reason,
                cure="Give the shape of one sample, channels first, and build the model for that shape.",
            ) from error
    rest = [(name, p) for name, p in model.named_parameters() if id(p) not in counted]
    return rows + [LayerRow(name, "parameter", tuple(p.shape), p.numel(), p.numel() * p.requires_grad) for name, p in rest]


def totals(rows: Sequence[LayerRow]) -> tuple[int, int]:
    """All parameters of the model, and the trainable ones among them."""
    return sum(row.parameters for row in rows), sum(row.trainable for row in rows)


def describe_text(rows: Sequence[LayerRow]) -> str:
    """The rows as a plain table with the totals below; columns without an entry are left out."""
    head = ("layer", "kind", "kernel", "stride", "padding", "output", "parameters")
    cells = [(r.name, r.kind, r.kernel, r.stride, r.padding, _by(r.output_shape), f"{r.parameters:,}") for r in rows]
    columns = [column for column in zip(head, *cells, strict=True) if any(column[1:])]
    widths = [max(map(len, column)) for column in columns]
    lines = []
    for line in zip(*columns, strict=True):
        left = "  ".join(cell.ljust(width) for cell, width in zip(line[:-1], widths, strict=False))
        lines.append(f"{left}  {line[-1].rjust(widths[-1])}")
    total, trainable = totals(rows)
    return "\n".join([*lines, f"{total:,} parameters, {trainable:,} trainable"])


def _zeros(model: nn.Module, shape: Sequence[int]) -> torch.Tensor:
    like = next((p for p in model.parameters() if p.is_floating_point()), torch.empty(0))
    return torch.zeros(1, *shape, dtype=like.dtype, device=like.device)


@contextmanager
def _borrowed(model: nn.Module, device: torch.device) -> Iterator[list[Any]]:
    """Evaluation mode; afterwards the hooks in the yielded list are removed and modes, buffers and random state are back."""
    modes = {module: module.training for module in model.modules()}
    buffers = [(m, name, b, b.clone()) for m in modes for name, b in m._buffers.items() if b is not None]
    hooks: list[Any] = []
    try:
        model.eval()
        with seeds.scoped(0, "describe", device=device):
            yield hooks
    finally:
        for hook in hooks:
            hook.remove()
        for module, mode in modes.items():
            module.training = mode
        for module, name, buffer, before in buffers:
            module._buffers[name] = buffer
            if not torch.equal(buffer, before):
                buffer.copy_(before)


def _row(name: str, module: nn.Module, output: Any, counted: set[int]) -> LayerRow:
    new = [p for p in module.parameters() if id(p) not in counted]
    counted.update(map(id, new))
    trainable = sum(p.numel() for p in new if p.requires_grad)
    window = {part: _window(module, attribute) for part, attribute in WINDOW.items()}
    return LayerRow(name, type(module).__name__, _shape(output), sum(p.numel() for p in new), trainable, **window)


def _window(module: nn.Module, attribute: str) -> str:
    """A window's size, one number per axis; empty for a module without a kernel."""
    value = getattr(module, attribute, "") if hasattr(module, "kernel_size") else ""
    return " x ".join(map(str, value)) if isinstance(value, tuple) else str(value)


def _shape(output: Any) -> tuple[int, ...]:
    """Shape per sample of the first tensor in what a layer returned."""
    while not isinstance(output, torch.Tensor):
        parts = list(output.values()) if isinstance(output, dict) else output
        if not isinstance(parts, Sequence) or not parts:
            return ()
        output = parts[0]
    return tuple(output.shape[1:])


def _by(shape: Sequence[int]) -> str:
    return " x ".join(map(str, shape))

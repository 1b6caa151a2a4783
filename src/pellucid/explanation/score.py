"""The engine: the only place that runs the network for an explanation.

A ``Score`` is one model, one batch of samples ``x`` and one target for each of them. It answers with the number that is
explained, its gradient, the activations of a layer with the graph cut there, and the scores of many altered inputs
packed into full batches across samples. It counts every pass (F forward, B backward, H backward through the part
after the layer only) in rows, so that a method can be held to its minimum.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from pellucid.core import checks, devices, seeds
from pellucid.core.errors import InputError, UnsupportedError, nearest

R = TypeVar("R")
Model = nn.Module | Callable[[Tensor], Any]
Target = int | Sequence[int] | Tensor | Callable[[Any], Tensor] | None
SCALES = ("logit", "probability")


@dataclass
class Passes:
    """Rows sent through the network: forward, backward to the input, backward to a layer only."""

    forward: int = 0
    backward: int = 0
    head: int = 0

    def __sub__(self, other: Passes) -> Passes:
        return Passes(self.forward - other.forward, self.backward - other.backward, self.head - other.head)

    def copy(self) -> Passes:
        """The counts as they stand now."""
        return Passes(self.forward, self.backward, self.head)


@contextmanager
def borrowed(model: Model) -> Iterator[None]:
    """Evaluation mode, frozen parameters, gradients on; afterwards everything bit for bit as it was, also after an error."""
    with torch.inference_mode(False), torch.enable_grad():
        if not isinstance(model, nn.Module):
            yield
            return
        modes = [(module, module.training) for module in model.modules()]
        frozen = [parameter for parameter in model.parameters() if parameter.requires_grad]
        buffers = [(buffer, buffer.clone()) for buffer in model.buffers()]
        try:
            model.eval()
            for parameter in frozen:
                parameter.requires_grad_(False)
            yield
        finally:
            for module, training in modes:
                module.training = training
            for parameter in frozen:
                parameter.requires_grad_(True)
            for buffer, before in buffers:
                if not torch.equal(buffer, before):
                    buffer.copy_(before)


class Score:
    """One model, one batch, one target per sample. Made by ``over_batches``, inside ``borrowed(model)``."""

    def __init__(
        self,
        model: Model,
        x: Tensor,
        *,
        target: Target = None,
        of: str = "logit",
        layer: nn.Module | None = None,
        rows: int = 64,
        seed: int = 0,
        first: int = 0,
    ) -> None:
        self.model, self.x, self.layer, self.rows, self.seed, self.first = model, x, layer, rows, seed, first
        self.of = checks.one_of("of", of, SCALES)
        self.passes = Passes()
        self.notes: list[str] = []
        self._choose = target if callable(target) else None
        self._target = None if target is None or callable(target) else _as_indices(target, len(x), x.device)
        self._own: tuple[Tensor, Tensor | None] | None = None
        self._gradient: Tensor | None = None
        self._activation: tuple[Tensor, Tensor] | None = None

    def __len__(self) -> int:
        return len(self.x)

    # What is known about the samples themselves: each asked for once, then remembered for every method.

    @property
    def target(self) -> Tensor | None:
        """(B,) the class explained: the one asked for, else the arg-max. None where the target is a function."""
        if self._target is None and self._choose is None:
            self.own()
        return self._target

    def own(self) -> Tensor:
        """(B,) the score of the samples as they are: 1 F, none if another pass over them was made."""
        if self._own is None:
            with torch.no_grad():
                self._remember(self._run(self.x.clone()))
        assert self._own is not None
        return self._own[0]

    def own_probability(self) -> Tensor:
        """(B,) the probability of the target for the samples as they are."""
        self.own()
        assert self._own is not None
        if self._own[1] is None:
            raise _no_probability()
        return self._own[1]

    def gradient(self) -> Tensor:
        """(B, ...) the gradient of the score with respect to the samples: 1 F + 1 B, once."""
        if self._gradient is None:
            leaf = self._leaf(self.x)
            value = self._remember(self._run(leaf.clone()))
            self._gradient = self._backward(value, leaf)
            self.passes.backward += len(leaf)
        return self._gradient

    def activation(self) -> tuple[Tensor, Tensor]:
        """A (B, K, ...) of the layer and g = dscore/dA, the graph cut at A: 1 F + 1 H, once."""
        if self._activation is None:
            if self.layer is None:
                raise UnsupportedError("no layer to look at", cure="Name one with layer=.")
            leaves: list[Tensor] = []

            def cut(module: nn.Module, inputs: Any, output: Any) -> Tensor:
                if not isinstance(output, Tensor) or output.ndim < 3 or len(output) != len(self.x):
                    shape = tuple(output.shape) if isinstance(output, Tensor) else type(output).__name__
                    raise UnsupportedError(
                        f"the layer gives {shape}, not one map per channel and sample",
                        where=type(module).__name__,
                        cure="Name a convolutional layer with layer=.",
                    )
                leaves.append(output.detach().clone().requires_grad_())
                return leaves[-1].clone()  # the layers after it may work in place

            handle = self.layer.register_forward_hook(cut)
            try:
                output = self._run(self.x.clone())
            finally:
                handle.remove()
            if not leaves:
                raise UnsupportedError("the layer is not used by the model's forward pass", where=type(self.layer).__name__)
            if len(leaves) > 1:
                self.notes.append(f"the layer runs {len(leaves)} times in one forward pass; its last use is explained")
            value = self._remember(output)
            g = self._backward(value, leaves[-1])
            self.passes.head += len(self.x)
            self._activation = leaves[-1].detach(), g
        return self._activation

    # Many altered inputs: (sample, draw) pairs packed into full batches under one memory budget.

    def pairs(self, count: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Index pairs (sample, draw) over all samples and ``count`` draws, ``rows`` at a time."""
        for start in range(0, len(self) * count, self.rows):
            k = torch.arange(start, min(len(self) * count, start + self.rows), device=self.x.device)
            yield k // count, k % count

    def values(self, count: int, alter: Callable[[Tensor, Tensor], Tensor], *, of: str | None = None) -> Tensor:
        """(B, count) scores of ``alter(sample, draw)``, each an input batch of the pairs' length: ``count`` F a sample."""
        self.target  # noqa: B018 - fixes the arg-max by the unaltered samples
        found = self.x.new_empty(len(self), count)
        with torch.no_grad():
            for sample, draw in self.pairs(count):
                found[sample, draw] = self._select(self._run(alter(sample, draw)), sample, of or self.of)
        return found

    def weighted_gradient(self, count: int, alter: Callable[[Tensor, Tensor], Tensor], weights: Tensor) -> Tensor:
        """(B, ...) sum over draws of weights[draw] * dscore/dinput at ``alter(sample, draw)``: ``count`` (F + B) a sample."""
        self.target  # noqa: B018
        total = torch.zeros_like(self.x)
        weights = weights.to(self.x)
        for sample, draw in self.pairs(count):
            leaf = self._leaf(alter(sample, draw))
            g = self._backward(self._select(self._run(leaf.clone()), sample, self.of), leaf)
            self.passes.backward += len(leaf)
            total.index_add_(0, sample, g * weights[draw].view(-1, *[1] * (g.ndim - 1)))
        return total

    def noise(self, sample: Tensor, draw: Tensor, *names: str) -> Tensor:
        """Standard normal noise for the pairs; it depends on seed, sample index and draw only, never on the batch."""
        return torch.stack(
            [
                torch.randn(
                    self.x.shape[1:], generator=seeds.generator(self.seed, *names, self.first + s, d), dtype=self.x.dtype
                )
                for s, d in zip(sample.tolist(), draw.tolist())
            ]
        ).to(self.x.device)

    # The network itself.

    def _leaf(self, x: Tensor) -> Tensor:
        if not x.is_floating_point():
            raise UnsupportedError(
                f"the input is {x.dtype}, which has no gradient",
                cure="Explain the embedded input, or use a method that only needs scores (occlusion).",
            )
        return x.detach().clone().requires_grad_()

    def _run(self, x: Tensor) -> Any:
        self.passes.forward += len(x)
        try:
            return self.model(x)
        except torch.OutOfMemoryError:
            raise
        except (RuntimeError, TypeError, ValueError, IndexError) as error:
            if isinstance(error, InputError):
                raise
            reason = str(error).strip().split("\n", 1)[0]
            raise InputError(f"the model cannot run on an input of shape {tuple(x.shape)}", where=reason) from error

    def _remember(self, output: Any) -> Tensor:
        """Fix the target by the model's answer to the samples themselves, and keep score and probability."""
        if self._choose is None and self._target is None:
            self._target = logits(output, len(self)).argmax(1)
        everyone = torch.arange(len(self), device=self.x.device)
        value = self._select(output, everyone, self.of)
        probability = None
        if self._choose is None:
            probability = self._select(output, everyone, "probability").detach()
        self._own = value.detach(), probability
        return value

    def _select(self, output: Any, sample: Tensor, of: str) -> Tensor:
        if self._choose is not None:
            if of == "probability":
                raise _no_probability()
            value = self._choose(output)
            if not isinstance(value, Tensor) or value.shape != sample.shape:
                got = tuple(value.shape) if isinstance(value, Tensor) else type(value).__name__
                raise InputError(
                    f"the target function gave {got} for {len(sample)} rows", cure="Return one number per row, shape (B,)."
                )
            return value
        z = logits(output, len(sample))
        assert self._target is not None
        target = self._target[sample]
        outside = (target >= z.shape[1]) | (target < 0)
        if bool(outside.any()):
            i = int(outside.nonzero()[0])
            raise InputError(
                f"target {int(target[i])} does not exist",
                where=f"sample {self.first + int(sample[i])}",
                cure=f"The model has outputs 0 to {z.shape[1] - 1}.",
            )
        if of == "probability":
            z = z.sigmoid() if z.shape[1] == 1 else z.softmax(1)
        return z.gather(1, target[:, None])[:, 0]

    def _backward(self, value: Tensor, leaf: Tensor) -> Tensor:
        found: Tensor | None = None
        if value.requires_grad:
            found = torch.autograd.grad(value.sum(), leaf, allow_unused=True)[0]
        if found is None:
            raise UnsupportedError(
                "the score does not depend on this input through differentiable steps",
                cure="Name another layer, or use a method that only needs scores (occlusion).",
            )
        return found


def _no_probability() -> UnsupportedError:
    return UnsupportedError("a target function has no probability", cure="Give the target as a class index.")


def _as_indices(target: Any, n: int, device: torch.device) -> Tensor:
    indices = torch.as_tensor(target, device=device)
    if indices.is_floating_point() or indices.dtype == torch.bool or indices.ndim > 1:
        raise InputError(f"target is {target!r}", cure="Give a class index, one index per sample, or a function of the output.")
    if indices.ndim == 0:
        indices = indices.expand(n)
    if len(indices) != n:
        raise InputError(f"{len(indices)} targets for {n} samples", cure="Give one class index, or one per sample.")
    return indices.long()


def logits(output: Any, n: int) -> Tensor:
    """(B, K) from a model's answer; (B,) counts as one column."""
    if isinstance(output, Tensor) and output.ndim in (1, 2) and len(output) == n:
        return output[:, None] if output.ndim == 1 else output
    shape = tuple(output.shape) if isinstance(output, Tensor) else type(output).__name__
    raise InputError(
        f"the model answers with {shape}, not (B, K)", cure="Give target= as a function from that answer to one number per row."
    )


def find_layer(model: Model, layer: str | nn.Module | None, x: Tensor) -> tuple[str, nn.Module]:
    """The layer asked for by name or module, else the last whose output keeps the input's spatial axes (1 F of one row)."""
    if not isinstance(model, nn.Module):
        raise UnsupportedError("a plain function has no layers", cure="Use a method that only needs scores (occlusion).")
    modules = dict(model.named_modules())
    if isinstance(layer, str):
        if layer not in modules:
            raise InputError(f"the model has no layer '{layer}'", cure=nearest(layer, filter(None, modules)))
        return layer, modules[layer]
    if layer is not None:
        for name, module in modules.items():
            if module is layer:
                return name, module
        raise InputError(f"the layer {type(layer).__name__} is not part of the model", cure="Give one of its own modules.")
    last: list[str] = []

    def look(name: str) -> Callable[..., None]:
        def hook(module: nn.Module, inputs: Any, output: Any) -> None:
            spatial = isinstance(output, Tensor) and output.ndim == x.ndim > 2 and output.shape[2:].numel() > 1
            if spatial and len(output) == 1 and output.is_floating_point():
                last[:] = [name]

        return hook

    handles = [module.register_forward_hook(look(name)) for name, module in modules.items() if name]
    try:
        with torch.no_grad():
            model(x[:1].clone())
    finally:
        for handle in handles:
            handle.remove()
    if not last:
        raise UnsupportedError(
            "no layer keeps the input's spatial axes, so there is no map to draw",
            cure="Use integrated_gradients or occlusion, or name a layer with layer=.",
        )
    return last[0], modules[last[0]]


def prepare(model: Model, x: Any) -> Tensor:
    """The samples as a finite tensor on the model's device and in its precision."""
    try:
        x = x if isinstance(x, Tensor) else torch.tensor(np.asarray(x))
    except (TypeError, ValueError, RuntimeError) as error:
        raise InputError(f"the input is {type(x).__name__}, not an array", cure="Give a tensor or array (B, ...).") from error
    if x.ndim < 2 or len(x) == 0:
        raise InputError(
            f"the input has shape {tuple(x.shape)}", cure="Give at least one sample, with the batch as first axis."
        )
    like = next(iter(model.parameters()), None) if isinstance(model, nn.Module) else None
    with torch.inference_mode(False):
        x = x.detach().clone() if x.is_inference() else x.detach()
        if like is not None:
            x = x.to(like.device, like.dtype if x.is_floating_point() else None)
    return checks.finite("the input", x)


def over_batches(
    model: Model,
    x: Tensor,
    run: Callable[[Score], R],
    *,
    target: Target = None,
    of: str = "logit",
    layer: nn.Module | None = None,
    seed: int = 0,
    batch: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> list[R]:
    """Borrow the model, cut the samples into batches that fit, and call ``run`` with a ``Score`` for each."""
    target = target if target is None or callable(target) else _as_indices(target, len(x), x.device)
    results: list[R] = []

    def one(start: int, stop: int, rows: int) -> None:
        mine = target[start:stop] if isinstance(target, Tensor) else target
        score = Score(model, x[start:stop], target=mine, of=of, layer=layer, rows=rows, seed=seed, first=start)
        results.append(run(score))
        if progress is not None:
            progress(stop, len(x))

    with borrowed(model):
        devices.chunks(len(x), checks.count("batch", batch) if batch is not None else devices.rows_that_fit(x[0]), one)
    return results

"""The engine: the only place that runs the network for an explanation.

A ``Score`` is one model, one batch of samples ``x`` and one target for each of them. It answers with the number that is
explained, its gradient, the activations of a layer with the graph cut there, and the scores of many altered inputs or
altered activations packed into full batches across samples. It counts every pass (F forward, B backward, H backward
through the part after the layer only, T forward through that part) in rows, so that a method can be held to its minimum.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Hashable, Iterator
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import dataclass, fields
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from pellucid.core import checks, devices, seeds
from pellucid.core.errors import InputError, UnsupportedError

from . import masks
from .borrowing import Model, borrowed, first_tensor, watched, with_first
from .habits import LEAST_CHANNELS_LAST, Habits
from .inputs import Inputs
from .layers import Layout, layout_of, said_of_uses
from .linearity import affine
from .tail import Record, Tail
from .targets import SCALES, Target, as_indices, called, link_of, logits, no_probability, no_probability_of_answers, of_class

R = TypeVar("R")
Alter = Callable[[Tensor, Tensor], Tensor]


@dataclass
class Passes:
    """Rows sent through the network: forward, backward to the input, backward to a layer, forward after the layer."""

    forward: int = 0
    backward: int = 0
    head: int = 0
    tail: int = 0

    def __sub__(self, other: Passes) -> Passes:
        return Passes(*(getattr(self, f.name) - getattr(other, f.name) for f in fields(self)))

    def copy(self) -> Passes:
        """The counts as they stand now."""
        return self - Passes()


@dataclass
class Cut:
    """One forward pass with the graph cut at the layer: what the layers gave, and the score that follows from it."""

    outputs: list[Tensor]
    layouts: list[Layout]
    value: Tensor
    record: Record | None
    gradients: list[Tensor] | None = None


class Score:
    """One model, one batch, one target per sample. Made by ``over_batches``, inside ``borrowed(model)``."""

    def __init__(
        self,
        model: Model,
        x: Tensor | Inputs,
        *,
        target: Target = None,
        of: str = "logit",
        layers: list[nn.Module] | None = None,
        tail: Tail | None = None,
        rows: int = 64,
        value_rows: int | None = None,
        precision: str = "float32",
        seed: int = 0,
        first: int = 0,
        total: int | None = None,
        habits: Habits | None = None,
    ) -> None:
        self.inputs = x if isinstance(x, Inputs) else Inputs((x,))
        self.model, self.x, self.layers, self.tail = model, self.inputs.x, layers or [], tail
        self.rows, self.seed, self.first = rows, seed, first
        self.total = len(self) if total is None else total  # samples of the whole call
        self.value_rows, self.precision = value_rows or rows, precision  # of passes that no gradient goes back through
        self.habits = Habits(model) if habits is None else habits
        self.of = checks.one_of("of", of, SCALES)
        self.passes = Passes()
        self.notes: list[str] = []
        self._choose = target if callable(target) else None
        self._target = None if target is None or callable(target) else as_indices(target, len(self), self.x.device)
        self._own: tuple[Tensor, Tensor | None] | None = None
        self._answer: Any = None
        self._kept: dict[Hashable, Any] = {}
        self._cut: Cut | None = None

    def __len__(self) -> int:
        return len(self.inputs)

    def of_every_input(self) -> Score:
        """The same score with all inputs of real numbers varied, in the same count of passes."""
        inputs = self.inputs.every
        if inputs is self.inputs:
            return self

        def make() -> Score:
            more: dict[str, Any] = {"rows": self.rows, "value_rows": self.value_rows, "precision": self.precision}
            more |= {"seed": self.seed, "first": self.first, "total": self.total, "habits": self.habits}
            other = Score(self.model, inputs, of=self.of, **more)
            other.passes, other.notes, other._choose = self.passes, self.notes, self._choose
            return other

        other = self.once("every input", make)
        other.learn(self)
        return other

    def learn(self, other: Score) -> None:
        """Take over what another score of the same samples found out about them."""
        self._target, self._own, self._answer = other._target, other._own, other._answer

    def once(self, key: Hashable, make: Callable[[], R]) -> R:
        """What ``make`` gives, made for the first method that asks and kept for the others."""
        if key not in self._kept:
            self._kept[key] = make()
        kept: R = self._kept[key]
        return kept

    def forget(self) -> None:
        """Let go of what was kept: passes hold the score, so nothing else would free their memory at once."""
        for kept in self._kept.values():
            if isinstance(kept, Score):
                kept.forget()
        self._kept.clear()
        self._cut = None

    # What is known about the samples themselves.

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
                self._remember(self._run(self.x.clone(), self.everyone()))
        assert self._own is not None
        return self._own[0]

    def own_probability(self) -> Tensor:
        """(B,) the probability of the target for the samples as they are."""
        self.own()
        assert self._own is not None
        if self._own[1] is None:
            raise no_probability() if self._choose is not None else no_probability_of_answers()
        return self._own[1]

    def own_of(self, classes: Tensor) -> Tensor:
        """(B, k) the scores of the samples as they are for these classes (B, k)."""
        self.own()
        return self.select(self._answer, self.everyone(), self.of, classes)

    def likeliest(self, count: int) -> Tensor:
        """(B, 1 + count) the target, and the other classes by their scores, the highest first."""
        target = self.target
        if target is None:
            raise UnsupportedError("a target function has no other classes", cure="Give the target as a class index.")
        self.own()
        z = logits(self._answer, len(self))
        if count >= z.shape[1]:
            raise InputError(
                f"{count} classes beside the target of {z.shape[1]}", cure=f"Give classes of at most {z.shape[1] - 1}."
            )
        others = z.scatter(1, target[:, None], -torch.inf).topk(count, 1).indices
        return torch.cat([target[:, None], others], 1)

    def gradient(self) -> Tensor:
        """(B, ...) the gradient of the score with respect to the samples: 1 F + 1 B, once."""

        def make() -> Tensor:
            leaf = _leaf(self.x)
            value = self._remember(self._run(leaf.clone(), self.everyone()))
            self.passes.backward += len(leaf)
            return _gradients(value, [leaf])[0]

        return self.once("gradient", make)

    def maps(self) -> Tensor:
        """A (B, K, ...) of the layer (the last, if there are several): 1 F, once for all that look at a layer."""
        cut = self.to_layer()
        return cut.layouts[-1].maps(cut.outputs[-1].detach())

    def activation(self) -> tuple[Tensor, Tensor]:
        """A (B, K, ...) of the layer and g = dscore/dA, the graph cut at A: 1 F + 1 H, once."""
        return self.activations()[-1]

    def activations(self) -> list[tuple[Tensor, Tensor]]:
        """A and g of every layer asked for, the graph cut at the first of them: 1 F + 1 H, once."""
        cut = self.to_layer()
        if cut.gradients is None:
            cut.gradients = _gradients(cut.value, cut.outputs)
            self.passes.head += len(self)
        return [(lay.maps(a.detach()), lay.maps(g)) for lay, a, g in zip(cut.layouts, cut.outputs, cut.gradients)]

    def affine(self) -> bool:
        """Whether the score is a linear function of the layer's output plus a constant, as far as the graph shows."""
        cut = self.to_layer()
        return affine(cut.value, cut.outputs[-1])

    def to_layer(self, *, again: bool = False) -> Cut:
        """The pass that all methods of a layer share: 1 F, once; ``again``: make it anew."""
        if self._cut is not None and not again:
            return self._cut
        if not self.layers:
            raise UnsupportedError("no layer to look at", cure="Name one with layer=.")
        found: dict[nn.Module, tuple[Tensor, Layout]] = {}
        uses = dict.fromkeys(self.layers, 0)

        def cut(layer: nn.Module, output: Any) -> Any:
            tensor = first_tensor(output)
            seen = output if tensor is None else tensor
            layout = layout_of(seen, self.x, layer, channels_last=self.inputs.channels_last)
            assert tensor is not None
            if not (tensor.requires_grad and len(self.layers) > 1):  # behind another of the layers the graph goes on
                tensor = tensor.detach().clone().requires_grad_()
            found[layer] = tensor, layout
            uses[layer] += 1
            return with_first(output, tensor.clone())  # the layers after it may work in place

        record = None if self.tail is None else Record(self.tail, len(self))
        recording: AbstractContextManager[None] = nullcontext() if record is None else record.listening()
        looking = {layer: functools.partial(cut, layer) for layer in self.layers}
        with recording, watched(looking):
            output = self._run(self.x.clone(), self.everyone())
        for layer, times in uses.items():
            self.notes += said_of_uses(layer, times)
        outputs, layouts = zip(*(found[layer] for layer in self.layers))
        self._cut = Cut(list(outputs), list(layouts), self._remember(output), record)
        return self._cut

    # Many altered inputs: (sample, draw) pairs packed into full batches under one memory budget.

    def values(
        self, count: int, alter: Alter, *, of: str | None = None, where: Tensor | None = None, classes: Tensor | None = None
    ) -> Tensor:
        """(B, count) scores of ``alter(sample, draw)``, each an input batch of the pairs' length: ``count`` F a sample.

        ``where`` (B, count): the pairs to run; the others are NaN and cost nothing. ``classes`` (B, k): of these classes
        instead of the target, (B, count, k) from the same passes.
        """
        self.target  # noqa: B018 - fixes the arg-max by the unaltered samples
        index = self._pairs(count) if where is None else where.nonzero()
        form = self._form(len(index))

        def score(sample: Tensor, draw: Tensor) -> Tensor:
            with torch.no_grad(), devices.autocast(self.x.device, self.precision):
                answer = self._run(alter(sample, draw).contiguous(memory_format=form), sample)
            return self.select(answer, sample, of or self.of, classes).to(self.x.dtype if self.x.is_floating_point() else None)

        return self.gathered(index, count, score, self.value_rows)

    def gradients(
        self, count: int, alter: Alter, *, samples: Tensor | None = None, start: int = 0
    ) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """(sample, draw, dscore/dinput at ``alter(sample, draw)``) batch by batch: ``count`` (F + B) a sample.

        samples: only these; start: the number of the first draw.
        """
        self.target  # noqa: B018
        index = self._pairs(count, samples) + torch.tensor([0, start], device=self.x.device)
        form = self._form(len(index))

        def one(sample: Tensor, draw: Tensor) -> tuple[Tensor, Tensor, Tensor]:
            leaf = _leaf(alter(sample, draw).contiguous(memory_format=form))
            value = self.select(self._run(leaf.clone(), sample), sample, self.of)
            self.passes.backward += len(leaf)
            return sample, draw, _gradients(value, [leaf])[0]

        return self._in_batches(index, one, self.rows)

    def weighted_gradient(self, count: int, alter: Alter, weights: Tensor, *, samples: Tensor | None = None) -> Tensor:
        """(B, ...) sum over draws of weights[draw] * dscore/dinput at ``alter(sample, draw)``: ``count`` (F + B) a sample."""
        total = torch.zeros_like(self.x)
        weights = weights.to(self.x)
        for sample, draw, g in self.gradients(count, alter, samples=samples):
            total.index_add_(0, sample, g * masks.beside(weights[draw], g))
        return total

    def noise(self, sample: Tensor, draw: Tensor, *names: str) -> Tensor:
        """Standard normal noise for the pairs; it depends on seed, sample index and draw only, never on the batch."""
        made = [self.generator(s, d, *names) for s, d in zip(sample.tolist(), draw.tolist())]
        return torch.stack([torch.randn(self.x.shape[1:], generator=g, dtype=self.x.dtype) for g in made]).to(self.x.device)

    def generator(self, sample: int, draw: int, *names: str) -> torch.Generator:
        """Random numbers of one draw for one sample of this batch."""
        return seeds.generator(self.seed, *names, self.first + sample, draw)

    def generator_of(self, *names: int | str) -> torch.Generator:
        """Random numbers that all samples share, whatever their batch."""
        return seeds.generator(self.seed, *names)

    # The network itself.

    def everyone(self) -> Tensor:
        """(B,) the indices of the samples."""
        return torch.arange(len(self), device=self.x.device)

    def _pairs(self, count: int, samples: Tensor | None = None) -> Tensor:
        samples = self.everyone() if samples is None else samples
        return torch.cartesian_prod(samples, torch.arange(count, device=self.x.device)).view(-1, 2)

    def _in_batches(self, index: Tensor, one: Callable[[Tensor, Tensor], R], rows: int) -> Iterator[R]:
        for left, result in devices.halving(len(index), rows, lambda start, stop: one(*index[start:stop].unbind(1))):
            if left < rows:
                self.rows, self.value_rows = (max(1, min(r, left)) for r in (self.rows, self.value_rows))
            yield result

    def gathered(self, index: Tensor, count: int, score: Alter, rows: int) -> Tensor:
        """(B, count, ...) what ``score`` gives for these pairs, ``rows`` at a time; NaN for the others."""
        found = list(self._in_batches(index, score, rows))
        like = found[0] if found else self.own()
        table = like.new_full((len(self), count, *like.shape[1:]), torch.nan)
        if found:
            table[index[:, 0], index[:, 1]] = torch.cat(found)
        return table

    def _form(self, pairs: int) -> torch.memory_format:
        """How many altered inputs lie in memory: channels last where that is faster and makes no difference.

        The check is one more F of one row, once for all samples: a network that reads its input's memory by itself
        (``as_strided``) or insists on one order of it (``view``) is given the usual order.
        """
        if min(pairs, self.rows) < LEAST_CHANNELS_LAST or not self.habits.may_be_channels_last(self.x):
            return torch.contiguous_format
        if self.habits.channels_last is None:
            own, one = self.own()[:1], self.everyone()[:1]
            self.passes.forward += 1
            try:
                with torch.no_grad():
                    x = self.inputs.arguments(self.x[:1].contiguous(memory_format=torch.channels_last), one)
                    found = self.select(self.model(*x), one, self.of)
                self.habits.channels_last = bool(((found - own).abs() <= 1e-4 * own.abs().clamp(min=1)).all())
            except RuntimeError:
                self.habits.channels_last = False
        return torch.channels_last if self.habits.channels_last else torch.contiguous_format

    def _run(self, x: Tensor, sample: Tensor) -> Any:
        self.passes.forward += len(x)
        return self.inputs.call(self.model, x, sample)

    def _remember(self, output: Any) -> Tensor:
        """Fix the target by the model's answer to the samples themselves, and keep score and probability."""
        if self._choose is None and self._target is None:
            self._target = logits(output, len(self)).argmax(1)
        value = self.select(output, self.everyone(), self.of)
        probability = None
        if self._choose is None:
            with suppress(UnsupportedError):  # an estimator's decision values have none
                probability = self.select(output, self.everyone(), "probability").detach()
        self._own = value.detach(), probability
        if self._choose is None:
            self._answer = logits(output, len(self)).detach()
        return value

    def select(self, output: Any, sample: Tensor, of: str, classes: Tensor | None = None) -> Tensor:
        """The number that is explained, from the model's answer for these samples; (n, k) of several ``classes`` (B, k)."""
        if self._choose is None:
            wanted = self._target if classes is None else classes
            assert wanted is not None
            return of_class(output, wanted[sample], of, (sample + self.first).tolist(), link_of(self.model))
        if of == "probability":
            raise no_probability()
        return called(self._choose, output, len(sample))


def differentiable(x: Tensor) -> Tensor:
    """The input itself; UnsupportedError where it is whole numbers."""
    if not x.is_floating_point():
        raise UnsupportedError(
            f"the input is {x.dtype}, which has no gradient",
            cure="Explain the embedded input, or use a method that only needs scores (occlusion).",
        )
    return x


def _leaf(x: Tensor) -> Tensor:
    return differentiable(x).detach().clone().requires_grad_()


def _gradients(value: Tensor, leaves: list[Tensor]) -> list[Tensor]:
    found: tuple[Tensor | None, ...] = (None,)
    if value.requires_grad:
        found = torch.autograd.grad(value.sum(), leaves, allow_unused=True)
    if any(g is None for g in found):
        raise UnsupportedError(
            "the score does not depend on this input through differentiable steps",
            cure="Name another layer, or use a method that only needs scores (occlusion).",
        )
    return [g for g in found if g is not None]


def over_batches(
    model: Model,
    x: Tensor | Inputs,
    run: Callable[[Score], R],
    *,
    target: Target = None,
    of: str = "logit",
    layers: list[nn.Module] | None = None,
    tail: Tail | None = None,
    seed: int = 0,
    batch: int | None = None,
    precision: str = "float32",
    progress: Callable[[int, int], None] | None = None,
) -> list[R]:
    """Borrow the model, cut the samples into batches that fit, and call ``run`` with a ``Score`` for each."""
    inputs = x if isinstance(x, Inputs) else Inputs((x,))
    target = target if target is None or callable(target) else as_indices(target, len(inputs), inputs.x.device)
    checks.one_of("precision", precision, devices.PRECISIONS)
    rows = value_rows = 0 if batch is None else checks.count("batch", batch)
    if batch is None:
        rows = min(devices.rows_that_fit(part[0]) for part in inputs.parts)
        value_rows = min(devices.rows_that_fit(part[0], devices.MOST_VALUE_ROWS) for part in inputs.parts)
    results: list[R] = []
    habits = Habits(model)

    def one(start: int, stop: int) -> None:
        mine = target[start:stop] if isinstance(target, Tensor) else target
        some = inputs.rows(start, stop)
        more: dict[str, Any] = {"rows": rows, "value_rows": value_rows, "precision": precision}
        more |= {"seed": seed, "first": start, "total": len(inputs), "habits": habits}
        score = Score(model, some, target=mine, of=of, layers=layers, tail=tail, **more)
        try:
            results.append(run(score))
        finally:
            score.forget()
        if progress is not None:
            progress(stop, len(inputs))

    with borrowed(model):
        for _ in devices.halving(len(inputs), rows, one):
            pass
    return results

"""One pass of the samples through the network, followed step by step, and shared by every method that goes back by rules."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from pellucid.core.errors import UnsupportedError

from .flow import Flow
from .layers import layout_of, said_of_uses
from .replay import agree
from .score import Score
from .steps import Backward
from .targets import logits


@dataclass
class Followed:
    """The pass: its steps, where it starts (``ends``: the way back ends there), the score, and the answer it was read from."""

    score: Score
    flow: Flow
    ends: list[Tensor]
    value: Tensor
    answer: Any

    def back(self, rules: Backward, seed: Tensor | None = None, at: Tensor | None = None) -> Tensor:
        """(B, ...) what comes back to the input: 1 B. ``seed`` starts at ``at``, by default the score itself at the score."""
        return self.back_to(rules, [], seed, at)[0]

    def back_to(
        self, rules: Backward, layers: Sequence[Tensor], seed: Tensor | None = None, at: Tensor | None = None
    ) -> list[Tensor]:
        """The same, followed by what comes back to outputs of layers on the way."""
        at = self.value if at is None else at
        seed = at.detach() if seed is None else seed
        self.score.passes.backward += len(self.score)
        found = self.flow.back(rules, at, seed, [*self.ends, *layers])
        n = len(self.ends)
        x = self.score.x
        mine = found[0] if x.is_floating_point() else torch.stack([f.sum(-1) for f in found[:n]]).sum(0)
        return [mine, *found[n:]]

    def back_to_layer(self, rules: Backward, seed: Tensor, at: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """The activations of the layer looked at and what comes back to them, as maps (B, K, ...): 1 H."""
        score = self.score
        layer = score.layers[-1]
        output = self.output_of(layer)
        layout = layout_of(output, score.x, layer, channels_last=score.inputs.channels_last)
        score.passes.head += len(score)
        (found,) = self.flow.back(rules, self.value if at is None else at, seed, [output])
        return layout.maps(output.detach()), layout.maps(found)

    def output_of(self, layer: nn.Module) -> Tensor:
        """The last output of a layer in this pass."""
        seen = self.flow.outputs.get(layer, [])
        self.score.notes += said_of_uses(layer, len(seen))
        return seen[-1]

    def logits(self) -> Tensor:
        """(B, K) the answers per class, for seeds at several of them."""
        if self.score.target is None:
            raise UnsupportedError("a target function has no other classes", cure="Give the target as a class index.")
        with self.flow:
            return logits(self.answer, len(self.score))


def followed(score: Score, x: Tensor | None = None) -> Followed:
    """The samples' pass, made once: 1 F. With ``x`` another input in their place (a baseline), followed anew."""
    return score.once("followed", lambda: _follow(score, score.x)) if x is None else _follow(score, x)


def _follow(score: Score, x: Tensor) -> Followed:
    whole = not x.is_floating_point()
    flow = Flow(score.model, tokens=x if whole else None)
    ends = [] if whole else [flow.leaf(x)]
    given = flow.start_tokens() if whole else flow.start(ends[0])
    mine = x is score.x
    with flow, flow.watching() if mine else nullcontext():  # nobody asks for a layer of a baseline
        output = score._run(given, score.everyone()[: len(x)])
        if mine:
            with torch.no_grad():
                score._remember(output)
        value = _selected(score, output, len(x))
    if flow.hidden:
        _check(score, x, value)
    ends = ends or flow.embedded
    if not ends:
        raise UnsupportedError(
            "the whole numbers of the input are not looked up by an embedding in their own order",
            cure="Explain the embedded input, or use a method that only needs scores (occlusion).",
        )
    return Followed(score, flow, ends, value, output)


def _selected(score: Score, output: Any, rows: int) -> Tensor:
    """(B,) the score of an answer to every sample, or to one row that stands for all of them, each with its own target."""
    everyone = score.everyone()
    spread = output if rows == len(everyone) else logits(output, rows).expand(len(everyone), -1)
    return score.select(spread, everyone, score.of)


def _check(score: Score, x: Tensor, value: Tensor) -> None:
    """Changes in place reach whoever shares memory, which cannot be seen from here: so the score is compared, for 1 F more."""
    with torch.no_grad():
        plain = _selected(score, score._run(x.clone(), score.everyone()[: len(x)]), len(x))
    if not agree(value.detach(), plain, plain):
        raise UnsupportedError(
            "the network changes tensors in place that it also holds under another shape, which cannot be followed",
            cure="Write the changes out of place, or use a method that needs no rules (integrated_gradients).",
        )

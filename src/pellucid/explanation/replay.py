"""Scores of edited activations, by running only the part of the network behind the layer."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from pellucid.core import devices
from pellucid.core.errors import UnsupportedError

from . import masks
from .score import Alter, Score
from .tail import Tail

# How far a replayed score may be from the score itself before the replay is not believed.
REPLAY_ERROR = {torch.float64: 1e-9, torch.float32: 1e-4}
# Activations that a pass through the tail holds, in sizes of its layer's output; a row of the network holds about ten times
# as many sizes of its input (devices.BYTES_PER_INPUT_BYTE).
TAIL_SHARE = 10


def replayed(score: Score, count: int, edit: Callable[[Tensor, Tensor, Tensor], Tensor], where: Tensor) -> Tensor:
    """(B, count) scores where ``edit(maps, sample, draw)`` takes the layer's place: 1 T per pair in ``where``, + 1."""

    def edited(sample: Tensor, draw: Tensor) -> Tensor:
        rows = score.maps()[sample]
        return _output(score, torch.where(masks.beside(draw < 0, rows), rows, edit(rows.clone(), sample, draw)), sample)

    return _by_cheapest_way(score, count, edited, where, channels=False)


def without_channels(score: Score, where: Tensor) -> Tensor:
    """(B, K) scores with channel k of the layer set to zero: 1 T per pair in ``where`` (B, K), + 1."""

    def edited(sample: Tensor, draw: Tensor) -> Tensor:
        maps, gone = score.maps()[sample], draw >= 0
        maps[gone, draw[gone]] = 0
        return _output(score, maps, sample)

    channels = score.to_layer().layouts[-1].kind == "first"
    return _by_cheapest_way(score, where.shape[1], edited, where, channels=channels)


def _output(score: Score, maps: Tensor, sample: Tensor) -> Tensor:
    """What the layer would give for these samples if its maps were these."""
    cut = score.to_layer()
    layout, own = cut.layouts[-1], cut.outputs[-1].detach()
    return layout.output(maps, own[sample] if layout.extra else own)


def half_gone(score: Score, sample: int) -> tuple[Tensor, float]:
    """(K,) which channels are set to zero, every other one that is alive, and the score of the sample then: 1 F of one row.

    By the whole network: what a closed form or a replay has to give as well.
    """
    maps = score.maps()[sample : sample + 1]
    alive = maps.flatten(2).abs().amax(2)[0] > 0
    gone = alive & (alive.cumsum(0) % 2 == 1)

    def edited(samples: Tensor, draw: Tensor) -> Tensor:
        return _output(score, maps * ~masks.beside(gone[None], maps), samples)

    assert score.tail is not None
    row = torch.tensor([sample], device=maps.device)
    return gone, float(_replay(score, score.tail, "whole", edited)(row, row))


def agree(found: Tensor, expected: Tensor, scale: Tensor) -> bool:
    """Whether scores are equal but for rounding, beside the size that the scores have."""
    allowed = REPLAY_ERROR.get(expected.dtype, 1e-2) * float(scale.abs().amax())
    return bool(((found - expected).abs() <= allowed).all())


def _by_cheapest_way(score: Score, count: int, edited: Alter, where: Tensor, *, channels: bool) -> Tensor:
    """Scores of the pairs in ``where``, in the cheapest way that answers as the whole network does.

    That is seen by each sample unedited (draw -1), and by the first pair, which the whole network scores too (1 F of one
    row, once for all batches). Where they differ the way is not fit for this model, and the next is taken.
    """
    tail = score.tail
    assert tail is not None
    maps, own, everyone = score.maps(), score.own(), score.everyone()
    pairs = where.nonzero()
    index = torch.cat([torch.stack([everyone, torch.full_like(everyone, -1)], 1), pairs])
    index = index[index[:, 0].argsort(stable=True)]
    share = max(1, TAIL_SHARE * score.x[0].numel() // max(1, maps[0].numel()))
    rows = min(score.rows * share, devices.MOST_TAIL_ROWS)
    whole: Tensor | None = None
    for way in tail.ways(channels=channels):
        if way == "linear" and tail.effect_bytes(maps) > devices.CPU_BUDGET:
            continue
        try:
            found = score.gathered(index, count + 1, _replay(score, tail, way, edited), rows)
        except (RuntimeError, TypeError, ValueError, LookupError, AttributeError) as error:
            if way == "whole" or devices.out_of_memory(error):
                raise
            tail.give_up(way)
            continue
        kept = found[:, :-1]
        size = torch.cat([own, (kept - own[:, None])[where]])
        right = agree(found[:, -1], own, size)
        if right and way != "whole" and way not in tail.trusted and len(pairs):
            whole = _replay(score, tail, "whole", edited)(*pairs[:1].unbind(1)) if whole is None else whole
            right = agree(kept[where][:1], whole, size)
        if right:
            tail.trusted.add(way)
            return kept
        tail.give_up(way)
    raise UnsupportedError("the network does not answer the same way twice", cure="Make its forward pass deterministic.")


def _replay(score: Score, tail: Tail, way: str, edited: Alter) -> Alter:
    """A function that scores pairs by replaying the network in this way."""
    cut = score.to_layer()
    if way == "modules" and cut.record is not None and not cut.record.complete():
        cut = score.to_layer(again=True)  # what was recorded is enough for the graph only
    record, output = cut.record, edited
    assert record is not None
    if way == "linear":
        with torch.no_grad():
            whole, effects = tail.effects(cut.outputs[-1].detach())

        def output(sample: Tensor, draw: Tensor) -> Tensor:
            return whole[sample] - torch.where((draw < 0)[:, None], 0, effects[sample, draw])

    def replay(sample: Tensor, draw: Tensor) -> Tensor:
        def arguments() -> tuple[Any, ...]:
            return score.inputs.arguments(score.x[sample], sample)

        if way == "whole":
            score.passes.forward += len(sample)
        else:
            score.passes.tail += len(sample)
        with torch.no_grad():
            return score.select(tail.replay(way, record, output(sample, draw), arguments, sample), sample, score.of)

    return replay

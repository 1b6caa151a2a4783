"""Scores of edited activations, by running only the part of the network behind the layer."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from pellucid.core import devices
from pellucid.core.errors import UnsupportedError

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
        cut, rows = score.to_layer(), score.maps()[sample]
        as_is = (draw < 0).view(-1, *[1] * (rows.ndim - 1))
        maps = torch.where(as_is, rows, edit(rows.clone(), sample, draw))
        return cut.layouts[-1].output(maps, cut.outputs[-1].detach()[sample])

    return _by_cheapest_way(score, count, edited, where, channels=False)


def without_channels(score: Score, where: Tensor) -> Tensor:
    """(B, K) scores with channel k of the layer set to zero: 1 T per pair in ``where`` (B, K), + 1."""

    def edited(sample: Tensor, draw: Tensor) -> Tensor:
        cut, maps = score.to_layer(), score.maps()[sample]
        gone = draw >= 0
        maps[gone, draw[gone]] = 0
        return cut.layouts[-1].output(maps, cut.outputs[-1].detach()[sample])

    channels = score.to_layer().layouts[-1].kind == "first"
    return _by_cheapest_way(score, where.shape[1], edited, where, channels=channels)


def _by_cheapest_way(score: Score, count: int, edited: Alter, where: Tensor, *, channels: bool) -> Tensor:
    """Scores of the pairs in ``where``, in the cheapest way that answers rightly for each sample unedited (draw -1).

    Where a replay of the unedited sample is not its score the way is not fit for this model, and the next is taken.
    """
    tail = score.tail
    assert tail is not None
    maps, own, everyone = score.maps(), score.own(), score.everyone()
    index = torch.cat([torch.stack([everyone, torch.full_like(everyone, -1)], 1), where.nonzero()])
    index = index[index[:, 0].argsort(stable=True)]
    share = max(1, TAIL_SHARE * score.x[0].numel() // max(1, maps[0].numel()))
    for way in tail.ways(channels=channels):
        try:
            replay = _replay(score, tail, way, edited)
            found = score.gathered(index, count + 1, replay, min(score.rows * share, devices.MOST_TAIL_ROWS))
        except (RuntimeError, TypeError, ValueError, IndexError, KeyError) as error:
            if way == "whole" or devices.out_of_memory(error):
                raise
        else:
            allowed = REPLAY_ERROR.get(own.dtype, 1e-2) * own.abs().clamp(min=1)
            if bool(((found[:, -1] - own).abs() <= allowed).all()):
                return found[:, :-1]
        tail.give_up(way)
    raise UnsupportedError("the network does not answer the same way twice", cure="Make its forward pass deterministic.")


def _replay(score: Score, tail: Tail, way: str, edited: Alter) -> Alter:
    """A function that scores pairs by replaying the network in this way."""
    cut = score.to_layer()
    if way in ("modules", "whole") and cut.record is not None and not cut.record.complete():
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

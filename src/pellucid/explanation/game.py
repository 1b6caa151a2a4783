"""The mask engine: features are players, and v(S) is the score with all players outside S taken away.

Every method that hides features asks here. Coalitions are shared by all samples with the same number of players, packed with
them into full batches, and none is evaluated twice, whichever method asks; several classes come from one forward.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pellucid.core import checks
from pellucid.core.errors import InputError, UnsupportedError

from . import masks
from .features import Features, features_of, key_of
from .removal import Removal, removal_of
from .result import Found
from .score import Score

# Pairs of sample and altered input that one round hands to the engine: they are numbered, which takes memory.
MOST_PAIRS = 1 << 19
COST = "F + coalitions * background * F"


@dataclass
class Group:
    """Samples with the same number of players. samples (G,), players (G, M): their features; table (G, n, k) what is known."""

    samples: Tensor
    players: Tensor
    table: Tensor
    index: dict[bytes, int] = field(default_factory=dict)

    @property
    def count(self) -> int:
        """M, the number of players."""
        return self.players.shape[1]


class Game:
    """v(S) for the samples of one score, one kind of features and one way of removing them.

    A feature whose removal cannot change the input is no player: its effect is exactly 0 and costs nothing.
    ``classes``: so many classes with the highest scores are followed beside the target, from the same passes.
    """

    def __init__(self, score: Score, features: Any, baseline: Any, classes: int = 0) -> None:
        self.score = score
        self.features: Features = features_of(score, features)
        self.removal: Removal = removal_of(score, self.features, baseline)
        self.classes = score.likeliest(classes) if classes else None  # (B, k), the target first
        self.own = score.own()[:, None] if self.classes is None else score.own_of(self.classes)  # (B, k)
        self.rows = self.before = 0
        active = self.features.present & self.removal.alters
        numbers = active.sum(1)
        self.groups: list[Group] = []
        self.place = torch.zeros_like(numbers)  # (B,) of a sample in its group
        for m in torch.unique(numbers).tolist():
            samples = (numbers == m).nonzero()[:, 0]
            players = active[samples].nonzero()[:, 1].view(len(samples), m)
            # of the samples as they are the score is known
            full = packed(torch.ones(1, m, dtype=torch.bool))[0]
            self.groups.append(Group(samples, players, self.own[samples][:, None], {full: 0}))
            self.place[samples] = torch.arange(len(samples), device=numbers.device)

    def values(self, group: Group, coalitions: Tensor, *, active: Tensor | None = None) -> Tensor:
        """(G, N, k) scores of coalitions (N, M) of True for the players that stay; NaN for samples that are not ``active``."""
        keys = packed(coalitions)
        first: dict[bytes, int] = {}  # of each distinct coalition the place where it was asked first
        for i, key in enumerate(keys):
            first.setdefault(key, i)
        new = [key for key in first if key not in group.index]
        if new:
            start = len(group.index)
            group.index.update((key, start + i) for i, key in enumerate(new))
            size = (len(group.samples), len(new), self.own.shape[1])
            group.table = torch.cat([group.table, self.own.new_full(size, torch.nan)], 1)
        columns = torch.tensor([group.index[key] for key in first], device=group.table.device)
        wanted = group.table[:, columns, 0].isnan()
        if active is not None:
            wanted &= active[:, None]
        self._evaluate(group, coalitions[list(first.values())], columns, wanted)
        return group.table[:, torch.tensor([group.index[key] for key in keys], device=columns.device)]

    def _evaluate(self, group: Group, coalitions: Tensor, columns: Tensor, wanted: Tensor) -> None:
        asked = wanted.any(0).nonzero()[:, 0]
        if not len(asked):
            return
        score, background = self.score, self.removal.count
        coalitions = coalitions.to(wanted.device)
        step = max(1, MOST_PAIRS // (len(group.samples) * background))
        for some in torch.split(asked, step):
            chosen = coalitions[some]
            where = torch.zeros(len(score), len(some), dtype=torch.bool, device=wanted.device)
            where[group.samples] = wanted[:, some]

            def without(sample: Tensor, draw: Tensor, chosen: Tensor = chosen) -> Tensor:
                keep = self._kept(chosen[draw // background], group.players[self.place[sample]], sample)
                return self.removal.without(sample, draw % background, keep)

            each = where[:, :, None].expand(-1, -1, background).reshape(len(score), -1)
            found = score.values(len(some) * background, without, where=each, classes=self.classes)
            found = found[group.samples].view(len(group.samples), len(some), background, -1).mean(2)
            if bool((unknown := found.isnan().any(2) & wanted[:, some]).any()):
                i = int(group.samples[unknown.nonzero()[0, 0]])
                raise InputError("the model answers with nan where features are removed", where=f"sample {score.first + i}")
            known = group.table[:, columns[some]]
            group.table[:, columns[some]] = torch.where(wanted[:, some, None], found.to(known), known)
            self.rows += int(where.sum())

    def _kept(self, stay: Tensor, players: Tensor, sample: Tensor) -> Tensor:
        """(P, positions) True where a position is visible, from the players that stay (P, M)."""
        features = self.features
        if features.each and players.shape[1] == features.labels.shape[1]:
            return stay
        keep = torch.ones(len(stay), features.sizes.shape[1], dtype=torch.bool, device=stay.device)
        return features.of_positions(keep.scatter_(1, players, stay), sample)


def packed(coalitions: Tensor) -> list[bytes]:
    """Each coalition (N, M) as a key, a bit for each player."""
    bits = np.packbits(coalitions.cpu().numpy(), axis=1)
    return [bits[i].tobytes() for i in range(len(bits))]


def game_of(score: Score, features: Any, baseline: Any, classes: int) -> Game:
    """The game of these options, one for all methods of a call that ask for it."""
    checks.count("classes", classes, least=0)
    key: Hashable = ("game", key_of(features), key_of(baseline), classes)
    game = score.once(key, lambda: Game(score, features, baseline, classes))
    game.before = game.rows
    return game


@dataclass
class Answer:
    """What a method finds out about a group: effects (G, M, k), and errors of the same shape or none."""

    effects: Tensor
    errors: Tensor | None = None


def answered(game: Game, answers: Sequence[Answer], base: Tensor | None = None, **more: Any) -> Found:
    """Effects of players as relevance: each feature's is shared evenly by its positions and channels, so that the sums agree.

    ``raw`` has at each position of the map the whole effect of its feature; ``details`` the segments where there are
    any, the standard error of the effects, and the effects for each class, (B, k, ...).
    """
    score, features = game.score, game.features
    x, size = score.x, masks.spatial(score.x)
    k = game.own.shape[1]

    def of_features(parts: Sequence[Tensor]) -> Tensor:
        table = game.own.new_zeros(len(x), features.sizes.shape[1], k)
        for group, part in zip(game.groups, parts):
            table[group.samples[:, None], group.players] = part.to(table)
        return table

    effects = of_features([a.effects for a in answers])
    raw = torch.stack([features.of_positions(effects[..., i]) for i in range(k)], 1).view(len(x), k, *size)
    shared = features.of_positions(effects[..., 0] / features.sizes.clamp(min=1)).view(len(x), *size)
    relevance = masks.spread(shared, x)
    details: dict[str, Tensor] = dict(more.pop("details", {}))
    if not features.each:
        details["segments"] = features.labels.view(len(x), *size)
    if any(a.errors is not None for a in answers):
        error = of_features([torch.zeros_like(a.effects) if a.errors is None else a.errors for a in answers])
        details["standard_error"] = features.of_positions(error[..., 0]).view(len(x), *size)
    if game.classes is not None:
        details |= {"classes": game.classes, "by_class": raw}
    gap = None if base is None else game.own[:, 0] - base - effects[..., 0].sum(1)
    counts = {"coalitions": (game.rows - game.before) / len(x), "background": float(game.removal.count)} | more.pop(
        "counts", {}
    )
    return Found(relevance, raw[:, 0], base=base, gap=gap, counts=counts, details=details, removal=game.removal.name, **more)


def base_of(game: Game) -> Tensor:
    """(B, k) v of the empty coalition."""
    base = torch.zeros_like(game.own)
    for group in game.groups:
        base[group.samples] = game.values(group, torch.zeros(1, group.count, dtype=torch.bool))[:, 0]
    return base


def few_enough(game: Game, most: int) -> None:
    """UnsupportedError where enumerating all coalitions would take more than 2^most of them."""
    for group in game.groups:
        if group.count > most:
            raise UnsupportedError(
                f"{group.count} features have 2^{group.count} coalitions",
                where=f"sample {game.score.first + int(group.samples[0])}",
                cure="Use kernel_shap, or fewer features: features=10, or groups of columns.",
            )

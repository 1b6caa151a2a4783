"""Does the explanation hold still where the input hardly moves?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pellucid.core import checks, devices, seeds
from pellucid.core.errors import InputError, UnsupportedError
from pellucid.core.table import MEASURES, METHODS
from pellucid.explanation.borrowing import Model
from pellucid.explanation.foreign import adapted
from pellucid.explanation.frames import Columns
from pellucid.explanation.inputs import prepare
from pellucid.explanation.layers import Layer
from pellucid.explanation.masks import beside
from pellucid.explanation.method import explain
from pellucid.explanation.result import Explanation
from pellucid.explanation.targets import Target

from .measuring import Measured

CONSTANT = "a map that never changes scores 0 here: read it beside a measure of faithfulness"
BLANK = "a blank map has no relative change"


@MEASURES.add(
    "robustness",
    larger_is_better=False,
    asks="method",
    cost="draws * the method's own",
    won_by="constant_map, random_map",
    mission="Q5",
    paper="Yeh et al. 2019, def. 3.1",
    reading="The largest change of the explanation, relative to its size, when the input hardly moves: small is steady.",
    bias="Favours what does not depend on the input: a constant map scores 0, and so does one drawn at random, since random "
    "numbers are held; smooth maps score low whether they are right or not.",
)
def max_sensitivity(
    model: Model,
    x: Any,
    method: str,
    *,
    explanation: Explanation | None = None,
    radius: Any = 0.02,
    draws: int = 10,
    target: Target = None,
    of: str = "logit",
    layer: Layer = None,
    seed: int = 0,
    batch: int | None = None,
    **options: Any,
) -> Measured:
    """max over draws of ||phi(x + d) - phi(x)|| / ||phi(x)|| of each sample, d uniform in [-r, r] on every value.

    Euclidean norms over all values of the relevance. model, x, target, of, layer, seed, batch, options: as for the method.
    explanation: the one of ``x`` itself, which is else made. radius: r as a share of each sample's range (max - min, of each
    input); or an array that broadcasts with a sample, r itself, e.g. a share of each column's spread for tables, whose rows
    have no range. Columns of categories and inputs of whole numbers stay as they are. The class is the one explained for ``x``;
    a sampled method has the same random numbers in every draw, so that only the input differs. NaN for a blank map.

    Raises InputError for an explanation of another method or number of samples, UnsupportedError where no value can move.
    """
    given = None if explanation is None else {method: explanation}
    shared: dict[str, Any] = {"target": target, "of": of, "layer": layer, "seed": seed, "batch": batch}
    return sensitivities(model, x, {method: options}, original=given, radius=radius, draws=draws, **shared)[method]


def sensitivities(
    model: Model,
    x: Any,
    methods: Sequence[str] | Mapping[str, Mapping[str, Any]],
    *,
    original: Mapping[str, Explanation] | None = None,
    radius: Any = 0.02,
    draws: int = 10,
    target: Target = None,
    of: str = "logit",
    layer: Layer = None,
    seed: int = 0,
    batch: int | None = None,
) -> dict[str, Measured]:
    """``max_sensitivity`` of several methods over the same moved inputs, whose passes they share as in ``explain``.

    original: their explanations of ``x``, those that are known; the others are made in one call. Draws of a small batch are
    explained side by side, except by sampled methods, whose random numbers go by the place of a sample.
    """
    draws = checks.count("draws", draws)
    asked = {n: dict(methods[n] or {}) if isinstance(methods, Mapping) else {} for n in methods}
    subject = adapted(model, x, asked, target=target, of=of)
    parts = [prepare(subject.model, part) for part in (subject.x if isinstance(subject.x, tuple) else (subject.x,))]
    rows = len(parts[0])
    shared: dict[str, Any] = {"of": of, "layer": layer, "seed": seed, "batch": batch}
    known = _known(original or {}, asked, rows)
    missing = {name: options for name, options in asked.items() if name not in known}
    if missing:
        known |= explain(model, x, missing, target=_aim(known, target) if target is None else target, **shared)
    aim = _aim(known, target)
    reach = _reach(parts, radius, subject.columns)

    def moved(some: Sequence[int]) -> Any:
        made = [torch.cat([p + r * _uniform(p, seed, draw, i) for draw in some]) for i, (p, r) in enumerate(zip(parts, reach))]
        if subject.columns is not None:
            return subject.columns.frame(made[0])
        return tuple(made) if isinstance(x, tuple) else made[0]

    changes: dict[str, list[Tensor]] = {name: [] for name in asked}
    spent = dict.fromkeys(asked, 0.0)
    for names, together in _groups(asked, parts, rows, batch):
        for start in range(0, draws, together):
            some = range(start, min(start + together, draws))
            repeated = aim.repeat(len(some)) if isinstance(aim, Tensor) else aim
            found = explain(model, moved(some), {n: asked[n] for n in names}, target=repeated, **shared)
            for name in names:
                after = found[name].relevance.flatten(1).double()
                before = known[name].relevance.to(after).flatten(1).repeat(len(some), 1)
                changes[name].append((after - before).norm(dim=1).view(len(some), rows))
                spent[name] += sum(found[name].passes.values()) * len(some)
    return {name: _measured(known[name], torch.cat(changes[name]), spent[name]) for name in asked}


def _measured(original: Explanation, changes: Tensor, spent: float) -> Measured:
    """changes (draws, N) of the relevance."""
    size = original.relevance.to(changes).flatten(1).norm(dim=1)
    values = torch.where(size > 0, changes.amax(0) / torch.where(size > 0, size, 1), torch.nan)
    notes = (CONSTANT, BLANK) if bool((size == 0).any()) else (CONSTANT,)
    return Measured("max_sensitivity", np.asarray(values.cpu()), passes=spent, notes=notes)


def _known(original: Mapping[str, Explanation], asked: Mapping[str, Any], rows: int) -> dict[str, Explanation]:
    for name, explanation in original.items():
        if name in asked and (explanation.method != name or len(explanation) != rows):
            said = f"{len(explanation)} samples by {explanation.method} for {rows} by {name}"
            raise InputError(f"an explanation of {said}", cure="Give the method's own, of these samples.")
    return {name: explanation for name, explanation in original.items() if name in asked}


def _aim(known: Mapping[str, Explanation], target: Target) -> Target:
    """The class that was explained, so that a moved input is explained for the same; None where none was asked about."""
    if callable(target) and not isinstance(target, Tensor):
        return target
    return next((e.target for e in known.values() if e.target is not None), None)


def _groups(options: Mapping[str, Any], parts: list[Tensor], rows: int, batch: int | None) -> list[tuple[list[str], int]]:
    """Names that are explained together, and how many draws side by side."""
    fit = batch or min(devices.rows_that_fit(part[0]) for part in parts)
    together = max(1, fit // rows)
    one = [n for n, o in options.items() if "sampled" in METHODS[n].facts["claims"] or _of_each(o, rows)]
    if together == 1 or len(one) == len(options):
        return [(list(options), 1)]
    return [group for group in ((one, 1), ([n for n in options if n not in one], together)) if group[0]]


def _of_each(options: Mapping[str, Any], rows: int) -> bool:
    """Whether an option may hold something for every sample."""
    return any(getattr(value, "ndim", 0) > 0 and len(value) == rows for value in options.values())


def _reach(parts: list[Tensor], radius: Any, columns: Columns | None) -> list[Tensor]:
    """What each value may move by, in a shape that broadcasts with each part; 0 for what stays."""
    if isinstance(radius, int | float):
        checks.positive("radius", radius)
        found = [radius * beside(_range(p.flatten(1).double()), p) for p in parts]
    else:
        try:
            found = [torch.as_tensor(radius).expand(p.shape) for p in parts]
        except (RuntimeError, TypeError, ValueError) as error:
            cure = f"Give a number, or an array of shape {tuple(parts[0].shape[1:])}."
            raise InputError(f"radius does not broadcast with a sample: {radius!r:.60}", cure=cure) from error
    found = [r.to(p) if p.is_floating_point() else p.new_zeros(1) for p, r in zip(parts, found)]
    if columns is not None:
        found = [torch.where(columns.codes.to(r.device), 0, r) for r in found]
    if not any(bool((r != 0).any()) for r in found):
        raise UnsupportedError("no value of the samples can move", cure="Use it on real numbers, with a radius above 0.")
    return found


def _range(flat: Tensor) -> Tensor:
    """(N,) max - min of what is not missing."""
    high, low = torch.where(flat.isnan(), -torch.inf, flat).amax(1), torch.where(flat.isnan(), torch.inf, flat).amin(1)
    return (high - low).clamp(min=0)


def _uniform(part: Tensor, seed: int, draw: int, number: int) -> Tensor:
    """(N, ...) in [-1, 1], zero for whole numbers; from seed, sample, draw and the number of the input only."""
    if not part.is_floating_point():
        return torch.zeros_like(part)
    made = [seeds.generator(seed, "sensitivity", number, i, draw) for i in range(len(part))]
    return torch.stack([2 * torch.rand(part.shape[1:], generator=g, dtype=part.dtype) - 1 for g in made]).to(part.device)

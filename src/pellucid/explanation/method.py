"""The decorator of every method, and ``explain``, which runs several of them over shared passes."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from pellucid.core.checks import finite
from pellucid.core.errors import InputError, PellucidError
from pellucid.core.table import METHODS

from .result import Explanation, Found, joined
from .score import Model, Passes, Score, Target, borrowed, find_layer, over_batches, prepare

CLAIMS = ("signed", "complete", "zero_at_baseline", "sampled", "class_blind")
# What a method asks of the network. Methods asked for together run in this order, so that a pass which also
# answers a later question (the gradient's forward knows the score) is made first.
NEEDS = ("gradient", "layer", "score", "nothing")

Body = Callable[..., Tensor | Found]


def method(
    family: str, *, cost: str, paper: str, needs: str, claims: str = "", channels: str = "sum", mission: str = ""
) -> Callable[[Body], Any]:
    """Make a method of ``body(score, x, *, options)`` and enter it in the table.

    The made function is called as ``name(model, x, *, target=None, of="logit", layer=None, seed=0, batch=None,
    progress=None, **options)`` and returns an ``Explanation`` whose relevance has the shape of ``x``:

    - model: any torch module (or, for methods that need scores only, any function) from (B, ...) to (B, K).
    - x: (B, ...) tensor or array; moved to the model's device and precision, never changed.
    - target: class index, one index per sample, or a function of the model's answer that returns (B,); the arg-max by default.
    - of: what is explained, "logit" (default) or "probability".
    - layer: a module or its name, for methods that look at one; by default the last with spatial axes.
    - seed: for sampled methods; sample i's numbers depend on seed and i only.
    - batch: rows per pass; by default what fits the memory.
    - progress: called with (samples done, samples).

    Raises InputError for a bad input, target, layer or option, UnsupportedError where the method cannot explain this model.
    ``cost`` is stated in rows per sample: F forward, B backward to the input, H backward to the layer.
    """
    unknown = set(filter(None, claims.split(", "))) - set(CLAIMS)
    if unknown or needs not in NEEDS:
        raise ValueError(f"unknown claim or need: {unknown or needs}")

    def decorate(body: Body) -> Any:
        @functools.wraps(body)
        def call(
            model: Model,
            x: Any,
            *,
            target: Target = None,
            of: str = "logit",
            layer: str | nn.Module | None = None,
            seed: int = 0,
            batch: int | None = None,
            progress: Callable[[int, int], None] | None = None,
            **options: Any,
        ) -> Explanation:
            asked = {body.__name__: options}
            return explain(model, x, asked, target=target, of=of, layer=layer, seed=seed, batch=batch, progress=progress)[
                body.__name__
            ]

        facts = {"claims": claims, "cost": cost, "paper": paper, "needs": needs, "channels": channels, "mission": mission}
        return METHODS.add(family, **facts)(call)

    return decorate


def explain(
    model: Model,
    x: Any,
    methods: Sequence[str] | Mapping[str, Mapping[str, Any]] | str,
    *,
    target: Target = None,
    of: str = "logit",
    layer: str | nn.Module | None = None,
    seed: int = 0,
    batch: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> dict[str, Explanation]:
    """Several explanations of the same samples; passes that more than one of them needs are made once.

    ``methods``: names, or names with their options, e.g. ``{"gradient": {}, "integrated_gradients": {"steps": 64}}``.
    All other arguments as for a single method (see ``method``). Returns name -> Explanation in the order asked for.
    """
    if isinstance(methods, str):
        methods = [methods]
    asked: dict[str, dict[str, Any]] = {n: dict(methods[n] or {}) if isinstance(methods, Mapping) else {} for n in methods}
    if not asked:
        raise InputError("no method asked for", cure=f"Known: {', '.join(METHODS.names())}.")
    for name, options in asked.items():
        METHODS[name].check_options(options)
    x = prepare(model, x)
    order = sorted(asked, key=lambda name: NEEDS.index(METHODS[name].facts["needs"]))
    place, module = None, None
    if any(METHODS[name].facts["needs"] == "layer" for name in asked):
        place, module = _layer_of(model, layer, x)

    def run(score: Score) -> _Batch:
        answers = {name: _run_one(name, score, asked[name]) for name in order}
        if any(METHODS[name].facts["needs"] != "nothing" for name in asked):
            return _Batch(answers, score.target, score.own(), score.notes)
        return _Batch(answers, None, None, score.notes)

    parts = over_batches(model, x, run, target=target, of=of, layer=module, seed=seed, batch=batch, progress=progress)
    shared: dict[str, Any] = {"of": of, "seed": seed, "x": x, "notes": sorted({note for p in parts for note in p.notes})}
    return {name: _assemble(name, parts, asked[name], place, shared) for name in asked}


@dataclass
class _Batch:
    """What is kept of one batch: each method's answer and passes, and what the score knew."""

    answers: dict[str, tuple[Found, Passes]]
    target: Tensor | None
    score: Tensor | None
    notes: list[str]


def _layer_of(model: Model, layer: str | nn.Module | None, x: Tensor) -> tuple[str, nn.Module]:
    with borrowed(model):
        return find_layer(model, layer, x)


def _run_one(name: str, score: Score, options: Mapping[str, Any]) -> tuple[Found, Passes]:
    before = score.passes.copy()
    found = inspect.unwrap(METHODS[name].value)(score, score.x, **options)
    if isinstance(found, Tensor):
        found = Found(found)
    if found.relevance.shape != score.x.shape:
        raise PellucidError(f"{name} gave {tuple(found.relevance.shape)} for an input of {tuple(score.x.shape)}")
    finite(f"the relevance of {name}", found.relevance)
    return found, score.passes - before


def _assemble(
    name: str, parts: list[_Batch], options: dict[str, Any], place: str | None, shared: dict[str, Any]
) -> Explanation:
    entry = METHODS[name]
    found = [part.answers[name][0] for part in parts]
    defaults = {key: p.default for key, p in entry.options().items() if p.default is not p.empty}
    relevance = joined([f.relevance for f in found])
    assert relevance is not None
    passes = {k: sum(getattr(p.answers[name][1], k) for p in parts) / len(relevance) for k in ("forward", "backward", "head")}
    return Explanation(
        method=name,
        relevance=relevance.detach(),
        raw=joined([f.raw for f in found]),
        target=joined([p.target for p in parts]),
        score=joined([p.score for p in parts]),
        base=joined([f.base for f in found]),
        gap=joined([f.gap for f in found]),
        layer=place if entry.facts["needs"] == "layer" else None,
        options=defaults | options,
        counts=found[0].counts,
        details={key: value for key in found[0].details if (value := joined([f.details[key] for f in found])) is not None},
        passes=passes,
        **shared,
    )

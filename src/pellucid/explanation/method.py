"""The decorator of every method, and ``explain``, which runs several of them over shared passes."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

from torch import Tensor, nn

from pellucid.core.checks import finite
from pellucid.core.errors import InputError, PellucidError, UnsupportedError
from pellucid.core.table import METHODS

from .borrowing import Model, borrowed
from .foreign import Foreign, Subject, adapted, check_baseline
from .inputs import Inputs, inputs_of
from .layers import Layer, find_layers
from .result import Explanation, Found, joined
from .score import Passes, Score, differentiable, over_batches
from .tail import Tail
from .targets import Target

CLAIMS = ("signed", "complete", "zero_at_baseline", "sampled", "class_blind")
# What a method asks of the network. Methods asked for together run in this order, so that a pass which also
# answers a later question (the gradient's forward knows the score) is made first.
NEEDS = ("gradient", "steps", "layer", "score", "nothing")
# Families that explain every input of real numbers; the others explain the one that makes a picture.
OF_EVERY_INPUT = ("gradient", "decomposition")

Body = Callable[..., Tensor | Found]


def method(
    family: str,
    *,
    cost: str,
    paper: str,
    needs: str,
    reading: str,
    claims: str = "",
    channels: str = "sum",
    mission: str = "",
) -> Callable[[Body], Any]:
    """Make a method of ``body(score, x, *, options)`` and enter it in the table.

    The made function is called as ``name(model, x, *, target=None, of="logit", layer=None, seed=0, batch=None,
    precision="float32", progress=None, **options)`` and returns an ``Explanation`` whose relevance has the shape of ``x``:

    - model: any torch module from (B, ...) to (B, K); for methods that need scores only also any function, fitted estimator or
      pipeline of scikit-learn, booster of XGBoost or LightGBM, session of onnxruntime or path of an ONNX file.
    - x: (B, ...) tensor or array, moved to the model's device and precision, never changed; a DataFrame, of whose words the
      explanation has codes; a tuple for several inputs: gradient methods explain all real ones, others the first with axes.
    - target: class index, one index per sample, or a function of the model's answer that returns (B,); the arg-max by default.
      An estimator's classes may be named by labels that are no whole numbers.
    - of: what is explained, "logit" (default) or "probability".
    - layer: a module or its name, for methods that look at one; by default the last with spatial axes. A list of them for
      ``layer_cam``; other methods take its last.
    - seed: for sampled methods; sample i's numbers depend on seed and i only.
    - batch: rows per pass; by default what fits the memory.
    - precision: of passes over altered inputs that no gradient goes back through, e.g. "bfloat16" for masked images.
    - progress: called with (samples done, samples).

    Raises InputError for a bad input, target, layer or option, UnsupportedError where the method cannot explain this model.
    ``cost`` is stated in rows per sample: F forward, B backward to the input, H backward to the layer, T forward from it.
    Float32 images on a CPU cost one F of one row more in all, to find out whether channels may lie last (``Score._form``).
    ``reading``: one sentence on how to read the map.
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
            layer: Layer = None,
            seed: int = 0,
            batch: int | None = None,
            precision: str = "float32",
            progress: Callable[[int, int], None] | None = None,
            **options: Any,
        ) -> Explanation:
            asked = {body.__name__: options}
            shared: dict[str, Any] = {"target": target, "of": of, "layer": layer, "seed": seed, "batch": batch}
            return explain(model, x, asked, precision=precision, progress=progress, **shared)[body.__name__]

        facts = {"claims": claims, "cost": cost, "paper": paper, "needs": needs, "channels": channels, "mission": mission}
        return METHODS.add(family, reading=reading, **facts)(call)

    return decorate


def explain(
    model: Model,
    x: Any,
    methods: Sequence[str] | Mapping[str, Mapping[str, Any]] | str,
    *,
    target: Target = None,
    of: str = "logit",
    layer: Layer = None,
    seed: int = 0,
    batch: int | None = None,
    precision: str = "float32",
    progress: Callable[[int, int], None] | None = None,
) -> dict[str, Explanation]:
    """Several explanations of the same samples; passes that more than one of them needs are made once.

    ``methods``: names, or names with their options, e.g. ``{"gradient": {}, "integrated_gradients": {"steps": 64}}``.
    All other arguments as for a single method (see ``method``). Returns name -> Explanation in the order asked for.
    """
    asked = _asked(methods)
    if isinstance(seed, bool) or not isinstance(seed, int):
        raise InputError(f"seed is {seed!r}", cure="Give a whole number.")
    subject = adapted(model, x, asked, target=target, of=of)
    _possible(subject)
    model, asked = subject.model, subject.options
    inputs = inputs_of(model, subject.x)
    order = sorted(asked, key=lambda name: NEEDS.index(METHODS[name].facts["needs"]))
    layers: list[tuple[str, nn.Module]] = []
    tail = None
    if any(METHODS[name].facts["needs"] == "layer" for name in asked):
        layers = find_layers(model, layer, inputs)
        if any("T" in METHODS[name].facts["cost"] for name in asked) and isinstance(model, nn.Module):
            with borrowed(model):
                tail = Tail(model, layers[-1][1], inputs.x.ndim - 2)

    def run(score: Score) -> _Batch:
        answers = {name: _run_one(name, score, asked[name]) for name in order}
        if any(METHODS[name].facts["needs"] != "nothing" for name in asked):
            return _Batch(answers, score.target, score.own(), score.notes, len(score))
        return _Batch(answers, None, None, score.notes, len(score))

    modules = [module for _, module in layers]
    of = subject.of
    options: dict[str, Any] = {"target": subject.target, "of": of, "seed": seed, "batch": batch}
    options |= {"precision": precision, "progress": progress}
    parts = over_batches(model, inputs, run, layers=modules, tail=tail, **options)
    notes = {note for part in parts for note in part.notes} | _of_batches(model) | subject.notes
    shared: dict[str, Any] = {"of": of, "seed": seed, "notes": notes, "channels_last": inputs.channels_last}
    shared |= {"names": subject.names, "frame": x.copy() if subject.names else None}
    place = ", ".join(name for name, _ in layers) if layers else None
    return {name: _assemble(name, parts, asked[name], place, inputs, dict(shared)) for name in asked}


def _asked(methods: Any) -> dict[str, dict[str, Any]]:
    """Names of methods with their options; InputError for anything else."""
    if isinstance(methods, str):
        methods = [methods]
    if not isinstance(methods, Mapping | list | tuple | set):
        raise InputError(f"methods is {methods!r}", cure="Give names of methods, or a dictionary from names to options.")
    if isinstance(methods, Mapping) and not all(isinstance(o, Mapping | None) for o in methods.values()):
        raise InputError("the options of a method are no dictionary", cure='Write {"smoothgrad": {"samples": 50}}.')
    asked: dict[str, dict[str, Any]] = {n: dict(methods[n] or {}) if isinstance(methods, Mapping) else {} for n in methods}
    if not asked:
        raise InputError("no method asked for", cure=f"Known: {', '.join(METHODS.names())}.")
    for name, options in asked.items():
        METHODS[name].check_options(options)
    return asked


def _possible(subject: Subject) -> None:
    """UnsupportedError for gradients of what has none, InputError for a baseline that says nothing of a column."""
    for name, options in subject.options.items():
        entry = METHODS[name]
        differentiates = entry.family in OF_EVERY_INPUT or entry.facts["needs"] in ("gradient", "steps", "layer")
        if isinstance(subject.model, Foreign) and differentiates:
            raise UnsupportedError(
                f"{subject.model.name} is not differentiable, which {name} needs",
                cure="Use a method that only needs scores (kernel_shap, occlusion).",
            )
        if (baseline := entry.options().get("baseline")) is not None:
            check_baseline(subject.columns, name, options.get("baseline", baseline.default))


@dataclass
class _Batch:
    """What is kept of one batch: each method's answer and passes, and what the score knew."""

    answers: dict[str, tuple[Found, Passes]]
    target: Tensor | None
    score: Tensor | None
    notes: list[str]
    rows: int


def _of_batches(model: Model) -> set[str]:
    """What is said of a model whose answer to a sample depends on the others in its batch."""
    modules = model.modules() if isinstance(model, nn.Module) else []
    if any(isinstance(m, nn.modules.batchnorm._BatchNorm) and m.running_mean is None for m in modules):
        return {"a batch norm without stored statistics: every answer depends on the other samples of its batch"}
    return set()


def _seen(name: str, inputs: Inputs) -> Inputs:
    """What this method explains: every input of real numbers, or the one that makes a picture."""
    entry = METHODS[name]
    return inputs.every if entry.family in OF_EVERY_INPUT and entry.facts["needs"] != "layer" else inputs


def _run_one(name: str, score: Score, options: Mapping[str, Any]) -> tuple[Found, Passes]:
    before = score.passes.copy()
    mine = score.of_every_input() if _seen(name, score.inputs) is not score.inputs else score
    if METHODS[name].family == "gradient" and METHODS[name].facts["needs"] != "steps":
        differentiable(mine.x)
    found = inspect.unwrap(METHODS[name].value)(mine, mine.x, **options)
    score.learn(mine)
    if isinstance(found, Tensor):
        found = Found(found)
    if found.relevance.shape != mine.x.shape:
        raise PellucidError(f"{name} gave {tuple(found.relevance.shape)} for an input of {tuple(mine.x.shape)}")
    finite(f"the relevance of {name}", found.relevance)
    return found, score.passes - before


def _assemble(
    name: str, parts: list[_Batch], options: dict[str, Any], place: str | None, inputs: Inputs, shared: dict[str, Any]
) -> Explanation:
    entry = METHODS[name]
    found = [part.answers[name][0] for part in parts]
    defaults = {key: p.default for key, p in entry.options().items() if p.default is not p.empty}
    relevance = joined([f.relevance for f in found])
    assert relevance is not None
    seen = _seen(name, inputs)

    def given(tensor: Tensor | None) -> Tensor | None:
        """What has the shape of the samples in the layout of the samples."""
        return tensor if tensor is None or tensor.shape != seen.x.shape else inputs.as_given(tensor)

    shapes = None
    if len(inputs.parts) > 1:
        shapes = [list(part.shape[1:]) if i in seen.varied else None for i, part in enumerate(inputs.parts)]
    steps = found[0].steps if all(f.steps == found[0].steps for f in found) else []
    kinds = [field.name for field in fields(Passes)]
    passes = {k: sum(getattr(p.answers[name][1], k) for p in parts) / len(relevance) for k in kinds}
    counts = {key: sum(f.counts[key] * part.rows for f, part in zip(found, parts)) / len(relevance) for key in found[0].counts}
    notes = sorted(shared.pop("notes") | {note for f in found for note in f.notes})
    return Explanation(
        method=name,
        relevance=inputs.as_given(relevance.detach()),
        raw=given(joined([f.raw for f in found])),
        target=joined([p.target for p in parts]),
        score=joined([p.score for p in parts]),
        base=joined([f.base for f in found]),
        gap=joined([f.gap for f in found]),
        layer=place if entry.facts["needs"] == "layer" else None,
        options=defaults | options,
        counts=counts,
        details={key: v for key in found[0].details if (v := given(joined([f.details[key] for f in found]))) is not None},
        passes=passes,
        steps=steps,
        ledger=joined([f.ledger for f in found]) if steps else None,
        x=inputs.as_given(seen.x),
        shapes=shapes,
        notes=notes,
        removal=found[0].removal,
        **shared,
    )

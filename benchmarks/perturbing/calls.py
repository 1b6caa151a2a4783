"""Ours and the peers' as calls (sample, evaluations, seed) -> effects (M,), each as a user writes it, with its fastest options.

What a user makes once (shap's explainer with its background, lime's with its training rows) is made once, outside the calls.
"""

from __future__ import annotations

import functools
import importlib
import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

import pellucid

from .cases import Case
from .curves import Call

COSINE_WIDTH = 0.25
MOST_ROWS = 8192  # rows of a table per pass of captum's, as many as ours takes


@functools.cache
def package(name: str) -> Any:
    """A peer's module; None where it is not installed."""
    try:
        return importlib.import_module(name)
    except ImportError:
        return None


# Ours.


def ours(name: str, case: Case, budget: str = "samples", raw: bool = False, **options: Any) -> Call:
    """A method of ours on one sample of a table."""

    def call(i: int, evaluations: int, seed: int) -> np.ndarray:
        given: dict[str, Any] = {budget: evaluations} if budget else {}
        more: dict[str, Any] = {"target": case.table.target[i : i + 1], "of": case.of, "seed": seed}
        found = pellucid.explain(case.model, case.given(i), {name: given | options}, **more)[name]
        effects = found.raw if raw and found.raw is not None else found.relevance
        return effects[0].double().numpy()

    return call


def ours_together(name: str, case: Case, budget: int, **options: Any) -> Callable[[], Any]:
    """The same for all samples in one call, with another seed every time."""
    x, target, seeds = case.given(slice(None)), case.table.target, itertools.count(1000)

    def call() -> Any:
        asked = {name: {"samples": budget, **options}}
        return pellucid.explain(case.model, x, asked, target=target, of=case.of, seed=next(seeds))

    return call


def orders(call: Call, columns: int) -> Call:
    """A call whose budget is pairs of orders, each of 2 (M - 1) coalitions beside the two that all share."""
    return lambda i, evaluations, seed: call(i, max(1, round(evaluations / (2 * (columns - 1)))), seed)


# shap.


def shap_kernel(case: Case, **options: Any) -> Call | None:
    """shap's KernelExplainer on the one score that is asked for."""
    if package("shap") is None:
        return None
    explainers: dict[int, Any] = {}

    def call(i: int, evaluations: int, seed: int) -> np.ndarray:
        target = case.table.target[i]
        if target not in explainers:
            explainers[target] = package("shap").KernelExplainer(case.single(target), case.background)
        given = {"nsamples": evaluations, "silent": True, **options}
        return np.asarray(explainers[target].shap_values(case.table.x[i], **given))

    return call


def shap_linear(case: Case) -> Call | None:
    """shap's LinearExplainer, which is given the coefficients."""
    if package("shap") is None:
        return None
    explainer = package("shap").LinearExplainer(case.model, case.background)
    return lambda i, evaluations, seed: explainer.shap_values(case.table.x[i : i + 1])[0, :, case.table.target[i]]


# lime.


def lime_table(case: Case) -> Call | None:
    """lime_tabular on all columns, with its default kernel, quartiles and ridge."""
    if package("lime") is None:
        return None
    tabular = importlib.import_module("lime.lime_tabular")
    state = np.random.RandomState(0)  # what the package takes
    options = {"feature_selection": "none", "random_state": state}
    explainer = tabular.LimeTabularExplainer(case.table.rows, **options)

    def call(i: int, evaluations: int, seed: int) -> np.ndarray:
        state.seed(1000 * i + seed)
        target = case.table.target[i]
        given = {"labels": (target,), "num_features": case.columns, "num_samples": evaluations}
        found = explainer.explain_instance(case.table.x[i], case.ask, **given).local_exp[target]
        return _in_order(found, case.columns)

    return call


def lime_image(model: nn.Module, x: Tensor, target: int, labels: Tensor, rows: int) -> Call | None:
    """lime_image with segments that are given; the scores are the logits, as for ours."""
    if package("lime") is None:
        return None
    images = importlib.import_module("lime.lime_image")
    count = int(labels.max()) + 1

    @torch.no_grad()
    def ask(batch: Any) -> np.ndarray:
        return model(torch.from_numpy(np.asarray(batch)).permute(0, 3, 1, 2)).numpy()

    def call(i: int, evaluations: int, seed: int) -> np.ndarray:
        explainer = images.LimeImageExplainer(feature_selection="none", random_state=seed)
        given: dict[str, Any] = {"labels": (target,), "top_labels": None, "num_samples": evaluations, "batch_size": rows}
        given |= {"segmentation_fn": lambda image: labels.numpy(), "random_seed": seed}
        found = explainer.explain_instance(x[0].permute(1, 2, 0).double().numpy().astype(np.float32), ask, **given)
        return _in_order(found.local_exp[target], count)

    return call


def _in_order(found: list[tuple[int, float]], count: int) -> np.ndarray:
    effects = np.zeros(count)
    for feature, weight in found:
        effects[feature] = weight
    return effects


# captum, on a network that takes a table.


def captum(name: str, case: Case, made: Callable[[Any], dict[str, Any]] = lambda attr: {}) -> Call | None:
    """A method of captum's with as many altered rows per pass as it takes."""
    if package("captum") is None or not isinstance(case.model, nn.Module):
        return None
    attr = importlib.import_module("captum.attr")
    method = getattr(attr, name)(case.model, **made(attr))
    baseline = torch.from_numpy(case.background).float()

    def call(i: int, evaluations: int, seed: int) -> np.ndarray:
        given: dict[str, Any] = {"baselines": baseline, "target": case.table.target[i]}
        if evaluations:
            given["n_samples"] = evaluations
        rows = min(MOST_ROWS, evaluations if name in ("Lime", "KernelShap") else case.columns)
        return method.attribute(case.given(i), perturbations_per_eval=rows, **given)[0].double().numpy()

    return call


def captum_lime(case: Case) -> Call | None:
    """captum's Lime with least squares and our kernel: the default is a lasso that drops everything."""

    def near(original: Tensor, altered: Tensor, stay: Tensor, **kwargs: Any) -> Tensor:
        apart = 1 - (stay.float().sum() / stay.numel()).sqrt()
        return torch.exp(-(apart**2) / (2 * COSINE_WIDTH**2))

    def made(attr: Any) -> dict[str, Any]:
        linear = importlib.import_module("captum._utils.models.linear_model")
        return {"interpretable_model": linear.SkLearnLinearRegression(), "similarity_func": near}

    return captum("Lime", case, made)


def captum_orders(case: Case) -> Call | None:
    """captum's ShapleyValueSampling; a budget of evaluations is so many orders."""
    call = captum("ShapleyValueSampling", case)
    return call and (lambda i, evaluations, seed: call(i, max(1, round(evaluations / case.columns)), seed))

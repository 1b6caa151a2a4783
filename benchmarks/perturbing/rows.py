"""The rows of the table: what is measured on which case, against whom, and what it converges to."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

import pellucid

from . import bare, calls, cases
from .calls import ours
from .cases import Case
from .curves import Call

SHAP, SHAP_DEFAULT, LIME, KERNEL = (
    "shap KernelExplainer, l1_reg=False",
    "shap KernelExplainer",
    "lime_tabular",
    "captum KernelShap",
)
SOONER = 5.0  # times that a peer must take longer to the same error, where there is a goal
GOALS = {SHAP: SOONER, SHAP_DEFAULT: SOONER, LIME: SOONER, "lime_image": SOONER}
BUDGETS = (64, 128, 256, 512, 1024, 2048, 4096)
TOGETHER = 16  # samples of a call that explains several
WIDE, NARROW = 30, 14
References = Mapping[str, np.ndarray]


@dataclass(frozen=True)
class Row:
    """Ours and the peers at ``budget`` evaluations, where times and errors are compared, and the curves over ``budgets``.

    several: the call for several samples at once, with its bare runs. references: what each call converges to, (S, M).
    """

    budget: int
    ours: Call
    runs: Callable[[], bare.Runs]
    peers: Mapping[str, Call | None] = field(default_factory=dict)
    references: Callable[[], References] | None = None
    budgets: Sequence[int] = BUDGETS
    several: Callable[[], tuple[Callable[[], Any], bare.Runs]] | None = None
    taken: int | None = None  # evaluations of ours, where they are not the budget


def names() -> dict[str, Callable[[bool], Row]]:
    """Row by name; each is made when it is measured. The argument: whether everything is to be small."""
    return {
        "kernel_shap, MLPClassifier, 30 columns": lambda small: kernel_rows(wide(cases.perceptron, small), small),
        "kernel_shap, torch MLP, 30 columns": lambda small: kernel_rows(wide(cases.network, small), small),
        "kernel_shap, trees of depth 3, 14 columns x 50": lambda small: kernel_rows(trees(3, small), small),
        "kernel_shap, trees of depth 6, 14 columns x 50": lambda small: kernel_rows(trees(6, small), small),
        "kernel_shap, MLPClassifier, 14 columns x 100": lambda small: kernel_rows(narrow(small), small),
        "shapley_sampling, torch MLP, 30 columns": sampling_row,
        "linear_shap, logistic regression, 30 columns x 100": linear_row,
        "occlusion, torch MLP, 30 columns": occlusion_row,
        "lime, MLPClassifier, 30 columns, discretised": table_lime_row,
        "lime, torch MLP, 30 columns, hidden or not": hiding_lime_row,
    }


# Cases, each made once.


@functools.cache
def wide(make: Callable[..., Case], small: bool) -> Case:
    """30 columns, three classes, the mean in the place of what is removed."""
    return make(cases.table(9 if small else WIDE, 3, 2 if small else TOGETHER), 1, iterations=2 if small else 40)


@functools.cache
def trees(depth: int, small: bool) -> Case:
    """14 columns, 50 rows of the training data in the place of what is removed."""
    return cases.boosted(cases.table(6 if small else NARROW, 2, 2 if small else TOGETHER), 3 if small else 50, depth)


@functools.cache
def narrow(small: bool) -> Case:
    """14 columns, 100 rows of the training data."""
    columns, rows = (6, 3) if small else (NARROW, 100)
    return cases.perceptron(cases.table(columns, 3, 2 if small else TOGETHER), rows, iterations=2 if small else 40)


@functools.cache
def shapley_values(case: Case, samples: int) -> np.ndarray:
    """(S, M): all coalitions of up to 14 columns, else a million drawn ones."""
    if case.columns > NARROW:
        return cases.converged(case, samples, 1_000_000)
    given = {"target": case.table.target[:samples], "of": case.of, "baseline": case.baseline()}
    return pellucid.shapley(case.model, case.given(slice(0, samples)), **given).relevance.double().numpy()


def same(values: Callable[[], np.ndarray], *labels: str) -> Callable[[], References]:
    """Every call converges to the same values."""
    return lambda: dict.fromkeys(labels, values())


# Rows.


def kernel_rows(case: Case, small: bool) -> Row:
    """Kernel SHAP with what both it and shap take by default, 2 M + 2048 evaluations."""
    budget = 48 if small else 2 * case.columns + 2048
    peers = {SHAP: calls.shap_kernel(case, l1_reg=False), SHAP_DEFAULT: calls.shap_kernel(case)}
    if len(case.background) == 1 and case.name == "torch MLP":
        peers[KERNEL] = calls.captum("KernelShap", case)
    trials = 2 if small or len(case.background) > 1 else 3
    return Row(
        budget,
        ours("kernel_shap", case, baseline=case.baseline()),
        lambda: bare.of_table(case, budget),
        peers,
        same(lambda: shapley_values(case, trials), "ours", *peers),
        (24, 48) if small else (*BUDGETS[:5], budget, 2 * budget),
        lambda: (calls.ours_together("kernel_shap", case, budget, baseline=case.baseline()), several(case, budget)),
    )


def several(case: Case, budget: int) -> bare.Runs:
    """The bare runs of all samples of a case."""
    return bare.of_table(case, budget, len(case.table.x))


def sampling_row(small: bool) -> Row:
    """Orders walked both ways, beside orders walked one way."""
    case, budget = wide(cases.network, small), 60 if small else 2048
    peers = {"captum ShapleyValueSampling": calls.captum_orders(case)}
    return Row(
        budget,
        calls.orders(ours("shapley_sampling", case, baseline=case.baseline()), case.columns),
        lambda: bare.of_table(case, budget),
        peers,
        same(lambda: shapley_values(case, 2 if small else 3), "ours", *peers),
        (30, 60) if small else BUDGETS,
    )


def linear_row(small: bool) -> Row:
    """Beside a package that is given the coefficients; the budget is that of the one which is not."""
    case = cases.linear(cases.table(9 if small else WIDE, 3, 2), 5 if small else 100)
    weight, mean = case.model.coef_[case.table.target], case.background.mean(0)
    peers = {"shap LinearExplainer": calls.shap_linear(case), SHAP_DEFAULT: None if small else calls.shap_kernel(case)}
    mine = ours("linear_shap", case, budget="", baseline=case.baseline())
    asked = {"linear_shap": {"baseline": case.baseline()}}
    taken = round(pellucid.explain(case.model, case.given(0), asked)["linear_shap"].passes["forward"])
    runs = bare.of_table(Case("", case.model, case.ask, case.table, case.background[:1]), taken)
    budget, exact = 2 * case.columns + 2048, weight * (case.table.x - mean)
    return Row(budget, mine, lambda: runs, peers, same(lambda: exact, "ours", *peers), (budget,), taken=taken)


def occlusion_row(small: bool) -> Row:
    """Each column alone set to its mean."""
    case = wide(cases.network, small)
    x, mean = case.table.x[:2], case.background[0]
    scores = [case.ask(np.where(np.eye(case.columns, dtype=bool), mean, row))[:, t] for row, t in zip(x, case.table.target)]
    own = case.ask(x)[[0, 1], case.table.target[:2]]
    peers = {"captum FeatureAblation": calls.captum("FeatureAblation", case)}
    mine = ours("occlusion", case, budget="", baseline=case.baseline()[0])
    per_eval = {label: call and (lambda i, n, seed, call=call: call(i, 0, seed)) for label, call in peers.items()}
    expected = own[:, None] - np.stack(scores)
    return Row(
        case.columns, mine, lambda: bare.of_table(case, case.columns), per_eval, same(lambda: expected, "ours", *peers), (1,)
    )


def table_lime_row(small: bool) -> Row:
    """LIME with quartiles; each package against its own answer from many neighbours, for they draw from other distributions."""
    case = wide(cases.perceptron, small)
    budget, many = (60, 200) if small else (5000, 200_000)
    rows = case.table.rows
    made: dict[str, Call | None] = {"ours": ours("lime", case, references=rows, raw=True), LIME: calls.lime_table(case)}
    mine = made.pop("ours")
    assert mine is not None
    return Row(
        budget,
        mine,
        lambda: bare.of_table(case, budget),
        made,
        lambda: own_answers({"ours": mine, **made}, 2 if small else 3, many),
        (30, 60) if small else (250, 500, 1000, 2500, 5000, 10_000),
        lambda: (calls.ours_together("lime", case, budget, references=rows), bare.of_table(case, budget)),
    )


def hiding_lime_row(small: bool) -> Row:
    """LIME on which columns keep their value, with the same kernel in both packages and no penalty."""
    case = wide(cases.network, small)
    budget, many = (40, 400) if small else (1000, 200_000)
    mine = ours("lime", case, baseline=case.baseline(), penalty=0.0)
    peers = {"captum Lime": calls.captum_lime(case)}
    answers = functools.cache(lambda: own_answers({"ours": mine}, 2 if small else 3, many)["ours"])
    return Row(
        budget,
        mine,
        lambda: bare.of_table(case, budget),
        peers,
        same(answers, "ours", *peers),
        (20, 40) if small else BUDGETS,
        lambda: (calls.ours_together("lime", case, budget, baseline=case.baseline()), several(case, budget)),
    )


def own_answers(made: Mapping[str, Call | None], samples: int, many: int) -> References:
    """Each call's answer from very many evaluations, with a seed that no trial has."""
    return {label: np.stack([call(i, many, 999) for i in range(samples)]) for label, call in made.items() if call is not None}

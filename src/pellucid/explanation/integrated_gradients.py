"""Gradients collected on the way from a baseline to the input."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pellucid.core import checks
from pellucid.core.errors import InputError

from . import masks
from .baselines import Baseline, baselines, references_of, single_baseline
from .method import method
from .result import Found
from .sampling import sampled
from .score import Score
from .smoothgrad import noisy_inputs


def quadrature(steps: int, like: Tensor) -> tuple[Tensor, Tensor]:
    """Nodes in (0, 1) and weights of the Gauss-Legendre rule."""
    nodes, weights = np.polynomial.legendre.leggauss(checks.count("steps", steps))
    return tuple(torch.as_tensor(v, dtype=torch.float64, device=like.device).to(like) for v in ((nodes + 1) / 2, weights / 2))  # type: ignore[return-value]


def base_scores(score: Score, references: list[Tensor]) -> Tensor:
    """(B, R) scores of the baselines: R F a sample."""

    def chosen(sample: Tensor, draw: Tensor) -> Tensor:
        return torch.stack([references[r][i] for i, r in zip(sample.tolist(), draw.tolist())])

    return score.values(len(references), chosen)


@method(
    "gradient",
    needs="score",
    cost="F + baselines * F + baselines * steps * (F + B)",
    claims="signed, complete, zero_at_baseline",
    mission="X12",
    paper="Sundararajan et al. 2017, eq. 1",
    reading="Shares of the score's rise from the baseline to the input; they add up to it. Where the input equals the baseline "
    "there is nothing, whatever it means.",
)
def integrated_gradients(score: Score, x: Tensor, *, baseline: Baseline = 0.0, steps: int = 32) -> Found:
    """(x - b) * integral from 0 to 1 of ds/dx(b + a (x - b)) da, by Gauss-Legendre quadrature with ``steps`` nodes.

    baseline: a number; "mean" or "blur" of the sample itself; one input; or a set of references (R, ...), over which the
    relevance is averaged; for several inputs a tuple of these. The relevance sums to score - base (the mean score of the
    baselines); what is missing is returned as ``gap``.
    """
    references = baselines(baseline, score.inputs, score.first)
    relevance, base, gap = straight(score, x, references, steps)
    return Found(relevance, base=base, gap=gap, counts={"baselines": len(references)})


def straight(score: Score, x: Tensor, references: list[Tensor], steps: int) -> tuple[Tensor, Tensor, Tensor]:
    """Integrated gradients averaged over the references, (B, ...); the mean score of these (B,), and the gap (B,)."""
    nodes, weights = quadrature(steps, x)
    relevance = torch.zeros_like(x)
    for b in references:

        def on_the_way(sample: Tensor, draw: Tensor, b: Tensor = b) -> Tensor:
            return b[sample] + masks.beside(nodes[draw], x) * (x[sample] - b[sample])

        relevance += (x - b) * score.weighted_gradient(steps, on_the_way, weights) / len(references)
    base = base_scores(score, references).mean(1)
    return relevance, base, score.own() - base - relevance.flatten(1).sum(1)


@method(
    "gradient",
    needs="score",
    cost="F + samples * steps * (F + B)",
    claims="signed, sampled",
    mission="X12",
    paper="Smilkov et al. 2017, sec. 3; Sundararajan et al. 2017, eq. 1",
    reading="As integrated gradients, averaged over noisy copies of the input: the same shares with less grain.",
)
def integrated_gradients_smoothgrad(
    score: Score,
    x: Tensor,
    *,
    baseline: Baseline = 0.0,
    steps: int = 16,
    samples: int = 8,
    noise: float = 0.15,
    tolerance: float | None = None,
) -> Found:
    """Mean over noisy inputs x_i = x + e_i of (x_i - b) * integral of ds/dx(b + a (x_i - b)) da.

    baseline (a single one), steps: as for ``integrated_gradients``; samples, noise, tolerance: as for ``smoothgrad``, with the
    same noise. details: ``standard_error`` of each value, ``samples`` drawn. The shares add up to the mean score of the
    noisy inputs less that of the baseline, not to the score itself.
    """
    nodes, weights = quadrature(steps, x)
    checks.positive("noise", noise, zero=True)
    b = single_baseline(baseline, score.inputs, score.first)
    score.own()

    def evaluate(active: Tensor, start: int, stop: int) -> Iterator[tuple[Tensor, Tensor]]:
        for number in range(start, stop):
            drawn = torch.full_like(active, number)
            end = x.clone()
            end[active] = noisy_inputs(score, noise, active, drawn)

            def on_the_way(sample: Tensor, draw: Tensor, end: Tensor = end) -> Tensor:
                return b[sample] + masks.beside(nodes[draw], x) * (end[sample] - b[sample])

            g = score.weighted_gradient(steps, on_the_way, weights, samples=active)
            yield active, ((end - b) * g)[active]

    found = sampled(score, samples, tolerance, evaluate)
    return found.answer(found.mean(), found.error_of_mean())


@method(
    "gradient",
    needs="score",
    cost="F + samples * (F + B)",
    claims="signed, sampled",
    mission="X12",
    paper="Erion et al. 2021, eq. 3",
    reading="Integrated gradients averaged over real samples as baselines: shares of what sets this input apart from them.",
)
def expected_gradients(
    score: Score, x: Tensor, *, references: Any = None, samples: int = 64, tolerance: float | None = None
) -> Found:
    """Mean over draws of (x - r) * ds/dx(r + a (x - r)), r one of the references, a uniform on [0, 1].

    references: (R, ...) samples of the data (for several inputs a tuple), each equally likely; samples: draws;
    tolerance: as for ``smoothgrad``. details: ``standard_error`` of each value, ``samples`` drawn. In expectation the shares
    add up to the score less the mean score of the references.
    """
    if references is None:
        raise InputError("expected_gradients needs references", cure="Give some training samples as references=.")
    score.own()
    known = references_of(references, score.inputs)

    latest: list[Tensor] = []  # the references of the rows that are being differentiated

    def on_the_way(sample: Tensor, draw: Tensor) -> Tensor:
        made = [score.generator(s, d, "expected_gradients") for s, d in zip(sample.tolist(), draw.tolist())]
        r = torch.cat([torch.randint(len(known), (1,), generator=g) for g in made])
        a = torch.cat([torch.rand(1, generator=g, dtype=torch.float64) for g in made])
        latest[:] = [known[r.to(known.device)]]
        return latest[0] + masks.beside(a.to(x), x) * (x[sample] - latest[0])

    def evaluate(active: Tensor, start: int, stop: int) -> Iterator[tuple[Tensor, Tensor]]:
        for sample, _, g in score.gradients(stop - start, on_the_way, samples=active, start=start):
            yield sample, (x[sample] - latest[0]) * g

    found = sampled(score, samples, tolerance, evaluate)
    return found.answer(found.mean(), found.error_of_mean())

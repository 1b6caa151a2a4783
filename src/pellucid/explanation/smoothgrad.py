"""Gradients of noisy copies of the input: their mean, their mean square, their variance, from one set of draws."""

from __future__ import annotations

from collections.abc import Iterator

from torch import Tensor

from pellucid.core import checks

from .method import method
from .result import Found
from .sampling import Moments, sampled
from .score import Score


def noisy_inputs(score: Score, noise: float, sample: Tensor, draw: Tensor) -> Tensor:
    """x + e, e ~ N(0, sigma^2), sigma = noise * (max x - min x) of the sample; the same for every method that asks."""
    sigma = noise * score.inputs.spread()
    return score.x[sample] + sigma[sample] * score.noise(sample, draw, "smoothgrad")


def noisy_gradients(score: Score, samples: int, noise: float, tolerance: float | None) -> Moments:
    """Moments of ds/dx at noisy inputs, made once for all methods that ask with the same options."""
    checks.positive("noise", noise, zero=True)
    score.own()

    def evaluate(active: Tensor, start: int, stop: int) -> Iterator[tuple[Tensor, Tensor]]:
        def alter(sample: Tensor, draw: Tensor) -> Tensor:
            return noisy_inputs(score, noise, sample, draw)

        for sample, _, g in score.gradients(stop - start, alter, samples=active, start=start):
            yield sample, g

    return sampled(score, samples, tolerance, evaluate, shared=("noisy gradients", noise))


@method(
    "gradient",
    needs="score",
    cost="F + samples * (F + B)",
    channels="max",
    claims="sampled",
    mission="X11",
    paper="Smilkov et al. 2017, sec. 3",
    reading="The gradient map without what changes from one noisy copy to the next: strong where the score always reacts.",
)
def smoothgrad(
    score: Score,
    x: Tensor,
    *,
    samples: int = 25,
    noise: float = 0.15,
    absolute: bool = True,
    tolerance: float | None = None,
) -> Found:
    """|mean_i ds/dx(x + e_i)|, e_i ~ N(0, sigma^2), sigma = noise * (max x - min x) of the sample.

    ``raw`` keeps the signed mean, which ``absolute=False`` makes the relevance. The paper advises 10 to 20 % noise and
    about 50 samples. details: ``standard_error`` of the mean for each value, ``samples`` drawn. With ``tolerance=`` a sample
    is done when the standard error is below that share of the mean (root mean squares), ``samples`` at the latest.
    """
    found = noisy_gradients(score, samples, noise, tolerance)
    g = found.mean()
    return found.answer(g.abs() if absolute else g, found.error_of_mean(), raw=g)


@method(
    "gradient",
    needs="score",
    cost="F + samples * (F + B)",
    channels="max",
    claims="sampled",
    mission="X11",
    paper="Hooker et al. 2019, sec. 3",
    reading="As SmoothGrad, but without cancelling signs and with the strong places stressed.",
)
def smoothgrad_squared(
    score: Score, x: Tensor, *, samples: int = 25, noise: float = 0.15, tolerance: float | None = None
) -> Found:
    """mean_i (ds/dx(x + e_i))^2 with the noise of ``smoothgrad``, whose draws it shares.

    samples, noise, tolerance: as there; the tolerance is one of the mean gradient. details: ``standard_error`` of the mean
    square, ``samples`` drawn.
    """
    found = noisy_gradients(score, samples, noise, tolerance)
    return found.answer(found.square(), found.error_of_square())


@method(
    "gradient",
    needs="score",
    cost="F + samples * (F + B)",
    channels="max",
    claims="sampled",
    mission="X11",
    paper="Adebayo et al. 2018, app. A",
    reading="Strong where the gradient differs most between noisy copies: the score bends there. Empty if it is linear.",
)
def vargrad(score: Score, x: Tensor, *, samples: int = 25, noise: float = 0.15, tolerance: float | None = None) -> Found:
    """mean_i (ds/dx(x + e_i) - mean)^2 with the noise of ``smoothgrad``, whose draws it shares.

    Zero on a linear network; sigma^2 * sum_j H_ij^2 in expectation on a quadratic one with Hessian H.
    samples, noise, tolerance: as there; the tolerance is one of the mean gradient. details: ``standard_error`` of the
    variance, ``samples`` drawn.
    """
    found = noisy_gradients(score, samples, noise, tolerance)
    return found.answer(found.variance(), found.error_of_variance())

"""Methods that read the gradient of the score with respect to the input."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from pellucid.core import checks
from pellucid.core.errors import InputError

from .method import method
from .result import Found
from .score import Score


@method("gradient", needs="gradient", cost="F + B", channels="max", mission="X9", paper="Simonyan et al. 2014, sec. 3")
def gradient(score: Score, x: Tensor, *, absolute: bool = True) -> Found:
    """|ds/dx|: how strongly the score reacts to each input value; ``raw`` keeps the sign.

    With ``absolute=False`` the relevance is ds/dx itself. The map is the maximum over channels (Simonyan et al. 2014).
    It says where the score is sensitive, not what it is made of.
    """
    g = score.gradient()
    return Found(g.abs() if absolute else g, raw=g)


@method("gradient", needs="gradient", cost="F + B", claims="signed", mission="X9", paper="Shrikumar et al. 2016, sec. 1")
def gradient_times_input(score: Score, x: Tensor) -> Tensor:
    """x * ds/dx: each value's share of the score under a linear view through zero.

    On a network of linear, ReLU and max-pooling layers without biases the shares sum to the score.
    """
    return x * score.gradient()


@method(
    "gradient",
    needs="score",
    cost="F + samples * (F + B)",
    channels="max",
    claims="sampled",
    mission="X11",
    paper="Smilkov et al. 2017, sec. 3",
)
def smoothgrad(score: Score, x: Tensor, *, samples: int = 25, noise: float = 0.15, absolute: bool = True) -> Found:
    """|mean_i ds/dx(x + e_i)|, e_i ~ N(0, sigma^2), sigma = noise * (max x - min x) of the sample.

    ``raw`` keeps the signed mean, which ``absolute=False`` makes the relevance. The paper advises 10 to 20 % noise and
    about 50 samples.
    """
    checks.count("samples", samples)
    sigma = checks.positive("noise", noise, zero=True) * (x.flatten(1).amax(1) - x.flatten(1).amin(1))
    sigma = sigma.view(-1, *[1] * (x.ndim - 1))

    def noisy(sample: Tensor, draw: Tensor) -> Tensor:
        return x[sample] + sigma[sample] * score.noise(sample, draw, "smoothgrad")

    score.own()
    g = score.weighted_gradient(samples, noisy, torch.full((samples,), 1 / samples, dtype=torch.float64))
    return Found(g.abs() if absolute else g, raw=g)


@method(
    "gradient",
    needs="score",
    cost="2 * F + steps * (F + B)",
    claims="signed, complete, zero_at_baseline",
    mission="X12",
    paper="Sundararajan et al. 2017, eq. 1",
)
def integrated_gradients(score: Score, x: Tensor, *, baseline: float | Tensor = 0.0, steps: int = 32) -> Found:
    """(x - b) * integral from 0 to 1 of ds/dx(b + a (x - b)) da, by Gauss-Legendre quadrature with ``steps`` nodes.

    baseline: a number, or a tensor that broadcasts to the input (one sample, or one baseline per sample is not shared
    between batches: give a single one). The relevance sums to score - base; what is missing is returned as ``gap``.
    """
    checks.count("steps", steps)
    b = as_baseline(baseline, x)
    nodes, weights = (torch.as_tensor(v, dtype=torch.float64, device=x.device) for v in np.polynomial.legendre.leggauss(steps))
    alpha = ((nodes + 1) / 2).to(x.dtype)

    def on_the_way(sample: Tensor, draw: Tensor) -> Tensor:
        a = alpha[draw].view(-1, *[1] * (x.ndim - 1))
        return b[sample] + a * (x[sample] - b[sample])

    own = score.own()
    base = score.values(1, lambda sample, draw: b[sample])[:, 0]
    relevance = (x - b) * score.weighted_gradient(steps, on_the_way, weights / 2)
    return Found(relevance, base=base, gap=own - base - relevance.flatten(1).sum(1))


def as_baseline(baseline: float | Tensor, x: Tensor) -> Tensor:
    """The baseline as one input per sample, (B, ...)."""
    try:
        b = torch.as_tensor(baseline, dtype=x.dtype, device=x.device).expand_as(x)
    except RuntimeError as error:
        shape = tuple(torch.as_tensor(baseline).shape)
        raise InputError(
            f"a baseline of shape {shape} for an input of shape {tuple(x.shape)}",
            cure=f"Give a number or a tensor of shape {tuple(x.shape[1:])}.",
        ) from error
    return checks.finite("the baseline", b)

"""Extremal perturbations: the smooth mask of a given area that leaves the highest score (Fong et al., ICCV 2019)."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from pellucid.core import checks
from pellucid.core.errors import InputError, UnsupportedError

from . import masks
from .baselines import Baseline, blurred, single_baseline
from .integrated_gradients import base_scores
from .method import method
from .result import Found
from .score import Score

# A default sigma makes the mask of one node cover this share of the places by a half or more.
SMALLEST = 0.022
BALL = {1: 2.0, 2: math.pi, 3: 4 * math.pi / 3}
# The mask chooses between this many strengths of blur, of which the greatest is this share of each axis.
LEVELS, BLUR = 8, 0.09
SHRINKING = 0.7  # of the steps: the area goes down to the one that is asked for
MOMENTUM, SQUARES, LENGTH = 0.9, 0.99, 0.1  # of Adam
TIED = 1e-6
MISSED = 0.03
LEAD = 0.1  # of the score's slope, when the places for the template are ranked


@method(
    "perturbation",
    needs="score",
    cost="2 * F + areas * steps * (F + B) + areas * F",
    mission="X5",
    paper="Fong et al. 2019, eq. 4-6",
    reading="Strong where even the smallest masks keep the image: the few places that together leave the highest score.",
)
def extremal_perturbation(
    score: Score,
    x: Tensor,
    *,
    areas: Sequence[float] = (0.025, 0.05, 0.1, 0.2),
    steps: int = 100,
    sigma: float | None = None,
    step: float | None = None,
    penalty: float = 3.0,
    growth: float = 100.0,
    baseline: Baseline = "blur",
) -> Found:
    """Sum over areas a of the mask m that maximises s(m x) / rise - penalty * mean((m - r_a)^2).

    r_a is 1 at the share a of the places where m is largest, else 0 (ties share what is left), and rise = |s(x) - s(b)|, so
    that the penalty means the same for logits and probabilities; it grows to ``growth`` times itself, 300 as in the paper. m x
    is the sample behind a blur that falls in eight levels from 0.09 of each axis, where m is 0, to none, where m is 1; with
    another baseline (a single one, as for ``integrated_gradients``) it is b + m (x - b).

    m is the maximum of bumps that stand on nodes ``step`` positions apart and are as wide as ``sigma`` positions
    (``SmoothMasks``; by default a bump covers 2 % of the places, and a step is a third of sigma). All masks of all samples are
    optimised at once by Adam, from m = 1: in 0.7 of the ``steps`` r_a goes down geometrically to the area asked for, so that
    what matters least is given up first; after that the steps get shorter. (The paper starts with the final area, takes 800
    steps of gradient descent, and smooths the maximum; with its slope, raising one bump can lower the mask beside it.)

    ``raw`` (B, areas, *spatial): the masks. details: ``areas`` (B, areas), the mean of each mask, and ``scores`` (B, areas),
    the score behind it; a note says where an area is missed by more than 0.03. Raises UnsupportedError for inputs without
    spatial axes, InputError for bad options.
    """
    if x.ndim == 2:
        raise UnsupportedError(
            f"masks are smooth over space, the input has shape {tuple(x.shape)}", cure="Use occlusion or rise for a table."
        )
    checks.count("steps", steps)
    wanted = _areas(areas, x)
    checks.positive("penalty", penalty, zero=True)
    checks.positive("growth", growth)
    shape = SmoothMasks(masks.spatial(x), x, sigma=sigma, step=step)
    levels = Levels(x, baseline, score)
    rise = (score.own() - base_scores(score, [levels.stack[0]])[:, 0]).abs()
    rise = torch.where(rise > 0, rise, 1)
    nodes = Adam(torch.ones(len(x), len(wanted), *shape.nodes, dtype=x.dtype, device=x.device))
    trend = torch.zeros_like(nodes.value)
    for t in range(steps):
        p = nodes.value.requires_grad_()
        m = shape.made(p.flatten(0, 1)).view(*p.shape[:2], *shape.size)
        now = wanted ** min(1.0, (t + 1) / (SHRINKING * steps))
        held = m.detach()
        gain = levels.gradient(score, held) / masks.beside(rise, held)
        (rising,) = torch.autograd.grad(m, p, gain, retain_graph=True)
        trend = torch.lerp(rising, trend, MOMENTUM)
        largest = trend.flatten(2).abs().amax(2)
        ahead = trend / masks.beside(torch.where(largest > 0, largest, 1), trend)
        wish = held + LEAD * masks.resize(ahead.flatten(0, 1), shape.size).view_as(held)
        push = 2 * penalty * growth ** (t / steps) / held[0, 0].numel() * (held - template(wish, now))
        (falling,) = torch.autograd.grad(m, p, push)
        nodes.descend((falling - rising) * p[0, 0].numel(), LENGTH * min(1.0, (1 - t / steps) / (1 - SHRINKING)))
    m = shape.made(nodes.value.flatten(0, 1)).view(*nodes.value.shape[:2], *shape.size)
    reached = m.flatten(2).mean(2)
    if bool(((reached - wanted).abs() > MISSED).any()):
        score.notes.append(f"extremal_perturbation: a mask misses its area by more than {MISSED}; see details['areas']")
    scores = score.values(len(wanted), lambda sample, draw: levels.mixed(sample, m[sample, draw])[0])
    details = {"areas": reached, "scores": scores}
    return Found(masks.spread(m.sum(1), x), raw=m, counts={"areas": len(wanted)}, details=details)


def _areas(areas: Sequence[float], x: Tensor) -> Tensor:
    given = areas if isinstance(areas, Sequence) and not isinstance(areas, str) else [areas]
    if not given:
        raise InputError("no areas", cure="Give shares of the input, such as (0.05, 0.2).")
    return torch.tensor([checks.fraction("areas", a, ends=False) for a in given], dtype=x.dtype, device=x.device)


def template(m: Tensor, areas: Tensor) -> Tensor:
    """(B, A, *spatial) 1 at the share ``areas`` (A,) of the places where m is largest, else 0.

    Places that are tied for the last of them share what is left equally: no place is preferred for where it stands.
    """
    flat, number = m.flatten(2), m[0, 0].numel()
    wanted = areas * number
    ranks = [max(1, number - int(k)) for k in wanted.tolist()]
    limit = torch.stack([flat[:, a].kthvalue(rank, 1).values for a, rank in enumerate(ranks)], 1)[:, :, None]
    above, tied = flat > limit + TIED, (flat - limit).abs() <= TIED
    left = (wanted[:, None] - above.sum(2, keepdim=True)) / tied.sum(2, keepdim=True)
    return (above + tied * left.clamp(0, 1)).view_as(m)


class SmoothMasks:
    """Masks m(u) = max over nodes v of k(u - v) p(v), p in [0, 1], at the nodes and linear between them.

    k(d) = exp(-max(0, 3 d / sigma - 1)^2 / 4) at distance d: flat up to a third of sigma, 1 / e at sigma, cut at 2 sigma.
    """

    def __init__(self, size: tuple[int, ...], like: Tensor, *, sigma: float | None = None, step: float | None = None) -> None:
        half = (1 + 2 * math.sqrt(math.log(2))) / 3  # at this share of sigma a bump is a half
        self.size = size
        self.sigma = (math.prod(size) * SMALLEST / BALL[len(size)]) ** (1 / len(size)) / half
        if sigma is not None:
            self.sigma = checks.positive("sigma", sigma)
        apart = self.sigma / 3 if step is None else checks.positive("step", step)
        self.nodes = tuple(min(s, max(1, round(s / apart))) for s in size)
        between = [s / n for s, n in zip(size, self.nodes)]
        self.reach = [min(n - 1, math.floor(2 * self.sigma / d)) for n, d in zip(self.nodes, between)]
        offsets = [torch.arange(-r, r + 1, dtype=torch.float64) * d for r, d in zip(self.reach, between)]
        distance = torch.stack(torch.meshgrid(*offsets, indexing="ij")).pow(2).sum(0).sqrt()
        self.kernel = torch.exp(-((3 * distance / self.sigma - 1).clamp(min=0) ** 2) / 4).to(like)

    def made(self, p: Tensor) -> Tensor:
        """(N, *nodes) -> (N, *size)."""
        widths = [r for reach in reversed(self.reach) for r in (reach, reach)]
        around = F.pad(p[:, None], widths, mode="replicate")[:, 0]  # so that equal nodes make equal masks, also at the edge
        for axis, reach in enumerate(self.reach):
            around = around.unfold(axis + 1, 2 * reach + 1, 1)
        f = (around * self.kernel).flatten(1 + len(self.size))
        return masks.resize(f.amax(-1), self.size)


class Levels:
    """The samples from the baseline to themselves in equal steps of the mask, linear between two levels.

    stack: (L + 1, B, C, *spatial), the baseline first, the samples last.
    """

    def __init__(self, x: Tensor, baseline: Baseline, score: Score) -> None:
        if isinstance(baseline, str) and baseline == "blur":
            before = [blurred(x, BLUR * (1 - level / LEVELS)) for level in range(LEVELS)]
        else:
            before = [single_baseline(baseline, score.inputs, score.first)]
        self.stack = torch.stack([*before, x])

    def mixed(self, sample: Tensor, m: Tensor) -> tuple[Tensor, Tensor]:
        """(N, C, *spatial) the samples behind masks (N, *spatial), and the derivative of each value by its mask."""
        levels, _, channels = self.stack.shape[:3]
        places = m[0].numel()
        at = m.flatten(1)[:, None] * (levels - 1)
        low = at.floor().clamp(0, levels - 2)
        level = self.stack[0].numel()
        within = torch.arange(channels * places, device=m.device).view(channels, places)
        index = low.long() * level + masks.beside(sample * channels * places, at) + within
        under, over = self.stack.take(index), self.stack.take(index + level)
        shape = (len(m), channels, *m.shape[1:])
        return torch.lerp(under, over, at - low).view(shape), ((over - under) * (levels - 1)).view(shape)

    def gradient(self, score: Score, m: Tensor) -> Tensor:
        """(B, A, *spatial) the derivative of the score behind each mask (B, A, *spatial) by the mask: A (F + B) a sample."""
        found = torch.zeros_like(m)
        latest: list[Tensor] = []  # the derivatives for the rows that are being differentiated

        def behind(sample: Tensor, draw: Tensor) -> Tensor:
            mixed, slope = self.mixed(sample, m[sample, draw])
            latest[:] = [slope]
            return mixed

        for sample, draw, g in score.gradients(m.shape[1], behind):
            found[sample, draw] = (g * latest[0]).sum(1)
        return found


class Adam:
    """Values in [0, 1] that go down a gradient by steps of about 0.1 (Kingma & Ba 2015), each by itself."""

    def __init__(self, start: Tensor) -> None:
        self.value, self.steps = start, 0
        self.mean, self.square = torch.zeros_like(start), torch.zeros_like(start)

    def descend(self, g: Tensor, length: float = LENGTH) -> None:
        """One step of about this length; the values are then a new tensor without a graph."""
        self.steps += 1
        self.mean = torch.lerp(g, self.mean, MOMENTUM)
        self.square = torch.lerp(g * g, self.square, SQUARES)
        size = (self.square / (1 - SQUARES**self.steps)).sqrt() + 1e-8
        self.value = (self.value.detach() - length * self.mean / (1 - MOMENTUM**self.steps) / size).clamp(0, 1)

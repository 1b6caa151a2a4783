"""LIME: a linear model that answers like the network in the neighbourhood of one sample."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from pellucid.core import checks
from pellucid.core.errors import InputError

from .baselines import references_of
from .features import coded
from .game import COST, Answer, answered, game_of
from .method import method
from .result import Found
from .score import Score
from .shapley import every_coalition

# Below this share of variance explained, or this likeness of repeated fits, the answer says that it is not to be trusted.
POOR_FIT, UNSTABLE = 0.5, 0.8
# Numbers of the neighbours of several samples that are held at once.
MOST_NUMBERS = 1 << 22
# Kernel widths (Ribeiro et al. 2016 and their package): of cosine distance; of Euclidean distance, for each feature's root.
COSINE_WIDTH, EUCLIDEAN_WIDTH = 0.25, 0.75


@method(
    "additive",
    needs="score",
    cost=COST,
    claims="signed, sampled",
    mission="X2",
    paper="Ribeiro et al. 2016, eq. 1 and 2, alg. 1",
    reading="The slope of a linear model fitted around the sample: orange raises the score, blue lowers it; see R² too.",
)
def lime(
    score: Score,
    x: Tensor,
    *,
    features: Any = "auto",
    baseline: Any = None,
    samples: int = 1000,
    distance: str = "auto",
    width: float | None = None,
    penalty: float = 1e-3,
    top: int | None = None,
    references: Any = None,
    discretise: bool = True,
    repeats: int = 10,
    classes: int = 0,
) -> Found:
    """argmin over g linear of sum of pi(z) (f(z) - g(z'))^2 + penalty; pi(z) = exp(-d(x, z)^2 / (2 width^2)).

    Images, text and sequences: z' says which ``features`` (``features_of``) stay, the others are replaced by ``baseline``
    (``removal_of``; by default each segment's mean, of anything else 0). Each stays with probability 1/2; of whole numbers
    (text) the count of removed ones is uniform, as the package does. 2^M <= samples: all coalitions, and no chance.
    Tables with ``references`` (training rows): the sample itself, and rows z that have in every column a value of a row drawn
    by itself, which serve all samples of a call; z' says whether it lies in the sample's quartile bin (of categories: is the
    same). ``discretise=False``: z = x + deviation * normal noise and z' is (z - mean) / deviation.

    distance: "cosine" (with width 0.25) or "euclidean" (0.75 sqrt(M)); auto: cosine where features are hidden, else
    euclidean. penalty: of a ridge regression, relative to the mean weighted square of a column, so that neither the scale of
    the score nor the number of samples matters; 0 is least squares. top: keep so many features with the greatest effects, and
    fit again. repeats: fits that each leave out a part of the neighbours, at no further pass. classes: as in ``shapley``.

    ``details``: "r2" (B,), the weighted share of variance explained; "stability" (B,), the likeness to be expected of
    another draw's slopes, 1 - sum of squared errors / sum of squares; "standard_error" of each effect over the
    repeated fits. A poor, unstable or all-zero fit is noted. With ``discretise=False`` the relevance is
    slope * (x - mean) / deviation, and ``raw`` the slope.
    """
    checks.count("samples", samples, least=2)
    checks.positive("penalty", penalty, zero=True)
    checks.count("repeats", repeats, least=2)
    if width is not None:
        checks.positive("width", width)
    fit = Fit(penalty, top, repeats, width, distance)
    if references is None and not discretise:
        raise InputError("discretise=False without references", cure="Give references=, some training rows.")
    if references is not None and (features != "auto" or baseline is not None or classes):
        raise InputError(
            "references beside features, baseline or classes",
            cure="With references a column is a feature and takes training values; leave the others out.",
        )
    if references is not None:
        return _tabular(score, x, references, samples, discretise, fit)
    if baseline is None:
        if bool(coded(score).any()):
            raise InputError(
                "columns of categories and nothing to put in their place", cure="Give references= or baseline= rows."
            )
        baseline = "segment_mean" if x.ndim > 3 else 0.0
    game = game_of(score, features, baseline, classes)
    answers = []
    quality = Quality.of(len(x), game.own)
    for group in game.groups:
        stay, complete = _neighbours(score, group.count, samples, whole=not x.is_floating_point())
        values = game.values(group, stay).double()
        here = stay.to(values)
        near = fit.nearness(here, torch.ones_like(here[:1]), "cosine", group.count)
        found = fit.linear(here[None], values, near, complete=complete)
        answers.append(Answer(found.slopes, found.errors))
        quality.note(group.samples, found)
    return answered(game, answers, details=quality.details(), notes=quality.said(score.first, game.removal.name))


def _neighbours(score: Score, players: int, samples: int, *, whole: bool) -> tuple[Tensor, bool]:
    """(N, M) coalitions around the sample, which is the first; all of them, and True, where they are few enough."""
    if players <= 20 and 2**players <= samples:
        return every_coalition(players).flip(0), True
    generator = score.generator_of("neighbours", players)
    if whole:
        ranks = torch.rand(samples, players, generator=generator, dtype=torch.float64).argsort(1).argsort(1)
        gone = torch.randint(1, players + 1, (samples, 1), generator=generator)
        stay = ranks >= gone
    else:
        stay = torch.rand(samples, players, generator=generator, dtype=torch.float64) < 0.5
    stay[0] = True
    return stay, False


@dataclass(frozen=True)
class Linear:
    """slopes and their errors (G, M, k); weighted R² and stability (G,) of the first of the k numbers."""

    slopes: Tensor
    errors: Tensor
    r2: Tensor
    stability: Tensor


@dataclass(frozen=True)
class Fit:
    """A weighted ridge regression with an intercept, and the same without each of some parts of the rows."""

    penalty: float
    top: int | None
    repeats: int
    width: float | None
    distance: str

    def nearness(self, z: Tensor, centre: Tensor, usual: str, features: int) -> Tensor:
        """(G, N) pi of rows z (N, M) for centres (G, M)."""
        kind = usual if self.distance == "auto" else checks.one_of("distance", self.distance, ("cosine", "euclidean"))
        if kind == "cosine":
            norms = z.norm(dim=1) * centre.norm(dim=1, keepdim=True)
            apart = 1 - (centre @ z.T) / norms.clamp(min=1e-12)
            return torch.exp(-(apart**2) / (2 * (self.width or COSINE_WIDTH) ** 2))
        apart = torch.cdist(centre, z)
        return torch.exp(-(apart**2) / (2 * (self.width or EUCLIDEAN_WIDTH * math.sqrt(max(features, 1))) ** 2))

    def linear(self, z: Tensor, y: Tensor, near: Tensor, *, complete: bool = False) -> Linear:
        """The fit to y (G, N, k) on z (G or 1, N, M), weights near (G or 1, N), and how far it can be relied upon.

        What all samples share is factorised once. ``complete``: the rows are all there are, so that nothing varies.
        """
        many, rows, k = y.shape
        m = z.shape[2]
        if self.top is not None and self.top < m:
            checks.count("top", self.top)
            kept = self._solved(z, y, near, complete)[0][..., 0].abs().argsort(1, descending=True)[:, : self.top]
            less = z.expand(many, -1, -1).gather(2, kept[:, None].expand(-1, rows, -1))
            slopes, errors, left = self._solved(less, y, near, complete)
            where = kept[..., None].expand(-1, -1, k)
            slopes, errors = (torch.zeros(many, m, k).to(y).scatter_(1, where, t) for t in (slopes, errors))
        else:
            slopes, errors, left = self._solved(z, y, near, complete)
        share = (near / near.sum(1, keepdim=True))[..., None]
        spread = (share * (y - (share * y).sum(1, keepdim=True)) ** 2).sum(1)
        flat = spread <= 1e-24 * y.abs().amax(1).clamp(min=1e-150) ** 2
        r2 = torch.where(flat, 0, 1 - left / torch.where(flat, 1, spread))
        slopes, errors = (torch.where(flat[:, None], 0, t) for t in (slopes, errors))
        size, noise = slopes[..., 0].pow(2).sum(1), errors[..., 0].pow(2).sum(1)
        stability = torch.where(size > 0, 1 - noise / torch.where(size > 0, size, 1), 1).clamp(min=0)
        return Linear(slopes, errors, r2[:, 0], stability)

    def _solved(self, z: Tensor, y: Tensor, near: Tensor, complete: bool) -> tuple[Tensor, Tensor, Tensor]:
        """Slopes (G, M, k), their standard errors, and the weighted mean square (G, k) that is left.

        The errors are those of the delete-a-group jackknife: rows i, i + repeats, ... are left out together.
        """
        many, rows, k = y.shape
        shared = len(z) == len(near) == 1
        if shared and many > 1:
            y = y.permute(1, 0, 2).reshape(1, rows, -1)
        parts = 1 if complete else min(self.repeats, rows)
        share = (near / near.sum(1, keepdim=True))[..., None]
        wide = torch.cat([z.new_ones(*z.shape[:2], 1), z], 2)
        squares, aims = [], []
        for part in range(parts):  # each part's share of the normal equations; their sum is the whole fit's
            some, weight = wide[:, part::parts], share[:, part::parts]
            squares.append((some * weight).transpose(1, 2) @ some)
            aims.append((some * weight).transpose(1, 2) @ y[:, part::parts])
        square, aim = sum(squares), sum(aims)
        assert isinstance(square, Tensor)
        assert isinstance(aim, Tensor)
        all_of_them = self._ridge(square, aim)
        errors = torch.zeros_like(all_of_them)
        if parts > 1:
            without = torch.stack([self._ridge(square - s, aim - a) for s, a in zip(squares, aims)])
            errors = ((without - without.mean(0)).pow(2).sum(0) * (parts - 1) / parts).sqrt()
        left = (share * (y - wide @ all_of_them) ** 2).sum(1)
        found = (all_of_them[:, 1:], errors[:, 1:], left)
        if not (shared and many > 1):
            return found
        slopes, errors, left = (t.view(*t.shape[:-1], many, k).movedim(-2, 0)[:, 0] for t in found)
        return slopes, errors, left

    def _ridge(self, square: Tensor, aim: Tensor) -> Tensor:
        """Intercept and slopes (G, 1 + M, k) of the normal equations; the intercept is not penalised."""
        empty = square[:, 0, 0] <= 0
        total = torch.where(empty, 1, square[:, 0, 0])[:, None, None]
        spread = square.diagonal(dim1=1, dim2=2)[:, 1:] / total[:, 0] - (square[:, 0, 1:] / total[:, 0]) ** 2
        size = spread.mean(1) if spread.shape[1] else spread.new_ones(len(spread))
        # what never changes has no slope: any ridge gives it 0, and the least one keeps the system solvable
        ridge = torch.where(size > 1e-14, max(self.penalty, 1e-13) * size, 1) * total[:, 0, 0]
        diagonal = ridge[:, None].repeat(1, square.shape[1])
        diagonal[:, 0] = empty.to(diagonal)
        solved: Tensor = torch.linalg.solve(square + torch.diag_embed(diagonal), aim)
        return solved


@dataclass
class Quality:
    """What is said of the fits of a batch: r2, stability and whether every effect is zero, (B,) each."""

    r2: Tensor
    stability: Tensor
    blank: Tensor

    @classmethod
    def of(cls, samples: int, like: Tensor) -> Quality:
        """Nothing known yet."""
        return cls(like.new_zeros(samples), like.new_zeros(samples), torch.zeros(samples, dtype=torch.bool, device=like.device))

    def note(self, samples: Tensor, found: Linear) -> None:
        """The fits of these samples."""
        self.r2[samples], self.stability[samples] = found.r2.to(self.r2), found.stability.to(self.r2)
        self.blank[samples] = found.slopes[..., 0].abs().sum(1) == 0

    def details(self) -> dict[str, Tensor]:
        """As the result has it."""
        return {"r2": self.r2, "stability": self.stability}

    def said(self, first: int, removal: str) -> list[str]:
        """A sentence for each kind of fit that cannot be relied upon, with its samples."""
        poor = ~self.blank & (self.r2 < POOR_FIT)
        unstable = ~self.blank & ~poor & (self.stability < UNSTABLE)
        notes = []
        if bool(self.blank.any()):
            notes.append(
                f"{_named(self.blank, first)}: every effect is zero; with {removal} in their place no feature changes the score"
            )
        if bool(poor.any()):
            worst = 100 * max(0.0, float(self.r2[poor].min()))
            notes.append(f"{_named(poor, first)}: a linear model explains as little as {worst:.0f} % of the variance (R²)")
        if bool(unstable.any()):
            worst = float(self.stability[unstable].min())
            notes.append(f"{_named(unstable, first)}: unstable, other draws would agree to {worst:.2f}; give more samples")
        return notes


def _named(which: Tensor, first: int) -> str:
    found = [first + i for i in which.nonzero()[:, 0].tolist()]
    more = f" and {len(found) - 5} more" if len(found) > 5 else ""
    return f"sample{'s' if len(found) > 1 else ''} {', '.join(map(str, found[:5]))}{more}"


def _tabular(score: Score, x: Tensor, references: Any, samples: int, discretise: bool, fit: Fit) -> Found:
    """LIME for tables: the neighbours come from the columns of the training data and serve all samples."""
    if x.ndim != 2 or not x.is_floating_point():
        raise InputError(f"references for samples of shape {tuple(x.shape)}", cure="Only tables (B, D) take LIME's references.")
    rows = references_of(references, score.inputs)
    d = x.shape[1]
    generator = score.generator_of("neighbours", d)
    codes = coded(score)
    mean = rows.nanmean(0)
    deviation = (rows - mean).square().nanmean(0).sqrt()
    deviation = torch.where(deviation > 0, deviation, torch.ones_like(deviation))
    if not discretise and (bool(codes.any()) or bool(x.isnan().any())):
        raise InputError("noise on categories or missing values", cure="Keep discretise=True for such a table.")
    if discretise:
        picked = torch.randint(len(rows), (samples, d), generator=generator).to(x.device)
        z = rows.gather(0, picked)
        values = torch.cat([score.own().double()[:, None, None], _answers(score, z)], 1)  # the sample itself is the first
        quarters = torch.tensor([0.25, 0.5, 0.75], dtype=torch.float64, device=x.device)
        edges = torch.nanquantile(rows.double(), quarters, dim=0)
        of_z, of_x = (_bins(values, edges, codes) for values in (z, x))
    else:
        noise = torch.randn(samples, d, generator=generator, dtype=torch.float64).to(x.device)
        noise[0] = 0
        values = score.values(samples, lambda sample, draw: x[sample] + (noise[draw] * deviation).to(x))[..., None].double()
        near = fit.nearness(noise, torch.zeros_like(noise[:1]), "euclidean", d)
    slopes, errors, quality = torch.zeros_like(x), torch.zeros_like(x), Quality.of(len(x), x)
    for some in torch.split(score.everyone(), max(1, MOST_NUMBERS // (samples * (d + 1)))):
        if discretise:
            here = torch.cat([torch.ones_like(of_x[some, None]), (of_z[None] == of_x[some, None]).to(x)], 1).double()
            near = torch.cat([fit.nearness(h, torch.ones_like(h[:1]), "euclidean", d) for h in here])
        else:
            here = noise[None]
        found = fit.linear(here, values[some], near)
        slopes[some], errors[some] = found.slopes[..., 0].to(x), found.errors[..., 0].to(x)
        quality.note(some, found)
    relevance = slopes if discretise else slopes * (x - mean) / deviation
    said = "values of training rows, each column by itself" if discretise else "the sample with noise"
    counts = {"coalitions": samples / len(x) if discretise else float(samples), "background": 1.0}
    details = quality.details() | {"standard_error": errors}
    return Found(relevance, slopes, counts=counts, details=details, notes=quality.said(score.first, said), removal=said)


def _bins(values: Tensor, edges: Tensor, codes: Tensor) -> Tensor:
    """(N, D) the quartile of each value, one on an edge in the lower; of categories the value; a missing one is by itself."""
    quartile = (values[:, None].double() > edges).sum(1).to(values)
    return torch.where(values.isnan(), -1, torch.where(codes, values, quartile))


def _answers(score: Score, z: Tensor) -> Tensor:
    """(B, N, 1) the score of rows z for each sample's own target: each row is run once for all samples of this batch."""
    target = score.target
    where = torch.zeros(len(score), len(z), dtype=torch.bool, device=z.device)
    where[0] = True
    classes = None if target is None else torch.unique(target)
    asked = None if classes is None else classes.expand(len(score), -1)
    found = score.values(len(z), lambda sample, draw: z[draw], where=where, classes=asked)[0].double()
    if classes is None or target is None:
        return found[None, :, None].expand(len(score), -1, -1)
    return found[:, torch.searchsorted(classes, target.contiguous())].T[..., None]

"""Randomised input sampling: the input behind many random masks, and which places the score wants to see."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from pellucid.core import checks, seeds
from pellucid.core.errors import UnsupportedError

from . import masks as maps
from .baselines import Baseline, single_baseline
from .method import method
from .result import Found
from .sampling import FIRST_ROUND
from .score import Score

# Masks that share a generator: mask i depends on the seed and i, however many are made at once.
BLOCK = 64


@method(
    "perturbation",
    needs="score",
    cost="F + masks * F",
    claims="signed, sampled",
    mission="X6",
    paper="Petsiuk et al. 2018, eq. 6",
    reading="Orange where the score is higher when the place is kept than it is over all masks, blue where it is lower; "
    "as coarse as the masks' cells.",
)
def rise(
    score: Score,
    x: Tensor,
    *,
    masks: int = 2000,
    cells: int = 7,
    keep: float = 0.5,
    baseline: Baseline = 0.0,
    tolerance: float | None = None,
) -> Found:
    """sum_i s_i M_i / sum_i M_i - mean_i s_i, s_i = s(b + M_i (x - b)): what keeping a place adds to the score.

    M_i: a grid of ``cells`` per axis (at most the axis), each kept with probability ``keep``, enlarged linearly to one cell
    more than the input and cut out at a random place; of a table each column by itself. All samples see the same ``masks``,
    which depend on the seed only. The sum is divided by each place's own coverage, so that a constant model has a map that is
    exactly flat. ``raw`` is the first term alone, the map of the paper; less the mean score a place that does not matter
    is zero, and what is below speaks against the target.

    baseline: a single one, as for ``integrated_gradients``. tolerance: a sample is done once its standard error is below this
    share of its relevance (each as root mean square over the places), looked at after 8, 16, 32 ... masks. details:
    ``standard_error`` of each place (infinite for one that was never kept, whose relevance is 0), ``samples`` drawn.
    counts: masks, mean over the samples. Raises InputError for bad options.
    """
    checks.count("masks", masks)
    checks.count("cells", cells)
    checks.fraction("keep", keep, ends=False)
    if tolerance is not None:
        checks.positive("tolerance", tolerance)
    if not x.is_floating_point():
        raise UnsupportedError(f"masks weigh real numbers, the input is {x.dtype}", cure="Explain the embedded input.")
    b = single_baseline(baseline, score.inputs, score.first)
    sums, active = _Sums(score.own(), maps.spatial(x)), score.everyone()
    done, stop = 0, masks if tolerance is None else min(masks, FIRST_ROUND)
    while len(active) and done < masks:
        upto = min(stop, done + max(BLOCK, score.rows // len(active)))
        drawn = random_masks(score.seed, done, upto, x, cells=cells, keep=keep)
        beside = drawn if x.ndim == 2 else drawn[:, None]

        def behind(sample: Tensor, draw: Tensor, beside: Tensor = beside) -> Tensor:
            mask = beside[draw]
            mixed = torch.lerp(b[sample], x[sample], mask)
            # a missing value that is wholly hidden must not show through
            return torch.where(mask == 0, b[sample], mixed) if score.inputs.missing else mixed

        where = torch.zeros(len(x), len(drawn), dtype=torch.bool, device=x.device)
        where[active] = True
        sums.add(active, score.values(len(drawn), behind, where=where)[active], drawn.flatten(1))
        done = upto
        if done == stop and tolerance is not None:
            active = active[sums.relative_error()[active] > tolerance]
            stop = min(masks, 2 * stop)
    details = {"standard_error": sums.error(), "samples": sums.n.long()}
    counts = {"masks": float(sums.n.mean())}
    return Found(maps.spread(sums.relevance(), x), raw=sums.raw(), counts=counts, details=details)


def random_masks(seed: int, start: int, stop: int, x: Tensor, *, cells: int = 7, keep: float = 0.5) -> Tensor:
    """(stop - start, *spatial) masks in [0, 1], number ``start`` to ``stop``, for inputs like x (B, C, *spatial) or (B, D).

    Mask i depends on the seed and i only. Enlarging is a product with one matrix per axis, cutting out a choice of its rows.
    """
    size, made = maps.spatial(x), []
    coarse = size if x.ndim == 2 else tuple(min(cells, s) for s in size)
    for block in range(start // BLOCK, -(-stop // BLOCK)):
        part = slice(max(0, start - block * BLOCK), stop - block * BLOCK)
        generator = seeds.generator(seed, "rise", block)
        drawn = torch.rand(BLOCK, *coarse, generator=generator, dtype=torch.float64)[part] < keep
        drawn = drawn.to(x.device, x.dtype)
        for axis, (s, c) in enumerate(zip(size, coarse)):
            if x.ndim == 2:
                break
            shift = torch.randint(math.ceil(s / c), (BLOCK,), generator=generator)[part]
            rows = drawn.movedim(axis + 1, -1)  # (n, ..., c)
            wide = torch.bmm(rows.reshape(len(rows), -1, c), _windows(s, c, x)[shift.to(x.device)])
            drawn = wide.view(*rows.shape[:-1], s).movedim(-1, axis + 1)
        made.append(drawn)
    return torch.cat(made)


def _windows(size: int, cells: int, like: Tensor) -> Tensor:
    """(shifts, cells, size): what each cell gives to each place of an axis, for every place where it may be cut out."""
    whole = (cells + 1) * math.ceil(size / cells)
    each = torch.eye(cells, dtype=like.dtype, device=like.device)[None]
    return F.interpolate(each, size=whole, mode="linear", align_corners=False)[0].T.unfold(0, size, 1)


class _Sums:
    """Sums over the masks of M^j d^k, j and k from 0 to 2, where d is a score less that of the sample as it is.

    Those with j = 0 are (B,), the others (B, P) over the places; a sample that is done has fewer masks than the others.
    """

    def __init__(self, own: Tensor, size: tuple[int, ...]) -> None:
        self.own, self.size = own, size
        exact = torch.float32 if own.device.type == "mps" else torch.float64
        self.scores = torch.zeros(3, len(own), dtype=exact, device=own.device)
        self.places = torch.zeros(2, 3, len(own), math.prod(size), dtype=exact, device=own.device)

    def add(self, active: Tensor, values: Tensor, masks: Tensor) -> None:
        """Scores (A, n) of the active samples behind n masks (n, P)."""
        d = values - self.own[active, None]
        powers = torch.stack([torch.ones_like(d), d, d * d])  # (3, A, n)
        self.scores[:, active] += powers.sum(2).to(self.scores)
        for total, m in zip(self.places, (masks, masks * masks)):
            total[:, active] += (powers.to(m).flatten(0, 1) @ m).view(3, len(active), -1).to(total)

    @property
    def n(self) -> Tensor:
        """(B,) masks."""
        return self.scores[0]

    def _kept(self) -> tuple[Tensor, Tensor]:
        """(B, P) mean of d weighted with the masks, the mean of all where a place was never kept; (B, 1) mean of d."""
        mean = (self.scores[1] / self.n)[:, None]
        m, md = self.places[0, 0], self.places[0, 1]
        return torch.where(m > 0, md / torch.where(m > 0, m, 1), mean), mean

    def raw(self) -> Tensor:
        """(B, *spatial) the score given that a place is kept."""
        return self._mapped(self._kept()[0] + self.own[:, None])

    def relevance(self) -> Tensor:
        """(B, *spatial) the same less the mean score."""
        kept, mean = self._kept()
        return self._mapped(kept - mean)

    def error(self) -> Tensor:
        """(B, *spatial) standard error of the relevance.

        To first order it is the mean of e_i = M_i (d_i - S) / mean(M) - (d_i - mean(d)), S = sum(M d) / sum(M).
        """
        return self._mapped(self._error())

    def _error(self) -> Tensor:
        (m, md, mdd), (mm, mmd, mmdd) = self.places
        n, (kept, mean) = self.n[:, None], self._kept()
        share = torch.where(m > 0, m / n, 1)
        spread = (self.scores[2] - self.scores[1] ** 2 / self.n)[:, None]
        square = mmdd - 2 * kept * mmd + kept**2 * mm
        both = mdd - (kept + mean) * md + kept * mean * m
        variance = (square / share**2 - 2 * both / share + spread).clamp(min=0) / (n * (n - 1))
        return torch.where((m > 0) & (n > 1), variance.sqrt(), torch.inf)

    def relative_error(self) -> Tensor:
        """(B,) standard error over relevance, each as root mean square over the places."""
        kept, mean = self._kept()
        error, size = (t.pow(2).mean(1).sqrt() for t in (self._error(), kept - mean))
        return torch.where(error > 0, error / size, error)

    def _mapped(self, values: Tensor) -> Tensor:
        return values.to(self.own).view(-1, *self.size)

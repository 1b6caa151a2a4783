"""Means over random draws with their standard errors, stopped per sample when these are small enough."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from pellucid.core import checks

from . import masks
from .result import Found
from .score import Score

# Draws before the first look at the standard error; the number doubles between looks.
FIRST_ROUND = 8
FEW_RUNS = 8
Evaluate = Callable[[Tensor, int, int], Iterator[tuple[Tensor, Tensor]]]


@dataclass
class Moments:
    """Sums over the draws of d, d^2, d^3, d^4, where d is a draw less the first one: equal draws have no variance at all.

    first: (B, ...) the first draw of each sample. sums: four tensors (B, ...). n: (B,) draws.
    """

    first: Tensor
    sums: list[Tensor]
    n: Tensor

    def add(self, sample: Tensor, values: Tensor) -> None:
        """Some draws, of which those of one sample stand together."""
        found, times = torch.unique_consecutive(sample, return_counts=True)
        starts = times.cumsum(0) - times
        new = self.n[found] == 0
        self.first[found[new]] = values[starts[new]]
        self.n[found] += times
        d = (values - self.first[sample]).to(self.sums[0].dtype)
        square = d * d
        for total, power in zip(self.sums, (d, square, square * d, square * square)):
            if len(found) > FEW_RUNS:
                total.index_add_(0, sample, power)
            else:  # adding up each sample's run at once is faster than adding row after row
                for i, start, n in zip(found.tolist(), starts.tolist(), times.tolist()):
                    total[i] += power[start : start + n].sum(0)

    def _mean(self, power: int) -> Tensor:
        return self.sums[power - 1] / self._per(self.n)

    def _per(self, numbers: Tensor) -> Tensor:
        return masks.beside(numbers, self.first).to(self.sums[0])

    def mean(self) -> Tensor:
        """(B, ...) mean of the draws."""
        return self._exact_mean().to(self.first)

    def variance(self) -> Tensor:
        """(B, ...) mean squared distance from the mean (divided by n)."""
        return self._second().to(self.first)

    def square(self) -> Tensor:
        """(B, ...) mean of the squares."""
        return (self._second() + self._exact_mean() ** 2).to(self.first)

    def error_of_mean(self) -> Tensor:
        """(B, ...) standard error of the mean: sqrt(variance / (n - 1)). Infinite, as all of them, where there is one draw."""
        return self._error(self._second() * self._per(self.n) / self._per(self.n - 1))

    def error_of_variance(self) -> Tensor:
        """(B, ...) standard error of the variance: sqrt((m4 - m2^2) / n)."""
        return self._error(self._fourth() - self._second() ** 2)

    def error_of_square(self) -> Tensor:
        """(B, ...) standard error of the mean square: sqrt((E g^4 - (E g^2)^2) / n), g = mean + c with c central."""
        mean, variance = self._exact_mean(), self._second()
        return self._error(self._fourth() + 4 * mean * self._third() + 4 * mean**2 * variance - variance**2)

    def _error(self, spread: Tensor) -> Tensor:
        error = (spread.clamp(min=0) / self._per(self.n)).sqrt()
        return torch.where(self._per(self.n) > 1, error, torch.inf).to(self.first)

    def _exact_mean(self) -> Tensor:
        return self.first + self._mean(1)

    def _second(self) -> Tensor:
        return (self._mean(2) - self._mean(1) ** 2).clamp(min=0)

    def _third(self) -> Tensor:
        a = self._mean(1)
        return self._mean(3) - 3 * a * self._mean(2) + 2 * a**3

    def _fourth(self) -> Tensor:
        a = self._mean(1)
        return (self._mean(4) - 4 * a * self._mean(3) + 6 * a**2 * self._mean(2) - 3 * a**4).clamp(min=0)

    def relative_error(self) -> Tensor:
        """(B,) standard error of the mean over the size of the mean, each as root mean square over the values of a sample."""
        error, size = (t.flatten(1).to(self.sums[0]).pow(2).mean(1).sqrt() for t in (self.error_of_mean(), self.mean()))
        return torch.where(error > 0, error / size, error)

    def answer(self, relevance: Tensor, error: Tensor, raw: Tensor | None = None) -> Found:
        """What a sampled method answers: its relevance, the standard error of each value, and how many draws it took."""
        counts = {"samples": float(self.n.double().mean())}
        return Found(relevance, raw=raw, counts=counts, details={"standard_error": error, "samples": self.n})


def sampled(
    score: Score,
    samples: int,
    tolerance: float | None,
    evaluate: Evaluate,
    *,
    shared: Hashable = None,
    like: Tensor | None = None,
) -> Moments:
    """Moments of ``samples`` draws for each sample, or of fewer where ``tolerance`` is reached.

    evaluate(samples, start, stop) yields (sample indices, values) of draws start to stop for these samples. With a
    tolerance the draws come in rounds of 8, 8, 16, 32 ..., and a sample is done once its ``relative_error`` is below it.
    ``shared`` names draws that several methods look at: they are made for the first that asks with the same numbers.
    ``like`` (B, ...): the shape of the values, where it is not the samples'.
    """
    checks.count("samples", samples)
    if tolerance is not None:
        checks.positive("tolerance", tolerance)
    if shared is None:
        return _drawn(score.x if like is None else like, samples, tolerance, evaluate)
    return score.once((shared, samples, tolerance), lambda: _drawn(score.x, samples, tolerance, evaluate))


def _drawn(x: Tensor, samples: int, tolerance: float | None, evaluate: Evaluate) -> Moments:
    active = torch.arange(len(x), device=x.device)
    # powers of small gradients leave the range of single precision
    exact = torch.float32 if x.device.type == "mps" else torch.float64
    sums = [torch.zeros_like(x, dtype=exact) for _ in range(4)]
    found = Moments(torch.zeros_like(x), sums, torch.zeros_like(active))
    drawn = 0
    while drawn < samples and len(active):
        stop = samples if tolerance is None else min(samples, max(FIRST_ROUND, 2 * drawn))
        for sample, values in evaluate(active, drawn, stop):
            found.add(sample, values)
        drawn = stop
        if tolerance is not None:
            active = active[found.relative_error()[active] > tolerance]
    return found

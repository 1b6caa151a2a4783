"""Filling removed positions from those around them: a linear system, solved where the samples are (Rong et al. 2022)."""

from __future__ import annotations

import itertools
import math

import torch
from torch import Tensor

from pellucid.core.errors import InputError, PellucidError, UnsupportedError

# Numbers in one right-hand side of a solve on a CPU: what a core's cache holds several of.
CPU_NUMBERS = 1 << 18
MOST_ITERATIONS = 500
# Jacobi's damping; by how much a coarse correction that is constant on blocks falls short; positions that are solved densely.
DAMPING, STRETCH, DENSE = 0.9, 1.5, 128


def linear_imputation(x: Tensor, keep: Tensor, *, tolerance: float | None = None) -> Tensor:
    """x (n, C, *spatial) where ``keep`` (n, 1, *spatial), elsewhere each value the weighted mean of all its neighbours.

    In two dimensions a direct neighbour weighs 1/6 and a diagonal one 1/12, in one dimension 1/2 each; in three 1/14, 1/28 and
    1/56 (each axis further away halves the weight). Neighbours outside of the sample do not count. The values solve
    (D - W) u = W x_kept on the removed positions, D the sum of the weights inside: symmetric and positive, the same for all
    channels. Solved for all n at once by conjugate gradients with a multigrid cycle before each step, each system until its
    own residual has fallen to ``tolerance`` (1e-10, 1e-5 in single precision) of what it was, so that no answer depends on
    the others; of up to 128 positions by the inverse matrix.

    Raises InputError where nothing is kept, UnsupportedError for tables and whole numbers.
    """
    if x.ndim < 3 or not x.is_floating_point():
        raise UnsupportedError(
            f"linear imputation of samples of shape {tuple(x.shape[1:])} and type {x.dtype}",
            cure="Use it on images or sequences of real numbers.",
        )
    if not bool(keep.flatten(1).any(1).all()):
        raise InputError("nothing is kept of a sample, so there is nothing to fill it from", cure="Remove less.")
    single = x.dtype != torch.float64
    solved = x.float() if single else x
    rows = len(x) if x.device.type != "cpu" else max(1, CPU_NUMBERS // x[0].numel())
    wanted = tolerance or (1e-5 if single else 1e-10)
    parts = [_filled(solved[i : i + rows], keep[i : i + rows], wanted) for i in range(0, len(x), rows)]
    return torch.where(keep, x, torch.cat(parts).to(x))


def _filled(x: Tensor, keep: Tensor, tolerance: float) -> Tensor:
    """Conjugate gradients: u (n, C, *spatial), zero where kept."""
    removed = (~keep).to(x)
    top = _Top(removed)
    axes = tuple(range(2, x.ndim))
    r = removed * _around(x * (1 - removed))
    if top.direct is not None:
        return top.direct.cycle(r)
    u, p = torch.zeros_like(r), top.cycle(r)
    rz = (r * p).sum(axes, keepdim=True)
    enough = rz * tolerance**2
    for _ in range(MOST_ITERATIONS):
        active = rz > enough
        if not bool(active.any()):
            return u
        ap = top.apply(p)
        step = torch.where(active, rz / (p * ap).sum(axes, keepdim=True), 0)
        u.addcmul_(step, p)
        r.addcmul_(step, ap, value=-1)
        z = top.cycle(r)
        before, rz = rz, torch.where(active, (r * z).sum(axes, keepdim=True), 0)
        p = z.addcmul_(torch.where(active, rz / before, 0), p)
    raise PellucidError(f"the linear imputation has not settled in {MOST_ITERATIONS} steps")


class _Grid:
    """A grid of the multigrid cycle: the matrix there, its damped diagonal's inverse, where there is anything to solve."""

    removed: Tensor
    damped: Tensor
    below: _Grid

    def apply(self, u: Tensor) -> Tensor:
        raise NotImplementedError

    def cycle(self, r: Tensor) -> Tensor:
        """About the solution for ``r``: damped Jacobi, the coarser grids, damped Jacobi; symmetric in r."""
        u = self.damped * r
        correction = self.below.cycle(_gathered(r - self.apply(u)))
        u.addcmul_(_spread(correction, r.shape[2:]), self.removed, value=STRETCH)
        return u.addcmul_(self.damped, r - self.apply(u))


class _Top(_Grid):
    """The grid of the sample, whose weights are the same everywhere; ``direct``, if it is small, solves it."""

    direct: _Bottom | None = None

    def __init__(self, removed: Tensor) -> None:
        self.removed = removed
        self.weights = _around(torch.ones_like(removed)) * removed
        self.damped = removed * DAMPING / self.weights.clamp(min=1e-12)
        axes = removed.ndim - 2
        window = torch.tensor([math.prod(w) for w in itertools.product((1.0, 2.0, 1.0), repeat=axes)]).to(removed)
        window[len(window) // 2] = 0
        links = _windows(removed).flatten(2, 1 + axes)[:, 0] * removed * (window / window.sum()).view(-1, *[1] * axes)
        tied = self.weights - links.sum(1, keepdim=True)
        if removed[0].numel() <= DENSE:
            self.direct = _Bottom(links, tied)
        else:
            self.below = _coarser(links, tied)

    def apply(self, u: Tensor) -> Tensor:
        return (self.weights * u).addcmul_(self.removed, _around(u), value=-1)


class _Coarse(_Grid):
    """A grid of blocks of two along each axis: links (n, 3^d, *spatial) between blocks, what ties each to kept positions."""

    def __init__(self, links: Tensor, tied: Tensor) -> None:
        diagonal = tied + links.sum(1, keepdim=True)
        self.removed = (diagonal > 0).to(links)
        self.damped = self.removed * DAMPING / diagonal.clamp(min=1e-12)
        matrix = -links
        matrix[:, links.shape[1] // 2] = diagonal[:, 0]
        axes = tied.ndim - 2
        self.matrix = matrix.view(len(links), 1, *[3] * axes, *tied.shape[2:])
        if diagonal[0].numel() > DENSE:
            self.below = _coarser(links, tied)

    def apply(self, u: Tensor) -> Tensor:
        return (self.matrix * _windows(u)).flatten(2, u.ndim - 1).sum(2)


class _Bottom(_Coarse):
    """The coarsest grid, solved by the inverse of its matrix."""

    def __init__(self, links: Tensor, tied: Tensor) -> None:
        super().__init__(links, tied)
        positions, size = tied[0].numel(), tied.shape[2:]
        unit = torch.eye(positions).to(tied)
        dense = self.apply(unit.view(1, positions, *size)).flatten(2)
        self.inverse = torch.linalg.inv(dense + unit * (1 - self.removed).flatten(2))

    def cycle(self, r: Tensor) -> Tensor:
        u: Tensor = r.flatten(2) @ self.inverse
        return u.view(r.shape)


def _coarser(links: Tensor, tied: Tensor) -> _Grid:
    """The same matrix seen by functions that are constant on blocks: links between blocks add up, links inside vanish."""
    axes, tied = tied.ndim - 2, _gathered(tied)
    fine = _even(links)
    coarse = tied.new_zeros(len(links), links.shape[1], *tied.shape[2:])
    steps = list(itertools.product((-1, 0, 1), repeat=axes))
    for number, step in enumerate(steps):
        for corner in itertools.product((0, 1), repeat=axes):
            to = tuple((c + s) // 2 for c, s in zip(corner, step))
            if any(to):
                every_other: tuple[int | slice, ...] = (slice(None), number, *(slice(c, None, 2) for c in corner))
                coarse[:, steps.index(to)] += fine[every_other]
    return (_Bottom if tied[0].numel() <= DENSE else _Coarse)(coarse, tied)


def _around(u: Tensor) -> Tensor:
    """W u: a product of (1, 2, 1) along each axis without its centre, over the sum of its weights."""
    axes, total = u.ndim - 2, u
    for axis in range(2, u.ndim):
        length = u.shape[axis]
        doubled: Tensor = 2 * total
        doubled.narrow(axis, 1, length - 1).add_(total.narrow(axis, 0, length - 1))
        doubled.narrow(axis, 0, length - 1).add_(total.narrow(axis, 1, length - 1))
        total = doubled
    found: Tensor = total.sub_(u, alpha=2**axes).div_(4**axes - 2**axes)
    return found


def _windows(u: Tensor) -> Tensor:
    """(n, C, 3, ..., 3, *spatial) the neighbours of every position, itself in the middle; zero outside. A view."""
    axes = u.ndim - 2
    padded = torch.nn.functional.pad(u, [1] * (2 * axes))
    n, c, *strides = padded.stride()
    return padded.as_strided((*u.shape[:2], *[3] * axes, *u.shape[2:]), (n, c, *strides, *strides))


def _even(u: Tensor) -> Tensor:
    padding = [pad for length in reversed(u.shape[2:]) for pad in (0, length % 2)]
    return torch.nn.functional.pad(u, padding) if any(padding) else u


def _gathered(u: Tensor) -> Tensor:
    """Sums over blocks of two along each axis."""
    u = _even(u)
    for axis in range(2, u.ndim):
        half = u.view(*u.shape[:axis], -1, 2, *u.shape[axis + 1 :])
        u = half.select(axis + 1, 0) + half.select(axis + 1, 1)
    return u


def _spread(u: Tensor, size: torch.Size) -> Tensor:
    """Each block's number on its positions."""
    whole = torch.nn.functional.interpolate(u, scale_factor=2.0, mode="nearest")
    for axis, length in enumerate(size):
        whole = whole.narrow(2 + axis, 0, length)
    return whole

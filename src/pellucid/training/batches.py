"""What the loop needs of data: a length and a batch for some row numbers. In memory that is one tensor and an index."""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Protocol, runtime_checkable

import torch

from pellucid.core.checks import same_length

# Batches that are fetched while the model works on an earlier one.
AHEAD = 2


@runtime_checkable
class Batches(Protocol):
    """Rows that can be counted and fetched. An attribute ``y`` with all targets, where there is one, is checked up front.

    ``batch`` must depend on the row numbers alone (no random draw): it is called from a second thread.
    """

    def __len__(self) -> int:
        """Number of rows."""

    def batch(self, rows: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Inputs and targets of these rows, int64 ``(B,)``."""


class InMemory:
    """Two tensors (or arrays) with one row per sample."""

    def __init__(self, x: Any, y: Any) -> None:
        same_length(x=x, y=y)
        self.x, self.y = torch.as_tensor(x), torch.as_tensor(y)

    def __len__(self) -> int:
        return len(self.x)

    def batch(self, rows: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """``x[rows], y[rows]``; ``index_select`` is the same at a fifth of the overhead."""
        return self.x.index_select(0, rows), self.y.index_select(0, rows)


class Part:
    """Some rows of larger data, such as its training part; row ``i`` here is row ``rows[i]`` there."""

    def __init__(self, data: Batches, rows: Any) -> None:
        self.data, self.rows = data, torch.as_tensor(rows, dtype=torch.int64)
        targets = getattr(data, "y", None)
        if targets is not None:
            self.y = torch.as_tensor(targets)[self.rows]

    def __len__(self) -> int:
        return len(self.rows)

    def batch(self, rows: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """The batch of ``data`` at these rows of the part."""
        return self.data.batch(self.rows[rows])


def cut(order: torch.Tensor, batch: int) -> tuple[torch.Tensor, ...]:
    """Pieces of ``batch`` rows. A single row left over joins the last piece: batch normalisation cannot train on one row."""
    pieces = torch.split(order, batch)
    if len(pieces) > 1 and len(pieces[-1]) == 1:
        return (*pieces[:-2], torch.cat(pieces[-2:]))
    return pieces


def placed(x: torch.Tensor, device: torch.device, dtype: torch.dtype | None = None) -> torch.Tensor:
    """``x`` on the device, in ``dtype`` if it holds real numbers; copied from pinned memory where that lets it overlap."""
    if device.type == "cuda" and x.device.type == "cpu":
        x = x.pin_memory()
    return x.to(device, dtype if x.is_floating_point() else None, non_blocking=True)


def stream(
    data: Batches, pieces: Sequence[torch.Tensor], device: torch.device, dtype: torch.dtype
) -> Generator[tuple[torch.Tensor, torch.Tensor], None, None]:
    """The batches of these pieces, in order, on the device; real inputs in ``dtype``.

    Batches that must be decoded or copied to an accelerator are made by one thread, up to ``AHEAD`` in advance. Close the
    iterator to stop that thread.
    """

    def fetch(rows: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        x, y = data.batch(rows)
        return placed(x, device, dtype), placed(y, device)

    if isinstance(data, InMemory) and device.type == "cpu":
        yield from map(fetch, pieces)
        return
    pool = ThreadPoolExecutor(1, thread_name_prefix="pellucid-batches")
    waiting: deque[Future[tuple[torch.Tensor, torch.Tensor]]] = deque()
    try:
        for rows in pieces:
            waiting.append(pool.submit(fetch, rows))
            if len(waiting) > AHEAD:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)

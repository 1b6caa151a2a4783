"""Where tensors live, in which precision, and how many rows fit at once."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from typing import TypeVar

import torch

from pellucid.core.checks import one_of
from pellucid.core.errors import InputError

R = TypeVar("R")
PRECISIONS = ("float32", "bfloat16", "float16", "float64")

# Bytes that one pass over a batch may hold on a CPU; an accelerator gives half of what is free.
CPU_BUDGET = 1 << 30
# A convolutional network at 224 x 224 holds about 100 to 200 times its input's bytes in activations.
BYTES_PER_INPUT_BYTE = 200
MOST_ROWS = 256
# Rows of which only the score is wanted: more of them, since what each call costs by itself (a forest's) then counts less.
MOST_VALUE_ROWS = 8192
# Rows of the part behind a layer: small each, so that more of them fill a batch.
MOST_TAIL_ROWS = 1024


def pick(device: str | torch.device | None = None) -> torch.device:
    """The device asked for, else the first accelerator, else the CPU."""
    if device is None or device == "auto":
        return (
            torch.device(torch.accelerator.current_accelerator() or "cpu")
            if torch.accelerator.is_available()
            else torch.device("cpu")
        )
    try:
        chosen = torch.device(device)
        torch.empty(0, device=chosen)
    except (RuntimeError, AssertionError) as error:
        raise InputError(f"device '{device}' is not available here", cure="Use 'cpu' or 'auto'.") from error
    return chosen


def autocast(device: torch.device, precision: str) -> AbstractContextManager[object]:
    """Mixed precision for the forward pass; nothing for float32 and float64."""
    one_of("precision", precision, PRECISIONS)
    if precision in ("float32", "float64"):
        return nullcontext()
    return torch.autocast(device.type, dtype=getattr(torch, precision))


def rows_that_fit(row: torch.Tensor, most: int = MOST_ROWS) -> int:
    """How many rows like this one a pass may hold, from its bytes and the memory of its device."""
    budget = CPU_BUDGET
    if row.device.type == "cuda":
        budget = torch.cuda.mem_get_info(row.device)[0] // 2
    bytes_each = max(1, row.numel() * row.element_size() * BYTES_PER_INPUT_BYTE)
    return int(max(1, min(most, budget // bytes_each)))


def out_of_memory(error: BaseException) -> bool:
    """Whether this is an allocation that failed, on an accelerator or on the CPU."""
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or "DefaultCPUAllocator" in str(error)


def halving(total: int, rows: int, run: Callable[[int, int], R]) -> Iterator[tuple[int, R]]:
    """``rows`` and ``run(start, stop)`` over ``range(total)``, with half the rows whenever memory runs out, down to one."""
    start = 0
    while start < total:
        stop = min(total, start + rows)
        try:
            result = run(start, stop)
        except (RuntimeError, MemoryError) as error:
            if stop - start == 1 or not out_of_memory(error):
                raise
            rows = (stop - start) // 2
        else:
            start = stop
            yield rows, result
            continue
        if torch.cuda.is_available():
            torch.cuda.empty_cache()

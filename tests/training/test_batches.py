import threading
import time

import numpy as np
import pytest
import torch

from pellucid.core.errors import InputError
from pellucid.training.batches import AHEAD, Batches, InMemory, Part, placed, stream

CPU = torch.device("cpu")


class Slow:
    """Counts what was asked for."""

    def __init__(self, fails_at=None):
        self.asked, self.fails_at = [], fails_at

    def __len__(self):
        return 100

    def batch(self, rows):
        self.asked.append(rows.tolist())
        if len(self.asked) == self.fails_at:
            raise InputError("cannot read 'cat.png'", cure="Remove it.")
        return rows[:, None].float(), rows


def test_in_memory_takes_rows_in_their_order():
    data = InMemory(np.arange(12.0).reshape(6, 2), np.arange(6))
    x, y = data.batch(torch.tensor([4, 0]))
    assert x.tolist() == [[8.0, 9.0], [0.0, 1.0]]
    assert y.tolist() == [4, 0]
    assert len(data) == 6
    assert isinstance(data, Batches)
    with pytest.raises(InputError, match="different lengths: x 3, y 2"):
        InMemory(torch.ones(3, 1), torch.ones(2))


def test_part_translates_rows():
    whole = InMemory(torch.arange(10.0)[:, None], torch.arange(10))
    part = Part(whole, np.array([7, 3, 5]))
    x, y = part.batch(torch.tensor([2, 0]))
    assert x[:, 0].tolist() == y.tolist() == [5, 7]
    assert part.y.tolist() == [7, 3, 5]
    assert len(part) == 3
    assert not hasattr(Part(Slow(), [1]), "y")


@pytest.mark.parametrize("data", [InMemory(torch.arange(100.0)[:, None], torch.arange(100)), Slow()])
def test_stream_keeps_order_and_gives_the_precision(data):
    pieces = torch.arange(100).flip(0).split(30)
    found = list(stream(data, pieces, CPU, torch.float64))
    assert [y.tolist() for _, y in found] == [p.tolist() for p in pieces]
    assert all(x.dtype == torch.float64 for x, _ in found)


def test_whole_numbers_stay_whole():
    assert placed(torch.tensor([1, 2]), CPU, torch.float64).dtype == torch.int64


def test_thread_reads_ahead_a_little_and_stops_when_closed():
    data = Slow()
    batches = stream(data, torch.arange(100).split(5), CPU, torch.float32)
    next(batches)
    deadline = time.monotonic() + 5
    while len(data.asked) < AHEAD + 1 and time.monotonic() < deadline:
        time.sleep(0.01)
    assert len(data.asked) == AHEAD + 1
    batches.close()
    assert not [t for t in threading.enumerate() if t.name.startswith("pellucid")]


def test_error_in_the_thread_reaches_the_caller():
    with pytest.raises(InputError, match=r"cat\.png"):
        list(stream(Slow(fails_at=3), torch.arange(100).split(10), CPU, torch.float32))
    assert not [t for t in threading.enumerate() if t.name.startswith("pellucid")]

"""The data set itself: batches, memory, identical rows, fingerprints, summaries."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch

from pellucid.core.errors import InputError
from pellucid.data import dataset
from pellucid.data.dataset import Data
from pellucid.data.image_preparation import ImagePreparation
from pellucid.data.rows import ArrayRows, FrameRows


def made(n=20, **changes):
    pixels = np.random.default_rng(0).integers(0, 256, (n, 6, 5), dtype=np.uint8)
    given = {
        "reader": "images",
        "options": {},
        "kind": "image",
        "task": "classification",
        "rows": ArrayRows(pixels),
        "y": torch.arange(n) % 2,
        "classes": ("a", "b"),
        "preparation": ImagePreparation(6, 5, 1),
        "names": [f"row {i}" for i in range(n)],
    }
    return Data(**{**given, **changes})


@pytest.mark.parametrize("kind", [np.array, torch.tensor, list, tuple])
def test_rows_may_be_any_indices(kind):
    data = made().fit()
    x, y = data.batch(kind([3, 1, 1]))
    assert torch.equal(x, data.tensors()[0][[3, 1, 1]])
    assert y.tolist() == [1, 1, 1]
    assert data.raw(kind([3])).shape == (1, 6, 5)


@pytest.mark.parametrize("rows", [[20], [-1], [0.5], [[1]], [True]])
def test_other_rows_are_refused(rows):
    with pytest.raises(InputError, match="rows are not whole numbers from 0 to 19"):
        made().fit().batch(rows)


def test_no_rows_are_no_rows():
    x, y = made().fit().batch([])
    assert (x.shape, y.shape) == ((0, 1, 6, 5), (0,))


def test_tensors_in_pieces_equal_one_batch(monkeypatch):
    data = made().fit([1, 2, 3])
    whole = data.batch(range(20))[0]
    monkeypatch.setattr(dataset, "CHUNK_BYTES", 7 * 4 * 30)
    assert torch.equal(data.tensors()[0], whole)
    assert made().fit([1, 2, 3]).preparation == data.preparation


def test_the_budget_decides_what_fits(monkeypatch):
    data = made()
    assert data.fits_in_memory()
    monkeypatch.setattr(dataset, "MEMORY_BUDGET", 20 * 30 * 4)
    assert data.fits_in_memory()
    monkeypatch.setattr(dataset, "MEMORY_BUDGET", 20 * 30 * 4 - 1)
    assert not data.fits_in_memory()


def test_in_memory_batches_do_no_work_per_row(monkeypatch):
    """A batch of 2,000 rows is one call each of take and apply."""
    data = made(2000).fit()
    calls = []
    monkeypatch.setattr(ArrayRows, "take", lambda self, rows: calls.append(len(rows)) or self.values[rows])
    data.batch(np.arange(2000))
    assert calls == [2000]


def test_identical_rows_are_found_whatever_their_label():
    pixels = np.random.default_rng(1).integers(0, 256, (6, 6, 5), dtype=np.uint8)
    pixels[4] = pixels[1]
    pixels[5] = pixels[1]
    pixels[5, 0, 0] ^= 1
    same = made(6, rows=ArrayRows(pixels)).identical()
    assert same[4] == same[1]
    assert len(set(same.tolist())) == 5


def test_identical_rows_of_a_table():
    frame = pd.DataFrame({"a": [1, 1, np.nan, np.nan, 1], "b": ["x", "x", np.nan, np.nan, "y"]})
    same = FrameRows(frame).identical()
    assert same[0] == same[1] != same[4]
    assert same[2] == same[3] != same[0]


def test_the_fingerprint_sees_every_change():
    prints = {made().fingerprint(), made(y=1 - torch.arange(20) % 2).fingerprint(), made(classes=("a", "c")).fingerprint()}
    pixels = made().raw(range(20)).copy()
    pixels[7, 2, 2] ^= 1
    prints.add(made(rows=ArrayRows(pixels)).fingerprint())
    assert len(prints) == 4
    assert made().fingerprint() == made(names=["x"] * 20).fingerprint()
    assert len(made().fingerprint()) == 64


def test_the_fingerprint_of_a_table_sees_every_change():
    def digest(**columns):
        return FrameRows(pd.DataFrame(columns)).digest()

    start = {"a": [1.0, np.nan], "b": ["x", np.nan]}
    changed = [{"a": [1.0, 2.0]}, {"b": ["x", "y"]}, {"b": ["x", ""]}, {"c": [1.0, 1.0]}]
    assert len({digest(**start), *(digest(**start | change) for change in changed)}) == 5


def test_parts_of_another_length_are_refused():
    with pytest.raises(InputError, match="different lengths: rows 20, y 3, names 20"):
        made(y=torch.zeros(3, dtype=torch.int64))
    with pytest.raises(InputError, match="groups 3"):
        made(groups=np.zeros(3))
    with pytest.raises(InputError, match="task is 'clasification'. Did you mean 'classification'"):
        made(task="clasification")


def test_the_summary_of_a_regression_and_of_many_classes():
    facts = dict(made(task="regression", y=torch.arange(20.0), classes=(), target="price").summary())
    assert facts["price"] == "0 to 19, mean 9.5, standard deviation 5.76628"
    many = dict(made(classes=tuple(map(str, range(30)))).summary())
    assert many["classes"].startswith("30: 0 10, 1 10, 2 0")
    assert many["classes"].endswith(", ...")
    several = made(task="multilabel", y=torch.ones(20, 2))
    assert dict(several.summary())["classes"] == "2: a 20, b 20"
    assert several.split().by == "random"

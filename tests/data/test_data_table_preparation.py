"""The preparation of tables: fitted on training rows only, exact JSON, new files."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from pellucid.core.errors import InputError, PellucidError
from pellucid.data.preparation import preparation_from_json
from pellucid.data.table import table

TEXT = """x,c,y
1,red,a
2,red,b
,blue,a
6,,b
100,green,a
-50,red,b
"""


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text(TEXT)
    return path


TRAIN = [0, 1, 2, 3]


def test_state_comes_from_the_training_rows_alone(path):
    """Median 2 of 1, 2, 6; mean and deviation of the filled column; categories of four rows. 1e-7 is float32."""
    data = table(path, target="y").fit(TRAIN)
    filled = np.array([1, 2, 2, 6.0])
    x, y = data.tensors()
    assert data.preparation.features == ("x", "c=blue", "c=missing", "c=red")
    np.testing.assert_allclose(x[:4, 0].numpy(), (filled - filled.mean()) / filled.std(), rtol=1e-6)
    np.testing.assert_allclose(float(x[4, 0]), (100 - filled.mean()) / filled.std(), rtol=1e-6)
    assert x[:, 1:].tolist() == [[0, 0, 1], [0, 0, 1], [1, 0, 0], [0, 1, 0], [0, 0, 0], [0, 0, 1]]
    assert y.tolist() == [0, 1] * 3
    assert data.notes[-1] == "column 'c', values not met in training, so all zeros: 1, such as 'green'"


def test_changing_test_rows_changes_nothing_that_was_fitted(path, tmp_path):
    other = tmp_path / "other.csv"
    other.write_text(TEXT.replace("100,green", "-7,pink").replace("-50,red", "0,red"))
    assert table(path, target="y").fit(TRAIN).preparation == table(other, target="y").fit(TRAIN).preparation


def test_an_indicator_column_says_what_was_missing(path):
    data = table(path, target="y", indicator=True).fit(TRAIN)
    assert data.preparation.features[:2] == ("x", "x missing")
    assert data.preparation.sources == [0, 0, 1, 1, 1]
    assert data.tensors()[0][:, 1].tolist() == [0, 0, 1, 0, 0, 0]


def test_missing_only_after_training(path):
    data = table(path, target="y", indicator=True).fit([0, 1, 4, 5])
    assert data.preparation.features == ("x", "c=green", "c=red")
    assert "column 'c', missing values not met in training, so all zeros: 1" in data.notes


def test_a_column_constant_in_training_becomes_zero(path):
    data = table(path, target="y", drop=["c"]).fit([1])
    assert data.tensors([1])[0].item() == 0
    assert data.preparation.columns[0].std == 1


def test_json_is_exact(path):
    data = table(path, target="y", indicator=True).fit(TRAIN)
    again = preparation_from_json(json.loads(json.dumps(data.preparation.to_json())))
    assert again == data.preparation
    assert torch.equal(again.apply(data.raw(range(6))), data.tensors()[0])


@pytest.mark.parametrize(
    "change", [{"columns": [{"nme": "x"}]}, {"rows": "many"}, {"columns": None}, {"indicate": True, "rows": None}]
)
def test_damaged_json(path, change):
    with pytest.raises(InputError, match="stored preparation of kind 'table' is damaged"):
        preparation_from_json(table(path, target="y").fit().preparation.to_json() | change)


def test_a_deviation_of_zero_is_refused(path):
    stored = table(path, target="y").fit().preparation.to_json()
    stored["columns"][0]["std"] = 0.0
    with pytest.raises(InputError, match="deviation of column 'x' is 0.0"):
        preparation_from_json(stored)


def test_not_fitted(path):
    data = table(path, target="y")
    with pytest.raises(PellucidError, match="not prepared yet"):
        data.tensors()
    with pytest.raises(InputError, match="no rows to fit"):
        data.fit([])
    assert dict(data.summary())["numeric columns"] == "x"


def test_new_files_need_the_inputs_only(path, tmp_path):
    preparation = table(path, target="y").fit(TRAIN).preparation
    new = tmp_path / "new.csv"
    new.write_text("extra;c;x\nzz;red;2\nzz;pink;\n")
    raw, names = preparation.read([new, path])
    assert names[:3] == ["new.csv line 2", "new.csv line 3", "t.csv line 2"]
    assert preparation.apply(raw).shape == (8, 4)
    assert torch.equal(preparation.apply(raw)[2:], table(path, target="y").fit(TRAIN).tensors()[0])
    assert preparation.remarks(raw[:2]) == [
        "column 'x', missing values filled with the training median 2: 1",
        "column 'c', values not met in training, so all zeros: 1, such as 'pink'",
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("x,colour\n1,red\n", r"no column 'c' for the model's input \(.*new\.csv\)\. Did you mean 'colour'|Known: colour, x"),
        ("x,c\n1,red\nmany,red\n", r"'many' in column 'x' is not numeric \(.*new\.csv, line 3\)"),
        ("x,c\n1,red\ninf,red\n", r"'inf' in column 'x' is infinite"),
        ("x,c\n1,red\n2024-01-01,red\n", r"'2024-01-01' in column 'x' is not numeric"),
    ],
)
def test_new_files_that_do_not_fit(path, tmp_path, text, message):
    preparation = table(path, target="y").fit(TRAIN).preparation
    (tmp_path / "new.csv").write_text(text)
    with pytest.raises(InputError, match=message):
        preparation.read([tmp_path / "new.csv"])


def test_numbers_too_large_to_scale(path, tmp_path):
    (tmp_path / "large.csv").write_text("x,y\n1e308,a\n-1e308,b\n1e308,a\n")
    with pytest.raises(InputError, match="numbers in column 'x' are too large"):
        table(tmp_path / "large.csv", target="y").fit()
    preparation = table(path, target="y").fit(TRAIN).preparation
    (tmp_path / "new.csv").write_text("x,c\n1e300,red\n")
    with pytest.raises(InputError, match=r"the prepared table holds inf \(sample 0, position \[0\]\)"):
        preparation.apply(preparation.read([tmp_path / "new.csv"])[0])

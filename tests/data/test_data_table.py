"""L2, tables: types inferred and shown, useless columns left out and named, targets checked."""

from __future__ import annotations

import datetime

import numpy as np
import pandas as pd
import pytest
import torch

from pellucid.core.errors import InputError
from pellucid.data.table import table


def csv(tmp_path, text):
    path = tmp_path / "t.csv"
    path.write_text(text.strip() + "\n")
    return path


def columns(tmp_path, **values):
    """A CSV of these columns, all of one length, and of a target with two classes."""
    n = len(next(iter(values.values())))
    values.setdefault("y", ["u", "v"] * n)
    lines = [",".join(values)] + [",".join(str(v[i]) for v in values.values()) for i in range(n)]
    return csv(tmp_path, "\n".join(lines))


@pytest.fixture
def people(tmp_path):
    return csv(
        tmp_path,
        """
age,colour,member,joined,name,planet,bought
31,red,true,2024-01-01,Ann,earth,no
,blue,false,2024-01-03,Bob,earth,yes
45,red,True,,Cid,earth,no
28,,false,2024-02-01,Dan,earth,yes
""",
    )


def test_types_are_inferred_and_shown(people):
    data = table(people, target="bought").fit()
    assert (data.kind, data.task, data.classes, data.target) == ("table", "classification", ("no", "yes"), "bought")
    assert data.y.tolist() == [0, 1, 0, 1]
    assert data.names == ["line 2", "line 3", "line 4", "line 5"]
    facts = dict(data.summary())
    assert facts["numeric columns"] == "age"
    assert facts["categorical columns"] == "colour (3)"
    assert facts["boolean columns"] == "member"
    assert facts["date columns"] == "joined"
    assert facts["missing values"] == "age 1, colour 1, joined 1"
    assert data.preparation.features == ("age", "colour=blue", "colour=missing", "colour=red", "member", "joined")
    assert data.preparation.sources == [0, 1, 1, 1, 2, 3]


def test_what_is_left_out_filled_and_converted_is_said(people):
    assert table(people, target="bought").fit().notes == [
        "column 'joined' holds dates: taken as days since 1970-01-01",
        "column 'name' has a different text in every row, like an identifier ('Ann'): not used",
        "column 'planet' holds one value only, 'earth': not used",
        "column 'age', missing values filled with the training median 31: 1",
        "column 'colour', missing values as a category of their own, 'missing': 1",
        "column 'joined', missing values filled with the training median 19725: 1",
    ]


def test_fitting_again_does_not_repeat_the_notes(people):
    data = table(people, target="bought").fit([0, 1]).fit([0, 1, 2])
    assert len(data.notes) == len(set(data.notes))
    assert sum("'age'" in note for note in data.notes) == 1


def test_drop_group_and_time_are_no_inputs(people):
    data = table(people, target="bought", drop=["colour"], group="name")
    assert data.groups.tolist() == ["Ann", "Bob", "Cid", "Dan"]
    assert [c.name for c in data.preparation.columns] == ["age", "member", "joined"]
    assert data.options == {
        "path": str(people),
        "target": "bought",
        "task": None,
        "drop": ["colour"],
        "group": "name",
        "time": None,
        "indicator": False,
    }
    assert table(people, target="bought", drop="colour").options["drop"] == ["colour"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"target": "bougt"}, r"no column 'bougt' for the target \(.*t\.csv\)\. Did you mean 'bought'"),
        ({"target": "bought", "drop": ["ages"]}, "no column 'ages' for drop .*Did you mean 'age'"),
        ({"target": "bought", "group": "nam"}, "no column 'nam' for group"),
        ({"target": "bought", "time": "when"}, "no column 'when' for time"),
        ({"target": "bought", "time": "colour"}, r"time column 'colour' lacks a value in 1 of 4 rows \(first in .*line 5\)"),
        ({"target": "bought", "time": "name"}, r"time column 'name' holds neither numbers nor dates, such as 'Ann'"),
        ({"target": "bought", "group": "colour"}, r"group column 'colour' lacks a value in 1 of 4 rows \(first in .*line 5\)"),
        ({"target": "planet"}, r"the target 'planet' has one class only, 'earth'"),
        ({"target": "name"}, r"the target 'name' has a class of its own for each of 4 rows"),
        ({"target": "age"}, r"the target 'age' is missing in 1 of 4 rows \(first in .*t\.csv, line 3\)\. Fill the values in"),
        ({"target": "bought", "task": "regression"}, r"'no' in column 'bought' is not numeric \(and 3 more\) \(.*line 2\)"),
        ({"target": "bought", "task": "regresion"}, "task is 'regresion'. Did you mean 'regression'"),
        ({"target": "name", "drop": ["age"]}, "class of its own"),
        (
            {"target": "bought", "drop": ["age", "colour", "member", "joined"]},
            "no column is left as input .*'name' has a different",
        ),
        (
            {"target": "bought", "drop": ["age", "colour", "member", "joined", "name", "planet"]},
            "no column is left.*columns beside target",
        ),
    ],
)
def test_wrong_options(people, options, message):
    before = people.read_bytes()
    with pytest.raises(InputError, match=message):
        table(people, **options)
    assert people.read_bytes() == before


@pytest.mark.parametrize(
    ("values", "task"),
    [
        (["0.5", "1.5", "2", "3"], "regression"),
        (["0", "1", "1", "0"], "classification"),
        (["1.0", "2", "2.0", "1"], "classification"),
        ([str(i % 21) for i in range(60)], "regression"),
        ([str(i % 20) for i in range(60)], "classification"),
        (["a", "b", "a", "b"], "classification"),
        (["True", "False", "True", "True"], "classification"),
        (["007", "008", "007", "008"], "classification"),
        (["a|b", "a", "b", ""], "multilabel"),
    ],
)
def test_the_task_is_inferred(tmp_path, values, task):
    x = [i * i % 7 / 2 for i in range(len(values))]
    data = table(columns(tmp_path, x=x, y=values), target="y")
    assert data.task == task
    assert data.y.dtype == (torch.int64 if task == "classification" else torch.float32)
    said = any("'y' has" in note or "'y' holds" in note for note in data.notes)
    assert said == (values[0] not in ("a", "True", "007"))


def test_numbered_classes_are_ordered_and_merged(tmp_path):
    data = table(columns(tmp_path, x=[1, 5, 2, 8], y=["10", "2", "10.0", "9"]), target="y")
    assert data.classes == ("2", "9", "10")
    assert data.y.tolist() == [2, 0, 2, 1]


def test_a_task_can_be_forced(tmp_path):
    path = columns(tmp_path, x=[1, 5, 2, 8], y=[0, 1, 2, 1])
    assert table(path, target="y", task="regression").y.tolist() == [0, 1, 2, 1]
    assert table(path, target="y", task="classification").classes == ("0", "1", "2")


def test_infinite_and_constant_targets(tmp_path):
    with pytest.raises(InputError, match=r"'inf' in column 'y' is infinite \(.*line 3\)"):
        table(columns(tmp_path, x=[1, 5, 2], y=[0.5, "inf", 2]), target="y")
    with pytest.raises(InputError, match=r"the target 'y' is 0.5 in every row"):
        table(columns(tmp_path, x=[1, 5, 2], y=[0.5, 0.5, 0.5]), target="y")


FAULTS = {
    "infinite": (["1.5", "-inf", "3", "4"], r"'-inf' in column 'x' is infinite \(.*t\.csv, line 3\)"),
    "day or month": (
        ["1/2/2024", "2/3/2024", "4/5/2024", "9/9/2024"],
        r"holds dates like '1/2/2024'.*line 2.*2024-12-31.*drop: \[x\]",
    ),
    "decimal comma": (['"1,5"', '"2,5"', "3", '"4,1"'], r"numbers with a comma such as '1,5' \(.*line 2\)"),
    "no such day": (
        ["2024-01-01", "2024-02-30", "2024-03-01", "2024-03-01"],
        r"'2024-02-30' in column 'x' is not a date of the calendar",
    ),
    "a word among numbers": (
        [*range(50, 90), "oops"],
        r"holds numbers except for 1 of 41 values, such as 'oops' \(.*line 42\)",
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_columns_where_a_guess_would_be_wrong(tmp_path, fault):
    values, message = FAULTS[fault]
    path = columns(tmp_path, x=values)
    with pytest.raises(InputError, match=message):
        table(path, target="y")
    with pytest.raises(InputError, match="no column is left"):
        table(path, target="y", drop="x")


def test_leading_zeros_are_a_code_not_a_number(tmp_path):
    data = table(columns(tmp_path, x=["01067", "80331", "01067", "20095"]), target="y")
    assert data.preparation.columns[0].type == "categorical"


@pytest.mark.parametrize("name", ["id", "ID", "index"])
def test_a_row_counter_is_left_out(tmp_path, name):
    data = table(columns(tmp_path, **{name: [7, 8, 9, 10], "x": [1, 5, 2, 5]}), target="y")
    assert data.notes == [f"column '{name}' only counts the rows: not used"]


def test_a_rising_column_of_another_name_is_kept_and_said(tmp_path):
    data = table(columns(tmp_path, year=[7, 8, 9, 10]), target="y")
    assert [c.name for c in data.preparation.columns] == ["year"]
    assert "rises by one from row to row; leave it out with drop: [year]" in data.notes[0]


def test_empty_columns_and_many_categories_are_said(tmp_path):
    data = table(columns(tmp_path, x=[f"n{i % 60}" for i in range(61)], z=[""] * 61), target="y")
    assert data.notes == [
        "column 'x' has 60 categories, each an input; leave it out with drop: [x] if they are names",
        "column 'z' is empty: not used",
    ]


def test_time_orders_and_counts_in_what_is_identical(tmp_path):
    data = table(
        columns(tmp_path, x=[1, 1, 1, 2], day=["2024-01-03", "2024-01-01", "2024-01-03", "2024-01-03T12:00"]),
        target="y",
        time="day",
    )
    np.testing.assert_allclose(data.order - data.order.min(), [2, 0, 2, 2.5])
    same = data.identical()
    assert same[0] == same[2]
    assert len(set(same.tolist())) == 3


def test_parquet_gives_what_csv_gives(tmp_path):
    day = datetime.date(2024, 1, 1)
    frame = pd.DataFrame(
        {
            "a": [1.5, np.nan, 3.0, 1.0],
            "n": pd.array([1, 2, None, 9], dtype="Int64"),
            "b": ["x", None, "x", "z"],
            "k": pd.Categorical(["u", "v", "u", "u"]),
            "f": [True, False, True, True],
            "d": [day, day, None, datetime.date(2024, 1, 9)],
            "s": pd.to_datetime(["2024-01-01 12:00", "2024-01-02 00:00", None, "2024-01-03 00:00"]),
            "y": ["p", "q", "p", "q"],
        }
    )
    frame.to_parquet(tmp_path / "t.parquet")
    frame.to_csv(tmp_path / "t.csv", index=False)
    typed, text = (table(tmp_path / f"t.{end}", target="y").fit() for end in ("parquet", "csv"))
    assert typed.preparation == text.preparation
    assert torch.equal(typed.tensors()[0], text.tensors()[0])
    assert typed.names[0] == "row 1"


def test_cells_that_are_neither_numbers_nor_text(tmp_path):
    pd.DataFrame({"x": [[1, 2], [3], [4], [5]], "y": ["a", "b", "a", "b"]}).to_parquet(tmp_path / "t.parquet")
    with pytest.raises(InputError, match=r"in column 'x' is neither a number nor text .*row 1"):
        table(tmp_path / "t.parquet", target="y")

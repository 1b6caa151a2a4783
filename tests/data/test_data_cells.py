"""CSV and Parquet as files: every fault is named with its file and line, and the file stays as it was."""

from __future__ import annotations

import gzip

import numpy as np
import pandas as pd
import pytest

from pellucid.core.errors import InputError
from pellucid.data.cells import read_cells

GOOD = "age,colour\n1,red\n2,blue\n"


def written(path, content):
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


FAULTS = {
    "empty": (b"", r"'.*t\.csv' is empty\. Give a first line of column names"),
    "blank": (b"\n  \n\n", "is empty"),
    "no rows": (b"a,b\n", r"has column names but no rows \(line 1\)"),
    "long row": (
        b"a,b\n1,2\n3,4,5\n",
        r"has a row of length 3 where its first line names 2 columns \(line 3\)\. Correct the line",
    ),
    "short row": (b"a,b\n1,2\n\n3\n4,5\n", r"has a row of length 1 where its first line names 2 columns \(line 4\)"),
    "after a long field": (b'a,b\n"1\n1",2\n3\n', r"has a row of length 1 .* \(line 4\)"),
    "latin-1": ("a,b\n1,2\n3,Zürich\n".encode("latin-1"), r"is not UTF-8 \(byte 11 \(0xfc\), line 3\)\. Save it as UTF-8"),
    "utf-16": (GOOD.encode("utf-16"), "is not UTF-8 but UTF-16"),
    "binary": (b"a,b\n1,\x00\n", r"is not text \(byte 6 is zero\)"),
    "twice": (b"a,b,a\n1,2,3\n", r"more than one column 'a' \(columns 1, 3\)\. Rename all but one"),
    "open quote": (b'a,b\n1,"2\n3,4\n', r"broken field: .*\(line 2\)\. Check the quotes"),
    "spreadsheet": (b"PK\x03\x04rest", "spreadsheet or zip file.*Save it as CSV UTF-8 or Parquet"),
    "gzip": (b"\x1f\x8brest", "damaged gzip file"),
    "parquet": (b"PAR1rest", "damaged Parquet file"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_faults(tmp_path, fault):
    content, message = FAULTS[fault]
    path = written(tmp_path / "t.csv", content)
    with pytest.raises(InputError, match=message):
        read_cells(path)
    assert path.read_bytes() == content
    assert [p.name for p in tmp_path.iterdir()] == ["t.csv"]


def test_no_such_file(tmp_path):
    written(tmp_path / "people.csv", GOOD)
    with pytest.raises(InputError, match=r"no file '.*poeple\.csv'\. Did you mean 'people\.csv'"):
        read_cells(tmp_path / "poeple.csv")


@pytest.mark.parametrize(
    "content",
    [
        GOOD,
        GOOD.replace(",", ";"),
        GOOD.replace(",", "\t"),
        GOOD.replace("\n", "\r\n"),
        "\ufeff" + GOOD,
        " age , colour \n 1 , red \n\n 2 ,blue",
        '"age","colour"\n"1","red"\n"2","blue"\n',
        "age,colour,\n1,red,\n2,blue,\n",
        ",age,colour\n0,1,red\n1,2,blue\n",
        gzip.compress(GOOD.encode(), mtime=0),
    ],
)
def test_forms_of_the_same_table(tmp_path, content):
    """Delimiters, line ends, byte order mark, blanks, quotes, a nameless index, gzip: one table."""
    frame = read_cells(written(tmp_path / "t.csv", content)).frame
    assert frame.to_dict("list") == {"age": ["1", "2"], "colour": ["red", "blue"]}


def test_lines_are_those_of_the_file(tmp_path):
    cells = read_cells(written(tmp_path / "t.csv", 'a,b\n1,2\n\n"x\ny",3\n4,5\n'))
    assert cells.places() == ["line 2", "line 4", "line 6"]
    assert cells.where(1).endswith("t.csv, line 4")


def test_missing_cells(tmp_path):
    frame = read_cells(written(tmp_path / "t.csv", "a,b\nNA,1\n,2\nnan,?\nx,N/A\n")).frame
    assert frame["a"].isna().tolist() == [True, True, True, False]
    assert frame["b"].isna().tolist() == [False, False, True, True]


def test_quoted_delimiters_and_line_breaks(tmp_path):
    frame = read_cells(written(tmp_path / "t.csv", 'a,b\n"1,5; x","two\nlines"\n')).frame
    assert frame.to_dict("list") == {"a": ["1,5; x"], "b": ["two\nlines"]}


def test_many_rows_in_pieces(tmp_path, monkeypatch):
    monkeypatch.setattr("pellucid.data.cells.CHUNK", 7)
    cells = read_cells(written(tmp_path / "t.csv", "a,b\n" + "".join(f"{i},{i % 3}\n" for i in range(50))))
    assert cells.frame["a"].tolist() == [str(i) for i in range(50)]
    assert cells.lines.tolist() == list(range(2, 52))


def test_numbers_as_names_are_said(tmp_path):
    cells = read_cells(written(tmp_path / "t.csv", "5.1,3.5,setosa\n4.9,3.0,setosa\n"))
    assert "the first line is taken as column names, but it holds numbers" in cells.notes[0]


def test_parquet_keeps_types_and_drops_a_plain_index(tmp_path):
    frame = pd.DataFrame({"a": [1.5, np.nan], "b": ["x", None], "c": [True, False]}, index=[5, 9])
    frame.to_parquet(tmp_path / "t.parquet")
    cells = read_cells(tmp_path / "t.parquet")
    assert cells.names == ["a", "b", "c"]
    assert cells.places() == ["row 1", "row 2"]
    assert cells.frame["c"].dtype == bool


def test_a_file_that_may_not_be_read(tmp_path, monkeypatch):
    path = written(tmp_path / "t.csv", GOOD)

    def refuse(self):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("pathlib.Path.read_bytes", refuse)
    with pytest.raises(InputError, match=r"t\.csv' cannot be read: Permission denied\. Check its permissions"):
        read_cells(path)

"""CSV and Parquet files to columns of cells, with the place of every row, and every fault of the file named by its line."""

from __future__ import annotations

import csv
import io
import itertools
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow
import pyarrow.parquet

from pellucid.core.errors import InputError, nearest

from .idx import read_bytes

MISSING = frozenset(["", "NA", "N/A", "n/a", "#N/A", "#NA", "<NA>", "NaN", "nan", "NULL", "Null", "null", "None", "none", "?"])
DELIMITERS = ",;\t"
CHUNK = 50_000
TEXT_CURE = "Save it as UTF-8 (in a spreadsheet: 'CSV UTF-8'; or: iconv -f LATIN1 -t UTF-8 OLD > NEW)."


@dataclass(eq=False)
class Cells:
    """A table as it stands in its file: text cells of a CSV without outer blanks, typed ones of a Parquet file.

    Missing cells are NaN. ``lines`` holds the line on which each row starts, ``()`` where there are no lines.
    """

    frame: pd.DataFrame
    path: str = ""
    lines: np.ndarray = field(default_factory=lambda: np.empty(0, np.int64))
    notes: list[str] = field(default_factory=list)

    def place(self, row: int) -> str:
        """Where a person finds this row."""
        return f"line {self.lines[row]}" if len(self.lines) else f"row {row + 1}"

    @property
    def names(self) -> list[str]:
        """The columns' names."""
        return [str(name) for name in self.frame.columns]

    def places(self) -> list[str]:
        """``place`` of every row."""
        return (
            [f"line {n}" for n in self.lines.tolist()] if len(self.lines) else [f"row {i + 1}" for i in range(len(self.frame))]
        )

    def where(self, row: int) -> str:
        """File and place."""
        return f"{self.path}, {self.place(row)}" if self.path else self.place(row)

    def column(self, name: str, use: str) -> pd.Series:
        """One column. Raises ``InputError`` naming the nearest when there is none."""
        if name not in self.frame:
            raise InputError(f"no column '{name}' for {use}", where=self.path, cure=nearest(name, self.names))
        return self.frame[name]


def read_cells(path: str | Path) -> Cells:
    """Read CSV (comma, semicolon or tab; also gzip) or Parquet, told apart by content.

    Raises ``InputError``, with the line, for an empty or binary file, bytes that are not UTF-8, rows of different lengths,
    broken quotes, column names that occur twice.
    """
    path = Path(path).expanduser()
    content = read_bytes(path)
    if content[:4] == b"PAR1":
        return _named(_parquet(content, path))
    if content[:4] == b"PK\x03\x04":
        raise InputError(f"'{path}' is a spreadsheet or zip file, not a table", cure="Save it as CSV UTF-8 or Parquet.")
    return _named(parse_csv(_text(content, str(path)), str(path)))


def _parquet(content: bytes, path: Path) -> Cells:
    try:
        frame = pyarrow.parquet.read_table(pyarrow.BufferReader(content)).to_pandas(ignore_metadata=True)
    except (pyarrow.ArrowException, OSError, ValueError) as error:
        reason = str(error).split("\n", 1)[0].rstrip(".")
        raise InputError(f"'{path}' is a damaged Parquet file: {reason}", cure="Write or fetch the file again.") from error
    return Cells(frame[[name for name in frame if name != "__index_level_0__"]], str(path))


def _text(content: bytes, path: str) -> str:
    if content[:2] in (b"\xff\xfe", b"\xfe\xff"):
        raise InputError(f"'{path}' is not UTF-8 but UTF-16", where="byte 0, line 1", cure=TEXT_CURE)
    if b"\0" in content:
        at = content.index(b"\0")
        raise InputError(f"'{path}' is not text", where=f"byte {at} is zero", cure="Give a CSV or a Parquet file.")
    try:
        return content.decode("utf-8").removeprefix("\ufeff")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        found = f"byte {error.start} (0x{content[error.start]:02x}), line {line}"
        raise InputError(f"'{path}' is not UTF-8", where=found, cure=TEXT_CURE) from None


def parse_csv(text: str, path: str) -> Cells:
    """Cells of a CSV text: the first row names the columns."""
    first = next((line for line in io.StringIO(text) if line.strip()), None)
    if first is None:
        raise InputError(f"'{path}' is empty", cure="Give a first line of column names and a line for each row.")
    unquoted = re.sub(r'"[^"]*"', "", first)
    delimiter = max(DELIMITERS, key=unquoted.count)
    rows = _rows(text, path, delimiter)
    header = [name.strip() for name in next(rows)[1]]
    lines: list[int] = []
    pieces = []
    while piece := list(itertools.islice(rows, CHUNK)):
        for line, fields in piece:
            if len(fields) != len(header):
                raise InputError(
                    f"'{path}' has a row of length {len(fields)} where its first line names {len(header)} columns",
                    where=f"line {line}",
                    cure=f"Correct the line; put quotes around a field that holds '{delimiter.replace(chr(9), 'tab')}'.",
                )
        lines += [line for line, _ in piece]
        pieces.append([_stripped(column) for column in zip(*(fields for _, fields in piece))])
    if not pieces:
        raise InputError(f"'{path}' has column names but no rows", where="line 1", cure="Add a line for each row.")
    columns = [pd.concat(parts, ignore_index=True) for parts in zip(*pieces)]
    frame: pd.DataFrame = pd.concat(columns, axis=1)
    frame.columns = pd.Index(header)
    return Cells(frame, path, np.array(lines))


def _rows(text: str, path: str, delimiter: str) -> Iterator[tuple[int, list[str]]]:
    """(Line on which the row starts, fields); blank lines are passed over."""
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    line = 1
    try:
        for fields in reader:
            if len(fields) > 1 or (fields and fields[0].strip()):
                yield line, fields
            line = reader.line_num + 1
    except csv.Error as error:
        raise InputError(
            f"'{path}' has a broken field: {error}", where=f"line {line}", cure='Check the quotes (") from there.'
        ) from None


def _stripped(values: Iterable[str]) -> pd.Series:
    column = pd.Series(list(values), dtype=str).str.strip()
    return column.mask(column.isin(MISSING))


def _named(cells: Cells) -> Cells:
    """Every column gets a name of its own; a nameless one is left out when it is empty or only counts the rows."""
    names = [str(name).strip() for name in cells.frame]
    cells.frame.columns = pd.Index(names)
    twice = sorted({name for name in names if name and names.count(name) > 1})
    if twice:
        at = [i + 1 for i, name in enumerate(names) if name == twice[0]]
        raise InputError(
            f"'{cells.path}' has more than one column '{twice[0]}'",
            where=f"columns {', '.join(map(str, at))}",
            cure="Rename all but one.",
        )
    keep = []
    for position, name in enumerate(names):
        column = cells.frame.iloc[:, position]
        if not name and column.isna().all():
            continue
        if not name and counts_rows(column):
            cells.notes.append(f"column {position + 1} has no name and only counts the rows: not used")
            continue
        keep.append(position)
        names[position] = name or f"column {position + 1}"
    if any(re.fullmatch(r"-?\d+[.,]\d+", name) for name in names):
        cells.notes.append(
            "the first line is taken as column names, but it holds numbers: add a line of names if it is a row of data"
        )
    cells.frame = cells.frame.iloc[:, keep]
    cells.frame.columns = pd.Index([names[i] for i in keep])
    return cells


def counts_rows(column: pd.Series) -> bool:
    """Whether the values are whole numbers that rise by one from row to row."""
    values = pd.to_numeric(column, errors="coerce").to_numpy(np.float64, na_value=np.nan)
    return len(values) > 1 and bool((values == values[0] + np.arange(len(values))).all()) and float(values[0]).is_integer()

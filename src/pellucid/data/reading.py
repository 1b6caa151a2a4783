"""One entry to all data sets, and a guess at how a path is to be read."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

from pellucid.core import checks
from pellucid.core.errors import InputError
from pellucid.core.table import DATA

from .cells import Cells, read_cells
from .dataset import Data
from .image_files import SUFFIXES
from .image_preparation import files_below

TARGETS = ("target", "label", "labels", "class", "y", "species", "outcome")


def read(name: str, path: str | Path | None = None, **options: Any) -> Data:
    """The data set ``name`` of the table DATA, from ``path`` where it needs one.

    Raises ``InputError`` for a name or an option that does not exist, naming the nearest, and for a path or an option that is
    lacking.
    """
    entry = DATA[name]
    entry.check_options(options)
    parameter = inspect.signature(entry.value).parameters.get("path")
    if parameter is None and path is not None:
        raise InputError(f"data set '{name}' takes no path", where=path, cure="Leave the path out, or use 'images' or 'table'.")
    if parameter is not None and parameter.default is parameter.empty and path is None:
        raise InputError(f"data set '{name}' needs a path", cure="Give the file or folder.")
    for option, declared in entry.options().items():
        if declared.default is declared.empty and option not in options:
            raise InputError(f"data set '{name}' needs the option '{option}'", where=path, cure=_choices(path))
    data: Data = entry.value(**options) if path is None else entry.value(path, **options)
    return data


def _choices(path: str | Path | None) -> str:
    if path is None or not Path(path).is_file():
        return "Give it."
    return f"The columns are: {', '.join(read_cells(path).names)}."


def guess(path: str | Path) -> tuple[str, dict[str, Any], list[str]]:
    """(reader, options, notes) for a folder or a file: what ``pellucid init`` writes down.

    A folder that holds images is ``images``; so is a table with a column of image files; any other table is ``table``, its
    target a column with a usual name, else the last. Raises ``InputError`` for everything else.
    """
    path = checks.existing(path)
    if path.is_dir():
        inside = list(files_below(path))
        if any(f.suffix.lower() in SUFFIXES for f in inside):
            return "images", {}, ["a folder with images: a class per sub-folder"]
        tables = sorted(f.name for f in inside if f.suffix.lower() in (".csv", ".tsv", ".parquet"))
        raise InputError(
            f"no images in '{path}'",
            cure=f"Give a table in it: {', '.join(tables[:5])}." if tables else "Give a CSV or images.",
        )
    if path.suffix.lower() in SUFFIXES:
        raise InputError(f"'{path}' is one image", cure="Give the folder that holds a sub-folder per class.")
    cells = read_cells(path)
    usual, how = _target(cells)
    files = _image_column(cells)
    if files is not None and files != usual:
        return "images", {"image": files, "label": usual}, [f"column '{files}' names image files; label: '{usual}', {how}"]
    return "table", {"target": usual}, [f"target: '{usual}', {how}"]


def _target(cells: Cells) -> tuple[str, str]:
    names = cells.names
    if len(names) < 2:
        raise InputError(f"'{cells.path}' has {len(names)} column", cure="Give a table with inputs and a target.")
    for usual in TARGETS:
        found = next((name for name in names if name.lower() == usual), None)
        if found is not None:
            return found, "by its name"
    return names[-1], "the last column"


def _image_column(cells: Cells) -> str | None:
    for name in cells.names:
        values = cells.frame[name].dropna().head(100)
        if len(values) and all(Path(str(value)).suffix.lower() in SUFFIXES for value in values):
            return name
    return None

"""One finished run of pictures and one of a table, shared by the tests that only read; copies for those that write."""

from __future__ import annotations

import shutil

import pytest

from pellucid.study.pipeline import run_study
from pellucid.study.run_directory import RunDirectory
from pellucid.study.specification import load_study
from study.tiny_studies import image_study, table_study


@pytest.fixture(scope="session")
def image_run(tmp_path_factory):
    """A finished run of pictures, all eight methods. Read only."""
    folder = tmp_path_factory.mktemp("bars")
    return run_study(load_study(image_study(folder)), folder / "run").path


@pytest.fixture(scope="session")
def table_run(tmp_path_factory):
    """A finished run of a table. Read only."""
    folder = tmp_path_factory.mktemp("pets")
    return run_study(load_study(table_study(folder)), folder / "run").path


@pytest.fixture
def own_table_run(table_run, tmp_path):
    """A copy of the table's run, beside a copy of its data, to be changed."""
    shutil.copytree(table_run.parent, tmp_path / "own")
    return RunDirectory.open(tmp_path / "own" / "run")

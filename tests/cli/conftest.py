"""A finished run beside its data, and the command in this process."""

from __future__ import annotations

import shutil

import pytest
from typer.testing import CliRunner

from pellucid.cli.main import app
from pellucid.study.pipeline import run_study
from pellucid.study.specification import load_study
from study.tiny_studies import table_study


@pytest.fixture(scope="session")
def finished(tmp_path_factory):
    """A folder with pets.csv, pets.yaml and the finished run ``run``. Copied for each test by ``here``."""
    folder = tmp_path_factory.mktemp("cli")
    run_study(load_study(table_study(folder)), folder / "run")
    return folder


@pytest.fixture
def here(finished, tmp_path, monkeypatch):
    """The current folder: a copy of ``finished``."""
    shutil.copytree(finished, tmp_path / "here")
    monkeypatch.chdir(tmp_path / "here")
    return tmp_path / "here"


@pytest.fixture
def pellucid():
    """Call the command: ``pellucid("list", "models")`` -> result with exit_code, stdout, stderr."""

    def call(*words: str):
        return CliRunner().invoke(app, list(words), prog_name="pellucid")

    return call

import csv
import os

import pytest
from small_training import learn, network

from pellucid.core.errors import InputError
from pellucid.training.history import COLUMNS, DIRECTIONS, History, improves


def test_csv_holds_every_row_in_full_precision(tmp_path):
    history = learn(network())
    path = tmp_path / "metrics.csv"
    history.write_csv(path)
    with path.open() as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == ["epoch", "step", "lr", "train_loss", "loss", "accuracy", "seconds"]
    assert [{name: float(value) for name, value in row.items()} for row in rows] == history.rows
    assert os.listdir(tmp_path) == ["metrics.csv"]


def test_csv_of_no_epoch_has_a_header(tmp_path):
    History().write_csv(tmp_path / "m.csv")
    assert (tmp_path / "m.csv").read_text() == ",".join(COLUMNS) + "\n"


def test_rows_are_copies_and_json_comes_back():
    history = learn(network(), epochs=2)
    history.to_rows()[0]["epoch"] = 99
    assert history.rows[0]["epoch"] == 1
    assert History(**history.to_json()) == history


def test_directions():
    nan = float("nan")
    assert improves("accuracy", 0.9, 0.8)
    assert not improves("accuracy", 0.8, 0.8)
    assert improves("loss", 0.7, 0.8)
    assert improves("r2", -3.0, None)
    assert not improves("loss", nan, None)
    assert not improves("loss", nan, 1.0)
    assert set(DIRECTIONS.values()) == {"up", "down"}


def test_unknown_metric_names_the_nearest():
    with pytest.raises(InputError, match="Did you mean 'accuracy'"):
        History(best_metric="acuracy").record({"epoch": 1}, {"accuracy": 1.0, "loss": 2.0}, 0.1)

"""Learning curves."""

from __future__ import annotations

import numpy as np
import pytest

from pellucid.core.errors import InputError
from pellucid.visual.training import learning_curves


def rows(epochs: int, **more: float) -> list[dict[str, float]]:
    return [{"epoch": e, "step": 9 * e, "lr": 0.1, "seconds": 1.0, "train_loss": 1 / e, **more} for e in range(1, epochs + 1)]


def lines(axes) -> dict[str, np.ndarray]:
    return {line.get_label(): line.get_xydata() for line in axes.lines if not line.get_label().startswith("_")}


def test_loss_and_metric_with_the_best_epoch(look):
    history = [{**row, "loss": 2 / row["epoch"], "accuracy": 0.9 - 0.1 / row["epoch"]} for row in rows(4)]
    figure = learning_curves(history, 3)
    left, right = figure.axes
    assert set(lines(left)) == {"training", "validation"}
    assert lines(left)["validation"][:, 1] == pytest.approx([2, 1, 2 / 3, 0.5])
    assert lines(right)["validation"][2].tolist() == pytest.approx([3, 0.9 - 0.1 / 3])
    said = look.words(figure)
    for words in ("Loss", "Accuracy", "epoch", "best: epoch 3 (0.6667)", "best: epoch 3 (0.8667)"):
        assert words in said


def test_one_epoch_is_a_marker(look):
    figure = learning_curves(rows(1, loss=1.0, accuracy=0.5), 1)
    assert all(
        line.get_marker() not in ("", "None") for axes in figure.axes for line in axes.lines if len(line.get_xdata()) == 1
    )
    assert look.cut(figure) == []


def test_without_validation_there_is_one_panel(look):
    figure = learning_curves(rows(3), 2)
    assert len(figure.axes) == 1
    assert set(lines(figure.axes[0])) == {"training"}
    assert "best: epoch 2" in look.words(figure)


def test_the_metric_can_be_chosen_and_training_values_stand_beside_it():
    history = rows(3, loss=1.0, accuracy=0.5, macro_f1=0.4, train_macro_f1=0.6)
    figure = learning_curves(history, metric="macro_f1")
    assert figure.axes[1].get_title(loc="left") == "Macro f1"
    assert set(lines(figure.axes[1])) == {"training", "validation"}
    assert len(learning_curves(history, metric="loss").axes) == 1


def test_missing_values_are_bridged_and_values_that_are_not_finite_are_named(look):
    history = rows(6)
    for place, row in enumerate(history):
        row |= {"loss": 1.0} if place % 2 else {"loss": None}
    history[3]["train_loss"] = float("nan")
    history[4]["train_loss"] = float("inf")
    figure = learning_curves(history)
    assert lines(figure.axes[0])["validation"][:, 0].tolist() == [2, 4, 6]
    assert any("training: 2 of 6 values not finite, first at epoch 4" in w for w in look.words(figure))


def test_rows_read_from_a_csv_file_are_texts():
    figure = learning_curves(
        [{"epoch": "1", "train_loss": "0.5", "loss": ""}, {"epoch": "2", "train_loss": "0.25", "loss": "1"}]
    )
    assert lines(figure.axes[0])["training"].tolist() == [[1, 0.5], [2, 0.25]]
    assert lines(figure.axes[0])["validation"].tolist() == [[2, 1]]


def test_what_does_not_fit_is_refused():
    with pytest.raises(InputError, match=r"a row of the history has no epoch \(row 1\)"):
        learning_curves([{"epoch": 1, "train_loss": 1}, {"train_loss": 1}])
    with pytest.raises(InputError, match="metric is 'acuracy'. Did you mean 'accuracy'"):
        learning_curves(rows(2, accuracy=0.5), metric="acuracy")

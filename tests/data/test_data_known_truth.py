"""Q7, the data: labels follow from what the truth marks and from nothing else; rows are their own; sets can be studied."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from pellucid.core.errors import InputError
from pellucid.core.table import DATA
from pellucid.data import known_truth as module
from pellucid.data.dataset import Data
from pellucid.data.known_truth import DECOY, GENERATORS, MARGIN, MOTIFS, known_truth
from pellucid.data.preparation import preparation_from_json
from pellucid.data.reading import read

SETS = {"images": (1, 28, 28), "table": (12,), "dna": (4, 60)}


@pytest.fixture(scope="module")
def made():
    return {kind: known_truth(kind, samples=400, seed=3) for kind in GENERATORS}


@pytest.mark.parametrize("kind", list(GENERATORS))
def test_a_row_depends_on_the_seed_and_its_number_alone(kind, made):
    whole, few, other = made[kind], known_truth(kind, samples=5, seed=3), known_truth(kind, samples=5, seed=4)
    np.testing.assert_array_equal(few.x, whole.x[:5])
    np.testing.assert_array_equal(few.y, whole.y[:5])
    np.testing.assert_array_equal(few.truth, whole.truth[:5])
    assert not np.array_equal(few.x, other.x)
    assert len(whole) == len(whole.x) == len(whole.truth) == 400
    assert len(np.unique(whole.x.reshape(400, -1), axis=0)) == 400


@pytest.mark.parametrize("kind", list(GENERATORS))
def test_classes_are_about_equally_frequent_and_every_row_has_a_truth(kind, made):
    counts = np.bincount(made[kind].y, minlength=len(made[kind].classes))
    assert counts.min() > 0.7 * counts.mean()
    truth = made[kind].truth.reshape(400, -1).astype(float)
    assert (np.nanmax(truth, 1) == 1).all()
    assert (np.nanmin(truth, 1) == 0).all()


@pytest.mark.parametrize("colour", [False, True])
def test_pictures_hold_the_shape_of_the_class_where_the_truth_is_and_one_other(colour):
    """Nothing but strokes is as bright as ink, and what is not of the class's shape is of the distractor's, apart from it."""
    few = known_truth("images", samples=60, seed=1, colour=colour)
    assert few.x.shape == (60, 28, 28, 3)[: 4 if colour else 3]
    bright = few.x if not colour else few.x.max(3)
    ink = bright >= 255 * module.INK[0] - 0.5
    assert (ink & few.truth).sum() == few.truth.sum()
    shapes, others = list(module.SHAPES.values()), list(module.DISTRACTORS.values())
    for i in range(60):
        found = [_cut(few.truth[i]), _cut(ink[i] & ~few.truth[i])]
        wanted = (shapes[few.y[i]], others[few.about["distractor of each row"][i]])
        for cut, shape in zip(found, wanted):
            np.testing.assert_array_equal(cut, module._form(shape, max(cut.shape)))
        spread = few.truth[i].copy()
        spread[1:] |= few.truth[i][:-1]
        spread[:-1] |= few.truth[i][1:]
        spread[:, 1:] |= few.truth[i][:, :-1]
        spread[:, :-1] |= few.truth[i][:, 1:]
        assert not (spread & ink[i] & ~few.truth[i]).any()


def _cut(mask):
    """The mask within the square around it."""
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    return mask[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]


def test_the_other_shape_says_nothing_of_the_class_and_lies_and_shines_like_it(made):
    images = made["images"]
    table = np.zeros((4, 3))
    np.add.at(table, (images.y, images.about["distractor of each row"]), 1)
    expected = np.outer(table.sum(1), table.sum(0)) / 400
    assert ((table - expected) ** 2 / expected).sum() < 22.5  # chi-squared of 6 degrees of freedom exceeds it once in 1,000
    ink = (images.x >= 255 * module.INK[0] - 0.5) & ~images.truth
    for i, mask in enumerate((images.truth, ink)):
        levels = [images.x[j][mask[j]].mean() for j in range(400)]
        assert 220 < np.mean(levels) < 227, i
        where = np.argwhere(mask)[:, 1:]
        assert abs(where.mean(0) - 13.5).max() < 1.2, i  # six deviations of a mean over 400 places
        assert [where.min(), where.max()] == [0, 27], i


def test_the_label_of_a_row_is_the_sign_of_its_score(made):
    table, about = made["table"], made["table"].about
    column = {name: table.x[:, j] for j, name in enumerate(table.names)}
    a, b, c = (column[name] for name in about["additive"])
    e, f = (column[name] for name in about["interaction"])
    d, copy = (column[name] for name in about["either"])
    score = a - b + c + d + 2 * e * f
    np.testing.assert_array_equal(table.y, score > 0)
    assert abs(score).min() >= MARGIN
    assert 0 < abs(copy - d).max() < 0.3
    rest = [abs(column[name]) for name in table.names if name != about["either"][1]]
    assert 0.5 <= np.min(rest) <= np.max(rest) <= 1.5
    marks = dict(zip(table.names, table.truth[0]))
    assert {marks[n] for n in about["additive"] + about["interaction"]} == {1}
    assert {marks[n] for n in about["distractors"]} == {0}
    assert np.isnan([marks[n] for n in about["either"]]).all()
    assert sorted(sum((about[role] for role in module.ROLES), ())) == sorted(table.names)


def test_columns_that_act_only_together_say_nothing_alone(made):
    table = known_truth("table", samples=2500)
    sign = 2.0 * table.y - 1
    product = 1.0
    for name in table.about["interaction"]:
        column = table.x[:, table.names.index(name)]
        assert abs(np.corrcoef(column, sign)[0, 1]) < 0.07
        product = product * column
    assert np.corrcoef(product, sign)[0, 1] > 0.5
    for name in table.about["distractors"]:
        assert abs(np.corrcoef(table.x[:, table.names.index(name)], sign)[0, 1]) < 0.07
    assert made["table"].about["additive"] != table.about["additive"]  # another seed, other places


def test_the_motif_of_the_class_is_where_the_truth_is_and_the_decoy_in_every_class(made):
    dna = made["dna"]
    wanted = [np.frombuffer(MOTIFS[dna.classes[y]].encode(), np.uint8) for y in dna.y]
    found = dna.x[dna.truth].reshape(400, 8)
    different = (found != np.array(wanted)).mean()
    assert 0.02 < different < 0.06  # 5 % drawn anew, of which a quarter is the same again
    assert (np.diff(dna.truth.astype(int), axis=1) == 1).sum(1).max() == 1
    decoy = np.frombuffer(DECOY.encode(), np.uint8)
    windows = np.lib.stride_tricks.sliding_window_view(dna.x, 8, axis=1)
    nearest = (windows == decoy).sum(2).max(1)
    assert all((nearest[dna.y == k] >= 6).mean() > 0.97 for k in range(3))


@pytest.mark.parametrize("channels", [1, 2])
def test_bursts_stand_out_where_the_truth_is_and_once_more(channels):
    series = known_truth("series", samples=200, seed=2, channels=channels)
    assert series.x.shape == (200, channels, 128)
    assert series.x.dtype == np.float32
    assert (series.truth.sum(1) == 32).all()
    power = (series.x**2).mean(1)
    on, off = power[series.truth].mean(), power[~series.truth]
    assert on > 0.3
    assert off.mean() < on
    assert np.median(off) < 0.2 < np.quantile(off, 0.9)  # the quiet, and the false burst
    turns = {}
    for k, name in enumerate(series.classes):
        own = series.x[series.y == k][:, 0][series.truth[series.y == k]].reshape(-1, 32)
        turns[name] = np.abs(np.fft.rfft(own))[:, 1:].mean(0).argmax() + 1
    assert turns["slow"] == 2
    assert turns["fast"] == 6


@pytest.mark.parametrize("kind", list(SETS))
def test_contract_of_the_sets(kind):
    name = f"known_truth_{kind}"
    data, again, other = read(name, train=40, test=10), read(name, train=40, test=10), read(name, train=40, test=10, seed=1)
    plain = known_truth(kind, samples=50)
    assert data.fingerprint() == again.fingerprint() != other.fingerprint()
    assert (data.reader, data.options["train"], data.kind, data.task) == (name, 40, DATA[name].facts["kind"], "classification")
    assert read(data.reader, **data.options).fingerprint() == data.fingerprint()
    assert data.source
    assert data.licence
    assert data.notes == []
    assert data.classes == plain.classes
    np.testing.assert_array_equal(data.y, plain.y)
    np.testing.assert_array_equal(data.truth, plain.truth)
    made = data.split()
    assert np.array_equal(made.test, np.arange(40, 50))
    x, y = data.fit(made.train).batch(made.test)
    assert x.shape == (10, *SETS[kind])
    assert data.truth.shape == (50, *SETS[kind][1:]) or kind == "table"
    assert torch.equal(y, data.y[40:])
    restored = preparation_from_json(json.loads(json.dumps(data.preparation.to_json())))
    assert torch.equal(restored.apply(data.rows.take(made.test)), x)
    json.dumps(data.options)


def test_colour_and_the_default_size():
    assert read("known_truth_images", train=4, test=2, colour=True).fit().batch([0, 5])[0].shape == (2, 3, 28, 28)
    assert {part: len(rows) for part, rows in read("known_truth_dna").parts.items()} == {"train": 2000, "test": 500}


def test_the_prepared_samples_lie_as_the_truth_does():
    """Columns of the prepared table are in the order of the truth, letters of the prepared sequence at its positions."""
    table = read("known_truth_table", train=50, test=10).fit()
    assert table.preparation.features == known_truth("table", samples=1).names
    dna = read("known_truth_dna", train=50, test=10).fit()
    x, _ = dna.batch(range(50))
    letters = np.frombuffer(b"ACGT", np.uint8)[x.argmax(1).numpy()]
    np.testing.assert_array_equal(letters, known_truth("dna", samples=50).x)


def test_a_truth_of_another_length_is_refused():
    data = read("known_truth_dna", train=4, test=2)
    facts = {k: getattr(data, k) for k in ("reader", "options", "kind", "task", "rows", "y", "classes", "preparation", "names")}
    with pytest.raises(InputError, match="different lengths.*truth 5"):
        Data(**facts, truth=data.truth[:5])


@pytest.mark.parametrize(
    ("kind", "options", "words"),
    [
        ("image", {}, "Did you mean 'images'"),
        ("images", {"samples": 0}, "samples is 0"),
        ("images", {"color": True}, "Did you mean 'colour'"),
        ("table", {"colour": True}, "'table' has no option 'colour'"),
        ("series", {"channels": 0}, "channels is 0"),
    ],
)
def test_known_truth_refuses(kind, options, words):
    with pytest.raises(InputError, match=words):
        known_truth(kind, **options)


def test_sets_refuse_parts_without_rows():
    with pytest.raises(InputError, match="test is 0"):
        read("known_truth_table", test=0)

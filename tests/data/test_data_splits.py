"""F4, hold-out: every split is a deterministic partition; groups and identical rows stay whole; training has all classes."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pellucid.core.errors import InputError
from pellucid.data.splits import split

QUICK = settings(max_examples=60, deadline=None)


def check_partition(made, n):
    every = np.concatenate([made.train, made.validation, made.test])
    assert len(every) == n
    assert np.array_equal(np.sort(every), np.arange(n))
    for part in (made.train, made.validation, made.test):
        assert part.dtype == np.int64
        assert (np.diff(part) > 0).all()


def parts_of(made, values):
    """For each value, in how many parts it occurs."""
    parts = [set(np.asarray(values)[rows].tolist()) for rows in (made.train, made.validation, made.test)]
    return {value: sum(value in part for part in parts) for value in set(np.asarray(values).tolist())}


@st.composite
def problems(draw):
    """Rows with classes, groups, times and identical rows, from few values to many."""
    n = draw(st.integers(6, 80))
    rng = np.random.default_rng(draw(st.integers(0, 10**6)))

    def column(*values):
        return rng.integers(0, draw(st.sampled_from(values)), n)

    identical = np.arange(n)
    repeats = draw(st.integers(0, n // 2))
    identical[:repeats] = rng.integers(0, n, repeats)
    return {
        "n": n,
        "y": column(2, 3, 8),
        "groups": column(3, 8, 40),
        "order": column(3, 8, 80),
        "identical": draw(st.sampled_from([identical, column(3, n)])),
        "test": draw(st.sampled_from([0.0, 0.1, 0.25, 0.5])),
        "validation": draw(st.sampled_from([0.0, 0.1, 0.3])),
        "seed": draw(st.integers(0, 5)),
    }


@pytest.mark.parametrize("by", ["stratified", "random", "grouped", "time"])
@QUICK
@given(problem=problems())
def test_every_way_is_a_partition_that_cuts_nothing(by, problem):
    """Or it is refused with a cure; the same call gives the same parts."""
    problem = {**problem, "by": by}
    try:
        made = split(**problem)
    except InputError:
        return
    check_partition(made, problem["n"])
    assert set(parts_of(made, problem["identical"]).values()) == {1}
    if by == "grouped":
        assert set(parts_of(made, problem["groups"]).values()) == {1}
    for name in ("test", "validation"):
        assert bool(len(getattr(made, name))) == (problem[name] > 0)
        assert set(problem["y"][getattr(made, name)]) <= set(problem["y"][made.train])
    again = split(**problem)
    for name in ("train", "validation", "test"):
        assert np.array_equal(getattr(made, name), getattr(again, name))
    assert made.by == by


@QUICK
@given(problem=problems(), by=st.sampled_from(["random", "time", "stratified"]))
def test_sizes_without_repeats_are_as_asked(problem, by):
    """To the row; stratified may give up one row for each class that would lose its last one."""
    n, y = problem["n"], problem["y"] % 2
    asked = {name: max(1, round(problem[name] * n)) if problem[name] else 0 for name in ("test", "validation")}
    options = {name: problem[name] for name in ("test", "validation", "seed")}
    made = split(n, **options, by=by, order=np.arange(n), y=y if by == "stratified" else None)
    got = {name: len(getattr(made, name)) for name in asked}
    if by == "stratified":
        assert all(asked[name] - 2 <= got[name] <= asked[name] for name in asked)
    else:
        assert got == asked


@QUICK
@given(counts=st.lists(st.integers(5, 60), min_size=2, max_size=5), seed=st.integers(0, 3))
def test_stratified_keeps_the_shares(counts, seed):
    y = np.repeat(np.arange(len(counts)), counts)
    made = split(len(y), y=y, seed=seed)
    assert made.by == "stratified"
    for name, share in (("test", 0.2), ("validation", 0.1)):
        here = np.bincount(y[getattr(made, name)], minlength=len(counts))
        assert (np.abs(here - share * np.array(counts)) <= 1).all()
        assert here.sum() == max(1, round(share * len(y)))


@pytest.mark.parametrize("by", ["stratified", "random", "grouped", "time"])
def test_the_property_is_not_empty(by):
    """Most problems with few repeats can be split, so the test above does check something."""
    done = 0
    for seed in range(30):
        rng = np.random.default_rng(seed)
        identical = np.where(rng.random(60) < 0.2, rng.integers(0, 60, 60), np.arange(60))
        y = rng.integers(0, 2, 60)
        try:
            split(60, y=y, groups=rng.integers(0, 60, 60), order=rng.integers(0, 60, 60), identical=identical, by=by)
            done += 1
        except InputError:
            continue
    assert done > 20


def test_seeds_differ():
    y = np.arange(100) % 2
    assert not np.array_equal(split(100, y=y, seed=0).test, split(100, y=y, seed=1).test)


def test_rows_are_mixed():
    """The test part is no block of the first or the last rows."""
    test = split(1000, y=np.zeros(1000)).test
    assert 400 < test.mean() < 600


def test_identical_rows_are_counted_and_kept_together():
    identical = np.arange(100)
    identical[90:] = np.arange(10)
    made = split(100, y=np.arange(100) % 2, identical=identical)
    assert made.notes == ["rows that are an exact repeat of another: 10; identical rows are kept in one part"]
    assert set(parts_of(made, identical).values()) == {1}


def test_groups_and_identical_rows_join_into_one_unit():
    """a-b share a group, b-c are identical: a and c go together."""
    groups = np.array([0, 0, 1, 2, 3, 4, 5, 6])
    identical = np.array([0, 1, 1, 3, 4, 5, 6, 7])
    for seed in range(20):
        made = split(8, groups=groups, identical=identical, seed=seed, test=0.4, validation=0.2)
        assert set(parts_of(made, [0, 0, 0, 3, 4, 5, 6, 7]).values()) == {1}


@pytest.mark.parametrize(
    ("given_", "way"),
    [
        ({"order": range(20), "groups": [0, 1] * 10, "y": [0, 1] * 10}, "time"),
        ({"groups": np.arange(20) // 2, "y": [0, 1] * 10}, "grouped"),
        ({"y": [0, 1] * 10}, "stratified"),
        ({"y": [True, False] * 10}, "stratified"),
        ({"y": ["a", "b"] * 10}, "stratified"),
        ({"y": np.linspace(0, 1, 20)}, "random"),
        ({"y": np.eye(20)[:, :2] + 1}, "random"),
        ({}, "random"),
    ],
)
def test_auto(given_, way):
    made = split(20, **given_)
    assert made.by == way
    check_partition(made, 20)


def test_ignored_groups_are_said():
    made = split(20, y=[0, 1] * 10, groups=[0, 1] * 10, by="stratified")
    assert made.notes == ["split by 'stratified': rows of one group may be in several parts"]


def test_time_puts_the_last_rows_into_test():
    order = np.random.default_rng(0).permutation(50)
    made = split(50, order=order)
    assert sorted(order[made.test]) == list(range(40, 50))
    assert sorted(order[made.validation]) == list(range(35, 40))


def test_no_time_is_in_two_parts():
    years = np.repeat([2001, 2002, 2003, 2004], 10)
    made = split(40, order=years, test=0.2, validation=0.2)
    assert [set(years[p].tolist()) for p in (made.train, made.validation, made.test)] == [{2001, 2002}, {2003}, {2004}]
    assert "the test part has 10 rows instead of 8, as rows that belong together are not cut" in made.notes


def test_identical_rows_of_several_times_go_with_the_latest():
    made = split(10, order=range(10), identical=[0, 1, 2, 3, 4, 5, 6, 7, 8, 0], validation=0)
    assert made.test.tolist() == [0, 9]


def test_a_class_with_one_row_stays_in_training():
    y = np.array([0] * 20 + [1] * 20 + [2])
    for by in ("stratified", "random"):
        for seed in range(15):
            made = split(41, y=y, by=by, seed=seed, test=0.4, validation=0.3, classes=["ant", "bee", "cow"])
            assert 40 in made.train
            assert "class 'cow' has one row: it stays in training, and nothing tests it" in made.notes


def test_classes_without_a_test_row_are_said():
    y = np.array([0] * 50 + [1] * 2)
    assert "classes without a test row: 'bee'" in split(52, y=y, classes=["ant", "bee"]).notes


def test_multilabel_keeps_every_label_in_training():
    y = np.zeros((30, 3))
    y[:, 0], y[::2, 1], y[7, 2] = 1, 1, 1
    for seed in range(10):
        assert 7 in split(30, y=y, seed=seed, test=0.4, validation=0.3).train


PARTS = {"train": np.arange(30), "test": np.arange(30, 40)}


def test_fixed_parts_are_respected():
    made = split(40, y=np.arange(40) % 2, parts=PARTS, validation=0.2)
    check_partition(made, 40)
    assert made.test.tolist() == list(range(30, 40))
    assert len(made.validation) == 6
    assert made.validation.max() < 30


def test_a_fixed_validation_part_is_kept():
    parts = {"train": range(20), "validation": range(20, 30), "test": range(30, 40)}
    assert split(40, parts=parts).validation.tolist() == list(range(20, 30))


def test_repeats_across_fixed_parts_are_reported_and_left():
    identical = np.arange(40)
    identical[35:] = np.arange(5)
    identical[9] = 8
    made = split(40, y=np.arange(40) % 2, parts=PARTS, identical=identical, groups=identical)
    assert made.notes == [
        "rows that are an exact repeat of another: 6",
        "test rows that repeat a training row: 5; the parts that the data fixes are left as they are",
        "test rows that share a group with a training row: 5; the parts that the data fixes are left as they are",
    ]
    assert made.test.tolist() == list(range(30, 40))
    assert (8 in made.train) == (9 in made.train)


def test_more_classes_in_test_than_in_training():
    y = np.array([0, 1] * 15 + [2] * 10)
    with pytest.raises(
        InputError, match=r"the test part has classes that training lacks: 'cow' \(rows: 10\)\. Give the training part"
    ):
        split(40, y=y, parts=PARTS, classes=["ant", "bee", "cow"])
    with pytest.raises(InputError, match=r"classes that training lacks: '2' .*appears too late"):
        split(40, y=y, order=range(40))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"by": "strat"}, "by is 'strat'. Did you mean 'stratified'"),
        ({"by": "grouped"}, r"'grouped' needs groups \(for a table: group\)"),
        ({"by": "time"}, "'time' needs an order"),
        ({"by": "stratified", "y": np.linspace(0, 1, 10)}, "'stratified' needs one class per row"),
        ({"test": 1.2}, "test is 1.2. Give a number between 0 and 1"),
        ({"test": -0.1}, "test is -0.1"),
        ({"validation": "half"}, "validation is 'half'"),
        ({"test": 0.7, "validation": 0.3}, "test 0.7 . validation 0.3 leaves nothing to train on"),
        ({"test": 1.0, "validation": 0}, "leaves nothing to train on"),
        ({"y": [0, 1]}, "different lengths: rows 10, y 2"),
        ({"groups": [0] * 10}, "no rows can be spared for the test part"),
        ({"identical": [0] * 10}, "no rows can be spared for the test part"),
        ({"order": [1.0] * 9 + [np.nan]}, r"order holds NaN \(row 9\)"),
        ({"order": [1] * 5 + [2] * 5}, "2 different times cannot fill 3 parts"),
        ({"parts": {"train": range(5)}}, "fixed parts are train. Give both train and test"),
        ({"parts": {"train": range(5), "test": range(4, 10)}}, r"not hold every row exactly once \(row 4\)"),
        ({"parts": {"train": range(5), "test": range(5, 9)}}, r"every row exactly once \(row 9\)"),
        ({"parts": {"train": range(5), "tset": range(5, 10)}}, "part is 'tset'. Did you mean 'test'"),
    ],
)
def test_what_cannot_be_split(options, message):
    with pytest.raises(InputError, match=message):
        split(10, **options)


@pytest.mark.parametrize("n", [0, 1, 2])
def test_too_few_rows(n):
    with pytest.raises(InputError, match=f"{n} rows cannot fill 3 parts"):
        split(n)


def test_three_rows_fill_three_parts():
    assert [len(p) for p in vars(split(3)).values() if isinstance(p, np.ndarray)] == [1, 1, 1]


def test_many_rows_are_quick():
    """200,000 rows with groups and repeats: the work is in arrays and one pass."""
    rng = np.random.default_rng(0)
    made = split(200_000, y=rng.integers(0, 10, 200_000), identical=rng.integers(0, 190_000, 200_000), by="stratified")
    assert abs(len(made.test) - 40_000) < 100


def test_few_different_rows_are_said():
    """Eight combinations of three yes/no columns: a part holds whole combinations, and that is told."""
    made = split(800, identical=np.arange(800) % 8)
    assert made.notes[0].endswith("identical rows are kept in one part, so the parts hold different combinations of values")
    assert [len(made.test), len(made.validation)] == [100, 100]
    assert "the validation part has 100 rows instead of 80, as rows that belong together are not cut" in made.notes

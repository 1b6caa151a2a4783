"""The leaderboard: every method once, the best on top, its interval, its verdict, its cost."""

from __future__ import annotations

import pytest

from pellucid.core.errors import InputError
from pellucid.visual.leaderboard import leaderboard

RANKS = {f"method_{i}_with_a_long_name": (1.0 + i, 0.7 + i, 1.4 + i) for i in range(40)}
SECONDS = {name: 10.0 ** (i % 5 - 4) for i, name in enumerate(RANKS)}


def test_all_names_verdicts_and_costs(look):
    passed = {name: (True, False, None)[i % 3] for i, name in enumerate(RANKS)}
    figure = leaderboard(RANKS, passed, SECONDS)
    ranks, cost = figure.axes
    assert [label.get_text() for label in ranks.get_yticklabels()] == list(RANKS)
    assert [line.get_xdata()[0] for line in ranks.lines[1::2]] == [mean for mean, _, _ in RANKS.values()]
    assert [tuple(line.get_xdata()) for line in ranks.lines[::2]] == [(low, high) for _, low, high in RANKS.values()]
    assert ranks.get_ylim()[0] > ranks.get_ylim()[1]
    assert [line.get_xdata()[0] for line in cost.lines] == list(SECONDS.values())
    assert [t.get_text() for t in cost.get_xticklabels()] == ["0.1", "1", "10", "100", "1000"]
    assert len({line.get_marker() for line in ranks.lines[1::2]}) == 2
    words = look.words(figure)
    assert {"passes the sanity check", "fails it", "not checked"} <= set(words)
    assert look.cut(figure) == []
    assert look.overlapping(look.texts(figure)) == []


def test_without_verdicts_and_cost_there_is_one_panel(look):
    figure = leaderboard({"gradient": (1.0, 1.0, 1.0)})
    assert len(figure.axes) == 1
    assert figure.legends == []
    assert look.cut(figure) == []


def test_bad_numbers():
    with pytest.raises(InputError, match="rank of 'a' is nan"):
        leaderboard({"a": (float("nan"), 1.0, 2.0)})
    with pytest.raises(InputError, match="takes no time"):
        leaderboard({"a": (1.0, 1.0, 2.0)}, seconds={"a": 0.0})

"""The verdict on a planted shortcut and the alarm for a model of one's own, by hand and on models that are known."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from torch import nn

import pellucid
from networks import Dense, GapLinear, network, samples
from pellucid.core.errors import InputError
from pellucid.core.table import MEASURES
from pellucid.evaluation.intervals import bootstrap
from pellucid.quality.shortcut import REVEALS, SILENT, UNKNOWN, OnMask, compared, relevance_on, shortcut_alarm


def on(*shares: float, area: float = 0.2) -> OnMask:
    values = np.array(shares)
    return OnMask(values, (values > 0.5).astype(float), np.full(len(values), area))


def test_verdict_by_hand():
    found = compared(on(0.5, 0.6, 0.7, 0.8, 0.9, np.nan), on(0.1, 0.2, np.nan, 0.2, 0.1, 0.1, area=0.2), seed=3)
    assert (found.verdict, found.pairs) == (UNKNOWN, 4)
    found = compared(on(0.5, 0.6, 0.7, 0.8, 0.9, np.nan), on(0.1, 0.2, 0.3, 0.2, 0.1, 0.1), seed=3)
    assert (found.verdict, found.pairs) == (REVEALS, 5)
    assert found.share == pytest.approx(0.7)
    assert found.control == pytest.approx(1 / 6)
    assert found.difference == pytest.approx(0.52)
    by_hand = bootstrap(np.array([0.4, 0.4, 0.4, 0.6, 0.8]), lambda means: means, seed=3)
    assert (found.interval.lower, found.interval.upper) == pytest.approx((by_hand.lower, by_hand.upper))
    assert json.loads(json.dumps(found.to_json()))["interval"]["lower"] == pytest.approx(by_hand.lower)


@pytest.mark.parametrize(
    ("shortcut", "control", "learned", "verdict", "why"),
    [
        ([0.5, 0.6, 0.7, 0.8, 0.9], [0.1] * 5, False, UNKNOWN, "did not learn"),
        ([0.5, 0.6, 0.7, 0.8, 0.9], [0.5, 0.6, 0.7, 0.8, 0.9], True, SILENT, "control"),
        ([0.5, 0.6, 0.7, 0.8, 0.9], [0.9, 0.2, 0.9, 0.4, 0.9], True, SILENT, "control"),
        ([0.12, 0.11, 0.10, 0.13, 0.12], [0.01] * 5, True, SILENT, "chance"),
        ([0.15, 0.11, 0.10, 0.13, 0.60], [0.01] * 5, True, SILENT, "chance"),
        ([0.22, 0.23, 0.24, 0.25, 0.26], [0.1] * 5, True, REVEALS, "chance"),
        ([np.nan] * 5, [0.1] * 5, True, UNKNOWN, "only 0 of 5"),
    ],
)
def test_the_rule_of_the_verdict(shortcut, control, learned, verdict, why):
    found = compared(on(*shortcut), on(*control), learned=learned)
    assert found.verdict == verdict
    assert why in found.why


def test_rounding_of_maps_that_never_saw_the_model_reveals_nothing():
    shares = np.linspace(0.3, 0.5, 8)
    assert compared(on(*(shares + 1e-9)), on(*shares)).verdict == SILENT
    with pytest.raises(InputError, match="different lengths"):
        compared(on(0.1, 0.2), on(0.1))


def test_alarm_by_hand():
    maps = np.zeros((5, 3, 3))
    maps[:, 1, 1], maps[:, 0, 0], maps[:, 2, 2] = 1.0, 3.0, -7.0
    mask = np.zeros((3, 3), bool)
    mask[0, 0] = True
    found = shortcut_alarm(maps, mask)
    np.testing.assert_allclose(found.values, 0.75)
    assert (float(found), found.chance, found.edge, len(found)) == (pytest.approx(0.75), pytest.approx(1 / 9), None, 5)
    assert found.interval.lower == pytest.approx(0.75 - 1 / 9)
    assert bool(found)
    assert found.verdict == "alarm: 75.0% of the positive relevance lies on the mask (11.1% of the area), beyond the interval"
    other = np.zeros((3, 3), bool)
    other[2, 2] = True
    quiet = shortcut_alarm(maps, other)
    assert not quiet
    assert quiet.verdict.startswith("no alarm: 0.0%")


def test_edges_raise_the_bar():
    x = torch.zeros(6, 1, 9, 9, dtype=torch.float64)
    x[:, :, 3:6, 3:6] = 1.0
    maps = np.zeros((6, 9, 9))
    mask = np.zeros((9, 9), bool)
    mask[2:7, 2:7] = True  # all edges of the picture
    maps[:, 2:7, 2:7], maps[:, 0, 0] = 1.0, 1.0
    assert shortcut_alarm(maps, mask)
    found = shortcut_alarm(maps, mask, x=x)
    np.testing.assert_allclose(found.edges, 1.0)
    assert found.interval.upper == pytest.approx(25 / 26 - 1)
    assert not found
    assert "100.0% of the edges" in found.verdict
    flat = shortcut_alarm(maps, mask, x=torch.zeros(6, 1, 9, 9))  # no edges at all: the area is the bar
    assert flat.edge is not None
    assert np.isnan(flat.edge)
    assert flat


def test_the_border_is_an_outer_ring():
    maps = np.zeros((5, 28, 15))
    maps[:, 0], maps[:, 27], maps[:, 1, 3], maps[:, 2, 2] = 1.0, 1.0, 1.0, 1.0
    found = shortcut_alarm(maps)
    ring = 28 * 15 - 24 * 11  # two cells of 28 and, rounded up, two of 15
    assert found.chance == pytest.approx(ring / (28 * 15))
    np.testing.assert_allclose(found.values, 31 / 32)
    assert shortcut_alarm(maps[:, :14], border=1 / 14).chance == pytest.approx(1 - 12 * 11 / (14 * 15))


def test_few_or_blank_maps_give_no_alarm_but_say_so():
    maps = np.zeros((9, 4, 4))
    maps[:4, 0, 0] = 1.0
    found = shortcut_alarm(maps)
    assert not found
    assert found.verdict.startswith("nothing can be concluded: 4 of 9 maps")
    plain = found.to_json()
    assert plain["blank"] == 5
    assert "padd" in " ".join(plain["notes"]).lower()
    assert not shortcut_alarm(np.zeros((9, 4, 4)))


def test_an_explanation_brings_its_samples():
    model, x = network(GapLinear), samples(GapLinear, 6)
    made = pellucid.gradient_times_input(model, x)
    found = shortcut_alarm(made, seed=2)
    ring = np.ones(x.shape[2:], bool)
    ring[1:-1, 1:-1] = False
    edges = relevance_on(ring, pellucid.edge_detector(model, x)).share
    np.testing.assert_allclose(found.edges, edges, rtol=1e-12)
    excess = relevance_on(ring, made).share - np.maximum(ring.mean(), edges)
    assert found.interval.lower == pytest.approx(bootstrap(excess[~np.isnan(excess)], lambda m: m, seed=2).lower)
    table = pellucid.gradient(network(Dense), samples(Dense, 6))
    assert shortcut_alarm(table, np.arange(table.relevance.shape[1]) == 0).edges is None


class Part(nn.Module):
    """Two classes told apart by the brightness of some rows."""

    def __init__(self, rows: slice) -> None:
        super().__init__()
        self.rows = rows

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        seen = x[..., self.rows, :].mean((1, 2, 3))
        return torch.stack([1 - seen, seen], 1)


def test_a_model_that_looks_at_the_border_sets_it_off_and_one_that_looks_at_the_middle_does_not():
    x = torch.rand(8, 1, 14, 14, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    assert shortcut_alarm(pellucid.gradient_times_input(Part(slice(0, 1)), x, target=1))
    assert not shortcut_alarm(pellucid.gradient_times_input(Part(slice(5, 9)), x, target=1))


@pytest.mark.parametrize(
    ("maps", "more", "words"),
    [
        (np.ones((5, 4)), {}, "have no border"),
        (np.ones((5, 2, 4)), {}, "leaves nothing"),
        (np.ones((5, 9, 9)), {"border": 0}, "border is 0"),
        (np.ones((5, 9, 9)), {"x": torch.ones(4, 1, 9, 9)}, "4 samples for 5 maps"),
        (np.ones((5, 9, 9)), {"mask": np.ones((3, 3))}, "shape"),
    ],
)
def test_refusals(maps, more, words):
    with pytest.raises(InputError, match=words):
        shortcut_alarm(maps, **more)


def test_a_table_has_no_border_but_a_sequence_has():
    with pytest.raises(InputError, match="true on the columns"):
        shortcut_alarm(pellucid.gradient(network(Dense), samples(Dense, 6)))
    assert MEASURES["shortcut_alarm"].family == "shortcut"
    line = pellucid.edge_detector(nn.Identity(), torch.rand(5, 2, 20))
    assert shortcut_alarm(line).chance == pytest.approx(0.2)  # two of twenty at each end

"""One engine for every measure that asks the model: shared passes, shapes, refusals; and the measures of what a map keeps."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from networks import SHAPES, Concatenated, Dense, DenseHead, GapLinear, Sequence, network, samples
from pellucid import calibrate, explain
from pellucid.core.errors import InputError, UnsupportedError
from pellucid.core.table import MEASURES
from pellucid.quality.faithfulness import apd, apd_calibrated, api, faithfulness
from pellucid.quality.measuring import assess, of_models

KINDS = [GapLinear, Concatenated, Sequence, Dense]
FOUR = ["api", "apd", "ir", "dr"]


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_areas_and_calibrated_values_are_those_of_faithfulness(kind):
    model, x = network(kind), samples(kind, 5)
    found = explain(model, x, ["gradient", "occlusion"])
    table = assess(model, x, found, [*FOUR, *(f"{name}_calibrated" for name in FOUR)], batch=2)
    for title, explanation in found.items():
        whole = faithfulness(model, x, explanation.evidence())
        best, cuts = whole.calibrated()
        for name in FOUR:
            assert float(table[title][name]) == pytest.approx(whole.area()[name], abs=1e-12)
            assert float(table[title][f"{name}_calibrated"]) == pytest.approx(best[name], abs=1e-12)
            np.testing.assert_allclose(table[title][name].curve.mean(0), whole.curve(name), atol=1e-12)
        made = calibrate(model, x, explanation.evidence())
        np.testing.assert_allclose(cuts, made.threshold.numpy(), atol=1e-12)
        after = faithfulness(model, x, made.evidence, thresholds=(0.0,)).plain()
        assert after == pytest.approx(best, abs=1e-12)


def test_one_clean_forward_and_shared_passes():
    """1 + 11 F a sample and method for all eight measures (the clean one once for both methods)."""
    model, x = network(GapLinear), samples(GapLinear, 3)
    rows = 0

    def count(module, inputs, output):
        nonlocal rows
        rows += len(inputs[0])

    found = explain(model, x, ["gradient", "grad_cam"], layer="features")
    model.register_forward_hook(count)
    table = assess(model, x, found, [*FOUR, "apd_calibrated"])
    assert rows == 3 * (1 + 2 * 11)
    assert table["gradient"]["api"].passes == 11
    assert table["gradient"]["dr"].passes == 0


def test_a_sample_by_hand():
    """One pixel decides: the map that keeps it loses nothing, the one that keeps the other loses all beyond the bias."""
    model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(4, 2, bias=False)).double()
    with torch.no_grad():
        model[1].weight.copy_(torch.tensor([[3.0, 0, 0, 0], [0, 0, 0, 0]]))
    x = torch.ones(1, 1, 2, 2, dtype=torch.float64)
    right = torch.tensor([[[1.0, 0], [0, 0]]], dtype=torch.float64)
    wrong = torch.tensor([[[0.0, 0], [0, 1]]], dtype=torch.float64)
    y = 1 / (1 + np.exp(-3))
    assert float(apd(model, x, right)) == 0
    assert float(apd(model, x, wrong)) == pytest.approx((y - 0.5) / y)
    assert float(apd_calibrated(model, x, wrong)) == pytest.approx((y - 0.5) / y)
    assert float(api(model, x, right, target=1)) == 0
    assert float(api(model, x, wrong, target=1)) == pytest.approx((0.5 - (1 - y)) / (1 - y))


def test_maps_and_relevance_of_any_form_are_taken():
    model, x = network(Concatenated), samples(Concatenated, 3)
    found = explain(model, x, "gradient_times_input")["gradient_times_input"]
    for given in (found.map(), found.relevance, found.map().numpy()):
        np.testing.assert_allclose(apd(model, x, given).values, apd(model, x, found).values, atol=1e-12)
    assert not np.allclose(apd(model, x, found.map(), target=1).values, apd(model, x, found).values)


@pytest.mark.parametrize("name", of_models())
@pytest.mark.parametrize("kind", [GapLinear, Concatenated, Sequence, Dense], ids=lambda kind: kind.__name__)
def test_every_measure_is_finite_and_independent_of_the_batch(name, kind):
    model, x = network(kind), samples(kind, 4)
    maps = explain(model, x, ["gradient_times_input", "constant_map", "random_map"])
    try:
        whole = assess(model, x, maps, [name], seed=3)
    except UnsupportedError:
        assert name.startswith("road")
        assert len(SHAPES[kind]) == 1
        return
    for batch in (1, 3):
        again = assess(model, x, maps, [name], seed=3, batch=batch)
        for title in maps:
            np.testing.assert_allclose(again[title][name].values, whole[title][name].values, atol=1e-9)
    for title in maps:
        known = whole[title][name].known
        assert np.isfinite(known).all()
        assert len(known) == 4 or title == "constant_map"
        assert len(whole[title][name]) == 4


@pytest.mark.parametrize("name", of_models())
def test_every_measure_says_how_to_read_it_and_what_it_favours(name):
    entry = MEASURES[name]
    for fact in ("cost", "mission", "paper", "reading", "bias"):
        assert entry.facts[fact]
    assert entry.facts["larger_is_better"] in (True, False)
    assert entry.summary


def test_refusals():
    model, x = network(DenseHead), samples(DenseHead, 3)
    found = explain(model, x, "gradient")
    with pytest.raises(InputError, match="one map per sample"):
        apd(model, x, torch.ones(3, 7, 8))
    with pytest.raises(InputError, match="relevance of gradient holds nan"):
        assess(model, x, {"gradient": torch.full((3, 8, 8), torch.nan)}, ["apd"])
    with pytest.raises(InputError, match="does not ask the model"):
        assess(model, x, found, ["rank_correlation"])
    with pytest.raises(InputError, match="no measure 'apdd'"):
        assess(model, x, found, ["apdd"])
    with pytest.raises(InputError, match="has no option 'thresold'"):
        apd(model, x, found["gradient"], thresold=[0.0])
    with pytest.raises(InputError, match="no maps"):
        assess(model, x, {}, ["apd"])
    other = explain(model, x, "occlusion", target=0)
    with pytest.raises(InputError, match="different classes"):
        assess(model, x, {**explain(model, x, "gradient", target=1), **other}, ["apd"])
    with pytest.raises(UnsupportedError, match="no probability"):
        apd(model, x, torch.ones(3, 8, 8), target=lambda z: z.sum(1))
    with pytest.raises(InputError, match="relevance is Explanation"):
        assess(model, x, found["gradient"], ["apd"])
    for thresholds in ((), (0.5, 0.5), (0.0, 1.5), "abc"):
        with pytest.raises(InputError, match="threshold"):
            apd(model, x, found["gradient"], thresholds=thresholds)
    with pytest.raises(InputError, match="below 1"):
        apd_calibrated(model, x, found["gradient"], thresholds=(1.0,))
    tokens = torch.nn.Sequential(torch.nn.Embedding(7, 3), torch.nn.Flatten(), torch.nn.Linear(15, 2))
    with pytest.raises(UnsupportedError, match="whole numbers"):
        apd(tokens, torch.ones(2, 5, dtype=torch.long), torch.rand(2, 5), target=0)


def test_rounding_is_no_change():
    """A map of ones changes nothing (METHODS A.5), in single precision and whatever the size of the batch."""
    model, x = network(DenseHead, dtype=torch.float32), samples(DenseHead, 7, dtype=torch.float32)
    for n in range(1, 8):
        for batch in (None, 1, 2, 3):
            found = assess(model, x[:n], {"ones": torch.ones(n, 8, 8)}, FOUR, batch=batch)["ones"]
            assert all((found[name].values == 0).all() for name in FOUR)


def test_a_probability_of_nothing_has_no_relative_change():
    model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(4, 2, bias=False)).double()
    with torch.no_grad():
        model[1].weight.copy_(torch.tensor([[1000.0] * 4, [0.0] * 4]))
    maps = torch.ones(1, 2, 2, dtype=torch.float64)
    assert np.isnan(api(model, torch.ones(1, 1, 2, 2).double(), maps, target=1).values).all()


def test_one_step_and_one_position():
    model, x = network(Dense), samples(Dense, 3)
    one = assess(model, x, {"m": torch.rand(3, 7)}, {"deletion": {"steps": 1}, "insertion": {"steps": 1}})["m"]
    assert one["deletion"].curve.shape == (3, 2)
    single = torch.nn.Linear(1, 2)
    assert np.isfinite(assess(single, torch.rand(5, 1), {"m": torch.rand(5, 1)}, ["deletion"])["m"]["deletion"].values).all()

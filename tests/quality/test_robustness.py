"""Max-sensitivity: by hand, for maps that follow the input and maps that do not, and over shared passes."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.ensemble import RandomForestClassifier
from torch import nn

from networks import Concatenated, Dense, DenseHead, GapLinear, Sequence, TwoInputs, network, samples
from pellucid import explain
from pellucid.core import seeds
from pellucid.core.errors import InputError, UnsupportedError
from pellucid.core.table import MEASURES
from pellucid.quality.robustness import BLANK, CONSTANT, max_sensitivity, sensitivities


def moved(x, radius, draws, seed=0):
    """The inputs that are explained, made one by one."""
    found = []
    for d in range(draws):
        rows = []
        for i, one in enumerate(x):
            u = torch.rand(one.shape, generator=seeds.generator(seed, "sensitivity", 0, i, d), dtype=one.dtype)
            rows.append(one + radius * (one.max() - one.min()) * (2 * u - 1))
        found.append(torch.stack(rows))
    return found


@pytest.mark.parametrize("kind", [GapLinear, Concatenated, Sequence, Dense], ids=lambda kind: kind.__name__)
@pytest.mark.parametrize("name", ["gradient_times_input", "smoothgrad"])
def test_against_one_explanation_at_a_time(kind, name):
    """Of the class that was explained for the sample itself, with the same random numbers in every draw."""
    model, x = network(kind), samples(kind, 3)
    options = {"samples": 3} if name == "smoothgrad" else {}
    own = explain(model, x, {name: options})[name]
    ratios = []
    for rows in moved(x, 0.3, 4):
        after = explain(model, rows, {name: options}, target=own.target)[name]
        ratios.append((after.relevance - own.relevance).flatten(1).norm(dim=1) / own.relevance.flatten(1).norm(dim=1))
    found = max_sensitivity(model, x, name, radius=0.3, draws=4, **options)
    np.testing.assert_allclose(found.values, torch.stack(ratios).amax(0), rtol=0, atol=1e-12)
    assert found.notes == (CONSTANT,)
    assert found.passes == 4 * sum(after.passes.values())


def test_by_hand():
    """Gradient times input of a linear score is w * x: it changes by w * d, the gradient itself by nothing."""
    model = nn.Linear(2, 2, bias=False).double()
    with torch.no_grad():
        model.weight.copy_(torch.tensor([[3.0, 0.0], [0.0, 0.0]]))
    x = torch.tensor([[1.0, 0.0], [2.0, -2.0]], dtype=torch.float64)
    found = sensitivities(model, x, ["gradient_times_input", "gradient"], target=0, radius=0.1, draws=5)
    d = torch.stack([(rows - x)[:, 0] for rows in moved(x, 0.1, 5)]).abs().amax(0)
    np.testing.assert_allclose(found["gradient_times_input"].values, d / x[:, 0], rtol=0, atol=1e-12)
    assert found["gradient_times_input"].values.max() <= 0.2  # at most 0.1 of a range of 4, over 2
    assert (found["gradient"].values == 0).all()


def test_maps_that_do_not_look_at_the_input_hold_still():
    """A constant map and one drawn at random score 0, and it is said; a sharper score moves more than a smooth one."""
    x = samples(DenseHead, 4)
    table = sensitivities(network(DenseHead), x, ["constant_map", "random_map", "edge_detector", "gradient"])
    assert float(table["constant_map"]) == float(table["random_map"]) == 0
    assert float(table["edge_detector"]) > 0
    assert all(found.notes == (CONSTANT,) for found in table.values())

    class Bent(nn.Module):
        def __init__(self, rate):
            super().__init__()
            self.rate = rate

        def forward(self, x):
            return torch.sin(self.rate * x.flatten(1)).cumsum(1)[:, -2:]

    values = [float(max_sensitivity(Bent(rate), x, "gradient", target=0)) for rate in (0.1, 1.0, 5.0)]
    assert values == sorted(values)
    assert values[2] > 5 * values[0]


def test_no_answer_depends_on_the_batch_or_the_company():
    model, x = network(GapLinear), samples(GapLinear, 5)
    methods = {"gradient": {}, "smoothgrad": {"samples": 3}, "grad_cam": {}, "occlusion": {"window": 2}}
    shared = {"layer": "features", "draws": 3}
    whole, *others = (sensitivities(model, x, methods, batch=batch, **shared) for batch in (100, 1, 3))
    for name, options in methods.items():
        for other in others:
            np.testing.assert_allclose(other[name].values, whole[name].values, rtol=0, atol=1e-12)
        alone = max_sensitivity(model, x[:2], name, **shared, **options)
        np.testing.assert_allclose(alone.values, whole[name].values[:2], rtol=0, atol=1e-12)
    assert not np.allclose(max_sensitivity(model, x, "gradient", draws=3, seed=1).values, whole["gradient"].values)
    more = max_sensitivity(model, x, "gradient", draws=6).values
    assert (more >= whole["gradient"].values - 1e-15).all()


def test_what_is_known_is_not_explained_again():
    """Draws of a small batch go side by side: 3 samples x 4 draws in one call, without one for the samples themselves."""
    model, x = network(GapLinear), samples(GapLinear, 3)
    own = explain(model, x, ["gradient", "gradient_times_input"])
    rows = []
    model.register_forward_hook(lambda module, inputs, output: rows.append(len(output)))
    known = sensitivities(model, x, list(own), original=own, draws=4)
    assert rows == [12]
    rows.clear()
    made = sensitivities(model, x, list(own), draws=4)
    assert rows == [3, 12]
    for name in own:
        assert (made[name].values == known[name].values).all()
    again = max_sensitivity(model, x, "gradient", explanation=own["gradient"], draws=4)
    assert (again.values == known["gradient"].values).all()


def test_blank_maps_have_no_number():
    model = nn.Sequential(nn.Flatten(), nn.Linear(4, 2, bias=False)).double()
    nn.init.zeros_(model[1].weight)
    found = max_sensitivity(model, torch.ones(2, 1, 2, 2).double() + torch.arange(4.0).view(2, 2), "gradient")
    assert np.isnan(found.values).all()
    assert math.isnan(float(found))
    assert found.notes == (CONSTANT, BLANK)


def test_tables_frames_and_several_inputs():
    r = np.random.default_rng(0)
    frame = pd.DataFrame({"size": r.normal(size=50), "age": r.integers(9, 99, 50), "town": r.choice(["Bonn", "Oslo"], 50)})
    y = (frame["size"] > 0) & (frame["town"] == "Oslo")
    forest = RandomForestClassifier(5, random_state=0).fit(frame[["size", "age"]].to_numpy(), y)
    seen = []

    def model(rows):
        seen.append(rows)
        return forest.predict_proba(rows[["size", "age"]].to_numpy()) * np.where(rows[["town"]] == "Oslo", 1, 0.5)

    radius = np.array([0.01, 30.0, 3.0])
    found = max_sensitivity(model, frame.head(3), "occlusion", radius=radius, draws=3, baseline=frame.tail(1), target=1)
    assert np.isfinite(found.values).all()
    assert all(set(rows["town"]) <= {"Bonn", "Oslo"} for rows in seen)
    sizes, known = np.concatenate([rows["size"] for rows in seen]), frame["size"].iloc[[0, 1, 2, -1]].to_numpy()
    step = np.abs(sizes[:, None] - known).min(1)
    assert 0.005 < step.max() <= 0.01
    net = network(TwoInputs)
    generator = torch.Generator().manual_seed(0)
    image, row = torch.randn(2, 1, 6, 6, generator=generator), torch.randn(2, 5, generator=generator)
    x = (image.double(), row.double(), torch.tensor([[0], [2]]))
    kinds = []
    net.register_forward_pre_hook(lambda module, inputs: kinds.append(inputs[2].clone()))
    found = sensitivities(net, x, ["gradient", "occlusion"], draws=2)
    assert all((found[name].values > 0).all() for name in found)
    assert set(torch.cat(kinds).flatten().tolist()) == {0, 2}


def test_labels_functions_and_refusals():
    model, x = network(Dense), samples(Dense, 2)
    by_function = max_sensitivity(model, x, "gradient", target=lambda z: z[:, 1])
    np.testing.assert_array_equal(by_function.values, max_sensitivity(model, x, "gradient", target=[1, 1]).values)
    forest = RandomForestClassifier(3, random_state=0).fit(x.repeat(4, 1).numpy(), ["up", "down"] * 4)
    by_label = max_sensitivity(forest, x, "occlusion", target="up", draws=2, radius=0.5)
    np.testing.assert_array_equal(
        by_label.values, max_sensitivity(forest, x, "occlusion", target=1, draws=2, radius=0.5).values
    )
    own = explain(model, x, "gradient")["gradient"]
    with pytest.raises(InputError, match="by gradient for 2 by saliency"):
        max_sensitivity(model, x, "saliency", explanation=own)
    with pytest.raises(InputError, match="does not broadcast"):
        max_sensitivity(model, x, "gradient", radius=np.ones(3))
    with pytest.raises(InputError, match="radius is 0"):
        max_sensitivity(model, x, "gradient", radius=0)
    with pytest.raises(InputError, match="draws is 0"):
        max_sensitivity(model, x, "gradient", draws=0)
    with pytest.raises(InputError, match="no option"):
        max_sensitivity(model, x, "gradient", window=3)
    with pytest.raises(UnsupportedError, match="no value"):
        max_sensitivity(lambda t: t.double(), torch.ones(2, 5, dtype=torch.long), "occlusion", target=0, draws=2)
    assert MEASURES["max_sensitivity"].facts["asks"] == "method"

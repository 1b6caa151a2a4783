"""Insertion and deletion against loops over single passes, by hand, and on every kind of sample and model."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.compose import make_column_transformer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder
from torch import nn

from networks import Concatenated, Dense, GapLinear, Sequence, TwoInputs, Volume, network, samples
from pellucid import explain
from pellucid.core.errors import InputError, UnsupportedError
from pellucid.explanation.baselines import blurred
from pellucid.quality.insertion_deletion import CONSTANT, TIES, deletion, insertion
from pellucid.quality.measuring import assess

KINDS = [GapLinear, Concatenated, Sequence, Dense, Volume]


def maps_of(x, seed=3):
    size = x.shape[2:] if x.ndim > 2 else x.shape[1:]
    return torch.randn(len(x), *size, generator=torch.Generator().manual_seed(seed), dtype=x.dtype)


class Linear(nn.Module):
    """Two logits, w.x and 0, whatever the shape: the removal of each position costs what can be written down."""

    def __init__(self, weights):
        super().__init__()
        self.weights = nn.Parameter(torch.as_tensor(weights, dtype=torch.float64).flatten())

    def forward(self, x):
        z = x.flatten(1) @ self.weights
        return torch.stack([z, torch.zeros_like(z)], 1)


def one_by_one(model, x, maps, steps, baseline, inserted):
    """(B, T + 1) of p, one pass at a time, positions chosen by a plain sort."""
    with torch.no_grad():
        own = model(x)
        curves = []
        for i in range(len(x)):
            flat = maps[i].flatten().tolist()
            order = sorted(range(len(flat)), key=lambda j: (-flat[j], j))
            curve = []
            for t in range(steps + 1):
                chosen = order[: round(len(order) * t / steps)]
                mask = torch.zeros(len(flat), dtype=torch.bool)
                mask[chosen] = True
                keep = (mask if inserted else ~mask).view(maps[i].shape)
                made = torch.where(keep, x[i], baseline[i])
                curve.append(float(model(made[None]).softmax(1)[0, own[i].argmax()]))
            curves.append(curve)
    return np.array(curves)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_against_one_pass_at_a_time(kind):
    model, x = network(kind), samples(kind, 3)
    maps = maps_of(x)
    steps = 5 if x.ndim > 2 else 7
    found = deletion(model, x, maps, steps=5 if x.ndim > 2 else 28, batch=4)  # seven columns: every one alone
    curve = one_by_one(model, x, maps, steps, torch.zeros_like(x), inserted=False)
    np.testing.assert_allclose(found.curve, curve, rtol=0, atol=1e-12)
    np.testing.assert_allclose(found.values, np.trapezoid(curve, found.levels, axis=1), rtol=0, atol=1e-12)
    assert found.levels[0] == 0
    assert found.levels[-1] == 1
    assert found.passes == steps
    start = blurred(x) if x.ndim > 2 else torch.zeros_like(x)
    found = insertion(model, x, maps, steps=steps)
    curve = one_by_one(model, x, maps, steps, start, inserted=True)
    np.testing.assert_allclose(found.curve, curve, rtol=0, atol=1e-12)
    assert found.passes == steps


def test_by_hand():
    """Logits 2 + 1 and 0 of two pixels: sigmoid(3), then sigmoid(1) without the first, then 1/2."""
    model, x = Linear([2.0, 1.0]), torch.ones(1, 1, 1, 2, dtype=torch.float64)
    p = torch.tensor([3.0, 1.0, 0.0, 2.0], dtype=torch.float64).sigmoid().tolist()
    right, wrong = torch.tensor([[[1.0, 0.5]]]), torch.tensor([[[0.5, 1.0]]])
    assert float(deletion(model, x, right)) == pytest.approx((p[0] + 2 * p[1] + p[2]) / 4, abs=1e-12)
    assert float(deletion(model, x, wrong)) == pytest.approx((p[0] + 2 * p[3] + p[2]) / 4, abs=1e-12)
    assert float(insertion(model, x, right, baseline=0.0)) == pytest.approx((p[2] + 2 * p[3] + p[0]) / 4, abs=1e-12)
    assert float(deletion(model, x, right, of="logit")) == pytest.approx((3 + 2 * 1 + 0) / 4, abs=1e-12)


@pytest.mark.parametrize("channels", [1, 3])
def test_the_best_map_beats_every_other_and_the_worst_none(channels):
    """Of a linear model with non-negative parts the map of the parts is the best there is, its negative the worst."""
    w = torch.rand(channels, 4, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    model, x = Linear(w), torch.ones(2, channels, 4, 4, dtype=torch.float64)
    parts = (w * x).sum(1)
    others = {"best": parts, "worst": -parts, "random": maps_of(x), "constant": torch.ones_like(parts)}
    table = assess(model, x, others, {"deletion": {"of": "logit"}, "insertion": {"of": "logit", "baseline": 0.0}})
    for name, better in (("deletion", -1), ("insertion", 1)):
        values = {title: better * float(found[name]) for title, found in table.items()}
        assert values["best"] == max(values.values())
        assert values["worst"] == min(values.values())
        assert values["best"] > values["random"] > values["worst"]
        assert values["best"] > values["constant"] > values["worst"]


@pytest.mark.parametrize("kind", [GapLinear, Concatenated, Dense], ids=lambda kind: kind.__name__)
def test_no_answer_depends_on_the_batch(kind):
    model, x = network(kind), samples(kind, 5)
    maps = maps_of(x)
    for measure in (deletion, insertion):
        whole, *others = (measure(model, x, maps, steps=4, batch=batch) for batch in (100, 1, 3))
        for other in others:
            np.testing.assert_allclose(other.curve, whole.curve, rtol=0, atol=1e-12)


def test_ties_go_by_memory_and_are_told():
    model, x = network(GapLinear), samples(GapLinear, 2)
    constant, falling = torch.ones(2, 8, 8), torch.arange(64.0, 0, -1).view(1, 8, 8).expand(2, 8, 8)
    flat, ordered = deletion(model, x, constant), deletion(model, x, falling)
    np.testing.assert_array_equal(flat.curve, ordered.curve)
    assert flat.notes == (CONSTANT, TIES)
    assert ordered.notes == ()
    halves = torch.cat([torch.ones(2, 4, 8), torch.zeros(2, 4, 8)], 1)
    assert deletion(model, x, halves).notes == (TIES,)
    assert deletion(model, x, halves, steps=2).notes == ()


def test_one_clean_pass_and_one_without_anything_for_all_maps_and_both_measures():
    model, x = network(GapLinear), samples(GapLinear, 3)
    rows = []
    model.register_forward_hook(lambda module, inputs, output: rows.append(len(output)))
    maps = {"one": maps_of(x), "other": maps_of(x, 4)}
    assess(model, x, maps, {"deletion": {"steps": 6}, "insertion": {"steps": 6, "baseline": 0.0}})
    assert sum(rows) == 3 * (1 + 1 + 2 * 2 * 5)


def test_sets_of_rows_are_averaged_over():
    model, x = network(Dense), samples(Dense, 2)
    maps, rows = maps_of(x), samples(Dense, 3, seed=5)
    found = deletion(model, x, maps, baseline=rows)
    each = [deletion(model, x, maps, baseline=row).curve for row in rows]
    np.testing.assert_allclose(found.curve, np.mean(each, 0), rtol=0, atol=1e-12)
    assert found.passes == 3 * 7


def test_a_frame_with_categories():
    r = np.random.default_rng(0)
    frame = pd.DataFrame({"size": r.normal(size=60), "town": r.choice(["Bonn", "Oslo"], 60)})
    words = make_column_transformer((OneHotEncoder(), ["town"]), remainder="passthrough")
    model = make_pipeline(words, LogisticRegression()).fit(frame, (frame["size"] > 0) ^ (frame["town"] == "Oslo"))
    row = {"size": 0.0, "town": "Bonn"}
    x = pd.DataFrame({"size": [1.5], "town": ["Oslo"]})
    found = deletion(model, x, torch.tensor([[0.2, 0.7]]), baseline=row, target=1)
    steps = [x, x.assign(town="Bonn"), x.assign(town="Bonn", size=0.0)]
    np.testing.assert_allclose(found.curve[0], [model.predict_proba(s)[0, 1] for s in steps], rtol=0, atol=1e-12)
    for measure in (deletion, insertion):
        with pytest.raises(InputError, match="says nothing of column 'town'"):
            measure(model, x, torch.tensor([[0.2, 0.7]]))


def test_several_inputs_and_the_class_that_was_explained():
    model = network(TwoInputs)
    generator = torch.Generator().manual_seed(0)
    image, row = torch.randn(2, 1, 6, 6, generator=generator), torch.randn(2, 5, generator=generator)
    x = (image.double(), row.double(), torch.tensor([[0], [2]]))
    found = explain(model, x, "occlusion", target=2)["occlusion"]
    measured = deletion(model, x, found, steps=3)
    with torch.no_grad():
        before, after = (model(picture, *x[1:]).softmax(1)[:, 2] for picture in (x[0], torch.zeros_like(x[0])))
    np.testing.assert_allclose(measured.curve[:, 0], before, atol=1e-12)
    np.testing.assert_allclose(measured.curve[:, -1], after, atol=1e-12)


def test_whole_numbers_are_ordered_by_fractions():
    """Relevance of tokens is real, though the tokens are not; what is removed becomes token 0."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Embedding(7, 4), nn.Flatten(), nn.Linear(24, 3)).eval()
    x = torch.randint(1, 7, (3, 6))
    maps = torch.rand(3, 6)
    for measure, inserted in ((deletion, False), (insertion, True)):
        curve = one_by_one(model, x, maps, 6, torch.zeros_like(x), inserted)
        np.testing.assert_allclose(measure(model, x, maps).curve, curve, rtol=0, atol=1e-6)  # single precision


def test_what_is_refused():
    model, x = network(Dense), samples(Dense, 2)
    maps = maps_of(x)
    with pytest.raises(InputError, match="steps is 0"):
        deletion(model, x, maps, steps=0)
    with pytest.raises(InputError, match="of is 'odds'"):
        deletion(model, x, maps, of="odds")
    with pytest.raises(InputError, match="blurred"):
        insertion(model, x, maps, baseline="blur")
    with pytest.raises(UnsupportedError, match="probability"):
        deletion(model, x, maps, target=lambda z: z[:, 0])
    assert np.isfinite(deletion(model, x, maps, target=lambda z: z[:, 0], of="logit").values).all()

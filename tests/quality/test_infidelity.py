"""Infidelity and faithfulness correlation: what they must be for linear scores and complete methods, and by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from networks import Concatenated, Dense, DenseHead, GapLinear, Sequence, Volume, network, samples
from pellucid import explain
from pellucid.core.errors import InputError, UnsupportedError
from pellucid.quality.infidelity import BLANK, FLAT, faithfulness_correlation, infidelity
from pellucid.quality.measuring import assess


def random(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def linear(*shape, seed=0):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Flatten(), nn.Linear(int(np.prod(shape)), 3)).double()


def weights(model, target, x):
    return model[1].weight[target].detach().view(1, *x.shape[1:]).expand_as(x)


class Bent(nn.Module):
    """A score of three columns with a product in it."""

    def forward(self, x):
        z = x[:, 0] * x[:, 1] + x[:, 2]
        return torch.stack([z, -z], 1)


@pytest.mark.parametrize("shape", [(1, 6, 6), (3, 6, 6), (2, 9), (1, 3, 4, 4), (7,)], ids=str)
def test_the_weights_of_a_linear_score_are_without_fault(shape):
    model, x, b = linear(*shape), random(3, *shape), random(*shape, seed=2)
    w = weights(model, 1, x)
    options = {"target": 1, "draws": 12, "normalise": False}
    kinds = ("gaussian", "subset", "all") if len(shape) == 1 else ("gaussian", "square", "subset", "all")
    for kind in kinds:
        slopes = infidelity(model, x, w, perturbation=kind, slopes=True, baseline=b, **options)
        assert np.abs(slopes.values).max() < 1e-20
        if kind != "gaussian":
            shares = infidelity(model, x, w * (x - b), perturbation=kind, baseline=b, **options)
            assert np.abs(shares.values).max() < 1e-20
            assert np.abs(infidelity(model, x, -w * (x - b), perturbation=kind, baseline=b, **options).values).min() > 1e-3
    found = faithfulness_correlation(model, x, w * (x - b), target=1, baseline=b, draws=12)
    np.testing.assert_allclose(found.values, 1, rtol=0, atol=1e-9)
    np.testing.assert_allclose(
        faithfulness_correlation(model, x, -w * (x - b), target=1, baseline=b, draws=12).values, -1, rtol=0, atol=1e-9
    )


@pytest.mark.parametrize("kind", [DenseHead, Dense], ids=lambda kind: kind.__name__)
def test_complete_methods_are_without_fault_when_everything_goes(kind):
    """Completeness is infidelity under I = x - b; the gradient times the input is not complete."""
    model, x = network(kind), samples(kind, 3)
    found = explain(model, x, {"deep_lift": {}, "integrated_gradients": {"steps": 32}, "gradient_times_input": {}})
    table = assess(model, x, found, {"infidelity": {"perturbation": "all", "normalise": False}})
    values = {name: row["infidelity"].values for name, row in table.items()}
    assert values["deep_lift"].max() < 1e-20
    gap = found["integrated_gradients"].gap
    np.testing.assert_allclose(values["integrated_gradients"], (gap**2).numpy(), rtol=0, atol=1e-12)  # its own error
    total = found["gradient_times_input"].relevance.flatten(1).sum(1)
    fault = total - (found["deep_lift"].score - found["deep_lift"].base)
    np.testing.assert_allclose(values["gradient_times_input"], (fault**2).numpy(), rtol=0, atol=1e-12)
    assert values["gradient_times_input"].min() > 1e-6
    assert table["deep_lift"]["infidelity"].passes == 1


def test_by_hand():
    """Subsets of x = (1, 2, 3) for the score x0 x1 + x2: every fall and every sum, from the rows that were run."""
    model, x, phi = Bent(), torch.tensor([[1.0, 2.0, 3.0]], dtype=torch.float64), torch.tensor([[1.0, 1.0, 2.0]]).double()
    rows = []

    def watched(t):
        rows.append(t.clone())
        return model(t)

    for normalise in (True, False):
        rows.clear()
        found = infidelity(watched, x, phi, target=0, draws=20, normalise=normalise)
        run = torch.cat(rows)[-20:]
        falls = 5 - (run[:, 0] * run[:, 1] + run[:, 2])
        sums = ((run == 0) * phi).sum(1)
        beta = float((falls @ sums) / (sums @ sums)) if normalise else 1.0
        assert found.values[0] == pytest.approx(float(((beta * sums - falls) ** 2).mean()), abs=1e-12)
    rows.clear()
    found = faithfulness_correlation(watched, x, phi, target=0, draws=20, share=0.6)
    run = torch.cat(rows)[-20:]
    assert ((run == 0).sum(1) == 2).all()
    falls, sums = 5 - (run[:, 0] * run[:, 1] + run[:, 2]), ((run == 0) * phi).sum(1)
    assert found.values[0] == pytest.approx(np.corrcoef(sums, falls)[0, 1], abs=1e-12)


def test_squares_are_squares_drawn_evenly():
    """One window per draw, sides from 1 to 10/28 of the shorter axis, each of all of them as likely as any other."""
    shape = (1, 9, 12)
    model, x = linear(*shape), torch.ones(1, *shape, dtype=torch.float64)
    rows = []
    model.register_forward_pre_hook(lambda module, inputs: rows.append(inputs[0]))
    infidelity(model, x, x, draws=4000, target=0)
    gone = torch.cat(rows)[1:, 0] == 0
    along = [gone.any(2).sum(1), gone.any(1).sum(1)]
    assert torch.equal(along[0], along[1])
    assert torch.equal(gone.flatten(1).sum(1), along[0] ** 2)
    counts = torch.bincount(along[0], minlength=4)[1:]
    all_of_them = torch.tensor([9 * 12, 8 * 11, 7 * 10])
    np.testing.assert_allclose(counts / 4000, all_of_them / all_of_them.sum(), atol=0.03)  # sampled: four standard errors
    single = gone[along[0] == 1].double().mean(0)
    np.testing.assert_allclose(single.sum(0) * 12, 1, atol=0.35)
    np.testing.assert_allclose(single.sum(1) * 9, 1, atol=0.35)


@pytest.mark.parametrize("kind", [GapLinear, Concatenated, Dense, Sequence, Volume], ids=lambda kind: kind.__name__)
def test_no_answer_depends_on_the_batch_and_draws_are_independent(kind):
    model, x = network(kind), samples(kind, 5)
    found = {"map": random(*x.shape, seed=3)}
    asked = {"infidelity": {"draws": 6}, "faithfulness_correlation": {"draws": 6}}
    whole, *others = (assess(model, x, found, asked, batch=batch)["map"] for batch in (100, 1, 3))
    for name in asked:
        for other in others:
            np.testing.assert_allclose(other[name].values, whole[name].values, rtol=0, atol=1e-12)
    noisy = [
        infidelity(model, x, found["map"], perturbation="gaussian", slopes=True, draws=4, batch=b).values for b in (100, 2)
    ]
    np.testing.assert_allclose(*noisy, rtol=0, atol=1e-12)
    reseeded = assess(model, x, found, asked, seed=1)["map"]
    more = assess(model, x, found, {name: {"draws": 12} for name in asked})["map"]
    for name in asked:
        assert (np.abs(reseeded[name].values - whole[name].values) > 1e-9).all()
        assert (np.abs(more[name].values - whole[name].values) > 1e-9).all()


@pytest.mark.parametrize("channels", [1, 3])
def test_the_best_map_first_and_the_worst_last(channels):
    model, x = linear(channels, 8, 8), random(4, channels, 8, 8)
    best = weights(model, 0, x) * x
    maps = {"best": best, "worst": -best, "random": random(4, channels, 8, 8, seed=1), "constant": torch.ones(4, 8, 8)}
    maps["half"] = best + 0.02 * maps["random"]
    asked = {"infidelity": {"normalise": False, "perturbation": "subset"}, "faithfulness_correlation": {}}
    table = assess(model, x, maps, asked, target=0)
    plain = {title: float(row["infidelity"]) for title, row in table.items()}
    assert plain["best"] < plain["half"] < plain["random"]
    assert plain["best"] < plain["half"] < plain["worst"]
    correlated = {title: float(row["faithfulness_correlation"]) for title, row in table.items() if title != "constant"}
    assert correlated["best"] > correlated["half"] > correlated["random"] > correlated["worst"]
    assert table["constant"]["faithfulness_correlation"].notes == (FLAT,)
    assert np.isnan(table["constant"]["faithfulness_correlation"].values).all()
    scaled = assess(model, x, {"best": best, "worst": -3 * best, "blank": 0 * best}, ["infidelity"], target=0)
    assert float(scaled["best"]["infidelity"]) == pytest.approx(float(scaled["worst"]["infidelity"]), abs=1e-20)
    assert scaled["blank"]["infidelity"].notes == (BLANK,)
    assert float(scaled["blank"]["infidelity"]) > 1e-3


def test_all_maps_share_the_passes():
    model, x = network(GapLinear), samples(GapLinear, 3)
    rows = []
    model.register_forward_hook(lambda module, inputs, output: rows.append(len(output)))
    maps = {"one": random(3, 8, 8), "other": random(3, 8, 8, seed=1)}
    table = assess(model, x, maps, {"infidelity": {"draws": 5}, "faithfulness_correlation": {"draws": 7}})
    assert sum(rows) == 3 * (1 + 5 + 7)
    alone = infidelity(model, x, maps["other"], draws=5)
    np.testing.assert_allclose(table["other"]["infidelity"].values, alone.values, rtol=0, atol=1e-12)
    assert alone.passes == 5


def test_a_score_that_nothing_moves_has_no_correlation():
    found = faithfulness_correlation(lambda t: torch.ones(len(t), 2), random(2, 5).float(), random(2, 5), target=0)
    assert np.isnan(found.values).all()
    assert found.notes == (FLAT,)


def test_the_number_that_was_explained_is_watched():
    model, x = network(Dense), samples(Dense, 2)
    of = {scale: explain(model, x, {"shapley": {}}, of=scale)["shapley"] for scale in ("logit", "probability")}
    for found in of.values():
        assert infidelity(model, x, found, perturbation="all", normalise=False).values.max() < 1e-20


def test_what_is_refused():
    model, x = network(GapLinear), samples(GapLinear, 2)
    maps = random(2, 8, 8)
    with pytest.raises(InputError, match="slopes=True"):
        infidelity(model, x, maps, perturbation="gaussian")
    for options in ({"perturbation": "all"}, {"draws": 1}):
        with pytest.raises(InputError, match="one draw"):
            infidelity(model, x, maps, **options)
    with pytest.raises(InputError, match="perturbation is 'circle'"):
        infidelity(model, x, maps, perturbation="circle")
    with pytest.raises(InputError, match="draws is 2"):
        faithfulness_correlation(model, x, maps, draws=2)
    with pytest.raises(InputError, match="share is 1"):
        faithfulness_correlation(model, x, maps, share=1)
    table, rows = network(Dense), samples(Dense, 2)
    with pytest.raises(UnsupportedError, match="of a table"):
        infidelity(table, rows, rows, perturbation="square")

"""ROAD: the imputation against a direct solve of the written-out system, the measure against its definition."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from torch import nn

from networks import Concatenated, Dense, GapLinear, Sequence, Volume, network, samples
from pellucid.core.errors import InputError, PellucidError, UnsupportedError
from pellucid.quality import imputation
from pellucid.quality.imputation import linear_imputation
from pellucid.quality.insertion_deletion import CONSTANT
from pellucid.quality.measuring import assess
from pellucid.quality.road import SHARES, road, road_combined

SHAPES = [(3, 9, 17), (1, 16, 16), (2, 131), (1, 5, 6, 7), (1, 1, 9), (2, 2, 2), (3, 8, 8), (1, 3, 4, 5)]
WEIGHTS = {1: {1: 1 / 2}, 2: {1: 1 / 6, 2: 1 / 12}, 3: {1: 1 / 14, 2: 1 / 28, 3: 1 / 56}}


def random(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def direct(x, keep):
    """One sample (C, *S): sum of weights inside times the value = weighted sum of the neighbours, solved densely."""
    size = x.shape[1:]
    gone = [p for p in np.ndindex(*size) if not keep[p]]
    place = {p: i for i, p in enumerate(gone)}
    a, b = np.zeros((len(gone), len(gone))), np.zeros((len(gone), len(x)))
    for p, i in place.items():
        for step in itertools.product((-1, 0, 1), repeat=len(size)):
            q = tuple(u + v for u, v in zip(p, step))
            if any(step) and all(0 <= u < n for u, n in zip(q, size)):
                w = WEIGHTS[len(size)][sum(map(abs, step))]
                a[i, i] += w
                if q in place:
                    a[i, place[q]] -= w
                else:
                    b[i] += w * x[(slice(None), *q)].numpy()
    filled = x.clone()
    for p, values in zip(gone, np.linalg.solve(a, b)):
        filled[(slice(None), *p)] = torch.from_numpy(values)
    return filled


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("share", [0.1, 0.6, 0.9])
def test_imputation_against_a_direct_solve(shape, share):
    """Scattered positions, and one block of them: to 1e-9 in float64. In single precision residuals fall
    to 1e-5 of what they were, and the widest gap (118 of a row) makes ten times that of it."""
    x = random(3, *shape)
    positions = x[0, 0].numel()
    count = min(max(1, round(share * positions)), positions - 1)
    ranks = torch.stack([random(positions, seed=i) for i in (1, 2)] + [torch.arange(positions).double()])
    keep = (ranks.argsort(1).argsort(1) >= count).view(3, 1, *shape[1:])
    expected = torch.stack([direct(one, k[0]) for one, k in zip(x, keep)])
    torch.testing.assert_close(linear_imputation(x, keep), expected, rtol=0, atol=1e-9)
    single = linear_imputation(x.float(), keep)
    torch.testing.assert_close(single, expected.float(), rtol=0, atol=1e-4)
    assert torch.equal(torch.where(keep, single, 0), torch.where(keep, x.float(), 0))


def test_imputation_of_one_pixel_by_hand():
    x = torch.arange(9.0, dtype=torch.float64).view(1, 1, 3, 3) ** 2
    keep = torch.ones(1, 1, 3, 3, dtype=torch.bool)
    keep[0, 0, 1, 1] = False
    assert linear_imputation(x, keep)[0, 0, 1, 1] == pytest.approx((1 + 9 + 25 + 49) / 6 + (0 + 4 + 36 + 64) / 12, abs=1e-12)
    keep[0, 0, 1, 1], keep[0, 0, 0, 0] = True, False
    corner = linear_imputation(x, keep)[0, 0, 0, 0]
    assert corner == pytest.approx(((1 + 9) / 6 + 16 / 12) / (2 / 6 + 1 / 12), abs=1e-12)


def test_imputation_keeps_constants_and_slopes_and_its_neighbours_out():
    """A constant stays one, a slope inside of its frame too; a sample's answer is the same beside any other."""
    rows = torch.arange(40.0, dtype=torch.float64).view(1, 1, 40, 1).expand(1, 1, 40, 40)
    keep = torch.zeros(1, 1, 40, 40, dtype=torch.bool)
    keep[..., [0, -1], :] = keep[..., [0, -1]] = True
    torch.testing.assert_close(linear_imputation(rows, keep), rows, rtol=0, atol=1e-8)
    constant = torch.full_like(rows, 3.5)
    torch.testing.assert_close(linear_imputation(constant, keep), constant, rtol=0, atol=1e-9)
    x, keeps = random(6, 3, 20, 20), random(6, 1, 20, 20, seed=1) > 0.5
    whole = linear_imputation(x, keeps)
    for i in range(6):
        torch.testing.assert_close(linear_imputation(x[i : i + 1], keeps[i : i + 1])[0], whole[i], rtol=0, atol=1e-12)


def test_imputation_refuses(monkeypatch):
    x, keep = random(2, 1, 4, 4), torch.ones(2, 1, 4, 4, dtype=torch.bool)
    assert torch.equal(linear_imputation(x, keep), x)
    with pytest.raises(InputError, match="nothing is kept"):
        linear_imputation(x, torch.zeros_like(keep))
    with pytest.raises(UnsupportedError, match="linear imputation"):
        linear_imputation(x[:, 0, 0], keep[:, 0, 0])
    monkeypatch.setattr(imputation, "MOST_ITERATIONS", 1)
    with pytest.raises(PellucidError, match="not settled"):
        linear_imputation(random(2, 1, 16, 16), random(2, 1, 16, 16, seed=3) > 0)


@pytest.mark.parametrize("kind", [GapLinear, Concatenated, Sequence, Volume], ids=lambda kind: kind.__name__)
def test_against_one_pass_at_a_time(kind):
    model, x = network(kind), samples(kind, 2)
    maps = random(2, *x.shape[2:], seed=4)
    found = {order: road(model, x, maps, order=order, noise=0.0, shares=(0.2, 0.7), batch=3) for order in ("morf", "lerf")}
    with torch.no_grad():
        z = model(x)
        for i in range(2):
            c, clean = int(z[i].argmax()), float(z[i].softmax(0).amax())
            for order, measured in found.items():
                drops = []
                for j, share in enumerate((0.2, 0.7)):
                    by = maps[i].flatten().argsort(descending=order == "morf")[: round(share * maps[i].numel())]
                    keep = torch.ones(maps[i].numel(), dtype=torch.bool)
                    keep[by] = False
                    made = direct(x[i], keep.view(maps[i].shape))
                    p = float(model(made[None]).softmax(1)[0, c])
                    assert measured.curve[i, j] == pytest.approx(p, abs=1e-9)
                    drops.append(clean - p if order == "morf" else p - clean)
                assert measured.values[i] == pytest.approx(np.mean(drops), abs=1e-9)
    both = road_combined(model, x, maps, noise=0.0, shares=(0.2, 0.7))
    np.testing.assert_allclose(both.values, (found["morf"].values + found["lerf"].values) / 2, rtol=0, atol=1e-12)
    assert both.passes == 4


class Patch(nn.Module):
    """The mean of a bright patch decides, in the first channel."""

    def forward(self, x):
        z = 5 * x[:, 0, 2:5, 2:5].mean((1, 2)) - 3
        return torch.stack([z, -z], 1)


@pytest.mark.parametrize("channels", [1, 3])
def test_the_best_map_first_and_the_worst_last(channels):
    x = torch.zeros(2, channels, 12, 12, dtype=torch.float64)
    x[:, :, 2:5, 2:5] = 1
    best = x[:, 0] + 0.01 * random(2, 12, 12)
    maps = {"best": best, "worst": -best, "random": random(2, 12, 12, seed=1), "constant": torch.ones(2, 12, 12)}
    table = assess(Patch(), x, maps, {"road": {"shares": (0.1, 0.3)}, "road_combined": {"shares": (0.1, 0.3)}})
    for name in ("road", "road_combined"):
        values = {title: float(found[name]) for title, found in table.items()}
        assert values["best"] == max(values.values())
        assert values["worst"] == min(values.values())
    assert float(table["best"]["road_combined"]) == pytest.approx(-float(table["worst"]["road_combined"]), abs=1e-12)
    assert table["constant"]["road"].notes == (CONSTANT,)
    assert table["best"]["road"].notes == ()


def test_accuracy_is_the_share_whose_class_stays():
    model, x = network(GapLinear), samples(GapLinear, 6)
    maps = random(6, 8, 8)
    measured = road(model, x, maps, of="accuracy", noise=0.0)
    assert set(np.unique(measured.curve)) <= {0.0, 1.0}
    assert measured.curve.shape == (6, len(SHARES))
    np.testing.assert_allclose(measured.values, 1 - measured.curve.mean(1))
    target = (model(x).argmax(1) + 1) % 5
    assert (road(model, x, maps, of="accuracy", shares=(0.1,), target=target).values <= 0).all()
    with pytest.raises(UnsupportedError, match="does not choose"):
        road(nn.Sequential(nn.Flatten(), nn.Linear(64, 1)).double(), x, maps, of="accuracy")


def test_noise_depends_on_seed_and_sample_only():
    """The same in any batch, for all maps and shares of a sample; of the size that is asked for."""
    model, x = network(GapLinear), samples(GapLinear, 4)
    maps = {"one": random(4, 8, 8), "other": random(4, 8, 8, seed=1)}
    whole, *others = (assess(model, x, maps, ["road", "road_combined"], batch=batch) for batch in (100, 1, 3))
    for other in others:
        for title in maps:
            for name in ("road", "road_combined"):
                np.testing.assert_allclose(other[title][name].curve, whole[title][name].curve, rtol=0, atol=1e-12)
    assert whole["one"]["road_combined"].passes == 9  # the other half is road's
    assert not np.allclose(road(model, x, maps["one"], seed=1).curve, whole["one"]["road"].curve, atol=1e-9)
    seen = []
    model.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0].clone()))
    for noise in (0.0, 0.5):
        road(model, x, maps["one"], noise=noise, shares=(0.5,))
    added = seen[-1] - seen[1]
    assert added[added != 0].numel() == 4 * 32
    assert added[added != 0].std() == pytest.approx(0.5, rel=0.2)  # sampled


def test_what_is_refused():
    model, x = network(Dense), samples(Dense, 2)
    with pytest.raises(UnsupportedError, match="of a table"):
        road(model, x, x)
    model, x = network(GapLinear), samples(GapLinear, 2)
    maps = random(2, 8, 8)
    for shares in ((0.0, 0.5), (1.0,), (0.999,), ()):
        with pytest.raises(InputError):
            road(model, x, maps, shares=shares)
    with pytest.raises(InputError, match="order is 'mrof'"):
        road(model, x, maps, order="mrof")

"""XRAI: the merging against a slow one, the map's properties, and its integrated gradients."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from skimage.morphology import dilation, disk

from networks import Concatenated, DenseHead, GapLinear, Sequence, network, samples
from pellucid import integrated_gradients
from pellucid.core.errors import InputError, UnsupportedError
from pellucid.explanation.xrai import candidates, enlarged, merge, xrai


def slow_merge(density, regions, least):
    """The definition, with whole images: in every turn all regions are looked at anew."""
    values, order = np.zeros_like(density), np.full(density.shape, -1)
    turn = 0
    while True:
        best, gain = None, -np.inf
        for region in regions:
            new = region & (order < 0)
            if new.sum() >= least and density[new].mean() > gain:
                best, gain = new, density[new].mean()
        if best is None:
            break
        values[best], order[best] = gain, turn
        turn += 1
    if (order < 0).any():
        values[order < 0], order[order < 0] = density[order < 0].mean(), turn
    return values, order


def picture(n: int = 2, size: int = 32) -> torch.Tensor:
    coarse = torch.randn(n, 3, 4, 4, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    return torch.nn.functional.interpolate(coarse, (size, size), mode="bilinear", align_corners=False)


@pytest.mark.parametrize("least", [1, 3, 12, 1000])
@pytest.mark.parametrize("seed", range(3))
def test_merge_against_a_slow_one(least, seed):
    random = np.random.default_rng(seed)
    density = random.normal(size=(12, 15))
    regions = np.stack([np.roll(np.arange(180).reshape(12, 15) % 7 == k, s, 1) for k, s in ((0, 0), (3, 2), (5, 1))])
    corners = [(random.integers(9), random.integers(11), random.integers(2, 8)) for _ in range(20)]
    boxes = np.zeros((20, 12, 15), dtype=bool)
    for box, (y, x, s) in zip(boxes, corners):
        box[y : y + s, x : x + s] = True
    everything = np.concatenate([regions, boxes])
    expected, found = slow_merge(density, everything, least), merge(density, everything, least)
    np.testing.assert_allclose(found[0], expected[0], rtol=0, atol=1e-12)
    assert np.array_equal(found[1], expected[1])


def test_the_order_of_a_case_by_hand():
    """The small best pixel wins, the box around it gets the rest of its own, the strip that adds one pixel is left out."""
    density = np.array([[8.0, 2.0, 2.0, 0.0], [2.0, 2.0, 2.0, -1.0]])
    masks = np.zeros((3, 2, 4), dtype=bool)
    masks[0, :, :2] = True  # mean 3.5, then the first
    masks[1, :, 1:3] = True  # mean 2; after the first two pixels of its own, mean 2
    masks[2, 0, 2:] = True  # one new pixel after the others
    values, order = merge(density, masks, least=2)
    assert order.tolist() == [[0, 0, 1, 2], [0, 0, 1, 2]]
    assert values.tolist() == [[3.5, 3.5, 2.0, -0.5], [3.5, 3.5, 2.0, -0.5]]
    assert merge(density, masks, least=1)[1].tolist() == [[0, 0, 1, 2], [0, 0, 1, 3]]


@pytest.mark.parametrize("radius", [1, 2, 5])
def test_enlarging_is_a_dilation_with_a_disk(radius):
    regions = np.random.default_rng(0).random((4, 13, 9)) > 0.95
    expected = np.stack([dilation(r, disk(radius)) for r in regions])
    assert np.array_equal(enlarged(regions, radius), expected)


def test_candidates_are_of_each_image_alone_different_and_cover_it():
    x = picture()
    found = candidates(x)
    for i in range(2):
        assert np.array_equal(found[i], candidates(x[i : i + 1])[0])
        assert found[i].any(0).all()
        assert len(found[i]) >= 5
    again = candidates(x, (50.0, 50.0))
    assert all(np.array_equal(a, b) for a, b in zip(again, candidates(x, (50.0,))))


def test_the_map_is_constant_on_regions_covers_the_image_and_adds_up():
    model, x = network(Concatenated), picture()
    found = xrai(model, x, target=1, steps=8)
    again = xrai(model, x, target=1, steps=8)
    assert torch.equal(found.relevance, again.relevance)
    order = found.details["order"]
    assert order.shape == (2, 32, 32)
    assert order.min() == 0
    for values, places, density in zip(found.map(), order, found.raw):
        for turn in range(int(places.max()) + 1):
            here = places == turn
            assert here.any()
            torch.testing.assert_close(values[here], density[here].mean().expand(int(here.sum())), rtol=0, atol=1e-12)
    torch.testing.assert_close(found.relevance.flatten(1).sum(1), found.score - found.base - found.gap, rtol=0, atol=1e-12)
    assert torch.equal(found.relevance[:, :1].expand_as(x), found.relevance)


def test_the_density_is_the_mean_of_two_integrated_gradients():
    model, x = network(DenseHead), samples(DenseHead, 2)
    found = xrai(model, x, target=2, steps=6)
    for i in range(2):
        ends = [torch.full((1, 8, 8), float(end), dtype=x.dtype) for end in (x[i].min(), x[i].max())]
        apart = [integrated_gradients(model, x[i : i + 1], target=2, steps=6, baseline=end) for end in ends]
        torch.testing.assert_close(found.raw[i], sum(a.map()[0] for a in apart) / 2, rtol=0, atol=1e-12)
        assert float(found.base[i]) == pytest.approx(sum(float(a.base) for a in apart) / 2, abs=1e-12)
    assert found.passes == {"forward": 3 + 12, "backward": 12, "head": 0, "tail": 0}
    gaps = [xrai(model, x, target=2, steps=steps).gap.abs().max() for steps in (2, 48)]
    assert gaps[1] < 2e-3  # the ReLU's kinks: Gauss-Legendre converges as 1 / steps there
    assert gaps[1] < gaps[0] / 3


def test_segments_of_ones_own():
    model, x = network(GapLinear), samples(GapLinear, 3)
    halves = torch.zeros(2, 8, 8, dtype=torch.bool)
    halves[0, :4], halves[1, 4:] = True, True
    one = xrai(model, x, target=0, segments=halves)
    for rows in (slice(0, 4), slice(4, 8)):
        part = one.map()[:, rows].flatten(1)
        torch.testing.assert_close(part, part[:, :1].expand_as(part), rtol=0, atol=0)
    sides = halves.mT.contiguous().numpy()
    mixed = xrai(model, x, target=0, segments=[halves, sides, halves], batch=2)
    torch.testing.assert_close(mixed.relevance[[0, 2]], one.relevance[[0, 2]], rtol=0, atol=1e-12)
    assert torch.equal(mixed.map()[1, 0], mixed.map()[1, 7])
    assert not torch.equal(mixed.map()[1], one.map()[1])
    for bad, words in [
        (halves[:, :4], "segments of shape"),
        (halves[0], "segments of shape"),
        (halves.long() * 2, "segments of shape"),
        ([halves, halves], "segments for 2 samples"),
    ]:
        with pytest.raises(InputError, match=words):
            xrai(model, x, segments=bad)


def test_what_is_refused():
    with pytest.raises(UnsupportedError, match="xrai explains images"):
        xrai(network(Sequence), samples(Sequence))
    for options, words in [({"steps": 0}, "steps is 0"), ({"scales": ()}, "no scales"), ({"scales": (0,)}, "scales is 0")]:
        with pytest.raises(InputError, match=words):
            xrai(network(GapLinear), samples(GapLinear), **options)

"""Augmentations: what they do, from the passed generator alone."""

from __future__ import annotations

import pytest
import torch

from pellucid.core import seeds
from pellucid.core.errors import InputError
from pellucid.data.augmentation import augmenter, flip, shift


def images(n=400):
    return torch.rand(n, 2, 6, 5, generator=seeds.generator(0))


def test_flip_exchanges_left_and_right_in_about_half():
    x = images()
    out = flip(x, seeds.generator(1))
    kept = (out == x).flatten(1).all(1)
    turned = (out == x.flip(-1)).flatten(1).all(1)
    assert bool((kept ^ turned).all())
    assert 150 < int(kept.sum()) < 250


def test_shift_moves_and_repeats_the_edge():
    x = images()
    out = shift(x, seeds.generator(1), pixels=1)
    padded = torch.nn.functional.pad(x, (1, 1, 1, 1), mode="replicate")
    moved = {(i, j): padded[:, :, 1 - i : 7 - i, 1 - j : 6 - j] for i in (-1, 0, 1) for j in (-1, 0, 1)}
    hits = torch.stack([(out == m).flatten(1).all(1) for m in moved.values()])
    assert hits.sum(0).eq(1).all()
    assert hits.sum(1).min() > 20


@pytest.mark.parametrize("function", [flip, shift])
def test_only_the_generator_counts_and_the_input_stays(function):
    x = images(20)
    before = x.clone()
    torch.manual_seed(3)
    state = torch.random.get_rng_state()
    one, other = (function(x, seeds.generator(5)) for _ in range(2))
    assert torch.equal(one, other)
    assert torch.equal(x, before)
    assert torch.equal(torch.random.get_rng_state(), state)
    assert one.shape == x.shape
    assert one.dtype == x.dtype


def test_augmenter_applies_in_order_with_options():
    x = images(30)
    generator = seeds.generator(2)
    want = shift(flip(x, generator), generator, pixels=1)
    assert torch.equal(augmenter({"flip": None, "shift": {"pixels": 1}})(x, seeds.generator(2)), want)
    assert torch.equal(augmenter(["flip"])(x, seeds.generator(2)), flip(x, seeds.generator(2)))
    assert torch.equal(augmenter("flip")(x, seeds.generator(2)), flip(x, seeds.generator(2)))
    assert augmenter([])(x, generator) is x


def test_what_does_not_exist_or_fit():
    with pytest.raises(InputError, match="no augmentation 'flipp'. Did you mean 'flip'"):
        augmenter(["flipp"])
    with pytest.raises(InputError, match="'shift' has no option 'pixel'. Did you mean 'pixels'"):
        augmenter({"shift": {"pixel": 1}})
    with pytest.raises(InputError, match=r"'flip' needs images \(B, C, H, W\), not \(3, 4\)"):
        flip(torch.zeros(3, 4), seeds.generator(0))
    with pytest.raises(InputError, match="pixels is 0"):
        shift(images(1), seeds.generator(0), pixels=0)

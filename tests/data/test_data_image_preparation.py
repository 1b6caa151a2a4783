"""The preparation of images: the stated formula, bounds, exact JSON, new files."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from PIL import Image

from pellucid.core.errors import InputError, PellucidError
from pellucid.data.image_preparation import ImagePreparation
from pellucid.data.preparation import preparation_from_json


@pytest.fixture
def raw():
    return np.random.default_rng(0).integers(0, 200, (20, 5, 4, 3), dtype=np.uint8)


def test_the_formula(raw):
    """Against (x / 255 - mean) / std in float64; 1e-6 is float32."""
    preparation = ImagePreparation(5, 4, 3).fit([raw])
    x = raw.reshape(-1, 3) / 255
    np.testing.assert_allclose(preparation.mean, x.mean(0), rtol=1e-12)
    np.testing.assert_allclose(preparation.std, x.std(0), rtol=1e-12)
    want = ((raw / 255 - x.mean(0)) / x.std(0)).transpose(0, 3, 1, 2)
    got = preparation.apply(raw)
    assert (got.dtype, got.shape) == (torch.float32, (20, 3, 5, 4))
    assert got.is_contiguous()
    np.testing.assert_allclose(got.numpy(), want, atol=1e-6)


def test_pieces_measure_the_same(raw):
    assert ImagePreparation(5, 4, 3).fit([raw]) == ImagePreparation(5, 4, 3).fit([raw[:7], raw[7:]])


def test_bounds_are_what_black_and_white_become(raw):
    preparation = ImagePreparation(5, 4, 3).fit([raw])
    low, high = preparation.bounds()
    ends = np.stack([np.zeros((5, 4, 3), np.uint8), np.full((5, 4, 3), 255, np.uint8)])
    x = preparation.apply(ends)
    assert torch.equal(x[0, :, 0, 0], low)
    assert torch.equal(x[1, :, 0, 0], high)
    every = preparation.apply(raw)
    assert bool((every >= low[:, None, None]).all() and (every <= high[:, None, None]).all())


def test_one_brightness_has_no_spread_and_becomes_zero():
    raw = np.full((3, 2, 2), 77, np.uint8)
    preparation = ImagePreparation(2, 2, 1).fit([raw])
    assert preparation.std == (1.0,)
    assert preparation.apply(raw).abs().max() < 1e-6


def test_json_is_exact(raw):
    preparation = ImagePreparation(5, 4, 3).fit([raw])
    again = preparation_from_json(json.loads(json.dumps(preparation.to_json())))
    assert again == preparation
    assert torch.equal(again.apply(raw), preparation.apply(raw))


@pytest.mark.parametrize(
    "change", [{"std": [0.0, 1.0, 1.0]}, {"mean": [0.1]}, {"mean": "abc"}, {"height": None, "extra": 1}, {"std": None}]
)
def test_damaged_json(raw, change):
    stored = ImagePreparation(5, 4, 3).fit([raw]).to_json() | change
    with pytest.raises(InputError, match="stored preparation of kind 'image' is damaged"):
        preparation_from_json(stored)


def test_unknown_kind():
    with pytest.raises(InputError, match="kind of preparation is 'imag'. Did you mean 'image'"):
        preparation_from_json({"kind": "imag"})


def test_not_fitted_and_wrong_rows(raw):
    preparation = ImagePreparation(5, 4, 3)
    with pytest.raises(PellucidError, match=r"not prepared yet.*data\.fit"):
        preparation.apply(raw)
    with pytest.raises(InputError, match="no rows to measure"):
        preparation.fit([])
    with pytest.raises(InputError, match=r"images are uint8 \(4, 5, 3\), not uint8 \(5, 4, 3\)"):
        preparation.fit([raw.swapaxes(1, 2)])
    with pytest.raises(InputError, match="images are float64"):
        preparation.fit([raw / 255])


def test_new_files_are_read_in_the_same_way(tmp_path, raw):
    preparation = ImagePreparation(5, 4, 3).fit([raw])
    paths = []
    for i in range(3):
        paths.append(tmp_path / f"{i}.png")
        Image.fromarray(raw[i]).save(paths[-1])
    got, names = preparation.read(paths)
    np.testing.assert_array_equal(got, raw[:3])
    assert names == [str(p) for p in paths]
    np.testing.assert_array_equal(preparation.read([tmp_path])[0], raw[:3])
    assert preparation.read([paths[0]])[0].shape == (1, 5, 4, 3)


def test_new_files_that_cannot_be_read(tmp_path, raw):
    preparation = ImagePreparation(5, 4, 3).fit([raw])
    Image.fromarray(raw[0]).save(tmp_path / "a.png")
    (tmp_path / "b.png").write_bytes((tmp_path / "a.png").read_bytes()[:60])
    with pytest.raises(InputError, match=r"b\.png' cannot be read: .*Leave the file out or repair it"):
        preparation.read([tmp_path / "a.png", tmp_path / "b.png"])
    with pytest.raises(InputError, match=r"no file or folder '.*c\.png'"):
        preparation.read([tmp_path / "c.png"])
    (tmp_path / "none").mkdir()
    with pytest.raises(InputError, match="no images in"):
        preparation.read([tmp_path / "none"])

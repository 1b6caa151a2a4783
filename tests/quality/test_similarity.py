"""Q2: rank correlation, SSIM and HOG over a batch are those of scipy and scikit-image, map by map."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import spearmanr
from skimage.feature import hog
from skimage.metrics import structural_similarity

from pellucid.core.errors import InputError, UnsupportedError
from pellucid.core.table import MEASURES
from pellucid.quality.similarity import (
    SIMILARITIES,
    histograms_of_oriented_gradients,
    hog_cell,
    hog_correlation,
    rank_correlation,
    structural_similarity_index,
    unit,
)


def two(*shape, seed=0):
    """Maps that are partly alike, of any scale, with ties."""
    rng = np.random.default_rng(seed)
    a = rng.normal(size=shape).round(1)
    return 1e-6 * a, 7.0 * (a + rng.normal(size=shape)).round(1) - 3


def test_rank_correlation_is_scipys():
    a, b = two(5, 6, 7)
    expected = [spearmanr(x.ravel(), y.ravel()).statistic for x, y in zip(a, b)]
    np.testing.assert_allclose(rank_correlation(a, b), expected, rtol=0, atol=1e-12)
    expected = [spearmanr(abs(x).ravel(), abs(y).ravel()).statistic for x, y in zip(a, b)]
    np.testing.assert_allclose(SIMILARITIES["rank_absolute"](a, b), expected, rtol=0, atol=1e-12)
    assert rank_correlation([[1.0, 2, 3, 4]], [[10.0, 30, 20, 40]]) == pytest.approx([0.8])  # 1 - 6 * 2 / (4 * 15)
    assert rank_correlation(a, 0 * a) == pytest.approx(0)


@pytest.mark.parametrize("shape", [(30, 41), (11, 11), (12, 30), (10, 12), (5, 9), (3, 4), (12, 13, 14), (4, 5, 6)])
def test_ssim_is_that_of_scikit_image(shape):
    a, b = two(3, *shape)
    side = min(11, min(shape) - 1 + min(shape) % 2)
    gaussian = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False}
    how = gaussian if side == 11 else {"win_size": side}
    expected = [structural_similarity(x, y, data_range=1.0, **how) for x, y in zip(unit(a), unit(b))]
    np.testing.assert_allclose(structural_similarity_index(a, b), expected, rtol=0, atol=1e-9)


@pytest.mark.parametrize("shape", [(7,), (2, 9)])
def test_ssim_without_a_window_is_taken_over_everything(shape):
    a, b = two(2, *shape)
    for x, y, found in zip(unit(a), unit(b), structural_similarity_index(a, b)):
        cross = 2 * np.cov(x.ravel(), y.ravel(), bias=True)[0, 1] + 0.03**2
        above = (2 * x.mean() * y.mean() + 0.01**2) * cross
        assert found == pytest.approx(above / ((x.mean() ** 2 + y.mean() ** 2 + 0.01**2) * (x.var() + y.var() + 0.03**2)))


@pytest.mark.parametrize(("shape", "cell"), [((224, 230), 16), ((96, 96), 16), ((28, 28), 4), ((8, 9), 2), ((6, 6), 2)])
def test_hog_is_the_rank_correlation_of_scikit_images_histograms(shape, cell):
    assert hog_cell(shape) == cell
    a, b = two(2, *shape)
    one, other = (np.stack([hog(m, pixels_per_cell=(cell, cell)) for m in unit(maps)]) for maps in (a, b))
    ours = histograms_of_oriented_gradients(unit(a))
    # in another order; scikit-image adds up a cell in single precision, so that 1e-7 is left, and neighbours in rank may change
    np.testing.assert_allclose(np.sort(ours, 1), np.sort(one, 1), rtol=0, atol=1e-7)
    expected = [spearmanr(x, y).statistic for x, y in zip(one, other)]
    np.testing.assert_allclose(hog_correlation(a, b), expected, rtol=0, atol=1e-5)


def test_hog_sees_the_direction_and_not_the_sign():
    """Stripes that lie and stripes that stand; a map and its negative have the same edges."""
    lying = np.sin(np.arange(28) / 2)[None, :, None] + np.zeros((1, 28, 28))
    assert hog_correlation(lying, -lying) == pytest.approx(1)
    assert hog_correlation(lying, lying.swapaxes(1, 2))[0] < 0
    assert rank_correlation(lying, -lying) == pytest.approx(-1)


@pytest.mark.parametrize("name", SIMILARITIES)
def test_identity_scale_and_batch(name):
    a, b = two(4, 13, 15)
    measure = SIMILARITIES[name]
    np.testing.assert_allclose(measure(a, a), 1, rtol=0, atol=1e-12)
    np.testing.assert_allclose(measure(a, 1e5 * a), 1, rtol=0, atol=1e-12)
    np.testing.assert_allclose(measure(a[2:3], b[2:3]), measure(a, b)[2:3], rtol=0, atol=1e-12)
    assert (abs(measure(a, b)) < 0.9).all()


def test_what_cannot_be_compared_is_refused():
    a, _ = two(2, 8, 8)
    with pytest.raises(InputError, match="shapes"):
        rank_correlation(a, a[:1])
    with pytest.raises(InputError, match="shapes"):
        rank_correlation(a[0, 0], a[0, 0])
    with pytest.raises(InputError, match="second maps"):
        structural_similarity_index(a, np.where(a > 0, np.nan, a))
    with pytest.raises(UnsupportedError, match="too small"):
        hog_correlation(a[:, :5], a[:, :5])
    with pytest.raises(UnsupportedError, match="two axes"):
        hog_correlation(a[:, 0], a[:, 0])


def test_they_are_measures():
    assert MEASURES.names("similarity") == ["hog_correlation", "rank_correlation", "structural_similarity_index"]

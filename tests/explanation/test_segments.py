"""Segments: numbering, each kind of input, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import ndimage

from pellucid.core.errors import InputError, UnsupportedError
from pellucid.explanation.segments import KINDS, renumbered, segments

IMAGE_METHODS = ("slic", "quickshift", "felzenszwalb")


def scene(size: int = 28, channels: int = 3, n: int = 2) -> torch.Tensor:
    """Standardised images: a bright square on a dark ground that gets lighter to the right, a little grain."""
    generator = torch.Generator().manual_seed(3)
    x = torch.linspace(0, 0.2, size, dtype=torch.float64).expand(n, channels, size, size).clone()
    for i in range(n):
        x[i, :, size // 4 + i : size // 2 + i, size // 4 : 3 * size // 4] += 1
    x += 0.01 * torch.randn(x.shape, generator=generator, dtype=torch.float64)
    return (x - x.mean()) / x.std()


def in_scan_order(labels: torch.Tensor) -> bool:
    """Every sample's numbers are 0 .. M - 1, and each first appears after the one below it."""
    for row in labels.flatten(1).tolist():
        seen = list(dict.fromkeys(row))
        if seen != list(range(len(seen))):
            return False
    return True


def test_the_check_of_the_order_can_fail():
    assert in_scan_order(torch.tensor([[0, 0, 1, 2, 1]]))
    assert not in_scan_order(torch.tensor([[1, 0]]))
    assert not in_scan_order(torch.tensor([[0, 2, 1]]))


@pytest.mark.parametrize("method", KINDS)
@pytest.mark.parametrize("channels", [1, 3, 5])
def test_labels_of_images(method, channels):
    x = scene(channels=channels)
    labels = segments(x, method)
    assert labels.shape == (2, 28, 28)
    assert labels.dtype is torch.long
    assert in_scan_order(labels)
    assert torch.equal(labels, segments(x.numpy(), method))
    for i in range(2):  # each sample by itself
        assert torch.equal(labels[i : i + 1], segments(x[i : i + 1], method))
    numbers = labels.flatten(1).amax(1) + 1
    assert (numbers == 784).all() if method == "pixels" else ((numbers >= 2) & (numbers <= 130)).all()


@pytest.mark.parametrize("method", IMAGE_METHODS)
def test_the_scale_of_the_values_does_not_matter(method):
    x = scene()
    assert torch.equal(segments(x, method), segments((x * 2**5).float() + 2**4, method))


@pytest.mark.parametrize("method", IMAGE_METHODS)
@pytest.mark.parametrize("size", [28, 64])
def test_segments_keep_to_a_strong_edge(method, size):
    """Few pixels lie in a segment that holds both the square and the ground."""
    x = scene(size, n=1)
    square = (x[0].mean(0) > x.amin() + 0.6 * (x.amax() - x.amin())).flatten()
    labels = segments(x, method).flatten()
    inside = torch.bincount(labels[square], minlength=int(labels.max()) + 1)
    outside = torch.bincount(labels[~square], minlength=int(labels.max()) + 1)
    assert torch.minimum(inside, outside).sum() <= 0.03 * size * size


@pytest.mark.parametrize(("method", "most"), [("slic", 80), ("quickshift", 90), ("felzenszwalb", 130)])
def test_numbers_stay_alike_over_sizes(method, most):
    """The settings follow the size of the image, so that small ones are cut into parts too."""
    generator = torch.Generator().manual_seed(0)
    coarse = torch.randn(1, 3, 8, 8, generator=generator, dtype=torch.float64)
    for size in (28, 56, 112):
        x = torch.nn.functional.interpolate(coarse, (size, size), mode="bilinear", align_corners=False)
        assert 15 <= int(segments(x, method).max()) + 1 <= most


def test_grey_images_without_a_channel_axis():
    x = scene(channels=1)
    for method in IMAGE_METHODS:
        assert torch.equal(segments(x[:, 0], method), segments(x, method))


def test_grid_boxes_are_equal_on_any_number_of_axes():
    labels = segments(torch.zeros(1, 1, 6, 9), "grid", count=[2, 3])
    assert torch.equal(labels[0], torch.tensor([[0, 1, 2], [3, 4, 5]]).repeat_interleave(3, 0).repeat_interleave(3, 1))
    assert segments(torch.zeros(1, 4, 10), "grid", count=5).tolist() == [[0, 0, 1, 1, 2, 2, 3, 3, 4, 4]]
    volume = segments(torch.zeros(2, 1, 8, 10, 12), "grid")
    sizes = torch.bincount(volume[0].flatten())
    assert volume.shape == (2, 8, 10, 12)
    assert len(sizes) == 64
    assert sizes.max() <= 2 * sizes.min()
    assert segments(torch.zeros(2, 5), "pixels").tolist() == [[0, 1, 2, 3, 4]] * 2
    assert segments(torch.zeros(1, 2, 3), "grid", count=99).tolist() == [[0, 1, 2]]


def test_slic_cuts_volumes_into_connected_parts():
    x = torch.randn(1, 1, 8, 8, 8, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    labels = segments(x, "slic", count=8)[0].numpy()
    assert labels.max() > 1
    assert all(ndimage.label(labels == k)[1] == 1 for k in range(labels.max() + 1))


@pytest.mark.parametrize("method", KINDS)
def test_constant_and_tiny_images(method):
    assert in_scan_order(segments(torch.full((2, 3, 9, 9), 7.0), method))
    assert segments(torch.zeros(1, 1, 1, 1), method).tolist() == [[[0]]]


def test_renumbering():
    given = torch.tensor([[[5, 5, 9], [1, 9, 9]], [[-3, 0, 0], [-3, 7, 100]]])
    assert renumbered(given).tolist() == [[[0, 0, 1], [2, 1, 1]], [[0, 1, 1], [0, 2, 3]]]
    assert torch.equal(renumbered(np.arange(1, 7, dtype=np.int16).reshape(1, 2, 3)), torch.arange(6).view(1, 2, 3))
    assert torch.equal(renumbered(renumbered(given)), renumbered(given))
    for bad, words in [
        (torch.zeros(1, 2, 2), "segments are torch.float32"),
        (torch.zeros(1, 2, dtype=torch.bool), "segments are torch.bool"),
        (torch.zeros(3, dtype=torch.long), "segments have shape"),
        (torch.zeros(0, 3, dtype=torch.long), "segments have shape"),
    ]:
        with pytest.raises(InputError, match=words):
            renumbered(bad)


def test_what_is_refused():
    x = scene()
    with pytest.raises(InputError, match="Did you mean 'slic'"):
        segments(x, "slik")
    with pytest.raises(InputError, match="'slic' has no option 'compactnes'. Did you mean 'compactness'"):
        segments(x, "slic", compactnes=1)
    with pytest.raises(InputError, match="kernel_size is -1"):
        segments(x, "quickshift", kernel_size=-1)
    with pytest.raises(InputError, match="count is 0"):
        segments(x, "grid", count=0)
    with pytest.raises(InputError, match="count has 1 numbers for 2 axes"):
        segments(x, "grid", count=[3])
    with pytest.raises(InputError, match="holds nan"):
        segments(torch.full((1, 1, 4, 4), torch.nan))
    with pytest.raises(UnsupportedError, match="'quickshift' cuts images"):
        segments(torch.zeros(1, 1, 4, 4, 4), "quickshift")
    with pytest.raises(UnsupportedError, match='method="grid"'):
        segments(torch.zeros(2, 7), "slic")

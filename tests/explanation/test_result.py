"""What an explanation can do with itself: figures, notebook, numpy, and what it refuses."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from networks import Dense, GapLinear, Sequence, network, samples
from pellucid import explain, gradient, integrated_gradients, occlusion, reference_library
from pellucid.core.errors import InputError
from pellucid.explanation import masks


@pytest.mark.parametrize("kind", [GapLinear, Dense])
def test_show_and_notebook(kind):
    found = occlusion(network(kind), samples(kind))
    figure = found.show()
    words = " ".join(text.get_text() for axes in figure.axes for text in axes.texts) + " ".join(
        a.get_title() for a in figure.axes
    )
    assert "occlusion" in words + " ".join(text.get_text() for text in figure.texts)
    assert found._repr_html_().startswith('<img alt="occlusion" src="data:image/png;base64,')


def test_what_cannot_be_drawn_says_so():
    with pytest.raises(InputError, match="no figure for samples of shape"):
        occlusion(network(Sequence), samples(Sequence)).show()


def test_numpy_and_captum_habit():
    x = samples(GapLinear)
    found = integrated_gradients(network(GapLinear), x, target=3, steps=5)
    assert np.asarray(found).shape == x.shape
    assert (found.target == 3).all()
    assert found.options["steps"] == 5
    assert torch.equal(torch.as_tensor(np.asarray(found)), found.relevance)
    from_numpy = integrated_gradients(network(GapLinear), x.numpy(), target=3, steps=5)
    assert torch.equal(found.relevance, from_numpy.relevance)


def test_probability_is_explained_where_asked():
    model, x = network(GapLinear), samples(GapLinear)
    found = explain(model, x, ["gradient"], of="probability", target=0)["gradient"]
    leaf = x.clone().requires_grad_()
    expected = torch.autograd.grad(model(leaf).softmax(1)[:, 0].sum(), leaf)[0]
    torch.testing.assert_close(found.raw, expected, rtol=0, atol=1e-12)
    assert found.of == "probability"


def test_an_option_that_lets_negative_values_through_makes_the_map_signed():
    found = explain(network(GapLinear), samples(GapLinear), {"gradient": {"absolute": False}, "grad_cam": {"relu": False}})
    assert all(e.signed for e in found.values())
    assert not gradient(network(GapLinear), samples(GapLinear)).signed
    found["gradient"].show()


def test_labels_side_by_side_have_no_contrast():
    with pytest.raises(InputError, match="one class index per sample"):
        reference_library(network(GapLinear), samples(GapLinear, 4), torch.ones(4, 5))


def test_maps():
    x = torch.zeros(2, 3, 4, 6)
    small = torch.rand(2, 2, 3)
    large = masks.resize(small, masks.spatial(x))
    assert large.shape == (2, 4, 6)
    torch.testing.assert_close(masks.collect(masks.spread(large, x)), large)
    assert masks.unit(torch.ones(1, 4, 4)).min() == 1  # constant: everything kept
    assert masks.positive_share(-torch.ones(1, 4, 4)).max() == 0  # nothing positive: no evidence
    assert masks.positive_share(torch.tensor([[-1.0, 2.0, 4.0]])).tolist() == [[0, 0.5, 1]]
    with pytest.raises(InputError, match="one map per sample"):
        masks.keep(x, torch.ones(1, 4, 6))

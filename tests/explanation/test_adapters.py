"""The interfaces of other packages (X25): arrays, captum's class, Quantus' function. shap's object is tested beside shap."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

import pellucid
from networks import DenseHead, GapLinear, TwoInputs, network, samples
from pellucid import Attribution, InputError, MissingExtraError, UnsupportedError, explain, explain_func

attr = pytest.importorskip("captum.attr")
TARGET = torch.tensor([2, 0, 1])


def two_inputs():
    generator = torch.Generator().manual_seed(0)
    parts = [torch.randn(3, *shape, generator=generator, dtype=torch.float64) for shape in [(1, 6, 6), (5,)]]
    return (*parts, torch.randint(3, (3, 1), generator=generator))


@pytest.mark.parametrize("baselines", [None, 0.3, "one", "each"])
def test_captums_calls_give_captums_answers(baselines):
    """The same lines with either class: single baseline, one per sample, and the delta."""
    model, x = network(DenseHead), samples(DenseHead)
    if isinstance(baselines, str):
        baselines = samples(DenseHead, 1 if baselines == "one" else 3, seed=5)
    theirs, delta = attr.IntegratedGradients(model).attribute(
        x, baselines, target=TARGET, n_steps=20, return_convergence_delta=True
    )
    mine = Attribution("integrated_gradients", model, steps=20)
    ours, gap = mine.attribute(x, baselines, target=TARGET, return_convergence_delta=True)
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-7)  # captum's quadrature weights are float32
    torch.testing.assert_close(gap, delta, rtol=0, atol=1e-6)
    assert mine.explanation.layer is None


def test_tuples_in_and_out():
    model, x = network(TwoInputs), two_inputs()
    theirs = attr.IntegratedGradients(lambda a, b: model(a, b, x[2])).attribute(x[:2], target=1, n_steps=1)
    ours = Attribution(pellucid.integrated_gradients, model, steps=1).attribute(x, target=1)
    assert len(ours) == 3
    torch.testing.assert_close(ours[:2], theirs, rtol=0, atol=1e-7)
    assert (ours[2] == 0).all()
    base = (0.5, torch.ones(3, 5), 0)
    Attribution("integrated_gradients", model).attribute(x, base, target=1)
    cam = Attribution("grad_cam", model, layer="features").attribute(x, target=1)
    assert cam[0].shape == x[0].shape
    assert (cam[1] == 0).all()


class Tagging(nn.Module):
    """An answer with more axes: one set of classes per position."""

    def __init__(self):
        super().__init__()
        self.inner = network(GapLinear)

    def forward(self, x):
        return self.inner(x)[:, :, None] * torch.arange(1.0, 4.0)


def test_targets_as_captum_takes_them():
    model, x = Tagging().double(), samples(GapLinear)
    theirs = attr.Saliency(model).attribute(x.clone().requires_grad_(), target=(2, 1))
    torch.testing.assert_close(Attribution("gradient", model).attribute(x, target=(2, 1)), theirs, rtol=0, atol=1e-12)
    for target in (1, [2, 0, 1], TARGET, lambda answer: answer[:, 1]):
        assert Attribution("gradient", model.inner).attribute(x, target=target).shape == x.shape


def test_references_arrive_as_baselines():
    model, x = network(DenseHead), samples(DenseHead)
    references = samples(DenseHead, 4, 9)
    ours = Attribution("expected_gradients", model, samples=5).attribute(x, references, target=TARGET, seed=3)
    asked = {"expected_gradients": {"references": references, "samples": 5}}
    assert torch.equal(ours, explain(model, x, asked, target=TARGET, seed=3)["expected_gradients"].relevance)


def test_what_does_not_fit_is_named():
    model, x = network(DenseHead), samples(DenseHead)
    with pytest.raises(InputError, match="no method 'ig'"):
        Attribution("ig", model)
    with pytest.raises(InputError, match="no option 'n_steps'. Did you mean 'steps'"):
        Attribution("integrated_gradients", model, n_steps=3)
    with pytest.raises(InputError, match="gradient compares with no baseline"):
        Attribution("gradient", model).attribute(x, 0.0)
    with pytest.raises(UnsupportedError, match="no convergence delta"):
        Attribution("gradient", model).attribute(x, return_convergence_delta=True)


def test_quantus_function():
    model, x = network(DenseHead), samples(DenseHead)
    found = explain_func(model, x.numpy(), TARGET.numpy(), method="grad_cam", layer="features", device="cpu")
    expected = explain(model, x, ["grad_cam"], target=TARGET, layer="features")["grad_cam"].relevance
    assert isinstance(found, np.ndarray)
    np.testing.assert_array_equal(found, expected.numpy())


def test_arrays():
    x = samples(DenseHead)
    found = explain(network(DenseHead), x, ["gradient"])["gradient"]
    np.testing.assert_array_equal(found.to_numpy(), found.relevance.numpy())
    parts = explain(network(TwoInputs), two_inputs(), ["gradient"])["gradient"].to_numpy()
    assert [None if part is None else part.shape for part in parts] == [(3, 1, 6, 6), (3, 5), None]


def test_shap_is_asked_for_by_name(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "shap", None)
    found = explain(network(DenseHead), samples(DenseHead), ["gradient"])["gradient"]
    with pytest.raises(MissingExtraError, match="pip install shap"):
        found.to_shap()

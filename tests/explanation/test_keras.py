"""A Keras 3 model on its torch backend: channels last, and layers that torch's hooks do not see (L7)."""

from __future__ import annotations

import os

import numpy as np
import pytest
import torch

from pellucid import METHODS, InputError, explain

os.environ["KERAS_BACKEND"] = "torch"
OTHER = ("libra_cam", "linear_shap", "tree_shap")  # with a library, of linear models, of trees
keras = pytest.importorskip("keras")


def images(n=3, seed=0):
    return np.random.default_rng(seed).normal(size=(n, 16, 12, 3)).astype("float32")


def model(pooled=True):
    keras.utils.set_random_seed(0)
    given = keras.Input((16, 12, 3))
    h = keras.layers.Conv2D(4, 3, padding="same", activation="relu", name="one")(given)
    h = keras.layers.MaxPooling2D()(h)
    h = keras.layers.Conv2D(6, 3, padding="same", activation="relu", name="two")(h)
    h = keras.layers.GlobalAveragePooling2D()(h) if pooled else keras.layers.Flatten()(h)
    if not pooled:
        h = keras.layers.Dense(7, activation="tanh")(h)
    return keras.Model(given, keras.layers.Dense(5, name="last")(h))


def activations(m, x):
    return keras.Model(m.input, m.get_layer("two").output)(torch.tensor(x)).detach()


OPTIONS = {
    "expected_gradients": {"references": images(4, 1), "samples": 3},
    "guided_ig": {"steps": 4},
    "integrated_gradients": {"steps": 3, "baseline": images(1, 2)[0]},
    "occlusion": {"window": 4},
    "extremal_perturbation": {"steps": 4},
    "rise": {"masks": 40},
    "shapley": {"features": 6},
    "kernel_shap": {"features": 8, "samples": 60},
}


@pytest.mark.parametrize("name", [name for name in METHODS.names() if name not in OTHER])
def test_every_method_answers_in_the_models_layout(name):
    m, x = model(), images()
    before = [v.value.detach().clone() for v in m.variables]
    found = explain(m, x, {name: OPTIONS.get(name, {})}, layer="two", target=1)[name]
    assert found.relevance.shape == x.shape
    assert found.map().shape == (3, 16, 12)
    assert found.relevance.isfinite().all()
    assert all(torch.equal(a, b.value) for a, b in zip(before, m.variables))
    assert "call" not in vars(m.get_layer("two"))


def test_images_with_their_channels_last_can_be_drawn():
    figure = explain(model(), images(), ["gradient"])["gradient"].show()
    assert len(figure.axes) >= 6  # three images beside their maps


def test_gradient_and_cams_are_those_of_torch_itself():
    m, x = model(), images()
    found = explain(m, x, ["gradient", "cam", "grad_cam", "hires_cam"], target=2)
    leaf = torch.tensor(x, requires_grad=True)
    g = torch.autograd.grad(m(leaf)[:, 2].sum(), leaf)[0]
    torch.testing.assert_close(found["gradient"].raw, g, rtol=0, atol=1e-6)
    weights = m.get_layer("last").kernel.value.detach()[:, 2]
    cam = (activations(m, x) * weights).sum(-1)
    assert found["cam"].layer == "two"
    for name, expected in {"cam": cam, "grad_cam": cam / 48, "hires_cam": cam / 48}.items():
        torch.testing.assert_close(found[name].raw, expected, rtol=0, atol=1e-6)


def test_ablation_runs_only_what_follows_the_layer():
    m, x = model(pooled=False), images()
    found = explain(m, x, ["ablation_cam"], target=0, layer="two")["ablation_cam"]
    a = activations(m, x)
    rest = keras.Model(m.get_layer("two").output, m.output)
    y = rest(a)[:, 0].detach()
    drops = torch.stack([y - rest(a * (torch.arange(6) != k))[:, 0].detach() for k in range(6)], 1)
    torch.testing.assert_close(found.raw, ((drops / y.abs()[:, None])[:, None, None] * a).sum(-1), rtol=0, atol=1e-5)
    assert found.passes["forward"] == pytest.approx(1 + 1 / 3)  # and one row for the check
    assert found.passes["tail"] == found.counts["replays"] > 1


def test_a_layer_that_is_not_there_is_named():
    with pytest.raises(InputError, match="no layer 'tow'. Did you mean 'two'"):
        explain(model(), images(), ["grad_cam"], layer="tow")

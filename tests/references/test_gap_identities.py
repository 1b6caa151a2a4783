"""Closed forms on networks where they are exact, float64 (METHODS E, G1-G3)."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from networks import DenseHead, GapLinear, Residual, Sequence, network, samples
from pellucid import UnsupportedError, explain
from pellucid.explanation.calibration import THRESHOLDS, calibrate
from pellucid.explanation.libra_cam import contrast
from pellucid.explanation.reference_library import ReferenceLibrary, reference_library


def activations(model, x):
    with torch.no_grad():
        return model.features(x)


def test_grad_cam_is_cam_on_a_gap_head():
    """X19: sum_k w_k A^k / Z with w the head's own weights; its sum is the logit without its bias."""
    model, x = network(GapLinear), samples(GapLinear)
    found = explain(model, x, ["grad_cam"], target=2)["grad_cam"]
    a = activations(model, x)
    cam = torch.einsum("k,bkhw->bhw", model.head.weight[2].detach(), a) / a[0, 0].numel()
    torch.testing.assert_close(found.raw, cam, rtol=0, atol=1e-12)
    torch.testing.assert_close(found.raw.sum((1, 2)), found.score - model.head.bias[2].detach(), rtol=0, atol=1e-12)


@pytest.mark.parametrize("target", [0, 2, 4])
def test_all_activation_methods_are_known_on_a_gap_head(target):
    """METHODS E: CAM/Z = Grad-CAM = HiResCAM = XGrad-CAM; Layer-CAM sum max(w, 0) A / Z; both Grad-CAM++; Ablation-CAM.

    w: the head's own weights; CAM is Z times as large, and its mean is the logit without its bias (X18, X19, X21, X22).
    """
    model, x = network(GapLinear), samples(GapLinear)
    a, w, bias = activations(model, x), model.head.weight[target].detach(), model.head.bias[target].detach()
    z = a[0, 0].numel()
    g, w4 = w / z, w.view(1, -1, 1, 1)
    names = ["cam", "grad_cam", "hires_cam", "xgrad_cam", "layer_cam", "grad_cam_plus_plus", "ablation_cam"]
    found = explain(model, x, names, target=target, layer="features")
    cam = (w4 * a).sum(1)
    y = found["cam"].score
    plus = z * g.clamp(min=0) / (2 + g * a.sum((2, 3)))
    expected = {
        "cam": cam,
        "grad_cam": cam / z,
        "hires_cam": cam / z,
        "xgrad_cam": cam / z,
        "layer_cam": (w4.clamp(min=0) * a).sum(1) / z,
        "grad_cam_plus_plus": torch.einsum("bk,bkhw->bhw", plus, a),
        "ablation_cam": torch.einsum("bk,bkhw->bhw", w * a.mean((2, 3)) / y.abs()[:, None], a),
    }
    for name, value in expected.items():
        torch.testing.assert_close(found[name].raw, value, rtol=0, atol=1e-12, msg=name)
    torch.testing.assert_close(found["cam"].raw.mean((1, 2)), y - bias, rtol=0, atol=1e-12)
    normalised = explain(model, x, {"grad_cam_plus_plus": {"normalised": True}}, target=target, layer="features")
    raw = normalised["grad_cam_plus_plus"].raw
    torch.testing.assert_close(raw, (w4.clamp(min=0) * a).sum(1) / z, rtol=0, atol=1e-12)


def test_hires_cam_adds_up_where_one_linear_layer_follows():
    """X19: the paper's guarantee holds behind a flattening too, where Grad-CAM has none."""
    model, x = network(Sequence), samples(Sequence)
    found = explain(model, x, ["hires_cam", "grad_cam"], target=1, layer="features")
    rest = found["hires_cam"].score - model.head.bias[1].detach()
    torch.testing.assert_close(found["hires_cam"].raw.sum(1), rest, rtol=0, atol=1e-12)
    assert (found["grad_cam"].raw.sum(1) - rest).abs().max() > 1e-3


def test_dead_channels_are_no_trouble():
    """PEERS 3: 0 / 0 in XGrad-CAM and Grad-CAM++; constant masks in Score-CAM; nothing to remove in Ablation-CAM."""
    model, x = network(GapLinear), samples(GapLinear)
    with torch.no_grad():
        model.features[3].weight[:2] = 0
        model.features[3].bias[:2] = torch.tensor([-1.0, 2.0])  # channel 0 is zero, channel 1 is constant
    names = ["xgrad_cam", "grad_cam_plus_plus", "score_cam", "ablation_cam", "eigen_cam", "layer_cam"]
    found = explain(model, x, {**dict.fromkeys(names), "grad_cam_plus_plus": {"normalised": True}}, layer="features")
    assert all(e.relevance.isfinite().all() for e in found.values())
    assert found["score_cam"].counts["channels"] <= 4
    with torch.no_grad():
        model.features[3].weight[:] = 0
        model.features[3].bias[:] = -1  # nothing is active at all
    for name, empty in explain(model, x, names, layer="features").items():
        assert (empty.relevance == 0).all(), name
        assert not empty.positive.any()
        assert (empty.evidence() == 0).all()


def test_score_cam_by_hand():
    """X20: softmax over the channels of the score under each mask, enlarged before it is scaled."""
    model, x = network(DenseHead), samples(DenseHead)
    a = activations(model, x)
    masks = torch.nn.functional.interpolate(a, (8, 8), mode="bilinear", align_corners=False)
    low, high = masks.amin((2, 3), keepdim=True), masks.amax((2, 3), keepdim=True)
    masks = (masks - low) / (high - low)
    with torch.no_grad():
        scores = torch.stack([model(x * masks[:, k : k + 1])[:, 2] for k in range(4)], 1)
    found = explain(model, x, ["score_cam"], target=2, layer="features")["score_cam"]
    torch.testing.assert_close(found.raw, torch.einsum("bk,bkhw->bhw", scores.softmax(1), a), rtol=0, atol=1e-12)


def test_cam_refuses_what_it_is_not_made_for():
    """X18: another head, or a ReLU behind the layer; Grad-CAM is named."""
    for kind, layer in ((DenseHead, "features"), (Residual, "last"), (Sequence, "features")):
        with pytest.raises(UnsupportedError, match="Use grad_cam"):
            explain(network(kind), samples(kind), ["cam"], layer=layer)


def test_libra_base_map_sums_to_the_difference_of_logits():
    """X24: sum of sum_k g^k (A^k - A_r^k) = f_c(x) - f_c(r) on GAP + linear; acceptance 6."""
    model, x, r = network(GapLinear), samples(GapLinear, 3), samples(GapLinear, 5, seed=7)
    a, ar = activations(model, x), activations(model, r)
    with torch.no_grad():
        fx, fr = model(x), model(r)
    for c in range(5):
        g = (model.head.weight[c].detach() / a[0, 0].numel())[:, None, None].expand_as(a[0])
        for i in range(3):
            sums = contrast(a[i], g, ar).sum((1, 2))
            torch.testing.assert_close(sums, fx[i, c] - fr[:, c], rtol=0, atol=1e-9)
    library = ReferenceLibrary(ar, torch.arange(5).expand(5, 5).contiguous(), torch.zeros(5, 5), torch.arange(5), "features")
    found = explain(model, x, {"libra_cam": {"library": library, "gamma": 0.0}}, target=1)["libra_cam"]
    assert (found.details["kept"] == 5).all()
    torch.testing.assert_close(found.raw.sum((1, 2)), fx[:, 1] - fr[:, 1].mean(), rtol=0, atol=1e-9)


def test_libra_with_zero_references_is_hires_cam_and_order_is_irrelevant():
    """METHODS A.7: A_r = 0 gives sum_k g^k A^k; permuting the references changes nothing; A_r = A gives a uniform map."""
    model, x = network(DenseHead), samples(DenseHead, 2)
    a = activations(model, x)

    def libra(references, **options):
        index = torch.arange(len(references)).expand(5, len(references)).contiguous()
        library = ReferenceLibrary(references, index, torch.zeros(index.shape), torch.arange(len(references)), "features")
        return explain(model, x, {"libra_cam": {"library": library, **options}}, target=3, layer="features")["libra_cam"]

    leaf = a.clone().requires_grad_()
    g = torch.autograd.grad(model.head(leaf)[:, 3].sum(), leaf)[0]
    torch.testing.assert_close(libra(torch.zeros_like(a[:1])).raw, (g * a).sum(1), rtol=0, atol=1e-12)
    several = activations(model, samples(DenseHead, 6, seed=3))
    forward, backward = libra(several), libra(several.flip(0))
    torch.testing.assert_close(forward.relevance, backward.relevance, rtol=0, atol=1e-12)
    same = libra(a[:1])
    assert (same.relevance[0] == 1).all()
    assert "uniform" in same.notes[0]
    assert same.relevance.isfinite().all()


@pytest.mark.parametrize("seed", range(6))
def test_calibration_never_empties_a_map_and_never_loses(seed):
    """METHODS G11: with t = 0 among the candidates the probability never falls below the uncalibrated map's."""
    model = network(DenseHead, seed)
    x = samples(DenseHead, 8, seed)
    evidence = torch.rand(8, 8, 8, generator=torch.Generator().manual_seed(seed), dtype=x.dtype)
    evidence /= evidence.amax((1, 2), keepdim=True)
    found = calibrate(model, x, evidence)
    with torch.no_grad():
        c = model(x).argmax(1, keepdim=True)
        p = [model(x * m[:, None]).softmax(1).gather(1, c)[:, 0] for m in (evidence, found.evidence)]
    assert (p[1] >= p[0] - 1e-15).all()
    assert (found.evidence.amax((1, 2)) > 0).all()
    assert found.probability.shape == (8, len(THRESHOLDS))
    torch.testing.assert_close(found.probability.max(1).values, p[1], rtol=0, atol=1e-12)


def test_ties_in_calibration_keep_the_most():
    """A model that ignores its input is equally sure at every threshold: nothing is cut."""

    class Constant(nn.Module):
        def forward(self, x):
            return x.flatten(1)[:, :3] * 0

    evidence = torch.rand(2, 8, 8, dtype=torch.float64)
    found = calibrate(Constant(), samples(GapLinear, 2), evidence / evidence.amax((1, 2), keepdim=True))
    assert (found.threshold == 0).all()


def test_library_is_contrastive_correct_and_lowest(tmp_path):
    """X24: brute force over the whole training set, exactly; survives saving."""
    model, x = network(GapLinear, 3), samples(GapLinear, 200, seed=4) * 3
    with torch.no_grad():
        p = model(x).softmax(1)
    y = p.argmax(1)
    y[::7] = (y[::7] + 1) % 5  # some are classified wrongly
    built = reference_library(model, x, y, references=6, batch=17)
    wanted = min(6, min(int(((p.argmax(1) == y) & (y != c)).sum()) for c in range(5)))
    for c in range(5):
        others = [i for i in range(200) if p[i].argmax() == y[i] and y[i] != c]
        best = sorted(others, key=lambda i: (float(p[i, c]), i))[:wanted]
        assert built.rows[built.index[c]].tolist() == best
        torch.testing.assert_close(built.of(c), activations(model, x[best]), rtol=0, atol=1e-12)
    again = ReferenceLibrary.load(built.save(tmp_path / "library.safetensors"))
    assert again.layer == built.layer == "features"
    assert torch.equal(again.activations, built.activations)


def test_linear_models_have_known_answers():
    """X9, X11, X12, X8: |w|, x w, |w|, (x - b) w, x w."""
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 3)).double()
    x = samples(GapLinear)
    w = model[1].weight[1].detach().view(1, 8, 8)
    found = explain(
        model,
        x,
        {
            "gradient": {},
            "gradient_times_input": {},
            "smoothgrad": {},
            "integrated_gradients": {"steps": 3, "baseline": 0.5},
            "occlusion": {"window": 1},
        },
        target=1,
    )
    for name, expected in {
        "gradient": w.abs().expand_as(x),
        "gradient_times_input": x * w,
        "smoothgrad": w.abs().expand_as(x),
        "integrated_gradients": (x - 0.5) * w,
        "occlusion": x * w,
    }.items():
        torch.testing.assert_close(found[name].relevance, expected, rtol=0, atol=1e-9, msg=name)

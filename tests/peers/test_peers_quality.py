"""Measures of quality beside torchcam, Quantus, pytorch-grad-cam and captum, on the same maps; and where one of them is wrong.

Where a measure draws at random the peer is handed our draws. Quantus makes float32 of every input, so its models here turn
it back and the samples are exact in float32; its "black" is each image's minimum, so it is told the baseline of zero. A test
of a fault fails when the peer mends it: then the line in docs/peers.md goes, and the test with it.
"""

from __future__ import annotations

import math
from contextlib import nullcontext
from functools import partial

import numpy as np
import pytest
import torch
from architectures import VggLike, images
from architectures import network as picture_network
from comparison import TARGET, close
from torch import nn

from networks import DenseHead, network, samples
from pellucid import explain
from pellucid.quality.faithfulness import faithfulness
from pellucid.quality.imputation import linear_imputation
from pellucid.quality.infidelity import faithfulness_correlation, infidelity
from pellucid.quality.insertion_deletion import deletion, insertion
from pellucid.quality.road import SHARES, road, road_combined
from pellucid.quality.robustness import max_sensitivity

GREY = [1, 3, 0]


class Doubled(nn.Module):
    """A model of float64 that takes float32."""

    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, x):
        return self.model(x.double())


class Given:
    """Maps in the place of an extractor of torchcam's."""

    def __init__(self, model, maps):
        self.model, self.maps = model, maps

    def __call__(self, *args, **options):
        return [self.maps]

    def fuse_cams(self, cams):
        return cams[0]

    def _hooks_off(self):
        return nullcontext()


def grey():
    """Three images of one channel, exact in float32, a network and maps with no two equal values."""
    x = samples(DenseHead, 3).float().double()
    maps = torch.randn(3, 8, 8, generator=torch.Generator().manual_seed(5), dtype=torch.float64).float().double()
    return network(DenseHead), x, maps


def pictures():
    """Two coloured images, a network and maps from 0 to 1."""
    maps = torch.rand(2, 64, 64, generator=torch.Generator().manual_seed(5)).double()
    return picture_network(VggLike), images(), maps


def likeliest(model, x):
    with torch.no_grad():
        return model(x).argmax(1).tolist()


def altered(run, model):
    """The altered rows that ``run`` sends through the model, behind the clean ones."""
    rows = []
    handle = model.register_forward_pre_hook(lambda module, inputs: rows.append(inputs[0].detach().clone()))
    found = run()
    handle.remove()
    return found, torch.cat(rows)


def quantus_call(metric, model, x, maps, target, **more):
    """A metric of Quantus; every map has the channel axis that it asks for."""
    given = {"model": Doubled(model).eval(), "x_batch": x.float().numpy(), "y_batch": np.array(target), "device": "cpu"}
    return metric(**given, a_batch=maps[:, None].numpy() if maps.ndim == 3 else maps.numpy(), **more)


def quiet(metric, **options):
    return metric(disable_warnings=True, **options)


# --- agreement --------------------------------------------------------------------------------------------------------


def test_torchcam_insertion_and_deletion():
    """The same step where the positions divide by it; its shares are float32: 1e-7."""
    metrics = pytest.importorskip("torchcam.metrics")
    model, x, maps = pictures()
    theirs = metrics.DeletionInsertionMetric(Given(model, maps), partial(torch.softmax, dim=-1), steps=16)
    theirs.update(x, TARGET)
    found = theirs.summary()
    assert float(deletion(model, x, maps, target=TARGET, steps=16)) == pytest.approx(found["deletion_auc"], rel=1e-7)
    ours = insertion(model, x, maps, target=TARGET, steps=16, baseline=0.0)
    assert float(ours) == pytest.approx(found["insertion_auc"], rel=1e-7)


def test_torchcam_drop_and_increase():
    """1e-7 is added to the probability that the drop is divided by."""
    metrics = pytest.importorskip("torchcam.metrics")
    model, x, maps = pictures()
    theirs = metrics.ClassificationMetric(Given(model, maps), partial(torch.softmax, dim=-1))
    target = likeliest(model, x)
    theirs.update(x, target)
    ours = faithfulness(model, x, maps, target=target, thresholds=(0.0,)).plain()
    assert ours["apd"] == pytest.approx(theirs.summary()["avg_drop"], rel=1e-5)
    assert ours["ir"] == theirs.summary()["conf_increase"]
    assert ours["apd"] > 0


def test_quantus_pixel_flipping():
    """Its curve starts behind the first step, ours with the sample itself; its probabilities are float32."""
    quantus = pytest.importorskip("quantus")
    model, x, maps = grey()
    metric = quiet(quantus.PixelFlipping, features_in_step=8, normalise=False, perturb_baseline=0.0)
    theirs = torch.tensor(quantus_call(metric, model, x, maps, GREY))
    ours = deletion(model, x, maps, target=GREY, steps=8)
    close(torch.from_numpy(ours.curve[:, 1:]), theirs, 1e-6)


def test_quantus_faithfulness_correlation(monkeypatch):
    quantus = pytest.importorskip("quantus")
    model, x, maps = grey()
    ours, rows = altered(lambda: faithfulness_correlation(model, x, maps, target=GREY, draws=10), model)
    gone = [(row.flatten() == 0).nonzero()[:, 0].numpy() for row in rows[3:].view(3, 10, -1).transpose(0, 1).flatten(0, 1)]
    turn = iter(gone)
    monkeypatch.setattr(np.random, "choice", lambda *args, **options: next(turn))
    options = {"nr_runs": 10, "subset_size": len(gone[0]), "normalise": False, "perturb_baseline": 0.0}
    metric = quiet(quantus.FaithfulnessCorrelation, return_aggregate=False, **options)
    close(torch.from_numpy(ours.values), quantus_call(metric, model, x, maps, GREY, softmax=False), 1e-6)  # float32 draws


def test_quantus_infidelity_of_one_draw():
    """One patch that is the whole image: the only draw of its that is one. Relevance is in score per unit of the input."""
    quantus = pytest.importorskip("quantus")
    model, x, maps = grey()
    metric = quiet(quantus.Infidelity, n_perturb_samples=1, perturb_patch_sizes=[8], perturb_baseline=0.0)
    theirs = quantus_call(metric, model, x, maps, GREY, softmax=False)
    ours = infidelity(model, x, maps, target=GREY, perturbation="all", slopes=True, normalise=False)
    close(torch.from_numpy(ours.values), theirs, 1e-6)  # sums in float32


@pytest.mark.parametrize("normalise", [True, False])
def test_captum_infidelity(normalise):
    """``normalize=True`` is our default; the perturbations are ours, noise and squares."""
    metrics = pytest.importorskip("captum.metrics")
    model, x, maps = grey()
    for options in ({"perturbation": "gaussian", "slopes": True}, {"perturbation": "square"}):
        run = partial(infidelity, model, x, maps, target=GREY, draws=10, normalise=normalise, **options)
        ours, rows = altered(run, model)
        rows = rows[3:]
        change = x.repeat_interleave(10, 0) - rows
        given = change if options.get("slopes") else (rows == 0).double()
        theirs = metrics.infidelity(
            model, lambda inputs, given=given, rows=rows: (given, rows), x, maps[:, None], target=torch.tensor(GREY),
            n_perturb_samples=10, normalize=normalise,
        )  # fmt: skip
        close(torch.from_numpy(ours.values), theirs)


def test_captum_sensitivity():
    metrics, attr = pytest.importorskip("captum.metrics"), pytest.importorskip("captum.attr")
    model, x, _ = grey()
    own = explain(model, x, "gradient_times_input", target=GREY)["gradient_times_input"]
    run = partial(max_sensitivity, model, x, "gradient_times_input", explanation=own, draws=6)
    ours, rows = altered(run, model)
    rows = rows.view(6, 3, 1, 8, 8).transpose(0, 1).flatten(0, 1)
    theirs = metrics.sensitivity_max(
        attr.InputXGradient(model).attribute, x, lambda inputs: rows, n_perturb_samples=6, target=torch.tensor(GREY)
    )
    close(torch.from_numpy(ours.values), theirs)


def test_quantus_max_sensitivity():
    """Samples and explanations pass through float32: 1e-5 of differences a fiftieth of their size."""
    quantus = pytest.importorskip("quantus")
    model, x, _ = grey()
    own = explain(model, x, "gradient_times_input", target=GREY)["gradient_times_input"]
    ours, rows = altered(lambda: max_sensitivity(model, x, own.method, explanation=own, draws=4), model)
    turn = iter(rows.view(4, 3, 64).float().numpy())

    def method(model, inputs, targets, **options):
        found = explain(model.model, torch.as_tensor(inputs).double(), own.method, target=targets.tolist())
        return found[own.method].relevance.numpy()

    metric = quiet(quantus.MaxSensitivity, nr_samples=4, normalise=False, perturb_func=lambda arr, **options: next(turn))
    theirs = quantus_call(metric, model, x, own.relevance, GREY, explain_func=method)
    close(torch.from_numpy(ours.values), theirs, 1e-5)


def holes(share):
    """(1, 1, 64, 64) what is kept: blobs of a smooth map go first."""
    smooth = nn.functional.interpolate(torch.randn(1, 1, 6, 6, generator=torch.Generator().manual_seed(0)), (64, 64))
    ranks = (smooth + 1e-3 * torch.rand(smooth.shape, generator=torch.Generator().manual_seed(1))).flatten().argsort().argsort()
    return (ranks >= round(share * 4096)).view(1, 1, 64, 64)


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_grad_cam_imputation(share):
    """It takes float32 only, solves in float64 and answers in float32; ours of float32 stops at 1e-5 of the residual."""
    road_of = pytest.importorskip("pytorch_grad_cam.metrics.road")
    x, keep = images(1).float(), holes(share)
    theirs = road_of.NoisyLinearImputer(noise=0)(x[0], keep[0, 0].float())
    close(linear_imputation(x.double(), keep)[0], theirs, 1e-6)
    close(linear_imputation(x, keep)[0], theirs, 1e-4)


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_quantus_imputation(share):
    functions = pytest.importorskip("quantus.functions.perturb_func")
    x, keep = images(1)[:, :1], holes(share)
    gone = (~keep).flatten().nonzero()[:, 0].numpy()
    close(linear_imputation(x, keep)[0], functions.noisy_linear_imputation(x[0].numpy(), gone, noise=0.0), 1e-9)


def test_grad_cam_road(monkeypatch):
    """Both orders, without noise, in float32. It removes what lies at a percentile or above: our share within a position."""
    road_of = pytest.importorskip("pytorch_grad_cam.metrics.road")
    from pytorch_grad_cam.utils.model_targets import ClassifierOutputSoftmaxTarget

    monkeypatch.setattr(road_of.NoisyLinearImputer.__init__, "__defaults__", (0.0, road_of.neighbors_weights))
    model, x, maps = pictures()
    model, x = model.float(), x.float()
    targets, percentiles = [ClassifierOutputSoftmaxTarget(c) for c in TARGET], [20, 60, 90]
    shares = [(4096 - math.ceil(q / 100 * 4095)) / 4096 for q in percentiles]
    theirs = road_of.ROADMostRelevantFirstAverage(percentiles)(x, maps.numpy(), targets, model)
    close(torch.from_numpy(road(model, x, maps, target=TARGET, noise=0.0, shares=shares).values), -theirs, 1e-4)
    theirs = road_of.ROADCombined(percentiles)(x, maps.numpy(), targets, model)
    close(torch.from_numpy(road_combined(model, x, maps, target=TARGET, noise=0.0, shares=shares).values), theirs, 1e-4)


# --- faults -----------------------------------------------------------------------------------------------------------


def test_grad_cam_drop_is_not_relative():
    """The paper divides the drop by the class's probability. Its drop is a difference, of logits with the usual target."""
    cam_mult = pytest.importorskip("pytorch_grad_cam.metrics.cam_mult_image")
    from pytorch_grad_cam.utils.model_targets import ClassifierOutputSoftmaxTarget, ClassifierOutputTarget

    model, x, maps = pictures()
    target = likeliest(model, x)
    with torch.no_grad():
        before, after = model(x)[[0, 1], target], model(x * maps[:, None])[[0, 1], target]
    theirs = cam_mult.DropInConfidence()(x, maps.numpy(), [ClassifierOutputTarget(c) for c in target], model)
    close((before - after).relu(), theirs, 1e-5)
    softmax = cam_mult.DropInConfidence()(x, maps.numpy(), [ClassifierOutputSoftmaxTarget(c) for c in target], model)
    found = faithfulness(model, x, maps, target=target, thresholds=(0.0,))
    close(torch.from_numpy((found.y - found.o[:, 0]).clip(0)), softmax, 1e-5)
    assert found.plain()["apd"] == pytest.approx(np.mean((found.y - found.o[:, 0]).clip(0) / found.y), abs=1e-12)
    assert found.plain()["apd"] > 1.5 * softmax.mean()


def test_quantus_road_forgets_all_batches_but_the_first():
    """The same samples in batches of two: the score is that of the first two."""
    quantus = pytest.importorskip("quantus")
    model, x = network(DenseHead), samples(DenseHead, 8).float().double()
    maps = torch.randn(8, 8, 8, generator=torch.Generator().manual_seed(5), dtype=torch.float64)
    with torch.no_grad():
        target = model(x).argmax(1)
    target[2:] = (target[2:] + 1) % 5  # only the first two are right
    found = {}
    for batch in (8, 2):
        metric = quiet(quantus.ROAD, percentages=[10, 20], noise=0.0)
        found[batch] = quantus_call(metric, model, x, maps, target, batch_size=batch)[10]
    options = {"target": target, "of": "accuracy", "noise": 0.0, "shares": (6 / 64, 12 / 64)}
    ours = [road(model, x, maps, batch=batch, **options).curve for batch in (8, 2)]
    np.testing.assert_array_equal(*ours)
    assert found[8] == pytest.approx(ours[0].mean(0)[0])
    assert found[2] == pytest.approx(ours[0][:2].mean(0)[0])
    assert found[2] > 2 * found[8]


def test_quantus_road_fails_on_three_channels():
    quantus = pytest.importorskip("quantus")
    model, x, maps = pictures()
    with pytest.raises(IndexError):
        quantus_call(quiet(quantus.ROAD, percentages=[50]), model, x, maps.float(), TARGET)
    assert np.isfinite(road(model, x, maps, target=TARGET, shares=(0.5,)).values).all()


def test_quantus_infidelity_has_one_draw_however_many_are_asked_for():
    """Patches of a sweep accumulate and every sweep is the same: ten have the number of one at ten times the cost."""
    quantus = pytest.importorskip("quantus")
    model, x, maps = grey()
    found, rows = {}, {}
    for draws in (1, 10):
        metric = quiet(quantus.Infidelity, n_perturb_samples=draws, perturb_patch_sizes=[4], perturb_baseline=0.0)
        found[draws], rows[draws] = altered(lambda m=metric: quantus_call(m, model, x, maps, GREY, softmax=False), model)
    np.testing.assert_allclose(found[1], found[10], rtol=1e-12)
    gone = (rows[1].view(-1, 3, 64) == 0).sum(2)[:, 0].tolist()
    assert gone == [0, 16, 32, 48, 64]
    assert len(rows[10]) == 3 * 41
    assert len(rows[10].flatten(1).unique(dim=0)) == 3 * 4 + 1  # an image that is all gone is the same for all
    few, many = (infidelity(model, x, maps, target=GREY, draws=draws) for draws in (4, 40))
    assert (np.abs(few.values - many.values) > 0.01 * many.values).all()
    _, ours = altered(lambda: infidelity(model, x, maps, target=GREY, draws=40), model)
    assert len(ours[3:].flatten(1).unique(dim=0)) > 100


def test_quantus_infidelity_fails_where_patches_do_not_divide_the_image():
    quantus = pytest.importorskip("quantus")
    model, x, maps = grey()
    with pytest.raises(ValueError):
        quantus_call(quiet(quantus.Infidelity, perturb_patch_sizes=[3]), model, x, maps, GREY)
    assert np.isfinite(infidelity(model, x, maps).values).all()


@pytest.mark.skipif(hasattr(np, "trapz"), reason="this numpy still has trapz")
def test_quantus_areas_need_a_function_that_numpy_no_longer_has():
    quantus = pytest.importorskip("quantus")
    model, x, maps = grey()
    metric = quiet(quantus.PixelFlipping, features_in_step=8, return_auc_per_sample=True)
    with pytest.raises(AttributeError, match="trapz"):
        quantus_call(metric, model, x, maps, GREY)
    assert np.isfinite(deletion(model, x, maps).values).all()


def test_quantus_defaults_fail_on_small_problems():
    """A thousand classes and the thousand largest values are taken for granted, and one feature a step."""
    quantus = pytest.importorskip("quantus")
    model, x, maps = grey()

    def method(model, inputs, targets, **options):
        x = torch.as_tensor(inputs).requires_grad_()
        return torch.autograd.grad(model(x)[torch.arange(len(x)), targets].sum(), x)[0].numpy()

    with pytest.raises((ValueError, IndexError)):
        quantus_call(quiet(quantus.RandomLogit), model, x, maps, GREY, explain_func=method)
    with pytest.raises((ValueError, IndexError, AssertionError)):
        quantus_call(quiet(quantus.TopKIntersection), model, x, maps, GREY, s_batch=np.ones((3, 1, 8, 8), dtype=bool))
    with pytest.raises((ValueError, IndexError)):
        quantus_call(quiet(quantus.NonSensitivity, features_in_step=2), model, x, maps, GREY)


def test_quantus_flips_the_channels_of_a_pixel_one_by_one():
    """A map of pixels is read as one of three times as many values: 12,288 passes for 64 x 64 unless told otherwise."""
    quantus = pytest.importorskip("quantus")
    model, x, maps = pictures()
    metric = quiet(quantus.PixelFlipping, features_in_step=1024, normalise=False)
    _, rows = altered(lambda: quantus_call(metric, model, x.float(), maps.float(), TARGET), model)
    first = (rows.view(-1, 2, 3, 64, 64)[1] == 0).any(1).flatten(1).sum(1)
    assert (first > 1024 / 3 + 1).all() or len(rows) == 2 * 12
    _, ours = altered(lambda: deletion(model, x, maps, target=TARGET, steps=len(SHARES)), model)
    gone = ours[2:] == 0
    assert torch.equal(gone.any(1), gone.all(1))

"""Where shap, lime and captum are wrong or wasteful in hiding features: their answer and ours on the very same input.

A test here fails when the peer mends its fault. Then the line in docs/peers.md goes, and the test with it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from comparison import close
from numpy.typing import NDArray
from torch import Tensor, nn

from networks import Dense, GapLinear, network, samples
from pellucid import Texts, explain, kernel_shap, lime, linear_shap, occlusion, shapley, shapley_sampling
from pellucid.core.errors import InputError

Array = NDArray[Any]


def numbers(model: Callable[[Tensor], Tensor]) -> Callable[[Any], Array]:
    """The model as a function of arrays, as shap and lime want it."""
    return lambda rows: model(torch.as_tensor(np.asarray(rows), dtype=torch.float64)).detach().numpy()


def row(*values: float) -> Tensor:
    return torch.tensor([values], dtype=torch.float64)


class Counted:
    """A function that counts its calls and its rows."""

    def __init__(self, function: Callable[[Any], Any]) -> None:
        self.function, self.calls, self.rows = function, 0, 0

    def __call__(self, x: Any) -> Any:
        self.calls, self.rows = self.calls + 1, self.rows + len(x)
        return self.function(x)


# --- captum: LIME and Kernel SHAP -------------------------------------------------------------------------------------


def test_captum_lime_of_a_probability_is_zero():
    """Sixteen features of which each raises a probability by 0.03: from 0.26 to 0.74, and nothing has an effect."""
    attr = pytest.importorskip("captum.attr")

    def model(rows: Tensor) -> Tensor:
        p = 0.26 + 0.03 * rows.sum(1)
        return torch.stack([1 - p, p], 1)

    x = torch.ones(1, 16, dtype=torch.float64)
    torch.manual_seed(0)
    theirs = attr.Lime(model).attribute(x, target=1, n_samples=1000, perturbations_per_eval=1000)
    assert (theirs == 0).all()
    close(lime(model, x, target=1, penalty=0.0).relevance, torch.full_like(x, 0.03), 1e-9)
    assert (lime(model, x, target=1).relevance - 0.03).abs().max() < 1e-3


def test_captum_lime_weighs_by_the_size_of_the_numbers():
    """The distance is that of the inputs, so a column in other units is another neighbourhood; ours is of what stays."""
    attr = pytest.importorskip("captum.attr")
    from captum._utils.models.linear_model import SkLearnLinearRegression

    def model(rows: Tensor) -> Tensor:
        return (rows[:, 0] * rows[:, 1] + torch.sin(rows[:, 2]) * rows[:, 0] + rows[:, 3])[:, None]

    def in_metres(rows: Tensor) -> Tensor:
        return model(rows * torch.tensor([1.0, 0.01, 1.0, 1.0], dtype=torch.float64))

    x = row(1.0, 2.0, 0.5, -1.0)
    found = []
    for function, given in ((model, x), (in_metres, x * torch.tensor([1.0, 100.0, 1.0, 1.0]).double())):
        torch.manual_seed(0)
        found.append(
            attr.Lime(function, SkLearnLinearRegression()).attribute(given, n_samples=200, target=0, perturbations_per_eval=200)
        )
    assert (found[0] - found[1]).abs().max() > 0.05 * found[0].abs().max()
    close(lime(model, x).relevance, lime(in_metres, x * torch.tensor([1.0, 100.0, 1.0, 1.0]).double()).relevance)


def test_captum_lime_goes_one_sample_and_one_draw_at_a_time():
    attr = pytest.importorskip("captum.attr")
    model, x = network(Dense), samples(Dense, 4)
    theirs, ours = Counted(model), Counted(model)
    attr.Lime(theirs).attribute(x, target=1, n_samples=50)
    assert (theirs.calls, theirs.rows) == (201, 204)
    lime(ours, x, target=1, samples=50)
    assert ours.calls == 2
    assert ours.rows <= 200


@pytest.mark.parametrize("count", [254, 2000])
def test_captum_kernel_shap_never_has_all_coalitions(count):
    """Eight features have 254 coalitions between nobody and everybody; drawn with repetition, even 2,000 do not find them."""
    attr = pytest.importorskip("captum.attr")
    layer = nn.Sequential(nn.Linear(8, 6), nn.Tanh(), nn.Linear(6, 1)).double()
    with torch.no_grad():
        for p, draw in zip(layer.parameters(), range(4)):
            p.copy_(2 * torch.randn(p.shape, generator=torch.Generator().manual_seed(draw), dtype=p.dtype))
    x = torch.randn(1, 8, generator=torch.Generator().manual_seed(9), dtype=torch.float64)
    truth = shapley(layer, x, target=0).relevance
    torch.manual_seed(0)
    theirs = attr.KernelShap(layer).attribute(x, target=0, n_samples=count, perturbations_per_eval=count)
    assert (theirs - truth).abs().max() > 1e-3 * truth.abs().max()
    counted = Counted(layer)
    close(kernel_shap(counted, x, target=0, samples=254).relevance, truth)
    assert counted.rows == 256


def test_captum_kernel_shap_has_25_samples_for_any_number_of_features():
    """Forty columns of a linear function, which any regression with enough rows has exactly; too few are refused here."""
    attr = pytest.importorskip("captum.attr")
    layer = nn.Linear(40, 1).double()
    x = torch.randn(1, 40, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    truth = (layer.weight * x).detach()
    torch.manual_seed(0)
    assert (attr.KernelShap(layer).attribute(x, target=0) - truth).abs().max() > 0.3 * truth.abs().max()
    close(kernel_shap(layer, x, target=0, samples=80).relevance, truth)
    with pytest.raises(InputError, match="samples of at least 80"):
        kernel_shap(layer, x, target=0, samples=25)


def test_captum_kernel_shap_fails_on_one_feature():
    attr = pytest.importorskip("captum.attr")
    layer, x = nn.Linear(1, 1).double(), row(2.0)
    with pytest.raises(ValueError, match="invalid values"):
        attr.KernelShap(layer).attribute(x, target=0)
    close(kernel_shap(layer, x, target=0).relevance, (layer.weight * x).detach())


# --- captum: Shapley values, ablation, occlusion ----------------------------------------------------------------------


def test_captum_shapley_values_walk_every_order():
    """M! orders of M steps: 601 rows of five features, 322,561 of eight. There are 32 coalitions, or 256."""
    attr = pytest.importorskip("captum.attr")
    layer, x = nn.Linear(5, 2).double(), samples(Dense, 1)[:, :5]
    theirs, ours = Counted(layer), Counted(layer)
    attr.ShapleyValues(theirs).attribute(x, target=1, perturbations_per_eval=100)
    shapley(ours, x, target=1)
    assert (theirs.rows, ours.rows) == (601, 32)
    theirs, ours = Counted(layer), Counted(layer)
    attr.ShapleyValueSampling(theirs).attribute(x, target=1, n_samples=26)  # thirteen pairs of orders here
    shapley_sampling(ours, x, target=1, samples=13)
    assert (theirs.calls, theirs.rows) == (131, 131)
    assert ours.rows <= 32


def missing_matters() -> tuple[Any, Tensor]:
    """A boosted model to which a missing first column says a lot, and such a row."""
    from sklearn.ensemble import HistGradientBoostingClassifier

    draws = np.random.RandomState(0)
    x = draws.randn(300, 3)
    y = (draws.rand(300) < 0.5).astype(int)
    x[(y == 1) & (draws.rand(300) < 0.8), 0] = np.nan
    return HistGradientBoostingClassifier(max_iter=10).fit(x, y), row(float("nan"), 0.5, 0.3)


def test_captum_cannot_take_a_missing_value_away():
    """It masks by multiplying, and 0 * NaN is NaN: the column stays missing, its effect is 0, and nothing is said."""
    attr = pytest.importorskip("captum.attr")
    model, x = missing_matters()

    def answer(rows: Tensor) -> Tensor:
        return torch.tensor(model.decision_function(rows.numpy()))

    truth = (answer(x) - answer(row(0.0, 0.5, 0.3))).item()
    assert abs(truth) > 1
    assert attr.FeatureAblation(answer).attribute(x)[0, 0] == 0
    assert attr.Occlusion(answer).attribute(x, (1,))[0, 0] == 0
    assert occlusion(model, x, target=1).relevance[0, 0].item() == pytest.approx(truth, abs=1e-9)
    exact = shapley(model, x, target=1)
    theirs = attr.ShapleyValues(answer).attribute(x)[0]
    assert theirs[1] == theirs[2] == theirs[0], "the last column to come in puts the whole score right"
    assert exact.relevance[0, 0] > 2 * exact.relevance[0, 1:].abs().max()
    assert exact.gap.abs().max() < 1e-9


def test_captum_puts_a_missing_value_everywhere_at_once():
    """A baseline that is missing in one column is missing in that column whichever is hidden."""
    attr = pytest.importorskip("captum.attr")
    model, _ = missing_matters()
    x, baseline = row(0.5, 0.5, 0.3), row(float("nan"), 0.0, 0.0)

    def answer(rows: Tensor) -> Tensor:
        return torch.tensor(model.decision_function(rows.numpy()))

    theirs = attr.FeatureAblation(answer).attribute(x, baseline)
    assert (theirs[0, 1:] != occlusion(model, x, target=1, baseline=baseline[0]).relevance[0, 1:]).all()
    truth = [(answer(x) - answer(torch.where(torch.arange(3) == i, baseline, x))).item() for i in range(3)]
    close(occlusion(model, x, target=1, baseline=baseline[0]).relevance, row(*truth))


def test_captum_sums_in_single_precision():
    """Shapley values and occlusion of a float64 model come back as float32, which leaves 1e-8 to 1e-6."""
    attr = pytest.importorskip("captum.attr")
    model, x = network(Dense), samples(Dense, 1)[:, :7]
    mask = torch.tensor([[0, 0, 1, 1, 2, 2, 3]])
    assert attr.ShapleyValues(model).attribute(x, target=1, feature_mask=mask).dtype == torch.float32
    cnn, image = network(GapLinear), samples(GapLinear, 1)
    theirs = attr.Occlusion(cnn).attribute(image, (1, 4, 4), strides=(1, 2, 2), target=1)
    assert theirs.dtype == torch.float32
    assert (occlusion(cnn, image, target=1, window=4, stride=2).relevance - theirs).abs().max() > 1e-9 * theirs.abs().max()
    assert shapley(model, x, target=1, features=[[0, 1], [2, 3], [4, 5]]).relevance.dtype == torch.float64


def test_captum_cuts_the_last_window_off():
    """Windows of three over eight places, two apart: its last is two wide, ours three wide and flush with the edge."""
    attr = pytest.importorskip("captum.attr")
    weight = torch.arange(1.0, 9.0, dtype=torch.float64)

    def model(x: Tensor) -> Tensor:
        return (x[:, 0] @ weight)[:, None]

    x = torch.ones(1, 1, 8, dtype=torch.float64)

    def by_hand(windows: list[range]) -> Tensor:
        drops = [float(weight[list(w)].sum()) for w in windows]
        covering = [[d for d, w in zip(drops, windows) if i in w] for i in range(8)]
        return torch.tensor([[[sum(c) / len(c) for c in covering]]], dtype=torch.float64)

    first = [range(3), range(2, 5), range(4, 7)]
    close(by_hand([*first, range(6, 8)]), attr.Occlusion(model).attribute(x, (1, 3), strides=(1, 2), target=0), 1e-6)
    close(occlusion(model, x, window=3, stride=2).relevance, by_hand([*first, range(5, 8)]))


def test_captum_without_a_target_mixes_samples_and_classes():
    """Two samples and four classes: eight rows of ablation. Ours explains each sample's own class, and says which."""
    attr = pytest.importorskip("captum.attr")
    model, x = network(Dense), samples(Dense, 2)
    assert attr.FeatureAblation(model).attribute(x).shape == (8, 7)
    ours = occlusion(model, x)
    assert ours.relevance.shape == (2, 7)
    assert torch.equal(ours.target, model(x).argmax(1))


# --- shap -------------------------------------------------------------------------------------------------------------


def test_shap_kernel_keeps_ten_features():
    """Fourteen columns of a linear function, each worth 1 to 2: four of them are nothing unless l1_reg=False."""
    shap = pytest.importorskip("shap")
    weight = torch.linspace(1, 2, 14, dtype=torch.float64)
    x = torch.ones(1, 14, dtype=torch.float64)
    explainer = shap.KernelExplainer(numbers(lambda rows: rows @ weight), np.zeros((1, 14)))
    for count in ("auto", 2**14):
        theirs = explainer.shap_values(x.numpy(), nsamples=count, silent=True)
        assert (theirs == 0).sum() == 4
        assert np.abs(theirs[0] - weight.numpy()).max() > 0.5
    close(kernel_shap(lambda rows: (rows @ weight)[:, None], x).relevance[0], weight)


def test_shap_draws_other_coalitions_for_every_row():
    """The same row three times has three answers, and a second call three more. Ours has one, from one set of coalitions."""
    shap = pytest.importorskip("shap")
    model = network(Dense)
    x, rows = samples(Dense, 1).repeat(3, 1), samples(Dense, 1, seed=4)
    explainer = shap.KernelExplainer(numbers(lambda t: model(t)[:, 1]), rows.numpy())
    np.random.seed(0)  # noqa: NPY002 - shap draws from it
    first, second = (explainer.shap_values(x.numpy(), nsamples=40, l1_reg=False, silent=True) for _ in range(2))
    assert not np.allclose(first[0], first[1], atol=1e-6)
    assert not np.allclose(first, second, atol=1e-6)
    ours = kernel_shap(model, x, target=1, baseline=rows[0], samples=40)
    close(ours.relevance[0], ours.relevance[1], 1e-12)
    assert torch.equal(ours.relevance, kernel_shap(model, x, target=1, baseline=rows[0], samples=40).relevance)
    close(ours.relevance[:1], kernel_shap(model, x[2:], target=1, baseline=rows[0], samples=40).relevance, 1e-12)


@pytest.mark.parametrize(("large", "step"), [(1e6, 5.0), (0.0, 2e-9)])
def test_shap_takes_close_numbers_for_equal(large, step):
    """A column that differs from the background by less than np.isclose sees (a date, a concentration) has no effect in it.

    Kernel SHAP hands its share to the others, the exact explainer loses it.
    """
    shap = pytest.importorskip("shap")

    def model(rows: Tensor) -> Tensor:
        return (rows[:, 0] - large) / step * 10 + rows[:, 1]

    x, baseline = row(large + step, 1.0), row(large, 0.0)
    kernel = shap.KernelExplainer(numbers(model), baseline.numpy()).shap_values(x.numpy(), silent=True)
    exact = shap.ExactExplainer(numbers(model), shap.maskers.Independent(baseline.numpy()))(x.numpy()).values
    np.testing.assert_allclose(kernel, [[0, 11]], atol=1e-6)
    np.testing.assert_allclose(exact, [[0, 1]], atol=1e-6)
    for name in ("shapley", "kernel_shap", "shapley_sampling", "linear_shap"):
        found = explain(lambda rows: model(rows)[:, None], x, {name: {"baseline": baseline[0]}})[name]
        close(found.relevance, row(10.0, 1.0), 1e-6)  # rounding of large + step


def test_shap_looks_at_100_rows_of_the_background():
    """Of more it draws 100 and does not say so: the value that everything adds up from is that of another background."""
    shap = pytest.importorskip("shap")
    rows = torch.as_tensor(np.random.RandomState(0).exponential(size=(1000, 3)))
    layer, x = nn.Linear(3, 1).double(), row(1.0, 2.0, 3.0)
    truth = layer(rows).mean().item()
    weight, bias = (t.detach().numpy()[0] for t in (layer.weight, layer.bias))
    linear = shap.LinearExplainer((weight, bias), rows.numpy())
    assert shap.maskers.Independent(rows.numpy()).data.shape == (100, 3)
    assert abs(linear.expected_value - truth) > 0.02 * abs(truth)
    for name in ("linear_shap", "shapley"):
        found = explain(layer, x, {name: {"baseline": rows}}, target=0)[name]
        assert found.base.item() == pytest.approx(truth, abs=1e-9)
        close(found.relevance, (layer.weight * (x - rows.mean(0))).detach())


def test_shap_partition_loses_a_column_that_the_background_lacks():
    """Masks are multiplied with, so a column that is missing in the background is missing throughout: no column has a value."""
    shap = pytest.importorskip("shap")
    model, _ = missing_matters()
    x, baseline = row(0.5, 0.5, 0.3), row(float("nan"), 0.0, 0.0)
    tree = np.array([[0, 1, 0.1, 2], [2, 3, 0.5, 3.0]])
    masker = shap.maskers.Partition(baseline.numpy(), clustering=tree)
    theirs = shap.PartitionExplainer(model.decision_function, masker)(x.numpy())
    exact = shap.ExactExplainer(model.decision_function, shap.maskers.Independent(baseline.numpy()))(x.numpy())
    assert np.abs(theirs.values).max() == 0
    close(shapley(model, x, target=1, baseline=baseline[0]).relevance, exact.values)


def test_shap_seeds_the_generator_of_everyone():
    """Its seed is numpy's own; ours is nobody else's."""
    shap = pytest.importorskip("shap")
    model, x = network(Dense), samples(Dense, 1)
    np.random.seed(5)  # noqa: NPY002
    before = np.random.get_state()[1].copy()  # noqa: NPY002
    shapley_sampling(model, x, samples=2, seed=3)
    lime(model, x, seed=3)
    assert (np.random.get_state()[1] == before).all()  # noqa: NPY002
    shap.PermutationExplainer(numbers(model), shap.maskers.Independent(x.numpy()), seed=3)
    assert (np.random.get_state()[1] != before).any()  # noqa: NPY002


# --- lime -------------------------------------------------------------------------------------------------------------


STRIPES = np.arange(144).reshape(12, 12) // 12


def picture() -> Array:
    return np.random.RandomState(0).rand(12, 12, 3)


def two_classes(score: Callable[[Array], Array]) -> Callable[[Array], Array]:
    def classify(images: Array) -> Array:
        p = 1 / (1 + np.exp(-score(np.asarray(images))))
        return np.stack([1 - p, p], 1)

    return classify


def stripes_that_interact(images: Array) -> Array:
    means = images.mean((2, 3))
    return 20 * means[:, 0] * means[:, 1] - 10 * means[:, 4] * means[:, 7] + means[:, 11]


def test_lime_answers_otherwise_every_time():
    """``random_seed`` seeds the segmentation only; a seeded explainer goes on drawing, so the order of the samples matters."""
    package = pytest.importorskip("lime.lime_image")
    classify = two_classes(stripes_that_interact)
    options = {"top_labels": None, "labels": (1,), "num_samples": 40, "random_seed": 0, "hide_color": 0}
    found = []
    for explainer in (package.LimeImageExplainer(), package.LimeImageExplainer(random_state=0)):
        for _ in range(2):
            theirs = explainer.explain_instance(picture(), classify, segmentation_fn=lambda _: STRIPES, **options)
            found.append([value for _, value in sorted(theirs.local_exp[1])])
    for first, second in ((0, 1), (2, 3)):
        assert np.abs(np.subtract(found[first], found[second])).max() > 0.02 * np.abs(found[first]).max()

    def model(x: Tensor) -> Tensor:
        return torch.as_tensor(classify(x.movedim(1, -1).numpy()))

    x = torch.as_tensor(picture()).movedim(-1, 0)[None]
    several = torch.cat([x.flip(2), x])
    one, again = (lime(model, x, target=1, features=torch.as_tensor(STRIPES), samples=40).raw for _ in range(2))
    behind = lime(model, several, target=1, features=torch.as_tensor(STRIPES), samples=40).raw
    assert torch.equal(one, again)
    assert torch.equal(one[0], behind[1])


def test_lime_never_hides_the_last_of_segments_numbered_from_one():
    """A score that is the last stripe's: with labels 1 .. n, as scikit-image gives them, it has no effect at all."""
    package = pytest.importorskip("lime.lime_image")
    classify = two_classes(lambda images: 4 * images[:, 11].mean((1, 2)))
    x = torch.as_tensor(picture()).movedim(-1, 0)[None]
    ours = []
    for first in (0, 1):
        explainer = package.LimeImageExplainer(random_state=0)
        options = {"top_labels": None, "labels": (1,), "num_samples": 100, "hide_color": 0}
        theirs = explainer.explain_instance(
            picture(), classify, segmentation_fn=lambda _, first=first: STRIPES + first, **options
        )
        assert bool(max(abs(value) for _, value in theirs.local_exp[1]) > 0.1) == (first == 0)
        labels = torch.as_tensor(STRIPES + first)
        ours.append(
            lime(lambda t: torch.as_tensor(classify(t.movedim(1, -1).numpy())), x, target=1, features=labels, baseline=0.0)
        )
    assert torch.equal(ours[0].relevance, ours[1].relevance)
    assert ours[1].raw[0, 11, 0] > 0.3


def test_lime_gives_a_model_of_grey_images_three_channels():
    """A picture with two axes becomes a coloured one, which is what the model gets; one with a channel axis of one fails."""
    package = pytest.importorskip("lime.lime_image")
    shapes = []

    def classify(images: Array) -> Array:
        shapes.append(images.shape[1:])
        return np.full((len(images), 2), 0.5)

    grey = picture()[..., 0]
    explainer = package.LimeImageExplainer(random_state=0)
    explainer.explain_instance(grey, classify, segmentation_fn=lambda _: STRIPES, num_samples=10, top_labels=1)
    assert set(shapes) == {(12, 12, 3)}
    with pytest.raises(IndexError):
        explainer.explain_instance(grey[..., None], classify, segmentation_fn=lambda _: STRIPES, num_samples=10)
    layer = nn.Sequential(nn.Flatten(), nn.Linear(144, 2)).double()
    x = torch.as_tensor(grey)[None, None]
    ours = lime(layer, x, target=1, features=torch.as_tensor(STRIPES), baseline=0.0, penalty=0.0, samples=400)
    exact = (layer[1].weight[1] * x.flatten()).detach().view(12, 12).sum(1)
    close(ours.raw[0, :, 0], exact)


def test_lime_ignores_the_class_that_is_asked_for():
    """``labels=`` is heeded only with ``top_labels=None``; the default is the five likeliest."""
    package = pytest.importorskip("lime.lime_image")
    p = np.array([0.3, 0.2, 0.15, 0.12, 0.1, 0.08, 0.05])
    explainer = package.LimeImageExplainer(random_state=0)
    options = {"segmentation_fn": lambda _: STRIPES, "num_samples": 10}
    theirs = explainer.explain_instance(picture(), lambda images: np.tile(p, (len(images), 1)), labels=(6,), **options)
    assert 6 not in theirs.local_exp
    ours = lime(network(Dense), samples(Dense, 1), target=3, classes=2)
    assert ours.details["classes"][0, 0] == 3


def test_lime_asks_about_values_that_no_row_has():
    """A column that is always 7 is 0 in every row that the model is asked about, and so is the least of a column's values where
    it fills the first quartile: a z-score is taken for a value. Ours are values of training rows."""
    package = pytest.importorskip("lime.lime_tabular")
    draws = np.random.RandomState(0)
    rows = np.stack([np.where(draws.rand(200) < 0.6, 5, draws.uniform(5, 9, 200)), np.full(200, 7.0), draws.randn(200)], 1)
    asked = []

    def predict(given: Array) -> Array:
        asked.append(given)
        return given[:, 2] - (given[:, 1] - 7) - (given[:, 0] < 5)

    explainer = package.LimeTabularExplainer(rows, mode="regression", random_state=0)
    explainer.explain_instance(rows[0], predict, num_samples=300)
    assert (asked[0][1:, 1] == 0).all()
    assert (asked[0][:, 0] < rows[:, 0].min()).mean() > 0.4
    seen: list[Tensor] = []

    def model(t: Tensor) -> Tensor:
        seen.append(t)
        return t[:, 2:]

    given = torch.as_tensor(rows)
    lime(model, given[:1], references=given, samples=300)
    for i in range(3):
        assert torch.isin(torch.cat(seen)[:, i], given[:, i]).all()


def test_lime_does_not_look_around_the_sample():
    """Without quartiles it draws around the mean of the training rows: the slope of a square at 3 comes out near 3, not 6."""
    package = pytest.importorskip("lime.lime_tabular")
    rows = np.random.RandomState(0).randn(400, 1)
    explainer = package.LimeTabularExplainer(rows, mode="regression", discretize_continuous=False, random_state=0)
    theirs = dict(explainer.explain_instance(np.array([3.0]), lambda t: t[:, 0] ** 2, num_samples=4000).local_exp[1])
    assert abs(theirs[0] / rows.std()) < 4
    references = torch.as_tensor(rows)
    ours = lime(lambda t: t**2, row(3.0), references=references, samples=4000, discretise=False)
    assert ours.raw.item() / rows.std() == pytest.approx(6, rel=0.05)  # sampled


def test_lime_shrinks_what_is_small_or_seldom_asked():
    """A ridge of 1 stands beside the sum of the weights: a tenth of the draws, another effect. Ours is relative to it."""
    package = pytest.importorskip("lime.lime_text")
    words = ["one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve"]

    def predict(texts: list[str]) -> Array:
        p = np.array([0.3 + 0.4 * ("one" in t.split()) for t in texts])
        return np.stack([1 - p, p], 1)

    theirs = []
    for count in (40, 4000):
        explainer = package.LimeTextExplainer(bow=False, random_state=0)
        theirs.append(
            dict(explainer.explain_instance(" ".join(words), predict, num_features=12, num_samples=count).local_exp[1])
        )
    assert theirs[0][0] < 0.8 * theirs[1][0]
    texts = Texts([" ".join(words)])
    for count in (40, 2000):
        assert lime(texts.model(predict), texts.x, target=1, samples=count).relevance[0, 0].item() == pytest.approx(
            0.4, rel=0.02
        )


# --- RISE: its formula, on our masks ----------------------------------------------------------------------------------


def test_rise_without_coverage_is_not_flat_for_a_constant_model():
    """sum_i s_i M_i / (N p), the paper's estimate, shows how often a place happened to be kept. Ours divides by just that."""
    from pellucid.explanation.rise import random_masks

    def model(x: Tensor) -> Tensor:
        return x.flatten(1).sum(1, keepdim=True) * 0 + 1

    x = torch.ones(1, 1, 32, 32, dtype=torch.float64)
    masks = random_masks(0, 0, 500, x)
    uncovered = masks.sum(0) / (500 * 0.5)
    assert uncovered.max() - uncovered.min() > 0.02
    found = explain(model, x, {"rise": {"masks": 500}})["rise"]
    assert (found.raw - 1).abs().max() < 1e-12
    assert found.relevance.abs().max() < 1e-12


def test_linear_shap_of_what_is_not_linear_is_refused_here():
    """shap takes coefficients on trust, of a logistic regression too; the probability is another function than the margin."""
    shap = pytest.importorskip("shap")
    from sklearn.linear_model import LogisticRegression

    from pellucid.core.errors import UnsupportedError

    draws = np.random.RandomState(0)
    x = draws.randn(80, 3)
    model = LogisticRegression().fit(x, (x[:, 0] > 0).astype(int))
    theirs = shap.LinearExplainer(model, x)
    found = linear_shap(model, x[:2], target=1, baseline=x)
    close(found.relevance, theirs.shap_values(x[:2]))
    with pytest.raises(UnsupportedError, match="not linear"):
        linear_shap(model, x[:2], target=1, baseline=x, of="probability")

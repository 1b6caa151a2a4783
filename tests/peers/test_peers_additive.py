"""LIME, Shapley values and occlusion beside shap, lime and captum, where the definitions agree or can be made to.

Draws are handed over: a peer's random numbers are replaced by our neighbourhood, and the rest of its code runs as it is.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch
from architectures import VggLike, images
from comparison import close
from numpy.typing import NDArray
from torch import Tensor, nn

from networks import Dense, GapLinear, Sequence, network, samples
from pellucid import Texts, explain, kernel_shap, lime, linear_shap, occlusion, shapley, shapley_sampling

Array = NDArray[Any]
TARGET = [2, 0]


def numbers(model: Callable[[Tensor], Tensor]) -> Callable[[Any], Array]:
    """The model as a function of arrays, as shap and lime want it."""
    return lambda rows: model(torch.as_tensor(np.asarray(rows), dtype=torch.float64)).detach().numpy()


def background(count: int = 5) -> Tensor:
    return samples(Dense, count, seed=4)


def of_targets(values: Array) -> Array:
    """(B, D) from values (B, D, K)."""
    return np.stack([row[:, c] for row, c in zip(values, TARGET)])


# --- Shapley values ---------------------------------------------------------------------------------------------------


def test_shap_exact_and_kernel_with_all_coalitions():
    """Seven columns, five rows of a background; the default of shap would keep at most ten features, here it is told not to."""
    shap = pytest.importorskip("shap")
    model, x = network(Dense), samples(Dense, 2)
    found = explain(model, x, {"shapley": {"baseline": background()}, "kernel_shap": {"baseline": background()}}, target=TARGET)
    explainer = shap.KernelExplainer(numbers(model), background().numpy())
    kernel = of_targets(explainer.shap_values(x.numpy(), l1_reg=False, silent=True))
    exact = shap.ExactExplainer(numbers(model), shap.maskers.Independent(background().numpy()))(x.numpy())
    for ours in found.values():
        close(ours.relevance, kernel)
        close(ours.relevance, of_targets(exact.values))
        close(ours.base, explainer.expected_value[TARGET])


def test_shap_kernel_of_every_class_and_of_groups():
    """Classes come from one call; groups of columns are taken away together."""
    shap = pytest.importorskip("shap")
    from shap.utils._legacy import DenseData

    model, x, groups = network(Dense), samples(Dense, 2), [[0, 3], [1], [2, 5, 6], [4]]
    ours = kernel_shap(model, x, target=TARGET, baseline=background(), features=groups, classes=3)
    data = DenseData(background().numpy(), list("abcd"), [np.array(g) for g in groups])
    theirs = shap.KernelExplainer(numbers(model), data).shap_values(x.numpy(), l1_reg=False, silent=True)
    for i, row in enumerate(ours.details["classes"].tolist()):
        for j, c in enumerate(row):
            close(ours.details["by_class"][i, j][[g[0] for g in groups]], theirs[i, :, c])


def test_shap_kernel_of_log_odds_against_one_row():
    """Its link takes the logit of a mean of probabilities, ours is a mean of logits: of one row they are the same."""
    shap = pytest.importorskip("shap")
    layer = nn.Sequential(nn.Linear(7, 5), nn.Tanh(), nn.Linear(5, 1)).double()
    x = samples(Dense, 2)
    ours = kernel_shap(layer, x, target=0, baseline=background(1)[0])
    probability = numbers(lambda rows: layer(rows).sigmoid()[:, 0])
    theirs = shap.KernelExplainer(probability, background(1).numpy(), link="logit")
    close(ours.relevance, theirs.shap_values(x.numpy(), l1_reg=False, silent=True))


def test_shap_permutation_and_ours_meet_where_features_act_in_pairs():
    """An order and its reverse are exact as long as no three features act together, in shap as here."""
    shap = pytest.importorskip("shap")

    def pairs(rows: Tensor) -> Tensor:
        return (rows[:, 0] * rows[:, 1] + rows[:, 2] * rows[:, 5] - 2 * rows[:, 3] + rows[:, 4] * rows[:, 6])[:, None]

    x, rows = samples(Dense, 2), background()
    ours = shapley_sampling(pairs, x, baseline=rows, samples=3)
    masker = shap.maskers.Independent(rows.numpy())
    theirs = shap.PermutationExplainer(numbers(lambda t: pairs(t)[:, 0]), masker)(x.numpy(), max_evals=45, silent=True)
    close(ours.relevance, theirs.values)
    close(shapley(pairs, x, baseline=rows).relevance, theirs.values)


@pytest.mark.parametrize("groups", [None, [[0, 3], [1], [2, 5, 6], [4]]])
def test_captum_shapley_values(groups):
    """1e-6: its sums are float32 for a float64 model too. Every order of four columns, or of four groups."""
    attr = pytest.importorskip("captum.attr")
    layer = nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 4)).double() if groups is None else network(Dense)
    x = samples(Dense, 2)[:, :4] if groups is None else samples(Dense, 2)
    mask = None
    if groups is not None:
        mask = torch.tensor([[next(i for i, g in enumerate(groups) if column in g) for column in range(7)]])
    theirs = attr.ShapleyValues(layer).attribute(x, 0.3, TARGET, feature_mask=mask, perturbations_per_eval=96)
    ours = shapley(layer, x, target=TARGET, baseline=0.3, features="auto" if groups is None else groups)
    close(ours.raw, theirs, 1e-6)


def test_captum_kernel_shap_of_a_linear_model():
    """Where any regression finds the answer; 1e-4: single precision, and the ends are weighted a million times, not held."""
    attr = pytest.importorskip("captum.attr")
    layer, x = nn.Linear(7, 4).double(), samples(Dense, 2)
    torch.manual_seed(0)
    theirs = attr.KernelShap(layer).attribute(x, 0.5, TARGET, n_samples=100, perturbations_per_eval=100)
    close(kernel_shap(layer, x, target=TARGET, baseline=0.5).relevance, theirs, 1e-4)


def test_shap_linear():
    """From the weights there, from the answers here."""
    shap = pytest.importorskip("shap")
    layer, x, rows = nn.Linear(7, 4).double(), samples(Dense, 2), background(30)
    ours = linear_shap(layer, x, target=TARGET, baseline=rows)
    weight, bias = (t.detach().numpy() for t in (layer.weight, layer.bias))
    for i, c in enumerate(TARGET):
        theirs = shap.LinearExplainer((weight[c], bias[c]), rows.numpy())
        close(ours.relevance[i], theirs.shap_values(x[i : i + 1].numpy())[0])
        assert ours.base[i].item() == pytest.approx(theirs.expected_value, abs=1e-9)


# --- occlusion --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "window", "stride"), [(GapLinear, 4, 2), (GapLinear, 2, 2), (GapLinear, 3, 1), (Sequence, 4, 2)]
)
def test_captum_occlusion(kind, window, stride):
    """Where the windows end flush with the edge; 1e-6: its sums are float32."""
    attr = pytest.importorskip("captum.attr")
    model, x = network(kind), samples(kind, 2)
    axes = x.ndim - 2
    shape, steps = (x.shape[1], *[window] * axes), (x.shape[1], *[stride] * axes)
    theirs = attr.Occlusion(model).attribute(x, shape, strides=steps, target=TARGET, baselines=0.2)
    close(occlusion(model, x, target=TARGET, window=window, stride=stride, baseline=0.2).raw, theirs[:, 0], 1e-6)


def test_captum_feature_ablation_of_a_table():
    attr = pytest.importorskip("captum.attr")
    model, x = network(Dense), samples(Dense, 2)
    theirs = attr.FeatureAblation(model).attribute(x, 0.4, TARGET)
    close(occlusion(model, x, target=TARGET, baseline=0.4).relevance, theirs, 1e-6)


# --- LIME -------------------------------------------------------------------------------------------------------------


class Handed:
    """The random numbers of a peer: what it asks for first is this, and there is no second time."""

    def __init__(self, draws: Array) -> None:
        self.draws = draws

    def randint(self, low: int, high: int, size: int) -> Array:
        assert self.draws.size == size
        return self.draws.reshape(-1).copy()


def penalty_of(z: Array, weights: Array, alpha: float = 1.0) -> float:
    """Ours is relative to the mean weighted square of a column, scikit-learn's is not."""
    mean = np.average(z, axis=0, weights=weights)
    return alpha / float(np.average((z - mean) ** 2, axis=0, weights=weights).mean() * weights.sum())


def cosine_weights(z: Array, width: float = 0.25) -> Array:
    apart = 1 - z.sum(1) / np.sqrt(np.maximum(z.sum(1), 1e-12) * z.shape[1])
    return np.exp(-(apart**2) / (2 * width**2))


def recorded(model: Callable[[Tensor], Tensor]) -> tuple[Callable[[Tensor], Tensor], list[Tensor]]:
    rows: list[Tensor] = []

    def watched(given: Tensor) -> Tensor:
        rows.extend(given.detach().clone())
        return model(given)

    return watched, rows


def slopes(model: Callable[[Tensor], Tensor], x: Tensor, **options: Any) -> tuple[Callable[[float], Any], Array]:
    """``lime`` as a function of its penalty, and its neighbourhood, the sample first; no draw may come twice."""
    watched, rows = recorded(model)
    lime(watched, x, penalty=0.0, **options)
    asked = torch.stack(rows)
    assert len(asked) == options["samples"], "a draw that comes twice is asked about once"
    return (lambda penalty: lime(model, x, penalty=penalty, **options)), asked


def test_lime_base_on_our_neighbourhood():
    """Ridge of one in both; its choice of features is the same as ``top`` where the strongest stand out."""
    base = pytest.importorskip("lime.lime_base")
    g = torch.Generator().manual_seed(0)
    weight = torch.randn(40, generator=g, dtype=torch.float64) * torch.tensor([3.0] * 5 + [0.3] * 35, dtype=torch.float64)
    x = torch.ones(1, 40, dtype=torch.float64)

    def model(rows: Tensor) -> Tensor:
        return torch.stack([torch.zeros(len(rows)), rows @ weight + torch.sin(rows[:, 0] * rows[:, 7])], 1)

    for top in (None, 8):
        ours, rows = slopes(model, x, target=1, samples=300, top=top)
        z = (rows == x).double().numpy()
        fit = base.LimeBase(lambda d: np.exp(-(d**2) / (2 * 0.25**2)))
        answer = model(rows).numpy()
        distances = 1 - z.sum(1) / np.sqrt(z.sum(1) * 40)
        _, pairs, r2, _ = fit.explain_instance_with_data(z, answer, distances, 1, top or 40, "auto")
        theirs = np.zeros(40)
        theirs[[i for i, _ in pairs]] = [value for _, value in pairs]
        chosen = list(range(40)) if top is None else sorted(i for i, _ in pairs)
        found = ours(penalty_of(z[:, chosen], cosine_weights(z)))
        close(found.relevance[0], theirs)
        if top is None:
            assert found.details["r2"].item() == pytest.approx(r2, abs=1e-9)


def test_lime_image_end_to_end():
    """Its own code from image to slopes, on our segments and draws: segment means, cosine distance, ridge, probabilities."""
    package = pytest.importorskip("lime.lime_image")
    model, x = network(VggLike), images(1)
    found = lime(model, x, target=3, of="probability", features="slic", samples=150)
    segments = found.details["segments"]
    watched, rows = recorded(model)
    lime(watched, x, target=3, of="probability", features=segments, samples=150)
    where = [(segments[0] == s).nonzero()[0] for s in range(int(segments.max()) + 1)]
    z = np.array([[bool((row[:, i, j] == x[0][:, i, j]).all()) for i, j in where] for row in rows], dtype=int)
    assert len(z) == 150, "no draw came twice, so these are all of them in their order"
    explainer = package.LimeImageExplainer()
    explainer.random_state = Handed(z)

    def classify(arrays: Array) -> Array:
        return model(torch.as_tensor(arrays).movedim(-1, 1)).softmax(1).detach().numpy()

    image = x[0].movedim(0, -1).numpy()
    options = {"top_labels": None, "labels": (3,), "num_samples": 150, "random_seed": 0}
    theirs = explainer.explain_instance(image, classify, segmentation_fn=lambda _: segments[0].numpy(), **options)
    penalty = penalty_of(z, cosine_weights(z))
    ours = lime(model, x, target=3, of="probability", features=segments, samples=150, penalty=penalty)
    mine = torch.stack([ours.raw[0][segments[0] == s][0] for s in range(len(where))])
    close(mine, [value for _, value in sorted(theirs.local_exp[3])])
    assert ours.details["r2"].item() == pytest.approx(theirs.score, abs=1e-9)


class Removed:
    """What lime's texts draw: how many words to remove in each row, then which; here those that we removed."""

    def __init__(self, gone: list[list[int]]) -> None:
        self.gone = gone
        self.next: Iterator[list[int]] = iter(gone)

    def randint(self, low: int, high: int, size: int) -> Array:
        assert size == len(self.gone)
        return np.array(list(map(len, self.gone)))

    def choice(self, features: Any, size: int, replace: bool) -> list[int]:
        return next(self.next)


def test_lime_text_end_to_end():
    """Distances there are 100 times the cosine's and the kernel 25 wide, which is ours."""
    package = pytest.importorskip("lime.lime_text")
    words = ["a", "truly", "good", "film", "but", "slow"]  # few enough for all 64 subsets
    points = {"good": 1.0, "slow": -0.5, "truly": 0.3}

    def predict(texts: list[str]) -> Array:
        total = [sum(points.get(w, 0) for w in t.split()) + ("truly" in t) * ("good" in t) for t in texts]
        p = 1 / (1 + np.exp(-np.array(total)))
        return np.stack([1 - p, p], 1)

    texts = Texts([" ".join(words)])
    ours, rows = slopes(texts.model(predict), texts.x, target=1, samples=64)
    z = (rows != 0).double().numpy()
    explainer = package.LimeTextExplainer(bow=False, mask_string="", split_expression=r"\s+")
    explainer.random_state = Removed([np.flatnonzero(row == 0).tolist() for row in z[1:]])
    theirs = explainer.explain_instance(" ".join(words), predict, num_features=len(words), num_samples=len(z))
    found = ours(penalty_of(z, cosine_weights(z)))
    close(found.relevance[0], [value for _, value in sorted(theirs.local_exp[1])])


def test_lime_tabular_on_our_neighbourhood():
    """Its quartiles, its width and its regression, on the training rows' values that we draw (its own are made up)."""
    package = pytest.importorskip("lime.lime_tabular")
    base = pytest.importorskip("lime.lime_base")
    model, x, rows = network(Dense), samples(Dense, 1), background(80)
    watched, seen = recorded(model)
    lime(watched, x, target=2, references=rows, samples=200, penalty=0.0)
    z = np.concatenate([x.numpy(), torch.stack([row for row in seen if not torch.equal(row, x[0])])[:200].numpy()])
    discretizer = package.LimeTabularExplainer(rows.numpy()).discretizer
    same = (discretizer.discretize(z) == discretizer.discretize(x.numpy())).astype(float)
    distances = np.sqrt((1 - same).sum(1))
    width = 0.75 * np.sqrt(7)
    fit = base.LimeBase(lambda d: np.sqrt(np.exp(-(d**2) / width**2)))
    answer = numbers(model)(z)
    _, pairs, r2, _ = fit.explain_instance_with_data(same, answer, distances, 2, 7, "none")
    penalty = penalty_of(same, np.exp(-(distances**2) / (2 * width**2)))
    ours = lime(model, x, target=2, references=rows, samples=200, penalty=penalty)
    close(ours.relevance[0], [value for _, value in sorted(pairs)])
    assert ours.details["r2"].item() == pytest.approx(r2, abs=1e-9)


def test_captum_lime_with_our_kernel_draws_and_penalty():
    """1e-5: draws, weights and coefficients are float32 there. Its own distance is one of inputs, ours of what stays."""
    attr = pytest.importorskip("captum.attr")
    from captum._utils.models.linear_model import SkLearnRidge

    model, x = network(Dense), samples(Dense, 1)
    z = np.array(list(itertools.product([1, 0], repeat=7)), dtype=float)  # few enough: both take all of them

    def every(original: Tensor, **known: Any) -> Iterator[Tensor]:
        yield from torch.as_tensor(z).long()[:, None]

    def nearness(original: Tensor, altered: Tensor, stay: Tensor, **known: Any) -> Tensor:
        return torch.as_tensor(cosine_weights(stay.double().numpy()))

    theirs = attr.Lime(model, SkLearnRidge(alpha=1.0), nearness, every)
    theirs = theirs.attribute(x, target=2, n_samples=128, perturbations_per_eval=128)
    close(lime(model, x, target=2, penalty=penalty_of(z, cosine_weights(z))).relevance, theirs, 1e-5)

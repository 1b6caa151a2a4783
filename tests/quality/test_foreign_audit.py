"""Explanations of any model are measured as those of networks are: faithfulness of pipelines, forests and functions."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.compose import make_column_transformer
from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler
from sklearn.svm import SVC

from networks import DenseHead, network, samples
from pellucid import InputError, UnsupportedError, explain
from pellucid.quality.faithfulness import faithfulness
from pellucid.quality.randomisation import cascading_randomisation

R = np.random.default_rng(1)
X = R.normal(size=(40, 3))
Y = (X[:, 0] - X[:, 2] > 0).astype(int)
LEVELS = (0.0, 0.5, 1.0)
EVIDENCE = torch.tensor([[1.0, 0.6, 0.2], [0.0, 1.0, 0.4], [0.0, 0.0, 0.0], [0.3, 1.0, 1.0]], dtype=torch.float64)
FRAME = pd.DataFrame(
    {"size": X[:, 0], "town": R.choice(["Bonn", "Oslo", "Rome"], 40, p=[0.2, 0.2, 0.6]), "age": R.integers(9, 99, 40)}
)


def by_hand(x, evidence, level, b):
    """x * I + b * (1 - I) of numbers; what the sample has or what b has for categories."""
    kept = evidence.numpy() * (evidence.numpy() >= level)
    made = x.copy()
    for j, column in enumerate(x.columns):
        if x[column].dtype.kind in "fi":
            made[column] = x[column] * kept[:, j] + b[column] * (1 - kept[:, j])
        else:
            made[column] = np.where(kept[:, j] > 0, x[column], b[column])
    return made


def test_a_pipeline_with_categories():
    words = make_column_transformer((OneHotEncoder(), ["town"]), (StandardScaler(), ["size", "age"]))
    model = make_pipeline(words, LogisticRegression()).fit(FRAME, np.where(Y, "up", "down"))
    x = FRAME.head(4)
    b = {"size": FRAME["size"].mean(), "town": "Rome", "age": FRAME["age"].mean()}
    found = faithfulness(model, x, EVIDENCE, target="up", thresholds=LEVELS, baseline=FRAME)
    np.testing.assert_allclose(found.y, model.predict_proba(x)[:, 1], rtol=0, atol=1e-12)
    for j, level in enumerate(LEVELS):
        expected = model.predict_proba(by_hand(x, EVIDENCE, level, b))[:, 1]
        np.testing.assert_allclose(found.o[:, j], expected, rtol=0, atol=1e-12)
    assert found.o[2] == pytest.approx(found.o[2, 0])  # nothing of it is kept at any level
    one_row = faithfulness(model, x, EVIDENCE, target=1, thresholds=LEVELS, baseline=b)
    np.testing.assert_allclose(one_row.o, found.o, rtol=0, atol=1e-12)
    with pytest.raises(InputError, match=r"faithfulness says nothing of column 'town'"):
        faithfulness(model, x, EVIDENCE, target=1)


def test_the_whole_way_from_explanation_to_measure():
    model = RandomForestClassifier(5, random_state=0).fit(X, Y)
    found = explain(model, X[:6], {"occlusion": {"baseline": X.mean(0)}})["occlusion"]
    measured = faithfulness(model, X[:6], found.evidence(), target=found.target, baseline=X)
    np.testing.assert_allclose(measured.y, model.predict_proba(X[:6]).max(1), rtol=0, atol=1e-12)
    everything = faithfulness(model, X[:6], torch.ones(6, 3), baseline=X)
    assert (everything.o == everything.y[:, None]).all()
    nothing = faithfulness(model, X[:6], torch.zeros(6, 3), target=1, baseline=X)
    np.testing.assert_allclose(nothing.o, np.broadcast_to(model.predict_proba(X.mean(0)[None])[0, 1], (6, 11)), atol=1e-12)


def test_the_same_network_as_a_function_gives_the_same_numbers():
    net, x = network(DenseHead), samples(DenseHead, 3)
    evidence = torch.rand(3, 8, 8, generator=torch.Generator().manual_seed(0), dtype=x.dtype)

    def numpy_only(a):
        return net(torch.from_numpy(a.astype(float))).detach().numpy()

    for baseline in (0.0, 0.3, x[0], x):
        one, other = (faithfulness(model, x, evidence, thresholds=LEVELS, baseline=baseline) for model in (net, numpy_only))
        np.testing.assert_allclose(one.o, other.o, rtol=0, atol=1e-12)
    filled = x.mean(0) * (1 - evidence[:, None]) + x * evidence[:, None]
    with torch.no_grad():
        expected = net(filled).softmax(1).gather(1, net(x).argmax(1)[:, None])[:, 0]
    np.testing.assert_allclose(one.o[:, 0], expected, rtol=0, atol=1e-12)


def test_functions_that_answer_with_probabilities_are_not_squashed_again():
    model = LogisticRegression().fit(X, Y)
    for answer in (model.predict_proba, lambda a: model.predict_proba(a).tolist()):
        found = faithfulness(answer, X[:4], EVIDENCE, target=1)
        np.testing.assert_allclose(found.y, model.predict_proba(X[:4])[:, 1], rtol=0, atol=1e-12)


def test_missing_values_stay_missing_or_are_removed():
    x = X.copy()
    x[:4, 1] = np.nan
    model = HistGradientBoostingClassifier(max_iter=4, min_samples_leaf=3).fit(x, Y)
    found = faithfulness(model, x[:4], EVIDENCE, target=1, thresholds=(0.0,), baseline=x)
    b = np.nanmean(x, 0)
    kept = EVIDENCE.numpy()
    made = x[:4] * kept + b * (1 - kept)
    made[:, 1] = np.where(kept[:, 1] > 0, np.nan, b[1])
    np.testing.assert_allclose(found.o[:, 0], model.predict_proba(made)[:, 1], rtol=0, atol=1e-12)


def test_what_cannot_be_measured_is_refused():
    for model, message in [
        (LinearRegression().fit(X, X[:, 0]), "values, which have no probability"),
        (SVC().fit(X, Y), "has no probabilities"),
    ]:
        with pytest.raises(UnsupportedError, match=message):
            faithfulness(model, X[:4], EVIDENCE)
    model = LogisticRegression().fit(X, Y)
    for baseline, message in [
        ("mean", "baseline is 'mean'"),
        (np.zeros(2), r"baseline of shape \(2,\) for an input of shape"),
        (np.full((5, 3), np.inf), "the baseline holds inf"),
    ]:
        with pytest.raises(InputError, match=message):
            faithfulness(model, X[:4], EVIDENCE, baseline=baseline)
    with pytest.raises(InputError, match="the baseline holds nan"):
        faithfulness(torch.nn.Linear(3, 2).double(), X[:4], EVIDENCE, baseline=np.full((5, 3), np.nan))


def test_a_model_without_layers_cannot_be_randomised():
    with pytest.raises(UnsupportedError, match="LogisticRegression has no layers to randomise.*faithfulness"):
        cascading_randomisation(LogisticRegression().fit(X, Y), lambda model: {"occlusion": EVIDENCE})

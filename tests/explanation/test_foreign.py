"""Any model can be explained: estimators, pipelines over data frames, boosters, ONNX sessions and plain functions."""

from __future__ import annotations

import pickle
import warnings

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.cluster import KMeans
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import (
    GradientBoostingClassifier,
    HistGradientBoostingClassifier,
    IsolationForest,
    RandomForestClassifier,
    RandomForestRegressor,
    VotingClassifier,
)
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LinearRegression, LogisticRegression, RidgeClassifier
from sklearn.model_selection import GridSearchCV
from sklearn.multioutput import MultiOutputClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler
from sklearn.svm import SVC

from networks import Dense, network, samples
from pellucid import InputError, UnsupportedError, explain
from pellucid.core.errors import MissingExtraError
from pellucid.explanation.foreign import ONLY_PROBABILITIES, Foreign, adapted
from pellucid.explanation.frames import columns_of

R = np.random.default_rng(0)
X = R.normal(size=(60, 3))
BINARY, THREE, VALUE = (X[:, 0] + X[:, 1] > 0).astype(int), np.digitize(X[:, 0], [-0.5, 0.5]), X @ [1.0, -2.0, 0.5]
FRAME = pd.DataFrame(
    {
        "age": R.integers(20, 60, 60),
        "city": R.choice(["Oslo", "Rome", "Bonn"], 60),
        "pay": R.normal(size=60),
        "owner": R.random(60) > 0.5,
        "kind": pd.Categorical(R.choice(["u", "v"], 60)),
    }
)
FRAME.loc[3, "pay"], FRAME.loc[4, "city"] = np.nan, None
CHOICE = np.where((FRAME.age > 40) | (FRAME.city == "Oslo"), "yes", "no")
BACKGROUND = {"age": 30, "city": "Bonn", "pay": 0.5, "owner": False, "kind": "v"}


@pytest.fixture(scope="module")
def pipeline():
    numbers = make_pipeline(SimpleImputer(), StandardScaler())
    words = make_pipeline(SimpleImputer(strategy="most_frequent"), OneHotEncoder())
    both = ColumnTransformer([("numbers", numbers, ["age", "pay", "owner"]), ("words", words, ["city", "kind"])])
    return make_pipeline(both, LogisticRegression()).fit(FRAME, CHOICE)


def occluded(model, x, **options):
    baseline = options.pop("baseline", 0.0)
    return explain(model, x, {"occlusion": {"baseline": baseline}}, **options)["occlusion"]


def differences(answer, x, target, baseline=0.0):
    """answer(x) - answer(x with one column at the baseline), one column after another."""
    rows = np.arange(len(x))
    found = []
    for j in range(x.shape[1]):
        other = x.copy()
        if isinstance(x, pd.DataFrame):
            other[x.columns[j]] = pd.Series(baseline[x.columns[j]], index=x.index, dtype=x.dtypes.iloc[j])
        else:
            other[:, j] = baseline
        found.append(answer(x)[rows, target] - answer(other)[rows, target])
    return np.stack(found, 1)


def two(margin):
    return np.stack([-margin, margin], 1)


def exactly(found, expected, tolerance=1e-9):
    np.testing.assert_allclose(found, expected, rtol=0, atol=tolerance)


def test_a_pipeline_over_a_mixed_frame(pipeline):
    x = FRAME.head(8)
    before, fitted = x.copy(), pickle.dumps(pipeline)
    for target, i in ((1, 1), ("yes", 1), ("no", 0), (["no"] * 8, 0)):
        found = occluded(pipeline, x, target=target, baseline=BACKGROUND)
        exactly(found.relevance, differences(lambda f: two(pipeline.decision_function(f)), x, i, BACKGROUND))
        assert found.target.tolist() == [i] * 8
    assert found.names == list(FRAME.columns)
    assert found.of == "logit"
    likely = occluded(pipeline, x, of="probability", baseline=pd.Series(BACKGROUND))
    exactly(likely.relevance, differences(pipeline.predict_proba, x, likely.target.numpy(), BACKGROUND))
    exactly(likely.score, pipeline.predict_proba(x).max(1))
    assert (np.array(["no", "yes"])[likely.target] == pipeline.predict(x)).all()
    pd.testing.assert_frame_equal(x, before)
    assert pickle.dumps(pipeline) == fitted


def test_several_rows_and_other_methods_take_frames_too(pipeline):
    background = FRAME.iloc[20:24]
    x = FRAME.iloc[[0, 3, 4]]
    found = explain(pipeline, x, {"kernel_shap": {"baseline": background}}, target=1)["kernel_shap"]
    base = pipeline.decision_function(background).mean()
    exactly(found.relevance.sum(1), pipeline.decision_function(x) - base, 1e-8)
    assert found.names == list(FRAME.columns)


def test_what_a_frame_cannot_say_is_refused(pipeline):
    x = FRAME.head(3)
    with pytest.raises(InputError, match=r"baseline=0\.0 of occlusion says nothing of column 'city'.*rows of the training"):
        occluded(pipeline, x)
    with pytest.raises(InputError, match="'maybe' is no class of Pipeline"):
        occluded(pipeline, x, target="maybe", baseline=BACKGROUND)
    with pytest.raises(InputError, match="baseline has no column 'kind'"):
        occluded(pipeline, x, baseline=FRAME.drop(columns="kind").head(1))
    with pytest.raises(InputError, match=r"datetime64.*no number and no category"):
        occluded(pipeline, x.assign(day=pd.Timestamp("2020-01-01")), baseline=BACKGROUND)
    with pytest.raises(InputError, match="the samples are not"):
        occluded(RandomForestRegressor(2).fit(X, VALUE), X, baseline=pd.DataFrame(X))
    with pytest.raises(InputError, match="'city' holds no numbers, which this network needs"):
        occluded(network(Dense), x)
    with pytest.raises(InputError, match="several inputs with a data frame"):
        occluded(network(Dense), (x, x))
    with pytest.raises(InputError, match="not an array of numbers"):
        occluded(pipeline, x.to_numpy())


@pytest.mark.parametrize("name", ["gradient", "integrated_gradients", "smoothgrad", "lrp", "deep_lift", "grad_cam"])
def test_gradients_of_an_estimator_are_refused(pipeline, name):
    with pytest.raises(UnsupportedError, match=rf"Pipeline is not differentiable, which {name} needs.*occlusion"):
        explain(pipeline, FRAME.head(2), [name])


CLASSIFIERS = [
    (LogisticRegression(), BINARY, "sigmoid"),
    (LogisticRegression(), THREE, "softmax"),
    (GradientBoostingClassifier(n_estimators=3), BINARY, "sigmoid"),
    (GradientBoostingClassifier(n_estimators=3), THREE, "softmax"),
    (HistGradientBoostingClassifier(max_iter=3, min_samples_leaf=3), THREE, "softmax"),
    (SVC(), THREE, "none"),
    (RidgeClassifier(), BINARY, "none"),
    (make_pipeline(StandardScaler(), SVC()), BINARY, "none"),
    (GridSearchCV(LogisticRegression(), {"C": [0.1, 1]}, cv=2), BINARY, "sigmoid"),
]


@pytest.mark.parametrize(("model", "y", "link"), CLASSIFIERS, ids=[f"{type(m).__name__}-{link}" for m, _, link in CLASSIFIERS])
def test_decision_values(model, y, link):
    model.fit(X, y)

    def answer(a):
        z = model.decision_function(a)
        return two(z) if z.ndim == 1 else z

    found = occluded(model, X[:6], target=1)
    exactly(found.relevance, differences(answer, X[:6], 1))
    assert found.relevance.dtype is torch.float64
    most_likely = occluded(model, X[:6]).target
    assert (most_likely.numpy() == model.predict(X[:6])).all()
    assert adapted(model, X, {}).model.link == link
    if link == "none":
        with pytest.raises(UnsupportedError, match="has no probabilities.*CalibratedClassifierCV"):
            occluded(model, X[:6], of="probability")
    else:
        exactly(occluded(model, X[:6], of="probability", target=1).score, model.predict_proba(X[:6])[:, 1])


def test_probabilities_where_there_is_nothing_else():
    forest = RandomForestClassifier(4, random_state=0).fit(X, THREE)
    found = occluded(forest, X[:5].astype(np.float32), target=2)
    exactly(found.relevance, differences(forest.predict_proba, X[:5].astype(np.float32), 2))
    assert found.of == "probability"
    assert found.notes == [ONLY_PROBABILITIES]
    assert occluded(forest, X[:5], of="probability").notes == []
    chosen = occluded(forest, X[:5], target=lambda p: p[:, 1] - p[:, 0])
    exactly(chosen.score, np.diff(forest.predict_proba(X[:5])[:, :2])[:, 0])


def test_missing_values_are_left_to_the_library():
    x = X.copy()
    x[::7, 1] = np.nan
    model = HistGradientBoostingClassifier(max_iter=3, min_samples_leaf=3).fit(x, BINARY)
    found = occluded(model, x[:9], target=1, baseline=np.array([0.0, np.nan, 0.0]))
    assert found.relevance[::7, 1].abs().max() == 0
    assert found.relevance.abs().sum() > 0
    with pytest.raises(InputError, match="contains NaN"):
        occluded(SVC().fit(X, BINARY), x[:9])
    with pytest.raises(InputError, match="holds nan"):
        explain(model, x[:9], {"lime": {"references": x}})
    for plain in (network(Dense), lambda a: a):
        with pytest.raises(InputError, match="the input holds nan"):
            occluded(plain, x[:9])
    x[0, 0] = np.inf
    with pytest.raises(InputError, match="holds inf|infinity"):
        occluded(model, x[:9])


def test_regressors_and_detectors_are_explained_by_their_values():
    line = LinearRegression().fit(X, VALUE)
    exactly(occluded(line, X[:6]).relevance, X[:6] * line.coef_)
    with pytest.raises(UnsupportedError, match="LinearRegression predicts values, which have no probability"):
        occluded(line, X[:6], of="probability")
    several = LinearRegression().fit(X, np.stack([VALUE, -VALUE], 1))
    exactly(occluded(several, X[:6], target=1).relevance, X[:6] * several.coef_[1])
    with pytest.raises(InputError, match=r"predicts 2 values\. Say which one"):
        occluded(several, X[:6])
    outliers = IsolationForest(n_estimators=5, random_state=0).fit(X)
    exactly(occluded(outliers, X[:6]).score, outliers.decision_function(X[:6]))


def test_what_has_no_score_is_refused():
    hard = VotingClassifier([("a", LogisticRegression())]).fit(X, BINARY)
    several = MultiOutputClassifier(LogisticRegression()).fit(X, np.stack([BINARY, BINARY], 1))
    for model, message in [
        (hard, "VotingClassifier answers with labels only"),
        (KMeans(2, n_init=1, random_state=0).fit(X), r"KMeans answers with labels \(int32\)"),
        (several, "several questions at once"),
        (SVC(), "not fitted"),
        (SVC(decision_function_shape="ovo").fit(X, THREE), r"pairs of classes.*ovr"),
        (StandardScaler().fit(X), "StandardScaler is no model"),
        (3, "int is no model"),
        ("model.pkl", "ends in .onnx"),
    ]:
        with pytest.raises(InputError, match=message):
            occluded(model, X[:3])
    with pytest.raises(InputError, match="features"):
        occluded(LogisticRegression().fit(X, BINARY), X[:3, :2])


def test_names_of_columns_meet_what_the_model_was_fitted_on():
    """A frame-fitted model is given frames and an array-fitted one arrays: anything else would make scikit-learn warn."""
    frame = pd.DataFrame(X, columns=list("abc"))
    by_name, by_place = LogisticRegression().fit(frame, BINARY), LogisticRegression().fit(X, BINARY)
    with pytest.warns(UserWarning, match="valid feature names"):
        by_name.predict(X)
    found = [occluded(model, x.head(4) if x is frame else x[:4], target=1) for model in (by_name, by_place) for x in (frame, X)]
    for one in found:
        exactly(one.relevance, found[0].relevance)
    assert [one.names for one in found] == [list("abc"), list("abc"), list("abc"), None]


def test_labels_that_are_whole_numbers_are_told_by_their_place():
    model = LogisticRegression().fit(X, THREE + 5)
    found = occluded(model, X[:4], target=2)
    exactly(found.score, model.decision_function(X[:4])[:, 2])
    assert found.notes == ["targets are places in the classes [5, 6, 7]"]
    with pytest.raises(InputError, match="target 6 does not exist"):
        occluded(model, X[:4], target=6)
    truth = LogisticRegression().fit(X, BINARY == 1)
    exactly(occluded(truth, X[:4], target=True).score, truth.decision_function(X[:4]))


BOOSTED = ["lightgbm", "xgboost"]


def boosted(library, y, **data):
    more = {"n_estimators": 4, "max_depth": 3, "n_jobs": 1, **data}
    if library == "lightgbm":
        from lightgbm import LGBMClassifier as Classifier
        from lightgbm import LGBMRegressor as Regressor

        more |= {"verbose": -1, "min_child_samples": 3}
    else:
        from xgboost import XGBClassifier as Classifier
        from xgboost import XGBRegressor as Regressor
    return (Regressor if y is VALUE else Classifier)(**more)


def inner(model):
    return model.booster_ if hasattr(model, "booster_") else model.get_booster()


def margins(library, model, x):
    return model.predict(x, **{"raw_score" if library == "lightgbm" else "output_margin": True})


@pytest.mark.parametrize("library", BOOSTED)
@pytest.mark.parametrize("y", [BINARY, THREE], ids=["binary", "three"])
def test_boosted_classifiers_and_their_boosters(library, y):
    x = X.copy()
    x[::9, 1] = np.nan
    model = boosted(library, y).fit(x, y)

    def answer(a):
        z = margins(library, model, a)
        return two(z) if z.ndim == 1 else z

    expected = differences(answer, x[:10], 1)
    for one in (model, inner(model)):
        found = occluded(one, x[:10], target=1)
        exactly(found.relevance, expected, 1e-6)  # XGBoost answers in single precision
        assert found.of == "logit"
        likely = occluded(one, x[:10], of="probability", target=1)
        exactly(likely.score, model.predict_proba(x[:10])[:, 1], 1e-6)
        assert adapted(one, x, {}).model.link == ("sigmoid" if y is BINARY else "softmax")
    frame = pd.DataFrame(x, columns=["a", "b", "c"])
    named = boosted(library, y).fit(frame, y)
    exactly(occluded(named, x[:10], target=1).relevance, expected, 1e-6)
    exactly(occluded(named, frame.head(10), target=1).relevance, expected, 1e-6)
    behind = make_pipeline(StandardScaler(), boosted(library, y)).fit(x, y)
    scaled = behind[:-1].transform(x[:10])
    exactly(occluded(behind, x[:10], target=1).score, answer_of(library, behind[-1], scaled)[:, 1], 1e-6)


def answer_of(library, model, x):
    z = margins(library, model, x)
    return two(z) if z.ndim == 1 else z


@pytest.mark.parametrize("library", BOOSTED)
def test_boosted_regressors_and_categories(library):
    model = boosted(library, VALUE).fit(X, VALUE)
    for one in (model, inner(model)):
        exactly(occluded(one, X[:6]).score, model.predict(X[:6]), 1e-6)
    with pytest.raises(InputError, match="the model cannot run on an input of shape"):
        occluded(inner(model), X[:6, :2])
    table = FRAME[["age", "pay", "kind"]]
    more = {"enable_categorical": True} if library == "xgboost" else {}
    y = (CHOICE == "yes").astype(int)
    model = boosted(library, y, **more).fit(table, y)
    x = table.head(6)
    x = x.assign(kind=x.kind.cat.set_categories(["v", "u"]))  # in another order than when it was fitted
    found = occluded(model, x, target=1, baseline=BACKGROUND)
    exactly(found.relevance, differences(lambda f: two(margins(library, model, f)), x, 1, BACKGROUND), 1e-6)
    if library == "lightgbm":  # whose categories are then those of the tensor too
        assert adapted(model, x, {}).columns.columns[2].categories == ("u", "v")


def gemm(weight, *, rows=None, softmax=False, double=True):
    from onnx import TensorProto, helper

    kind = TensorProto.DOUBLE if double else TensorProto.FLOAT
    d, k = weight.shape
    nodes = [helper.make_node("Gemm", ["x", "w"], ["z"])]
    if softmax:
        nodes.append(helper.make_node("Softmax", ["z"], ["p"], axis=1))
    nodes.append(helper.make_node("ArgMax", ["z"], ["label"], axis=1, keepdims=0))
    outputs = [
        helper.make_tensor_value_info("label", TensorProto.INT64, [rows]),
        helper.make_tensor_value_info("p" if softmax else "z", kind, [rows, k]),
    ]
    graph = helper.make_graph(
        nodes,
        "linear",
        [helper.make_tensor_value_info("x", kind, [rows, d])],
        outputs,
        [helper.make_tensor("w", kind, weight.shape, weight.ravel())],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)


def session(model):
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


def test_models_of_onnx(tmp_path):
    weight = R.normal(size=(3, 4))
    model = gemm(weight)
    (tmp_path / "m.onnx").write_bytes(model.SerializeToString())
    for one in (session(model), model, tmp_path / "m.onnx", str(tmp_path / "m.onnx"), session(gemm(weight, rows=4))):
        exactly(occluded(one, X[:6], target=1).relevance, X[:6] * weight[:, 1])
    z = torch.from_numpy(X[:6] @ weight)
    exactly(occluded(session(model), X[:6], of="probability").score, z.softmax(1).amax(1))
    certain = occluded(session(gemm(weight, softmax=True)), X[:6])
    exactly(certain.score, z.softmax(1).amax(1))
    assert (certain.of, certain.notes) == ("probability", [ONLY_PROBABILITIES])
    exactly(occluded(session(gemm(weight, double=False)), X[:6], target=1).relevance, X[:6] * weight[:, 1], 1e-6)
    for bad, message in [(tmp_path / "none.onnx", "no file"), (session(model), "2 inputs for a model of ONNX with 1")]:
        with pytest.raises(InputError, match=message):
            occluded(bad, (X[:6], X[:6]))
    (tmp_path / "bad.onnx").write_bytes(b"no model")
    with pytest.raises(InputError, match="not a model of ONNX"):
        occluded(tmp_path / "bad.onnx", X)


def test_onnx_is_asked_for_where_it_is_not(tmp_path, monkeypatch):
    (tmp_path / "m.onnx").write_bytes(b"")
    monkeypatch.setitem(__import__("sys").modules, "onnxruntime", None)
    with pytest.raises(MissingExtraError, match="pip install onnxruntime"):
        occluded(tmp_path / "m.onnx", X)


def test_onnx_with_a_map_of_probabilities_and_with_a_column_for_each_input():
    from onnx import TensorProto, helper

    weight = R.normal(size=(2, 2))
    nodes = [
        helper.make_node("Concat", ["a", "b"], ["x"], axis=1),
        helper.make_node("Gemm", ["x", "w"], ["z"]),
        helper.make_node("Softmax", ["z"], ["p"], axis=1),
        helper.make_node("ZipMap", ["p"], ["map"], domain="ai.onnx.ml", classlabels_strings=["cat", "dog"]),
    ]
    kind = helper.make_map_type_proto(TensorProto.STRING, helper.make_tensor_type_proto(TensorProto.FLOAT, []))
    graph = helper.make_graph(
        nodes,
        "mapped",
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, [None, 1]) for name in "ab"],
        [helper.make_value_info("map", helper.make_sequence_type_proto(kind))],
        [helper.make_tensor("w", TensorProto.FLOAT, (2, 2), weight.ravel())],
    )
    opsets = [helper.make_opsetid("", 18), helper.make_opsetid("ai.onnx.ml", 1)]
    model = session(helper.make_model(graph, opset_imports=opsets, ir_version=9))
    frame = pd.DataFrame(X[:5, :2], columns=["a", "b"])
    expected = torch.from_numpy(X[:5, :2] @ weight).softmax(1)
    found = occluded(model, frame, target="dog")
    exactly(found.score, expected[:, 1], 1e-6)
    assert found.names == ["a", "b"]
    assert found.notes == [ONLY_PROBABILITIES]
    columns = (X[:5, :1], X[:5, 1:2])
    exactly(occluded(model, columns, target=0).score, expected[:, 0], 1e-6)


def test_plain_functions_answer_in_any_form(pipeline):
    w = R.normal(size=(3, 2))
    weight = torch.from_numpy(w)
    answers = {
        "tensor": lambda a: a @ weight,
        "numpy only": lambda a: np.tensordot(a.astype(float), w, 1),
        "numpy from tensors": lambda a: np.asarray(a) @ w,
        "list": lambda a: (np.asarray(a) @ w).tolist(),
        "frame": lambda a: pd.DataFrame(np.asarray(a) @ w),
    }
    for name, answer in answers.items():
        found = occluded(answer, X[:6], target=1)
        np.testing.assert_allclose(found.relevance, X[:6] * w[:, 1], rtol=0, atol=1e-9, err_msg=name)
        if name == "tensor":
            product = explain(answer, X[:6], ["gradient_times_input"], target=1)["gradient_times_input"]
            exactly(product.relevance, X[:6] * w[:, 1])
            continue
        with pytest.raises(UnsupportedError, match=r"differentiable.*occlusion"):
            explain(answer, X[:6], ["gradient"], target=1)
    x = FRAME.head(5)
    asked = occluded(lambda f: pipeline.predict_proba(f)[:, 1], x, of="probability", baseline=BACKGROUND)
    exactly(asked.relevance, differences(pipeline.predict_proba, x, 1, BACKGROUND))
    counted = FRAME[["age", "pay"]].head(3)
    exactly(occluded(lambda f: f["age"] * 2.0, counted).relevance[:, 0], counted.age * 2.0)
    exactly(occluded(lambda a: torch.sigmoid(a), counted).score, torch.sigmoid(torch.tensor(counted.to_numpy())).amax(1))


def test_a_network_takes_a_frame_of_numbers():
    x = samples(Dense)
    frame = pd.DataFrame(x.numpy(), columns=[f"c{i}" for i in range(7)])
    found, plain = (explain(network(Dense), one, ["gradient"])["gradient"] for one in (frame, x))
    assert torch.equal(found.relevance, plain.relevance)
    assert found.names == list(frame.columns)
    assert plain.names is None


def test_a_function_that_fails_is_quoted_with_its_own_reason():
    def broken(a):
        raise TypeError("no such thing")

    with pytest.raises(InputError, match="no such thing"):
        occluded(broken, X[:3])


def test_a_model_that_says_its_link_is_used_as_it_is():
    class Ready:
        link, missing = "identity", True

        def __call__(self, x):
            return torch.stack([x[:, 0].nan_to_num(0.25), 1 - x[:, 0].nan_to_num(0.25)], 1)

    model, x = Ready(), torch.tensor([[0.5, 1.0], [torch.nan, 1.0]], dtype=torch.float64)
    assert adapted(model, x, {}).model is model
    found = occluded(model, x, of="probability", target=0)
    exactly(found.score, [0.5, 0.25])
    with pytest.raises(UnsupportedError, match="no probability follows"):
        occluded(model, x + 2, of="probability", target=0)


@pytest.mark.parametrize(
    ("values", "dtype", "altered"),
    [
        ([1, 2, 3], "int64", 0.5),
        ([1, 2, None], "Int8", 0.5),
        ([True, False, True], "bool", 0.5),
        ([True, None, False], "boolean", 0.5),
        ([1.5, None, 2], "float32", 0.25),
        ([1.5, None, 2], "Float64", 0.25),
        ([1, None, 2], "int64[pyarrow]", 0.5),
        (["b", None, "a"], "str", None),
        (["b", None, "a"], "string", None),
        (["b", None, 3], "object", None),
        (pd.Categorical(["b", None, "a"], ["b", "a"], ordered=True), None, None),
        (pd.Categorical([3, 1, 3]), None, None),
    ],
)
def test_frames_come_back_as_they_were(values, dtype, altered):
    frame = pd.DataFrame({"c": pd.Series(values, dtype=dtype), ("d", 1): 1.0})
    columns = columns_of([frame])
    x = columns.encode(frame)
    assert x.dtype is torch.float64
    pd.testing.assert_frame_equal(columns.frame(x), frame)
    assert x.isnan().sum() == frame.isna().sum().sum()
    x[0, 0] = 0.5 if altered is None else altered
    if altered is None:
        with pytest.raises(InputError, match=r"0\.5 is no category of column 'c'"):
            columns.frame(x)
    else:
        assert float(columns.frame(x).iloc[0, 0]) == altered


def test_categories_are_those_of_all_frames():
    one, two_ = pd.DataFrame({"c": ["b", "d"]}), pd.DataFrame({"c": ["a", "d"]})
    columns = columns_of([one, two_])
    assert columns.encode(one).tolist() == [[1], [2]]
    assert columns.encode(two_).tolist() == [[0], [2]]
    ordered = [frame.astype("category") for frame in (one, two_)]
    columns = columns_of(ordered)
    assert columns.columns[0].categories == ("b", "d", "a")
    assert columns.frame(columns.encode(ordered[1]))["c"].tolist() == ["a", "d"]
    for bad, message in [
        (pd.DataFrame([[1, 2]], columns=["a", "a"]), "two columns are named 'a'"),
        (pd.DataFrame({"a": [[1], [2]]}), "cannot be told apart"),
        (pd.DataFrame({"a": pd.Series(["x", None, np.nan], dtype=object)}), "None beside NaN"),
        (pd.DataFrame({"a": [1 + 2j]}), "no number and no category"),
    ]:
        with pytest.raises(InputError, match=message):
            columns_of([bad])
    with pytest.raises(InputError, match="int64 in one frame"):
        columns_of([pd.DataFrame({"a": [1]}), pd.DataFrame({"a": ["x"]})])


def test_warnings_of_a_library_reach_the_user():
    class Loud:
        def predict(self, x):
            warnings.warn("old model", UserWarning, stacklevel=2)
            return x[:, 0]

    with pytest.warns(UserWarning, match="old model"):
        found = occluded(Loud(), X[:3])
    exactly(found.score, X[:3, 0])
    assert isinstance(adapted(LinearRegression().fit(X, VALUE), X, {}).model, Foreign)

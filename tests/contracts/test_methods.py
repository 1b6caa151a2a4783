"""One sweep over the table of methods: what every explanation method promises (X8-X25, L7)."""

from __future__ import annotations

import inspect
from contextlib import nullcontext

import pytest
import torch
from torch import Tensor, nn

from networks import (
    SHAPES,
    Concatenated,
    Dense,
    DenseHead,
    GapLinear,
    Residual,
    Sequence,
    Transformer,
    Volume,
    network,
    samples,
)
from pellucid import explain
from pellucid.core.errors import InputError, UnsupportedError
from pellucid.core.table import METHODS
from pellucid.explanation.layers import layout_of
from pellucid.explanation.reference_library import ReferenceLibrary

OF_SOME_MODELS = ("linear_shap", "tree_shap")  # of linear models and of trees, which have tests of their own
NAMES = [name for name in METHODS.names() if name not in OF_SOME_MODELS]
NETWORKS = list(SHAPES)
NOISY = ("smoothgrad", "smoothgrad_squared", "vargrad")
FAST = {
    **{name: {"samples": 3} for name in NOISY},
    "integrated_gradients": {"steps": 4},
    "integrated_gradients_smoothgrad": {"steps": 3, "samples": 2},
    "guided_ig": {"steps": 5},
    "expected_gradients": {"samples": 3},
    "shapley": {"features": 5},
    "kernel_shap": {"features": 9, "samples": 40},
    "shapley_sampling": {"features": 6, "samples": 3},
    "lime": {"features": 9, "samples": 60},
    "rise": {"masks": 20},
    "extremal_perturbation": {"steps": 3},
    "xrai": {"steps": 3},
}

OF_CLASSES = ("libra_cam", "relevance_cam", "contrastive_lrp", "softmax_gradient_lrp")  # not of any number of the answer
POOLED = (GapLinear, Volume)  # what CAM is for


def works(name: str, kind: type[nn.Module]) -> bool:
    """Tables have no edges, masks and maps of activations; volumes no edges and regions; CAM wants a pooled linear head."""
    if name == "cam":
        return kind in POOLED
    if name == "edge_detector":
        return kind not in (Dense, Volume)
    if name == "xrai":
        return kind not in (Dense, Sequence, Volume)
    if name == "extremal_perturbation":
        return kind is not Dense
    return not (kind is Dense and METHODS[name].facts["needs"] == "layer")


def suitable(name: str, kind: type[nn.Module]) -> type[nn.Module]:
    """This kind of network, or one that the method can explain."""
    return kind if works(name, kind) else GapLinear


def library(model: nn.Module, kind: type[nn.Module], layer: str) -> ReferenceLibrary:
    """References from seeded samples: the sweep is about the method, not about how the library was built."""
    kept: list[Tensor] = []
    handle = model.get_submodule(layer).register_forward_hook(lambda m, i, o: kept.append(o.clone()))
    x = samples(kind, 6, seed=9)
    with torch.no_grad():
        outputs = model(x)
    handle.remove()
    kept[0] = layout_of(kept[0], x, model.get_submodule(layer)).maps(kept[0])
    index = torch.arange(6).roll(1).expand(outputs.shape[1], 6)[:, :4].contiguous()
    return ReferenceLibrary(kept[0], index, torch.zeros(index.shape), torch.arange(6), layer)


def ask(name: str, kind: type[nn.Module], model: nn.Module, layer: str = "") -> dict[str, object]:
    """Options that make a method cheap, with what it cannot do without."""
    options = dict(FAST.get(name, {}))
    if name == "libra_cam":
        options["library"] = library(model, kind, layer or LAYERS[kind])
    if name == "expected_gradients":
        options["references"] = samples(kind, 4, seed=7)
    return options


LAYERS = {
    **dict.fromkeys([GapLinear, DenseHead, Sequence, Volume], "features"),
    Residual: "last",
    Concatenated: "five",
    Transformer: "blocks.0",
}
CASES = [(name, kind) for name in NAMES for kind in NETWORKS if works(name, kind)]
sweep = pytest.mark.parametrize(("name", "kind"), CASES, ids=[f"{n}-{k.__name__}" for n, k in CASES])
each = pytest.mark.parametrize("name", NAMES)


def run(name, kind, model=None, x=None, **more):
    model = network(kind) if model is None else model
    x = samples(kind) if x is None else x
    options = more.pop("options", None) or ask(name, kind, network(kind))
    more.setdefault("layer", LAYERS.get(kind))
    return explain(model, x, {name: options}, **more)[name]


@sweep
def test_shape_type_and_finiteness(name, kind):
    x = samples(kind)
    found = run(name, kind)
    assert found.relevance.shape == x.shape
    assert found.relevance.dtype == x.dtype
    assert found.relevance.isfinite().all()
    assert not found.relevance.requires_grad
    evidence = found.evidence()
    assert evidence.shape == (len(x), *(x.shape[2:] or x.shape[1:]))
    assert evidence.min() >= 0
    assert evidence.max() <= 1
    if METHODS[name].facts["needs"] != "nothing":
        with torch.no_grad():
            output = network(kind)(x)
        assert torch.equal(found.target, output.argmax(1))
        torch.testing.assert_close(found.score, output.max(1).values, rtol=0, atol=1e-12)


@sweep
def test_repeatable_and_independent_of_batch(name, kind):
    """Sample 0 alone equals sample 0 in a batch, however the batch is cut (METHODS G7)."""
    x = samples(kind, 4)
    whole = run(name, kind, x=x)
    assert torch.equal(whole.relevance, run(name, kind, x=x).relevance)
    for batch in (1, 3):
        torch.testing.assert_close(whole.relevance, run(name, kind, x=x, batch=batch).relevance, rtol=0, atol=1e-9)
    if "sampled" not in METHODS[name].facts["claims"]:  # there sample i's numbers depend on i
        torch.testing.assert_close(whole.relevance[2:3], run(name, kind, x=x[2:3]).relevance, rtol=0, atol=1e-9)
    torch.testing.assert_close(whole.relevance[:1], run(name, kind, x=x[:1]).relevance, rtol=0, atol=1e-9)


class Counter:
    """Counts the rows that pass a network's first and last module, forwards and backwards. Not the engine's own count."""

    def __init__(self, model: nn.Module, x: Tensor) -> None:
        used: list[nn.Module] = []
        leaves = [m for m in model.modules() if not list(m.children())]
        handles = [m.register_forward_hook(lambda m, i, o: used.append(m)) for m in leaves]
        with torch.no_grad():
            model(x[:1].clone())
        for handle in handles:
            handle.remove()
        self.rows = dict.fromkeys(("first", "last", "into the first", "into the last"), 0)
        used[0].register_forward_pre_hook(lambda m, inputs: self.see("first", inputs[0]))
        used[-1].register_forward_hook(lambda m, inputs, output: self.see("last", output))

    def see(self, place: str, tensor: Tensor) -> None:
        self.rows[place] += len(tensor)
        if tensor.requires_grad:
            tensor.register_hook(lambda g: self.rows.update({f"into the {place}": self.rows[f"into the {place}"] + len(g)}))

    def seen(self) -> dict[str, int]:
        r = self.rows
        backward = r["into the first"]
        return {"F": r["first"], "B": backward, "H": r["into the last"] - backward, "T": r["last"] - r["first"]}


@sweep
def test_pass_count_is_the_stated_minimum(name, kind):
    x, model = samples(kind, 3), network(kind)
    options = ask(name, kind, model)
    counter = Counter(model, x)
    found = run(name, kind, model=model, x=x, options=options)
    seen = {unit: rows / 3 for unit, rows in counter.seen().items()}
    numbers = {k: v for k, v in (found.options | found.counts).items() if isinstance(v, int | float)}
    for unit in "FBHT":
        stated = eval(METHODS[name].facts["cost"], {}, numbers | {u: float(u == unit) for u in "FBHT"})
        assert seen[unit] == pytest.approx(stated, abs=1e-12), unit
    assert found.passes == pytest.approx(dict(zip(("forward", "backward", "head", "tail"), seen.values())), abs=1e-12)


def test_the_counter_counts():
    """The counter itself can fail: one plain gradient is one F and one B a row."""
    model, x = network(DenseHead), samples(DenseHead, 2)
    counter = Counter(model, x)
    model(x.requires_grad_()).sum().backward()
    assert counter.seen() == {"F": 2, "B": 2, "H": 0, "T": 0}
    model.head(model.features(x).detach().requires_grad_()).sum().backward()
    assert counter.seen() == {"F": 4, "B": 2, "H": 2, "T": 0}


CAMS = ["grad_cam", "grad_cam_plus_plus", "xgrad_cam", "hires_cam", "layer_cam", "eigen_cam"]
TOGETHER = [
    ({"gradient_times_input": {}, "gradient": {}, "edge_detector": {}}, {"F": 1, "B": 1}),
    (dict.fromkeys(["cam", *CAMS]), {"F": 1, "H": 1}),
    (dict.fromkeys(["ablation_cam", *CAMS]), {"F": 1 + 0.5, "H": 1}),  # one row of two for the check of the closed form
    ({name: {"samples": 7} for name in NOISY}, {"F": 8, "B": 7}),
    ({"vargrad": {"samples": 3}, "smoothgrad": {"samples": 4}}, {"F": 8, "B": 7}),
    ({"integrated_gradients": {"steps": 5}, "gradient": {}, "occlusion": {}}, {"F": 1 + 1 + 5 + 64, "B": 1 + 5}),
    ({"gradient": {}, "grad_cam": {}, "smoothgrad": {"samples": 3}}, {"F": 1 + 1 + 3, "B": 1 + 3, "H": 1}),
    # one pass is followed; each table of rules goes back through it
    (dict.fromkeys(["lrp", "deep_taylor", "rap", "deconvnet", "guided_backpropagation"]), {"F": 1, "B": 5}),
    (dict.fromkeys(["lrp", "contrastive_lrp", "relevance_cam", "guided_grad_cam"]), {"F": 1, "B": 1 + 2 + 1, "H": 2}),
    ({"lrp": {}, "deep_lift": {}}, {"F": 1 + 0.5, "B": 2}),  # the baseline is one row for both samples
]


@pytest.mark.parametrize(("asked", "cost"), TOGETHER, ids=["-".join(asked) for asked, _ in TOGETHER])
def test_methods_asked_for_together_share_passes(asked, cost):
    """Every distinct pass is made once; the arg-max costs no pass of its own; what is shared is the same as alone."""
    model, x = network(GapLinear), samples(GapLinear, 2)
    counter = Counter(model, x)
    together = explain(model, x, asked, layer="features")
    assert {unit: rows / 2 for unit, rows in counter.seen().items() if rows} == cost
    for name, found in together.items():
        alone = explain(model, x, {name: asked[name]}, layer="features")[name]
        torch.testing.assert_close(found.relevance, alone.relevance, rtol=0, atol=1e-12)


def state(model: nn.Module) -> dict[str, object]:
    """Everything about a model that a person could notice having changed."""
    return {
        "weights": {k: v.clone() for k, v in model.state_dict().items()},
        "modes": [m.training for m in model.modules()],
        "wants": [p.requires_grad for p in model.parameters()],
        "grads": [None if p.grad is None else p.grad.clone() for p in model.parameters()],
        "hooks": [
            (len(m._forward_hooks), len(m._forward_pre_hooks), len(m._backward_hooks), len(m._backward_pre_hooks))
            for m in model.modules()
        ],
        "attributes": [sorted(vars(m)) for m in model.modules()],
    }


def same(a: object, b: object) -> bool:
    if isinstance(a, Tensor):
        return isinstance(b, Tensor) and torch.equal(a, b)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[k], b[k]) for k in a)
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(map(same, a, b))
    return a == b


def lived_in(kind: type[nn.Module]) -> nn.Module:
    """A model in the middle of somebody's training: mixed modes, some frozen, gradients waiting."""
    model = network(kind)
    model.train()
    modules = list(model.modules())
    modules[-1].eval()
    parameters = list(model.parameters())
    parameters[0].requires_grad_(False)
    for p in parameters[1:]:
        p.grad = torch.ones_like(p)
    return model


def test_the_comparison_of_states_can_fail():
    model = lived_in(Residual)
    before = state(model)
    for change in (
        lambda m: m.norm.running_mean.add_(1),
        lambda m: m.eval(),
        lambda m: setattr(m.head.bias, "grad", None),
        lambda m: m.head.register_forward_hook(print),
        lambda m: m.head.weight.requires_grad_(False),
    ):
        changed = lived_in(Residual)
        assert same(before, state(changed))
        change(changed)
        assert not same(before, state(changed))


@sweep
def test_model_and_input_untouched_after_success(name, kind):
    model, x = lived_in(kind), samples(kind)
    before, given, generator = state(model), x.clone(), torch.get_rng_state()
    run(name, kind, model=model, x=x)
    assert same(before, state(model))
    assert torch.equal(x, given)
    assert x.grad is None
    assert not x.requires_grad
    assert torch.equal(generator, torch.get_rng_state())


class BrokenBackward(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return x.view_as(x)

    @staticmethod
    def backward(ctx, g):
        raise ArithmeticError("broken backward")


@each
@pytest.mark.parametrize("where", ["forward", "backward", "target"])
def test_model_untouched_after_an_error(name, where):
    kind = suitable(name, Residual)
    model, x = lived_in(kind), samples(kind)
    options = ask(name, kind, network(kind))
    cost = run(name, kind, options=options).passes
    calls = []

    def broken(module, inputs, output):
        calls.append(1)
        if where == "forward" and len(calls) > 1:
            raise ArithmeticError("broken forward")
        return BrokenBackward.apply(output) if where == "backward" else output

    handle = model.head.register_forward_hook(broken)
    before = state(model)

    def target(output):
        raise ArithmeticError("broken target")

    facts = METHODS[name].facts
    fails = facts["needs"] != "nothing" and (where != "backward" or cost["backward"] + cost["head"] > 0)
    if where == "forward" and cost["forward"] + cost["tail"] == 1:
        calls.append(1)  # a single forward: break that one
    # an autograd function of the user's own has a derivative but no rules: what goes by rules refuses it
    kinds = (ArithmeticError, UnsupportedError) if where == "backward" else ArithmeticError
    expected = pytest.raises(kinds) if fails else nullcontext()
    with expected:
        run(name, kind, model=model, x=x, options=options, target=target if where == "target" else 1)
    handle.remove()
    before["hooks"] = state(model)["hooks"]
    assert same(before, state(model))
    assert sum(len(m._forward_hooks) for m in model.modules()) == 0


@sweep
def test_frozen_model_no_grad_and_inference_mode(name, kind):
    expected = run(name, kind).relevance
    model = network(kind).requires_grad_(False)
    for mode in (torch.no_grad, torch.inference_mode):
        with mode():
            x = samples(kind)  # made inside: an inference tensor in the second case
            assert torch.equal(run(name, kind, model=model, x=x).relevance, expected)
            assert torch.is_grad_enabled() is False


@sweep
def test_training_mode_gives_the_same_answer(name, kind):
    """PEERS 4.12: a model left in training mode must not give random answers."""
    assert torch.equal(run(name, kind).relevance, run(name, kind, model=network(kind).train()).relevance)


@each
def test_claims(name):
    claims = METHODS[name].facts["claims"]
    kind = suitable(name, DenseHead)
    if "complete" in claims:
        if "steps" in METHODS[name].options():
            gaps = [run(name, kind, options={"steps": steps}).gap.abs().max() for steps in (2, 8, 64)]
            assert gaps[0] > gaps[2]
            assert gaps[2] < 2e-3  # ReLU kinks: Gauss-Legendre converges as 1/steps there
        else:
            assert run(name, kind).gap.abs().max() < 1e-12
        smooth = run(name, Dense, options={"steps": 24} if "steps" in METHODS[name].options() else None)
        assert smooth.gap.abs().max() < 1e-12
        torch.testing.assert_close(smooth.relevance.sum(1), smooth.score - smooth.base, rtol=0, atol=1e-12)
    if "zero_at_baseline" in claims:
        x = samples(Dense)
        x[:, 2] = 0.25
        baseline = torch.zeros(7, dtype=x.dtype)
        baseline[2] = 0.25
        r = run(name, Dense, x=x, options={**ask(name, Dense, network(Dense)), "baseline": baseline}).relevance
        assert r[:, 2].abs().max() < 1e-12  # occlusion: the same input in another batch rounds differently
        assert r.abs().max() > 1e-3
    if "sampled" in claims:
        a, b, c = (run(name, kind, seed=s).relevance for s in (0, 0, 1))
        assert torch.equal(a, b)
        assert not torch.equal(a, c)
    if "signed" not in claims:
        assert (run(name, kind).relevance >= 0).all()
    if "class_blind" in claims:
        assert torch.equal(run(name, kind, target=0).relevance, run(name, kind, target=1).relevance)
    elif METHODS[name].facts["needs"] != "nothing":
        maps = [run(name, kind, target=c).relevance for c in range(5)]  # a class without evidence has no deep Taylor map
        assert any(not torch.equal(maps[0], other) for other in maps[1:])


@each
def test_targets_in_every_form(name):
    kind = GapLinear
    x = samples(kind, 3)
    if METHODS[name].facts["needs"] == "nothing":
        return
    one = run(name, kind, x=x, target=2).relevance
    for same_target in (torch.tensor(2), [2, 2, 2], torch.tensor([2, 2, 2])):
        assert torch.equal(one, run(name, kind, x=x, target=same_target).relevance)
    mixed = run(name, kind, x=x, target=[2, 0, 2]).relevance
    torch.testing.assert_close(mixed[[0, 2]], one[[0, 2]], rtol=0, atol=1e-12)
    if name in OF_CLASSES:
        with pytest.raises(InputError, match="class index"):
            run(name, kind, x=x, target=lambda output: output[:, 2])
    else:
        asked = run(name, kind, x=x, target=lambda output: output[:, 2])
        assert asked.target is None
        torch.testing.assert_close(asked.relevance, one, rtol=0, atol=1e-12)


@each
def test_bad_input_is_named(name):
    x = samples(GapLinear)
    nan = x.clone()
    nan[1, 0, 3, 2] = torch.nan
    cases = [
        ({"x": nan}, r"the input holds nan \(sample 1, position \[0, 3, 2\]\)"),
        ({"x": x[:0]}, "shape"),
        ({"options": {**ask(name, GapLinear, network(GapLinear)), "stepz": 3}}, "no option 'stepz'"),
    ]
    if METHODS[name].facts["needs"] != "nothing":
        cases += [
            ({"target": 9}, r"target 9 does not exist \(sample 0\)\. The model has outputs 0 to 4"),
            ({"target": [0, 1]}, "2 targets for 3 samples"),
            ({"target": 0.5}, "target is 0.5"),
            ({"x": torch.zeros(2, 3, 8, 8)}, "the model cannot run on an input of shape"),
        ]
    for change, message in cases:
        with pytest.raises(InputError, match=message):
            run(name, GapLinear, **change)
    with pytest.raises(InputError, match="no method 'integrated_gradient'. Did you mean 'integrated_gradients'"):
        explain(network(GapLinear), x, ["integrated_gradient"])


def test_layer_by_name_module_or_found():
    model, x = network(Residual), samples(Residual)
    by_name = run("grad_cam", Residual, model=model, x=x, layer="last")
    by_module = run("grad_cam", Residual, model=model, x=x, layer=model.last)
    assert torch.equal(by_name.relevance, by_module.relevance)
    assert by_module.layer == "last"
    assert run("grad_cam", Residual, model=model, x=x, layer=None).layer == "inplace"
    assert run("grad_cam", GapLinear, layer=None).layer == "features"
    with pytest.raises(InputError, match="no layer 'featurs'. Did you mean 'features'"):
        run("grad_cam", GapLinear, layer="featurs")
    with pytest.raises(UnsupportedError, match="no layer keeps"):
        run("grad_cam", Dense, layer=None)
    with pytest.raises(UnsupportedError, match="not one map"):
        run("grad_cam", GapLinear, layer="head")
    twice = run("grad_cam", Residual, model=model, x=x, layer="block")
    assert "2 times" in twice.notes[0]


def test_any_function_can_be_explained_by_scores_alone():
    """L7: a plain callable, without layers or gradients."""
    weight = torch.randn(7, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    x = samples(Dense)
    found = explain(lambda rows: torch.from_numpy(rows.numpy() @ weight.numpy()), x, ["occlusion"], target=1)["occlusion"]
    torch.testing.assert_close(found.relevance, x * weight[:, 1], rtol=0, atol=1e-12)
    with pytest.raises(UnsupportedError, match="differentiable"):
        explain(lambda rows: torch.from_numpy(rows.detach().numpy() @ weight.numpy()), x, ["gradient"])


def test_results_can_be_saved_and_read(tmp_path):
    found = run("integrated_gradients", GapLinear)
    again = type(found).load(found.save(tmp_path / "ig.safetensors"))
    assert torch.equal(found.relevance, again.relevance)
    assert torch.equal(found.gap, again.gap)
    assert (again.method, again.options["steps"], again.of) == ("integrated_gradients", 4, "logit")
    (tmp_path / "x").write_bytes(b"no")
    with pytest.raises(InputError, match="not a saved explanation"):
        type(found).load(tmp_path / "x")


def test_every_method_is_documented():
    for entry in METHODS:
        doc = inspect.getdoc(entry.value)
        assert len(doc) > 100, entry.name
        for option in entry.options():
            assert option in doc or f"``{option}=" in doc, f"{entry.name}: option {option} is not explained"
        assert entry.facts["paper"]

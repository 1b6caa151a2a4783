"""Networks as people have them: several inputs, nested answers, tokens, layers that answer with a tuple (L7)."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from networks import DenseHead, GapLinear, Transformer, TwoInputs, network, samples
from pellucid import METHODS, InputError, UnsupportedError, explain
from pellucid.explanation.layers import Layout, layout_of


def three_inputs(n=4, seed=2):
    generator = torch.Generator().manual_seed(seed)
    image = torch.randn(n, 1, 6, 6, generator=generator, dtype=torch.float64)
    row = torch.randn(n, 5, generator=generator, dtype=torch.float64) * 10
    return image, row, torch.randint(3, (n, 1), generator=generator)


def test_gradient_methods_explain_every_input_of_real_numbers():
    model, x = network(TwoInputs), three_inputs()
    found = explain(model, x, {"gradient": {}, "integrated_gradients": {"steps": 40}, "smoothgrad": {"samples": 4}}, target=1)
    leaves = [part.clone().requires_grad_() for part in x[:2]]
    expected = torch.autograd.grad(model(*leaves, x[2])[:, 1].sum(), leaves)
    image, row, kind = found["gradient"].parts
    torch.testing.assert_close((image, row), tuple(g.abs() for g in expected), rtol=0, atol=1e-12)
    assert kind is None
    ig = found["integrated_gradients"]
    assert ig.gap.abs().max() < 2e-3
    total = sum(part.flatten(1).sum(1) for part in ig.parts[:2])
    torch.testing.assert_close(total, ig.score - ig.base - ig.gap, rtol=0, atol=1e-9)
    assert [p.shape for p in found["smoothgrad"].parts[:2]] == [x[0].shape, x[1].shape]


def test_noise_follows_the_range_of_each_input():
    class Recording(TwoInputs):
        def forward(self, image, row, kind):
            seen.append((image.detach(), row.detach()))
            return super().forward(image, row, kind)

    seen = []
    model, x = Recording().double(), three_inputs(1)
    explain(model, x, {"smoothgrad": {"samples": 300, "noise": 0.1}}, target=0)
    images, rows = (torch.cat(parts)[1:] for parts in zip(*seen))
    for drawn, part in ((images, x[0]), (rows, x[1])):
        assert float((drawn - part).std() / (part.amax() - part.amin())) == pytest.approx(0.1, rel=0.1)


def test_map_methods_explain_the_picture_and_hold_the_rest():
    model, x = network(TwoInputs), three_inputs()
    asked = {"grad_cam": {}, "ablation_cam": {}, "score_cam": {}, "occlusion": {"window": 2}, "gradient": {}}
    found = explain(model, x, asked, target=2)
    for name in list(asked)[:-1]:
        assert found[name].relevance.shape == x[0].shape
        assert [None if p is None else p.shape for p in found[name].parts] == [x[0].shape, None, None]
    blank = x[0].clone()
    blank[:, :, :2, :2] = 0
    with torch.no_grad():
        drop = (model(*x) - model(blank, *x[1:]))[:, 2]
    corner = explain(model, x, {"occlusion": {"window": 2, "stride": 2}}, target=2)["occlusion"].raw[:, 0, 0]
    torch.testing.assert_close(corner, drop, rtol=0, atol=1e-12)


def test_baselines_and_references_for_each_input():
    model, x = network(TwoInputs), three_inputs()
    base = (torch.full((1, 6, 6), 0.5, dtype=torch.float64), 2.0, 0)[:2]
    found = explain(model, x, {"integrated_gradients": {"baseline": base, "steps": 60}}, target=0)["integrated_gradients"]
    with torch.no_grad():
        expected = model(torch.full_like(x[0], 0.5), torch.full_like(x[1], 2.0), x[2])[:, 0]
    torch.testing.assert_close(found.base, expected, rtol=0, atol=1e-12)
    known = three_inputs(5, seed=5)[:2]
    drawn = explain(model, x, {"expected_gradients": {"references": known, "samples": 5}}, target=0)["expected_gradients"]
    assert drawn.parts[1].shape == x[1].shape
    for options, message in [({"baseline": (0.0,)}, "1 baselines for 2 inputs"), ({"baseline": "blur"}, "cannot be blurred")]:
        with pytest.raises(InputError, match=message):
            explain(model, x, {"integrated_gradients": options}, target=0)
    with pytest.raises(InputError, match="inputs of 4, 3, 4 samples"):
        explain(model, (x[0], x[1][:3], x[2]), ["gradient"])


class Answering(nn.Module):
    def __init__(self, how):
        super().__init__()
        self.inner, self.how = network(GapLinear), how

    def forward(self, x):
        z = self.inner(x)
        return {"dict": {"logits": z, "loss": None}, "tuple": (z, x), "other": {"boxes": z[:, None], "n": 1}}[self.how]


@pytest.mark.parametrize("name", ["gradient", "grad_cam", "ablation_cam", "score_cam", "smoothgrad"])
def test_answers_that_are_not_a_tensor(name):
    x = samples(GapLinear)
    expected = explain(network(GapLinear), x, [name], target=3, layer="features")[name].relevance
    cases = [("dict", 3), ("tuple", lambda answer: answer[0][:, 3]), ("other", lambda answer: answer["boxes"][:, 0, 3])]
    for how, target in cases:
        found = explain(Answering(how), x, [name], target=target, layer="inner.features")[name]
        torch.testing.assert_close(found.relevance, expected, rtol=0, atol=1e-12)
    with pytest.raises(InputError, match="the model answers with tuple, not"):
        explain(Answering("tuple"), x, [name], layer="inner.features")


class Sideways(nn.Module):
    """A layer that answers with a tuple, as blocks of transformers do."""

    def __init__(self):
        super().__init__()
        self.inner = nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.Tanh())

    def forward(self, x):
        return self.inner(x), None


class WithSideways(nn.Module):
    def __init__(self):
        super().__init__()
        self.block, self.head = Sideways(), nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 3))

    def forward(self, x):
        a, _ = self.block(x)
        return self.head(a.mean((2, 3)))


def test_a_layer_that_answers_with_a_tuple():
    model, x = network(WithSideways), samples(GapLinear)
    for name in ("grad_cam", "ablation_cam", "eigen_cam"):
        whole = explain(model, x, [name], layer="block", target=1)[name]
        inner = explain(model, x, [name], layer="block.inner", target=1)[name]
        torch.testing.assert_close(whole.raw, inner.raw, rtol=0, atol=1e-12)


def test_transformer_layer_is_found_where_patches_matter():
    """Behind the last block the head reads the class token only: the gradient at the patches is zero there."""
    model, x = network(Transformer), samples(Transformer)
    found = explain(model, x, ["grad_cam"])["grad_cam"]
    assert found.layer == "blocks.1.before"
    assert found.raw.shape == (3, 2, 3)
    assert found.map().shape == (3, 8, 12)
    assert found.raw.abs().max() > 0
    with torch.no_grad():
        tokens = model.blocks[0](torch.cat([model.token.expand(3, -1, -1), model.patches(x).flatten(2).mT], 1) + model.position)
    leaf = model.blocks[1].before(tokens).detach().requires_grad_()

    class Fixed(nn.Module):
        def forward(self, x):
            return leaf

    rest = network(Transformer)
    rest.blocks[1].before = Fixed()
    g = torch.autograd.grad(
        rest.blocks[1](tokens)[:, 0] @ model.head.weight[found.target].mT,
        leaf,
        torch.eye(3, dtype=torch.float64),
    )[0]
    expected = (g[:, 1:].mean(1, keepdim=True) * leaf.detach()[:, 1:]).sum(2).view(3, 2, 3)
    torch.testing.assert_close(found.raw, expected.detach(), rtol=0, atol=1e-9)


@pytest.mark.parametrize(
    ("shape", "input_shape", "expected", "module"),
    [
        ((2, 7, 6), (2, 1, 8, 12), Layout("tokens", (2, 3), 1), None),
        ((2, 197, 768), (2, 3, 224, 224), Layout("tokens", (14, 14), 1), None),
        ((2, 196, 768), (2, 3, 224, 224), Layout("tokens", (14, 14), 0), None),
        ((2, 201, 768), (2, 3, 224, 224), Layout("tokens", (14, 14), 5), None),
        ((2, 7, 7, 768), (2, 3, 224, 224), Layout("last", (7, 7)), None),
        ((2, 512, 7, 7), (2, 3, 224, 224), Layout("first", (7, 7)), None),
        ((2, 8, 8, 8), (2, 3, 64, 64), Layout("first", (8, 8)), None),
        ((2, 16, 7, 10), (2, 3, 224, 300), Layout("first", (7, 10)), None),
        ((2, 6, 50), (2, 4, 100), Layout("first", (50,)), None),
        ((2, 100, 32), (2, 4, 100), Layout("tokens", (100,)), nn.LayerNorm(32)),
        ((2, 100, 32), (2, 4, 100), Layout("first", (32,)), nn.Conv1d(4, 100, 3)),
        ((2, 16, 8), (2, 2, 16), Layout("first", (8,)), nn.MaxPool1d(2)),
        ((2, 16, 8), (2, 2, 16), Layout("first", (8,)), nn.Sequential(nn.Conv1d(2, 16, 3), nn.ReLU())),
        ((2, 16, 8), (2, 2, 16), Layout("tokens", (16,)), nn.Sequential(nn.LayerNorm(8), nn.Linear(8, 8), nn.GELU())),
        ((2, 64, 14, 3), (2, 1, 128, 44), Layout("first", (14, 3)), nn.MaxPool2d(2)),
        ((2, 64, 14, 3), (2, 1, 128, 44), Layout("first", (14, 3)), nn.ReLU()),
        ((2, 7, 7, 96), (2, 3, 224, 224), Layout("last", (7, 7)), nn.LayerNorm(96)),
        ((2, 9, 32), (2, 9), Layout("tokens", (9,)), None),
        ((2, 4, 3, 5, 5), (2, 1, 6, 10, 10), Layout("first", (3, 5, 5)), None),
    ],
)
def test_layouts(shape, input_shape, expected, module):
    output = torch.randn(shape)
    layout = layout_of(output, torch.zeros(input_shape), module)
    assert layout == expected
    maps = layout.maps(output)
    assert maps.shape[2:] == expected.grid
    assert torch.equal(layout.output(maps, output), output)


@pytest.mark.parametrize(
    ("shape", "reason"),
    [
        ((2, 17, 6), "17 tokens, which are no grid of square patches of 8 x 12"),
        ((2, 6), "not one map"),
        ((3, 4, 4, 6), "not one"),
    ],
)
def test_what_has_no_map_is_refused_with_the_reason(shape, reason):
    with pytest.raises(UnsupportedError, match=reason):
        layout_of(torch.zeros(shape), torch.zeros(2, 1, 8, 12))


def test_several_layers_cost_one_pass_and_are_cut_at_the_first():
    model, x = network(DenseHead), samples(DenseHead)
    names = ["features.0", "features.1", "features"]
    found = explain(model, x, ["layer_cam", "grad_cam"], layer=names, target=2)
    assert found["layer_cam"].passes | found["grad_cam"].passes == {"forward": 0, "backward": 0, "head": 0, "tail": 0}
    assert sum(e.passes["head"] for e in found.values()) == 1
    assert found["layer_cam"].layer == "features.0, features.1, features"
    singles = [explain(model, x, ["layer_cam"], layer=name, target=2)["layer_cam"].raw.clamp(min=0) for name in names]
    shares = [m / m.amax((1, 2), keepdim=True).clamp(min=1e-300) for m in singles]
    fused = [torch.tanh(2 * m) for m in shares[:-1]] + shares[-1:]
    enlarged = [nn.functional.interpolate(m[:, None], (8, 8), mode="bilinear", align_corners=False)[:, 0] for m in fused]
    torch.testing.assert_close(found["layer_cam"].map(), torch.stack(enlarged).amax(0), rtol=0, atol=1e-12)
    alone = explain(model, x, ["grad_cam"], layer="features", target=2)["grad_cam"]
    torch.testing.assert_close(found["grad_cam"].raw, alone.raw, rtol=0, atol=1e-12)


@pytest.mark.parametrize("name", [n for n in METHODS.names() if METHODS[n].family in ("gradient", "activation")])
def test_memory_that_runs_out_halves_the_batch(name):
    """The same answer, in smaller batches, where the network fails above two rows."""

    class Small(GapLinear):
        def forward(self, x):
            if len(x) > 2:
                raise torch.OutOfMemoryError("too much")
            return super().forward(x)

    options = {"expected_gradients": {"references": samples(GapLinear, 4, 7)}, "guided_ig": {"steps": 3}}.get(name, {})
    if name == "libra_cam":
        pytest.skip("its library is tested with it")
    x = samples(GapLinear, 5)
    small = Small().double()
    small.load_state_dict(network(GapLinear).state_dict())
    found = explain(small, x, {name: options}, target=1, layer="features", seed=3)[name]
    expected = explain(network(GapLinear), x, {name: options}, target=1, layer="features", seed=3)[name]
    torch.testing.assert_close(found.relevance, expected.relevance, rtol=0, atol=1e-9)


@pytest.mark.filterwarnings("ignore")  # torch calls scripting deprecated
def test_scripted_parts_are_run_and_not_looked_into():
    class Half(DenseHead):
        def __init__(self):
            super().__init__()
            self.first = torch.jit.script(nn.Conv2d(1, 1, 3, padding=1))

        def forward(self, x):
            return super().forward(self.first(x))

    model, x = network(Half), samples(DenseHead)
    asked = ["grad_cam", "ablation_cam", "gradient"]
    found = explain(model, x, asked)
    assert found["grad_cam"].layer == "features"
    replaced = network(DenseHead)
    replaced.load_state_dict({k: v for k, v in model.state_dict().items() if not k.startswith("first")})
    with torch.no_grad():
        inner = model.first(x)
    for name in asked[:2]:
        expected = explain(replaced, inner, [name], layer="features")[name]
        torch.testing.assert_close(found[name].raw, expected.raw, rtol=0, atol=1e-9)
    whole = torch.jit.script(network(DenseHead))
    assert explain(whole, x, ["gradient"])["gradient"].relevance.shape == x.shape
    for scripted, layer in ((model, "first"), (whole, "features"), (whole, None)):
        with pytest.raises(UnsupportedError, match="scripted layer|no layer keeps"):
            explain(scripted, x, ["grad_cam"], layer=layer)

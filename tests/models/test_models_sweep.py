"""What holds for every model in the table, so that a new file is tested by being there."""

import inspect

import pytest
import torch
from torch import nn

from pellucid.core.table import MODELS
from pellucid.models.building import build

NAMES = MODELS.names()


def example(name):
    entry = MODELS[name]
    shape = entry.facts["input"]
    generator = torch.Generator().manual_seed(0)
    model = build(name, input_shape=shape, outputs=entry.facts["outputs"]).double().eval()
    return model, torch.rand(3, *shape, generator=generator, dtype=torch.float64), entry.facts["outputs"]


@pytest.mark.parametrize("name", NAMES)
def test_logits_have_a_row_per_sample_and_do_not_depend_on_the_batch(name):
    """F15: finite logits (B, K); a batch equals one by one at 1e-9; the input is left alone."""
    model, x, outputs = example(name)
    before = x.clone()
    with torch.no_grad():
        together = model(x)
        alone = torch.cat([model(row[None]) for row in x])
    assert together.shape == (3, outputs)
    assert bool(torch.isfinite(together).all())
    assert (together - alone).abs().max() < 1e-9
    assert torch.equal(x, before)


@pytest.mark.parametrize("name", NAMES)
def test_the_gradient_equals_finite_differences(name):
    """F15: along a random direction of all the weights, central differences in float64."""
    model, x, _ = example(name)
    weights = list(model.parameters())
    model(x).sin().sum().backward()
    generator = torch.Generator().manual_seed(1)
    direction = [torch.randn(w.shape, generator=generator, dtype=w.dtype) for w in weights]
    slope = sum((w.grad * d).sum() for w, d in zip(weights, direction, strict=True)).item()
    values = []
    with torch.no_grad():
        for step in (1e-6, -2e-6):  # to +h, then to -h
            for w, d in zip(weights, direction, strict=True):
                w += step * d
            values.append(model(x).sin().sum().item())
    # The difference quotient has an error of h^2 and of 1e-16 / h, both below 1e-6 of a slope of this size.
    assert (values[0] - values[1]) / 2e-6 == pytest.approx(slope, rel=1e-5, abs=1e-5)


@pytest.mark.parametrize("name", NAMES)
def test_every_activation_is_a_module_of_its_own_that_is_called_once(name):
    """Each leaf runs exactly once per pass and none works in place, as explanation methods like it best."""
    model, x, _ = example(name)
    calls = []
    leaves = [m for m in model.modules() if not list(m.children())]
    for leaf in leaves:
        leaf.register_forward_hook(lambda module, *_: calls.append(module))
    with torch.no_grad():
        model(x)
    assert len(calls) == len(leaves) == len(set(calls))
    assert not any(getattr(leaf, "inplace", False) for leaf in leaves)
    assert isinstance(model.features, nn.Module)
    assert isinstance(model.head, nn.Module)


@pytest.mark.parametrize("name", NAMES)
def test_a_model_states_its_paper_and_its_arguments_have_plain_defaults(name):
    entry = MODELS[name]
    assert entry.facts["paper"]
    assert entry.summary
    for parameter in inspect.signature(entry.value).parameters.values():
        assert isinstance(parameter.default, int | float | str | tuple), parameter.name
    entry.value()

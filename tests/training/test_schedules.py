import math

import pytest
import torch

from pellucid.core.errors import InputError
from pellucid.core.table import SCHEDULES
from pellucid.training.schedules import schedule


def torchs(make, steps):
    """The factors of one of torch's own schedulers."""
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    scheduler = make(optimizer)
    factors = []
    for _ in range(steps):
        factors.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        if len(factors) < steps:
            scheduler.step()
    return factors


@pytest.mark.parametrize("steps", [10, 97, 1000])
def test_one_cycle_equals_torchs(steps):
    expected = torchs(lambda o: torch.optim.lr_scheduler.OneCycleLR(o, 1.0, steps, cycle_momentum=False), steps)
    factor = schedule("one_cycle", steps)
    assert [factor(i) for i in range(steps)] == pytest.approx(expected, abs=1e-12)


def test_cosine_equals_torchs():
    expected = torchs(lambda o: torch.optim.lr_scheduler.CosineAnnealingLR(o, 50, eta_min=0.1), 50)
    factor = schedule("cosine", 50, {"end": 0.1})
    assert [factor(i) for i in range(50)] == pytest.approx(expected, abs=1e-12)


def test_exponential_equals_torchs():
    expected = torchs(lambda o: torch.optim.lr_scheduler.ExponentialLR(o, 0.01 ** (1 / 40)), 40)
    factor = schedule("exponential", 40)
    assert [factor(i) for i in range(40)] == pytest.approx(expected, abs=1e-12)


def test_step_drops_at_its_fractions():
    factor = schedule("step", 8, {"drops": [0.5, 0.75], "factor": 0.1})
    assert [factor(i) for i in range(8)] == pytest.approx([1, 1, 1, 1, 0.1, 0.1, 0.01, 0.01], abs=1e-12)


def test_warmup_linear_rises_and_falls():
    factor = schedule("warmup_linear", 10, {"warmup": 0.2})
    assert [factor(i) for i in range(10)] == pytest.approx([0.5, 1.0, *(i / 8 for i in range(8, 0, -1))], abs=1e-12)


@pytest.mark.parametrize("entry", list(SCHEDULES), ids=lambda e: e.name)
@pytest.mark.parametrize("steps", [1, 2, 3, 7, 100])
def test_every_schedule_is_a_pure_function_between_0_and_1(entry, steps):
    factor = schedule(entry.name, steps)
    values = [factor(i) for i in range(steps)]
    assert all(math.isfinite(v) and 0 <= v <= 1 for v in values)
    assert values == [schedule(entry.name, steps)(i) for i in range(steps)]
    assert max(values) > 0
    assert entry.summary


def test_constant_is_constant_and_a_function_is_itself():
    assert [schedule("constant", 5)(i) for i in range(5)] == [1.0] * 5
    assert schedule(abs, 5) is abs


@pytest.mark.parametrize(
    ("name", "options", "words"),
    [
        ("cosin", {}, "Did you mean 'cosine'"),
        ("cosine", {"ends": 0.1}, "Did you mean 'end'"),
        ("one_cycle", {"warmup": 1.5}, "warmup is 1.5"),
        ("exponential", {"end": 0}, "end is 0"),
        ("step", {"drops": [0.5, 30]}, "drops is 30"),
        ("step", {"drops": 0.5}, "drops is 0.5"),
        ("step", {"factor": -1}, "factor is -1"),
    ],
)
def test_wrong_options(name, options, words):
    with pytest.raises(InputError, match=words) as caught:
        schedule(name, 10, options)
    assert caught.value.cure

"""The table, the checks, the seeds, the batches that fit, the errors."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from pellucid.core import checks, devices, seeds
from pellucid.core.errors import InputError, PellucidError, UnsupportedError, nearest
from pellucid.core.table import LISTED, Table


def test_an_error_says_what_where_and_how_to_cure():
    error = InputError("no column 'ages'", where="measurements.csv, line 1", cure="Did you mean 'age'?")
    assert str(error) == "no column 'ages' (measurements.csv, line 1). Did you mean 'age'?"
    assert (PellucidError.exit_code, InputError.exit_code, UnsupportedError.exit_code) == (1, 2, 2)
    assert isinstance(error, ValueError)


def test_nearest_names_the_closest_or_lists_what_there_is():
    assert nearest("Adamw", ["SGD", "AdamW"]) == "Did you mean 'AdamW'?"
    assert nearest("zzz", ["SGD", "AdamW"]) == "Known: AdamW, SGD."
    assert "nothing" in nearest("x", [])


def test_table():
    table: Table = Table("part")

    @table.add("family", fact=1)
    def part(x, *, steps=3):
        """What it does.

        More.
        """

    @table.add("other")
    class Thing:
        """A thing."""

        def __init__(self, size=1):
            pass

    assert table.names() == ["part", "thing"]
    assert table.names("other") == ["thing"]
    assert table.families() == ["family", "other"]
    assert (table["part"].summary, table["part"].facts["fact"]) == ("What it does", 1)
    assert list(table["part"].options()) == ["steps"]
    assert list(table["thing"].options()) == ["size"]
    file, line = table["part"].where.split(":")
    assert file == __file__
    assert "table.add" in Path(file).read_text(encoding="utf-8").splitlines()[int(line) - 1]
    with pytest.raises(InputError, match="no part 'prat'. Did you mean 'part'"):
        table["prat"]
    with pytest.raises(InputError, match=r"'part' has no option 'stepz' \(study.yaml, line 3\). Did you mean 'steps'"):
        table["part"].check_options({"stepz": 1}, where="study.yaml, line 3")


def test_two_parts_of_one_name_are_refused():
    table: Table = Table("part")
    table.add("a")(len)
    with pytest.raises(ValueError, match="two entries named 'len'"):
        table.add("a", name="len")(checks.count)


@pytest.mark.parametrize("kind", LISTED)
def test_the_tables_fill_themselves(kind):
    assert len(LISTED[kind]) > 0


def test_seeds_differ_by_every_part_of_the_path_and_repeat():
    assert seeds.derive(0, "noise", 1) == seeds.derive(0, "noise", 1)
    paths = [(0,), (1,), (0, "a"), (0, "b"), (0, "a", 1), (0, "a1"), (0, 1), (0, "1"), (0, 1, "a")]
    assert len({seeds.derive(*p) for p in paths}) == len(paths)
    a, b = (torch.randn(3, generator=seeds.generator(5, "x")) for _ in range(2))
    assert torch.equal(a, b)


def test_scoped_seed_leaves_the_global_generator_alone():
    before = torch.get_rng_state()
    with seeds.scoped(1, "init"):
        first = torch.nn.Linear(3, 3).weight
    assert torch.equal(before, torch.get_rng_state())
    with seeds.scoped(1, "init"):
        assert torch.equal(first, torch.nn.Linear(3, 3).weight)
    with pytest.raises(ArithmeticError), seeds.scoped(1):
        raise ArithmeticError
    assert torch.equal(before, torch.get_rng_state())


@pytest.mark.parametrize(
    ("check", "good", "bad"),
    [
        (lambda v: checks.count("steps", v), [1, 7], [0, -1, 1.5, True, "3", None]),
        (lambda v: checks.positive("lr", v), [1, 0.1], [0, -1, float("nan"), float("inf"), "1", True]),
        (lambda v: checks.positive("noise", v, zero=True), [0, 0.1], [-1e-9]),
        (lambda v: checks.fraction("test", v), [0, 0.5, 1], [-0.1, 1.1, "a", True]),
        (lambda v: checks.fraction("test", v, ends=False), [0.5], [0, 1]),
        (lambda v: checks.one_of("form", v, ["relu", "1998"]), ["relu"], ["rellu", None]),
    ],
)
def test_checks(check, good, bad):
    for value in good:
        assert check(value) == value
    for value in bad:
        with pytest.raises(InputError, match=r" is .*\. "):
            check(value)


def test_numpy_numbers_are_numbers():
    assert checks.count("samples", np.int64(3)) == 3
    assert checks.positive("noise", np.float32(0.5)) == 0.5


def test_more_checks(tmp_path):
    with pytest.raises(InputError, match="sample 2, position"):
        checks.finite("x", torch.tensor([[0.0], [1.0], [torch.inf]]))
    with pytest.raises(InputError, match="a 2, b 3"):
        checks.same_length(a=[1, 2], b=[1, 2, 3])
    (tmp_path / "measurements.csv").touch()
    with pytest.raises(InputError, match=r"Did you mean 'measurements.csv'"):
        checks.existing(tmp_path / "measurement.csv")
    with pytest.raises(InputError, match="no folder"):
        checks.existing(tmp_path / "measurements.csv", kind="folder")


def cpu_out_of_memory(message):
    return RuntimeError(f"[enforce fail] DefaultCPUAllocator: can't allocate memory: {message}")


@pytest.mark.parametrize("error", [torch.OutOfMemoryError, MemoryError, cpu_out_of_memory])
def test_batches_are_halved_when_memory_runs_out(error):
    done, tried = [], []

    def run(start, stop):
        tried.append(stop - start)
        if stop - start > 3:
            raise error("too much")
        done.extend(range(start, stop))
        return stop - start

    assert [rows for _, rows in devices.halving(10, 8, run)] == [2, 2, 2, 2, 2]
    assert done == list(range(10))
    assert tried == [8, 4, 2, 2, 2, 2, 2]
    with pytest.raises(torch.OutOfMemoryError):
        list(devices.halving(2, 2, lambda a, b: (_ for _ in ()).throw(torch.OutOfMemoryError("never fits"))))
    with pytest.raises(RuntimeError, match="something else"):
        list(devices.halving(2, 2, lambda a, b: (_ for _ in ()).throw(RuntimeError("something else"))))


def test_devices():
    assert devices.pick("cpu") == torch.device("cpu")
    with pytest.raises(InputError, match="device 'nowhere' is not available"):
        devices.pick("nowhere")
    assert (
        1
        <= devices.rows_that_fit(torch.zeros(3, 1000, 1000))
        < devices.rows_that_fit(torch.zeros(3, 10, 10))
        <= devices.MOST_ROWS
    )
    with devices.autocast(torch.device("cpu"), "bfloat16"):
        assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == torch.bfloat16
    with pytest.raises(InputError, match="precision is 'half'"):
        devices.autocast(torch.device("cpu"), "half")

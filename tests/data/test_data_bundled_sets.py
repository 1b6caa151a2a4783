"""The bundled sets: what is stated about them holds; the IDX format and its faults."""

from __future__ import annotations

import gzip
import json

import numpy as np
import pytest
import torch

from pellucid.core.errors import InputError
from pellucid.core.table import DATA
from pellucid.data import bundled_sets
from pellucid.data.bundled_sets import BUNDLED, fashion_mnist, fashion_mnist_full
from pellucid.data.idx import read_idx, write_idx
from pellucid.data.preparation import preparation_from_json
from pellucid.data.reading import read

NO_PATH = ["fashion_mnist", "splice_junctions", "iris", "wine", "breast_cancer", "diabetes", "digits"]


@pytest.mark.parametrize("name", NO_PATH)
def test_contract_of_every_set(name):
    """Reads twice the same; prepared on training rows; batch equals one by one; JSON exact; source and licence stated."""
    data, again = read(name), read(name)
    assert data.reader == name
    assert data.fingerprint() == again.fingerprint()
    assert data.source
    assert data.licence
    made = data.split()
    assert sum(map(len, (made.train, made.validation, made.test))) == len(data) == len(data.y) == len(data.names)
    data.fit(made.train)
    rows = made.test[:7]
    x, y = data.batch(rows)
    assert x.dtype == torch.float32
    assert x.shape == (7, *data.input_shape)
    assert torch.isfinite(x).all()
    assert torch.equal(x, torch.cat([data.batch(rows[i : i + 1])[0] for i in range(7)]))
    assert torch.equal(y, data.y[torch.from_numpy(rows)])
    if name != "splice_junctions":
        assert torch.equal(data.tensors(rows)[0], x)
    restored = preparation_from_json(json.loads(json.dumps(data.preparation.to_json())))
    assert torch.equal(restored.apply(data.rows.take(rows)), x)
    assert data.fits_in_memory()
    assert {"kind", "task", "rows", "prepared shape", "source", "licence", "repeated rows"} <= dict(data.summary()).keys()


def test_facts_of_the_sets():
    wanted = {
        "fashion_mnist": ("image", "classification", 12_000, (1, 28, 28), 10),
        "splice_junctions": ("dna", "classification", 3186, (4, 60), 3),
        "iris": ("table", "classification", 150, (4,), 3),
        "wine": ("table", "classification", 178, (13,), 3),
        "breast_cancer": ("table", "classification", 569, (30,), 2),
        "diabetes": ("table", "regression", 442, (10,), 0),
        "digits": ("image", "classification", 1797, (1, 8, 8), 10),
    }
    for name, facts in wanted.items():
        data = read(name).fit()
        assert (data.kind, data.task, len(data), data.input_shape, len(data.classes)) == facts
        assert data.notes == []
        assert DATA[name].facts["kind"] == data.kind


def test_fashion_mnist_is_balanced_and_has_fixed_parts():
    data = fashion_mnist()
    assert {k: len(v) for k, v in data.parts.items()} == {"train": 10_000, "test": 2_000}
    assert torch.bincount(data.y[:10_000]).tolist() == [1000] * 10
    assert torch.bincount(data.y[10_000:]).tolist() == [200] * 10
    assert data.raw([0]).dtype == np.uint8
    made = data.split()
    assert (len(made.train), len(made.validation)) == (9_000, 1_000)
    assert np.array_equal(made.test, np.arange(10_000, 12_000))


def test_licences_lie_beside_the_data():
    text = (BUNDLED / "LICENCES.md").read_text(encoding="utf-8")
    for word in ["MIT", "Zalando", "CC BY 4.0", "Splice-junction", "permission notice"]:
        assert word in text
    assert sum(f.stat().st_size for f in BUNDLED.iterdir()) < 6e6


def test_the_whole_of_fashion_mnist_or_a_cure(tmp_path, monkeypatch):
    monkeypatch.setattr(bundled_sets, "DEBIAN", tmp_path / "nothing")
    with pytest.raises(InputError, match=r"no folder '.*nothing'.*apt-get install dataset-fashion-mnist"):
        fashion_mnist_full()
    with pytest.raises(InputError, match=r"no file '.*train-images-idx3-ubyte'"):
        fashion_mnist_full(tmp_path)
    rng = np.random.default_rng(0)
    for part, n in {"train": 30, "t10k": 10}.items():
        write_idx(tmp_path / f"{part}-images-idx3-ubyte", rng.integers(0, 256, (n, 28, 28)))
        write_idx(tmp_path / f"{part}-labels-idx1-ubyte.gz", np.arange(n) % 10)
    data = read("fashion_mnist_full", tmp_path)
    assert len(data) == 40
    assert data.options == {"path": str(tmp_path)}
    write_idx(tmp_path / "t10k-labels-idx1-ubyte.gz", np.arange(9))
    with pytest.raises(InputError, match=r"the t10k files are not Fashion-MNIST .*Fetch the files again"):
        fashion_mnist_full(tmp_path)


@pytest.mark.parametrize("name", ["a-ubyte", "a-ubyte.gz"])
def test_idx_round_trip(tmp_path, name):
    values = np.random.default_rng(0).integers(0, 256, (3, 4, 5), dtype=np.uint8)
    write_idx(tmp_path / name, values)
    np.testing.assert_array_equal(read_idx(tmp_path / name), values)
    first = (tmp_path / name).read_bytes()
    write_idx(tmp_path / name, values)
    assert (tmp_path / name).read_bytes() == first


def test_idx_of_floats_in_big_endian(tmp_path):
    values = np.linspace(-1, 1, 6).reshape(2, 3)
    (tmp_path / "f").write_bytes(bytes([0, 0, 0x0E, 2, 0, 0, 0, 2, 0, 0, 0, 3]) + values.astype(">f8").tobytes())
    np.testing.assert_array_equal(read_idx(tmp_path / "f"), values)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is not an IDX file"),
        (b"PNG and more", r"is not an IDX file \(first bytes 50 4e 47 20\)"),
        (bytes([0, 0, 8, 1, 0, 0, 0, 9, 1]), r"has 9 bytes where its header \(9,\) needs 17"),
        (bytes([0, 0, 8, 1, 0, 0, 0, 1, 1, 2]), "has 10 bytes where"),
        (bytes([0, 0, 8, 3, 0, 0, 0, 1]), "where its header"),
        (gzip.compress(bytes(100), mtime=0)[:-9], "damaged gzip file"),
    ],
)
def test_idx_faults(tmp_path, content, message):
    (tmp_path / "x").write_bytes(content)
    with pytest.raises(InputError, match=message):
        read_idx(tmp_path / "x")

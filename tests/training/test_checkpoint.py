import json
import os
import pickle

import pytest
import safetensors.torch
import torch
from small_training import network, same
from torch import nn

from pellucid.core.errors import InputError, PellucidError
from pellucid.training import checkpoint
from pellucid.training.checkpoint import Checkpoint, load_weights, pack, save_weights, unpack, write_atomically


class Tied(nn.Module):
    """Two names for one tensor, a buffer, a scalar and half precision."""

    def __init__(self):
        super().__init__()
        self.a = nn.Linear(3, 3)
        self.b = nn.Linear(3, 3)
        self.b.weight = self.a.weight
        self.register_buffer("count", torch.tensor(7))
        self.register_buffer("short", torch.ones(2, dtype=torch.bfloat16))


def test_weights_come_back_with_their_metadata(tmp_path):
    path = tmp_path / "run" / "model.safetensors"
    first, second = network(0), network(1)
    save_weights(path, first, {"epoch": 3, "classes": ["é", "b"]})
    assert load_weights(path, second) == {"epoch": 3, "classes": ["é", "b"]}
    assert same(first, second)
    assert safetensors.torch.load_file(path).keys() == first.state_dict().keys()
    assert os.listdir(path.parent) == ["model.safetensors"]


def test_same_weights_same_file(tmp_path):
    save_weights(tmp_path / "a", network(), {"x": 1})
    save_weights(tmp_path / "b", network(), {"x": 1})
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_tied_and_small_tensors(tmp_path):
    first, second = Tied(), Tied()
    with torch.no_grad():
        first.count.add_(1)
        first.short.mul_(0.5)
    save_weights(tmp_path / "m", first)
    load_weights(tmp_path / "m", second)
    assert same(first, second)
    assert second.b.weight is second.a.weight


def test_float64_weights_turn_the_model_to_float64(tmp_path):
    first, second = network(0).double(), network(1)
    save_weights(tmp_path / "m", first)
    load_weights(tmp_path / "m", second)
    assert second[0].weight.dtype == torch.float64
    assert same(first, second)


def test_checkpoint_keeps_what_is_no_tensor_too(tmp_path):
    states = [{0: {"step": torch.tensor(4.0), "buffer": torch.ones(2)}, 3: {"buffer": None, "rate": 0.1}}, {}]
    made = Checkpoint({"w": torch.zeros(2)}, {"w": torch.ones(2)}, states, {"place": {"epoch": 1}})
    made.save(tmp_path / "c")
    found = Checkpoint.load(tmp_path / "c")
    assert found.facts == made.facts
    assert torch.equal(found.best["w"], torch.ones(2))
    assert torch.equal(found.weights["w"], torch.zeros(2))
    assert found.optimizers[1] == {}
    assert found.optimizers[0][3] == {"buffer": None, "rate": 0.1}
    assert torch.equal(found.optimizers[0][0]["buffer"], torch.ones(2))
    assert found.optimizers[0][0]["step"].shape == ()


class Dangerous:
    def __reduce__(self):
        return (os.mkdir, ("was-executed",))


def spoilt(path, how):
    """Write a file that must be refused."""
    good = path.read_bytes()
    size = int.from_bytes(good[:8], "little")
    if how == "pickle":
        content = pickle.dumps(Dangerous())
    elif how == "torch.save":
        torch.save({"a": torch.ones(2)}, path)
        return
    elif how == "text":
        content = b"epoch,loss\n1,0.5\n"
    elif how == "empty":
        content = b""
    elif how == "short":
        content = good[:-10]
    elif how == "header cut":
        content = good[:60]
    elif how == "one bit":
        content = good[:-5] + bytes([good[-5] ^ 1]) + good[-4:]
    elif how == "longer":
        content = good + b"\0"
    elif how == "fact":
        content = good.replace(rb"\"epoch\": 3", rb"\"epoch\": 4")
        assert content != good
    elif how == "name":
        content = good.replace(b'"0.bias"', b'"9.bias"')
        assert content != good
    elif how == "header":
        content = good[:9] + b"}" + good[10:]
    elif how == "foreign":
        content = safetensors.torch.save({"a": torch.ones(2)})
    elif how == "newer":
        content = good.replace(rb"\"version\": 1", rb"\"version\": 2")
        assert content != good
    assert size
    path.write_bytes(content)


@pytest.mark.parametrize(
    ("how", "what", "cure"),
    [
        ("pickle", "is a pickle", "Pickles are never loaded"),
        ("torch.save", "is a pickle", "safetensors.torch.save_file"),
        ("text", "not a safetensors file", "Pickles are never loaded"),
        ("empty", "is empty", "train again"),
        ("short", "is truncated", "train again"),
        ("header cut", "is truncated", "train again"),
        ("one bit", "was changed after it was written", "earlier copy"),
        ("longer", "was changed after it was written", "earlier copy"),
        ("fact", "was changed after it was written", "earlier copy"),
        ("name", "was changed after it was written", "earlier copy"),
        ("header", "header cannot be read", "earlier copy"),
        ("foreign", "no Pellucid record", "load_file"),
        ("newer", "format version 2, this Pellucid reads up to 1", "newer Pellucid"),
    ],
)
def test_spoilt_files_are_refused(how, what, cure, tmp_path, monkeypatch):
    """L3: one clear message, nothing executed, the file and the model as they were."""
    monkeypatch.chdir(tmp_path)
    path, model = tmp_path / "model.safetensors", network(1)
    save_weights(path, network(0), {"epoch": 3})
    spoilt(path, how)
    content = path.read_bytes()
    with pytest.raises(InputError, match=what) as caught:
        load_weights(path, model)
    assert str(path) in str(caught.value)
    assert cure in caught.value.cure
    assert path.read_bytes() == content
    assert same(model, network(1))
    assert os.listdir(tmp_path) == ["model.safetensors"]


def test_missing_file_names_the_nearest(tmp_path):
    save_weights(tmp_path / "model.safetensors", network())
    with pytest.raises(InputError, match=r"Did you mean 'model\.safetensors'"):
        load_weights(tmp_path / "modle.safetensors", network())


def test_one_kind_is_not_the_other(tmp_path):
    save_weights(tmp_path / "m", network())
    Checkpoint({}, None, []).save(tmp_path / "c")
    with pytest.raises(InputError, match="not a checkpoint"):
        Checkpoint.load(tmp_path / "m")
    with pytest.raises(InputError, match="holds a checkpoint, not plain weights"):
        load_weights(tmp_path / "c", network())


@pytest.mark.parametrize(
    ("other", "words"),
    [
        (
            lambda: nn.Sequential(nn.Linear(10, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.ReLU(), nn.Linear(16, 4)),
            "tensor '4.weight'",
        ),
        (lambda: nn.Sequential(nn.Linear(10, 16), nn.Linear(16, 3)), "tensor '1.weight' is"),
        (lambda: nn.Sequential(nn.Linear(10, 16), nn.BatchNorm1d(16)), "has a tensor '4.bias' that the model lacks"),
        (lambda: nn.Sequential(*network(), nn.Linear(3, 3)), "has no tensor '5.weight' that the model has"),
    ],
)
def test_other_models_are_refused_naming_the_first_tensor(other, words, tmp_path):
    path = tmp_path / "m"
    save_weights(path, network())
    model = other()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    with pytest.raises(InputError, match=words):
        load_weights(path, model)
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())


def test_shapes_are_named(tmp_path):
    save_weights(tmp_path / "m", nn.Linear(3, 4))
    with pytest.raises(InputError, match=r"tensor 'weight' is \(4, 3\) in the file and \(4, 5\) in the model"):
        load_weights(tmp_path / "m", nn.Linear(5, 4))


def test_a_failed_write_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "m"
    save_weights(path, network(0))
    before = path.read_bytes()

    def full(number):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(checkpoint.os, "fsync", full)
    with pytest.raises(PellucidError, match="No space left") as caught:
        save_weights(path, network(1))
    assert not isinstance(caught.value, InputError)
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == ["m"]


def test_unwritable_places(tmp_path, monkeypatch):
    with pytest.raises(InputError, match="is a folder"):
        write_atomically(tmp_path, b"")
    (tmp_path / "file").write_text("mine")
    with pytest.raises(InputError, match="cannot make the folder"):
        write_atomically(tmp_path / "file" / "m", b"")
    monkeypatch.setattr(checkpoint.os, "access", lambda path, mode: False)
    with pytest.raises(InputError, match="cannot be written"):
        write_atomically(tmp_path / "m", b"")
    assert sorted(os.listdir(tmp_path)) == ["file"]


def test_state_that_is_no_tensor_is_refused():
    with pytest.raises(InputError, match="'extra' in the model's state is a dict"):
        pack({"extra": {"a": 1}}, {})


def test_digest_covers_every_byte(tmp_path):
    """Flip each byte of a small file: never the same content without a complaint."""
    path = tmp_path / "m"
    content = pack({"w": torch.arange(3.0)}, {"kind": "weights"})
    path.write_bytes(content)
    unpack(path)
    assert json.loads(json.dumps(unpack(path)[1])) == {"kind": "weights"}
    for at in range(len(content)):
        path.write_bytes(content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :])
        with pytest.raises(InputError):
            unpack(path)

"""Any function of strings, explained word by word (X2, L7)."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from pellucid import Texts, explain, lime
from pellucid.core.errors import InputError

WEIGHTS = {"good": 2.0, "awful": -3.0, "not": -0.5}


def predict(texts: list[str]) -> torch.Tensor:
    """Points for words; "not good" turns the good round."""
    scores = [sum(WEIGHTS.get(w.strip(".,!").lower(), 0.0) for w in t.split()) - 4.0 * ("not good" in t) for t in texts]
    return torch.tensor(np.array([[0.0, s] for s in scores]))


def test_words_of_an_additive_function_get_their_points():
    texts = Texts(["A good film, truly good!", "awful."])
    assert texts.pieces == [["A", " good", " film", ",", " truly", " good", "!"], ["awful", "."]]
    found = explain(texts.model(predict), texts.x, {"lime": {"penalty": 0.0}, "kernel_shap": {}, "occlusion": {}}, target=1)
    expected = torch.zeros(2, 7, dtype=torch.float64)
    expected[0, [1, 5]], expected[1, 0] = 2.0, -3.0
    for e in found.values():
        torch.testing.assert_close(e.relevance, expected, rtol=0, atol=1e-9)
    assert found["lime"].details["r2"].min() > 1 - 1e-9


def test_two_words_that_need_each_other_share():
    texts = Texts(["It is not good"])
    e = explain(texts.model(predict), texts.x, ["shapley"], target=1)["shapley"]
    torch.testing.assert_close(e.relevance[0], torch.tensor([0.0, 0.0, -2.5, 0.0], dtype=torch.float64), rtol=0, atol=1e-12)


def test_a_text_is_put_together_again():
    texts = Texts(["  Don't go, well-known Zoë!", "x"], hidden="_")
    assert texts.joined(texts.x[0].tolist()) == "  Don't go, well-known Zoë!"
    assert texts.joined(texts.x[1].tolist()) == "x"
    row = texts.x[0].tolist()
    row[1] = 0
    assert texts.joined(row) == "  Don't _, well-known Zoë!"
    plain = Texts(['see "here" now'])
    assert plain.joined([1, 0, 3, 0, 0]) == "see here"
    assert Texts(["ab"], by="characters").pieces == [["a", "b"]]


def test_a_long_text_is_sampled_and_the_same_every_time():
    words = ["good" if i % 7 == 0 else f"w{i}" for i in range(40)]
    texts = Texts([" ".join(words), "good day"])
    a, b = (lime(texts.model(predict), texts.x, target=1, samples=400, seed=seed) for seed in (1, 1))
    assert torch.equal(a.relevance, b.relevance)
    best = a.relevance[0].topk(6).indices.tolist()
    assert set(best) == {i for i in range(40) if i % 7 == 0}
    assert a.relevance[1, 2:].abs().max() == 0


def test_texts_can_be_shown_and_bad_ones_are_named():
    texts = Texts(["A good film", "awful."])
    e = lime(texts.model(predict), texts.x, target=1)
    assert texts.show(e).axes is not None
    with pytest.raises(InputError, match="relevance of shape"):
        Texts(["other"]).show(e)
    with pytest.raises(InputError, match="no list of strings"):
        Texts("a text")
    with pytest.raises(InputError, match=r"without words \(text 1\)"):
        Texts(["a", " "])

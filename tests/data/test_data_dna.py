"""L2, DNA: letters to bases, ambiguous letters, refusals that name the place; the bundled splice junctions."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from pellucid.core.errors import InputError
from pellucid.data.bundled_sets import splice_junctions
from pellucid.data.dna import IUPAC, DnaPreparation, letters
from pellucid.data.preparation import preparation_from_json


def test_one_hot_in_the_order_acgt():
    x = DnaPreparation(4).apply(letters(["ACGT", "ttUu"]))
    assert x.dtype == torch.float32
    assert torch.equal(x[0], torch.eye(4))
    assert torch.equal(x[1], torch.eye(4)[:, 3:].expand(4, 4))


def test_ambiguous_letters_share_their_probability():
    x = DnaPreparation(len(IUPAC)).apply(letters(["".join(IUPAC)]))[0]
    assert torch.allclose(x.sum(0), torch.ones(len(IUPAC)))
    for position, bases in enumerate(IUPAC.values()):
        assert {"ACGT"[i] for i in x[:, position].nonzero().flatten()} == set(bases)
    assert x[:, list(IUPAC).index("R")].tolist() == [0.5, 0, 0.5, 0]
    assert x[:, list(IUPAC).index("N")].tolist() == [0.25] * 4


@pytest.mark.parametrize(
    ("sequences", "names", "message"),
    [
        (["ACGT", "AXGT"], None, r"'X' is not a base \(sequence 2, position 2\)\. Known: A C G T U"),
        (["ACG-"], ["gene 7"], r"'-' is not a base \(gene 7, position 4\)"),
        (["ACGT", "ACG"], None, r"3 bases instead of 4 \(sequence 2\)"),
        (["ACGé"], None, r"not a base \(sequence 1, position 4\)"),
        ([], None, "no sequences"),
        ([""], None, "an empty sequence"),
    ],
)
def test_other_letters_and_lengths_are_refused(sequences, names, message):
    with pytest.raises(InputError, match=message):
        letters(sequences, names)


def test_apply_checks_what_it_is_given():
    with pytest.raises(InputError, match="not letter codes of length 4"):
        DnaPreparation(4).apply(np.zeros((2, 5), np.uint8))
    with pytest.raises(InputError, match=r"is not a base \(sequence 2, position 1\)"):
        DnaPreparation(2).apply(np.frombuffer(b"AC!C", np.uint8).reshape(2, 2))


def test_new_files(tmp_path):
    (tmp_path / "a.fasta").write_text(">one first\nAC\nGT\n\n>two\nNNNN\n")
    (tmp_path / "b.txt").write_text("ACGT\n\ntttt\n")
    preparation = DnaPreparation(4)
    raw, names = preparation.read([tmp_path / "a.fasta", tmp_path / "b.txt"])
    assert names == ["one first", "two", "b.txt line 1", "b.txt line 3"]
    assert preparation.show(raw) == ["ACGT", "NNNN", "ACGT", "TTTT"]
    with pytest.raises(InputError, match=r"4 bases, where the model takes 5 \(one first\)"):
        DnaPreparation(5).read([tmp_path / "a.fasta"])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"\xff\xfe", "not plain text .byte 0"),
        (b"\n\n", "holds no sequence"),
        (b"AC\n>x\nAC\n", "letters before its first '>' line .line 1"),
    ],
)
def test_files_without_sequences(tmp_path, content, message):
    (tmp_path / "a.fa").write_bytes(content)
    with pytest.raises(InputError, match=message):
        DnaPreparation(2).read([tmp_path / "a.fa"])


def test_json():
    assert preparation_from_json(json.loads(json.dumps(DnaPreparation(60).to_json()))) == DnaPreparation(60)


@pytest.fixture(scope="module")
def splice():
    return splice_junctions()


def test_splice_junctions_are_the_known_set(splice):
    assert (len(splice), splice.kind, splice.classes, splice.input_shape) == (3186, "dna", ("ei", "ie", "n"), (4, 60))
    assert torch.bincount(splice.y).tolist() == [767, 765, 1654]
    assert splice.licence == "CC BY 4.0"


def test_the_letters_are_put_back_right(splice):
    """Biology: an intron begins with GT (position 30 and 31, from 0) and ends with AG (28 and 29)."""
    sequences = np.array([list(s) for s in splice.raw(np.arange(3186))])
    assert set(np.unique(sequences)) == set("ACGT")
    donor, acceptor = sequences[splice.y == 0], sequences[splice.y == 1]
    assert [(donor[:, 30] == "G").sum(), (donor[:, 31] == "T").sum()] == [766, 759]
    assert [(acceptor[:, 28] == "A").sum(), (acceptor[:, 29] == "G").sum()] == [762, 763]


def test_185_rows_repeat_another_and_are_kept_together(splice):
    assert len(splice) - len(np.unique(splice.identical())) == 185
    made = splice.split()
    assert "rows that are an exact repeat of another: 185" in made.notes[0]
    same = splice.identical()
    assert not set(same[made.test]) & set(same[made.train])
    assert not set(same[made.test]) & set(same[made.validation])
    assert ("repeated rows", "185 of 3,186 are an exact repeat of another row") in splice.summary()

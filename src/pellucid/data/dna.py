"""DNA as letters, and its preparation: one row per base A, C, G, T; ambiguous letters share their probability."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import torch

from pellucid.core import checks
from pellucid.core.errors import InputError

from .preparation import Preparation

BASES = "ACGT"
# IUPAC-IUB 1984, "Nomenclature for incompletely specified bases in nucleic acid sequences", table 1.
# fmt: off
IUPAC = {
    "A": "A", "C": "C", "G": "G", "T": "T", "U": "T",
    "R": "AG", "Y": "CT", "S": "CG", "W": "AT", "K": "GT", "M": "AC",
    "B": "CGT", "D": "AGT", "H": "ACT", "V": "ACG", "N": "ACGT",
}
# fmt: on


def _shares() -> np.ndarray:
    table = np.full((256, 4), np.nan, np.float32)
    for letter, bases in IUPAC.items():
        share = [1 / len(bases) if base in bases else 0.0 for base in BASES]
        table[ord(letter)] = table[ord(letter.lower())] = share
    return table


SHARES = _shares()


def letters(sequences: Sequence[str], names: Sequence[str] | None = None) -> np.ndarray:
    """(N, L) letter codes in capitals, from sequences of one length.

    Raises ``InputError`` for a letter that is not IUPAC and for a length that differs, naming the sample and the position
    (from 1).
    """
    names = names or [f"sequence {i + 1}" for i in range(len(sequences))]
    if not sequences or not sequences[0]:
        raise InputError("no sequences" if not sequences else "an empty sequence", where=names[0] if names else None)
    length = len(sequences[0])
    for name, sequence in zip(names, sequences):
        if len(sequence) != length:
            raise InputError(f"{len(sequence)} bases instead of {length}", where=name, cure="Cut all sequences to one length.")
    text = "".join(sequences).upper()
    codes = np.frombuffer(text.encode("latin-1", "replace"), np.uint8).reshape(len(sequences), length)
    check_letters(codes, names)
    return codes


def check_letters(codes: np.ndarray, names: Sequence[str] | None = None) -> None:
    """Refuse the first letter that stands for no base."""
    bad = np.isnan(SHARES[:, 0])[codes]
    if bad.any():
        row, position = (int(i) for i in np.argwhere(bad)[0])
        name = names[row] if names is not None else f"sequence {row + 1}"
        raise InputError(
            f"'{chr(codes[row, position])}' is not a base",
            where=f"{name}, position {position + 1}",
            cure=f"Known: {' '.join(IUPAC)}.",
        )


def read_sequences(path: Path) -> tuple[list[str], list[str]]:
    """Sequences and names of a FASTA file, or of a text file with one sequence per line."""
    try:
        lines = checks.existing(path, kind="file").read_text("ascii").splitlines()
    except UnicodeDecodeError as error:
        raise InputError(
            f"'{path}' is not plain text", where=f"byte {error.start}", cure="Give FASTA or a sequence per line."
        ) from None
    sequences: list[str] = []
    names: list[str] = []
    fasta = any(line.startswith(">") for line in lines)
    for number, line in enumerate(map(str.strip, lines), 1):
        if line.startswith(">") or (line and not fasta):
            names.append(line[1:].strip() if fasta else f"{path.name} line {number}")
            sequences.append("" if fasta else line)
        elif line and not sequences:
            raise InputError(
                f"'{path}' has letters before its first '>' line", where=f"line {number}", cure="Start with a '>' line."
            )
        elif line:
            sequences[-1] += line
    if not sequences:
        raise InputError(f"'{path}' holds no sequence", cure="Give FASTA or a sequence per line.")
    return sequences, names


@dataclass
class DnaPreparation(Preparation):
    """One-hot over A, C, G, T in this order: (N, L) letter codes to (N, 4, L); N is a quarter of each, R half A, half G."""

    length: int
    kind: ClassVar[str] = "dna"

    @property
    def input_shape(self) -> tuple[int, ...]:
        """(4, L)."""
        return 4, self.length

    @property
    def features(self) -> tuple[str, ...]:
        """The four bases."""
        return tuple(BASES)

    def fit(self, chunks: Iterable[np.ndarray]) -> Self:
        """Nothing is measured."""
        return self

    def apply(self, raw: np.ndarray) -> torch.Tensor:
        """Float32 (N, 4, L). Raises ``InputError`` for a letter that is not IUPAC or another length."""
        if raw.dtype != np.uint8 or raw.shape[1:] != (self.length,):
            raise InputError(f"sequences are {raw.dtype} {raw.shape[1:]}, not letter codes of length {self.length}")
        check_letters(raw)
        return torch.from_numpy(np.ascontiguousarray(SHARES[raw].transpose(0, 2, 1)))

    def bounds(self) -> tuple[torch.Tensor, torch.Tensor]:
        """0 and 1 for each base."""
        return torch.zeros(4), torch.ones(4)

    def read(self, paths: Sequence[str | Path]) -> tuple[np.ndarray, list[str]]:
        """FASTA files, or text files with a sequence per line."""
        read = [read_sequences(Path(path)) for path in paths]
        sequences, names = ([item for part in parts for item in part] for parts in zip(*read))
        for name, sequence in zip(names, sequences):
            if len(sequence) != self.length:
                raise InputError(f"{len(sequence)} bases, where the model takes {self.length}", where=name)
        return letters(sequences, names), names

    def show(self, raw: np.ndarray) -> list[str]:
        """The letters as text."""
        return [row.tobytes().decode("latin-1") for row in np.ascontiguousarray(raw)]

    def facts(self) -> list[tuple[str, str]]:
        """The length."""
        return [("sequences", f"{self.length} bases")]

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> Self:
        """From ``to_json``."""
        return cls(length=int(stored["length"]))

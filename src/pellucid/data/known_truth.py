"""Generated data whose relevant features are known, because the label was made from them and from nothing else."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from scipy import ndimage
from scipy.signal.windows import tukey

from pellucid.core import checks, seeds
from pellucid.core.table import DATA, Entry

from .cells import Cells
from .dataset import Data
from .dna import BASES, DnaPreparation, letters
from .image_preparation import ImagePreparation
from .preparation import Preparation
from .rows import ArrayRows
from .table import from_cells

Floats = NDArray[np.float64]
Mask = NDArray[np.bool_]
TRAIN, TEST = 2000, 500

# Pictures. A shape on the square from -1 to 1, all of strokes equally wide: true where (u to the right, v down) is on it.
SIDE = 28
SIZES = (9, 11)
STROKE = 0.42
SHAPES: dict[str, Callable[[Floats, Floats], Mask]] = {
    "ring": lambda u, v: abs(np.hypot(u, v) - 1 + STROKE / 2) < STROKE / 2 + 0.05,
    "plus": lambda u, v: np.minimum(abs(u), abs(v)) < STROKE / 2 + 0.05,
    "saltire": lambda u, v: abs(abs(u) - abs(v)) < STROKE / 1.4,
    "triangle": lambda u, v: (v > 1 - STROKE) | (abs(abs(u) - (v + 1) / 2) < STROKE / 1.8),
}
DISTRACTORS: dict[str, Callable[[Floats, Floats], Mask]] = {
    "angle": lambda u, v: (u < STROKE - 1) | (v > 1 - STROKE),
    "bars": lambda u, v: abs(v) > 1 - STROKE,
    "hook": lambda u, v: (v < STROKE - 1) | (u > 1 - STROKE),
}
INK, PAPER = (0.75, 1.0), 0.6  # how bright a shape is, and the most that the background can be; 0 to 1

# Tables. How many columns have which role; the label is the sign of the score, of which rows this near to zero are drawn anew.
ROLES = {"additive": 3, "interaction": 2, "either": 2, "distractors": 5}
SIZE_OF_VALUES, COPY_NOISE, MARGIN = (0.5, 1.5), 0.05, 0.3
SIGNS = (1.0, -1.0, 1.0)

# Sequences.
LENGTH, MUTATED = 60, 0.05
MOTIFS = {"first": "TATAAAGC", "second": "GGTCAATC", "third": "CACGTGTT"}
DECOY = "GATTACAG"

# Series: how often a burst swings, by class; the others appear in every class.
POINTS, BURST, NOISE = 128, 32, 0.25
BURSTS: dict[str, Callable[[Floats], Floats]] = {
    "slow": lambda t: np.sin(2 * np.pi * 2 * t),
    "fast": lambda t: np.sin(2 * np.pi * 6 * t),
    "rising": lambda t: np.sin(2 * np.pi * (1 + 5 * t) * t),
}
FALSE_BURSTS: dict[str, Callable[[Floats], Floats]] = {
    "step": lambda t: np.where(t < 0.5, 1.0, -1.0),
    "bump": lambda t: np.sin(np.pi * t),
}


@dataclass(frozen=True, eq=False)
class KnownTruth:
    """Generated samples and where their evidence lies.

    x: raw rows as a ``Data`` holds them: unsigned bytes (N, H, W) or (N, H, W, 3), numbers (N, D), letter codes (N, L), or of
    series float32 (N, C, L). y (N,) int64. truth (N, *spatial): 1 on what the label was made from, 0 elsewhere, and NaN where
    either answer is right: on columns that say the same, of which a model needs any one. names: of a table's columns. about:
    in plain words and numbers what was made.
    """

    x: NDArray[Any]
    y: NDArray[np.int64]
    truth: NDArray[Any]
    classes: tuple[str, ...]
    about: Mapping[str, Any]
    names: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.y)


def known_truth(kind: str, *, samples: int = TRAIN + TEST, seed: int = 0, **options: Any) -> KnownTruth:
    """Samples of one kind with their truth; row i depends on the seed and on i alone.

    kind: "images" (``colour=True`` for three channels), "table", "dna" or "series" (``channels=2``). What they hold is said at
    ``known_truth_images``, ``known_truth_table``, ``known_truth_dna`` and ``generated_series``.
    Raises InputError for another kind, option or number.
    """
    checks.one_of("kind", kind, GENERATORS)
    make = GENERATORS[kind]
    Entry(kind, "known truth", make).check_options(options)
    return make(checks.count("samples", samples), seed, **options)


def _drawn(samples: int, seed: int, kind: str) -> Iterator[tuple[int, np.random.Generator]]:
    for i in range(samples):
        yield i, np.random.default_rng(seeds.derive(seed, "known truth", kind, i))


def _places(rng: np.random.Generator, room: int, *widths: int) -> list[int]:
    """Where pieces of these widths start in a row of ``room`` cells, in an order by chance, none touching another."""
    gaps = np.sort(rng.integers(0, room - sum(widths) - len(widths) + 2, len(widths)))
    order, starts, used = rng.permutation(len(widths)), [0] * len(widths), 0
    for gap, piece in zip(gaps.tolist(), order.tolist()):
        starts[piece] = gap + used
        used += widths[piece] + 1
    return starts


@DATA.add("generated", kind="image", mission="Q7")
def known_truth_images(*, train: int = TRAIN, test: int = TEST, seed: int = 0, colour: bool = False) -> Data:
    """Pictures of 28 x 28 whose class is the form of one shape; a second shape, as bright and as edged, says nothing.

    A ring, a plus, a saltire or a triangle, 9 to 11 pixels large, anywhere on a background of noise and stripes; beside it,
    never touching, one of three other shapes that is independent of the class. Colours and brightness are drawn for each shape
    alone. Truth: the pixels of the shape's strokes. A method that follows edges finds both shapes.
    """
    made = known_truth("images", samples=_size(train, test), seed=seed, colour=colour)
    preparation = ImagePreparation(SIDE, SIDE, 3 if colour else 1)
    return _data(made, "known_truth_images", {"train": train, "test": test, "seed": seed, "colour": colour}, preparation)


def generated_images(samples: int, seed: int, *, colour: bool = False) -> KnownTruth:
    """The pictures of ``known_truth_images``."""
    channels = 3 if colour else 1
    x, truth = np.empty((samples, SIDE, SIDE, channels), np.uint8), np.zeros((samples, SIDE, SIDE), bool)
    y, other = np.empty(samples, np.int64), np.empty(samples, np.int64)
    true, false = list(SHAPES.values()), list(DISTRACTORS.values())
    for i, rng in _drawn(samples, seed, "images"):
        y[i], other[i] = rng.integers(len(true)), rng.integers(len(false))
        picture = _background(rng, channels)
        sizes = rng.integers(SIZES[0], SIZES[1] + 1, 2).tolist()
        # Apart along one axis, anywhere along the other: so no shape covers or touches the other.
        apart, anywhere = _places(rng, SIDE, *sizes), [int(rng.integers(0, SIDE - size + 1)) for size in sizes]
        corners = list(zip(*((apart, anywhere) if rng.random() < 0.5 else (anywhere, apart))))
        for shape, size, (top, left), own in zip((true[y[i]], false[other[i]]), sizes, corners, (True, False)):
            on, box = _form(shape, size), np.s_[top : top + size, left : left + size]
            picture[box][on] = rng.uniform(*INK) * (rng.permutation([1.0, *rng.uniform(0.5, 1, 2)]) if colour else 1)
            if own:
                truth[i][box] = on
        x[i] = np.rint(255 * picture)
    about = {
        "label": "the form of one shape",
        "truth": "the pixels of its strokes",
        "distractor": "another shape, independent of the class and as bright",
        "distractors": tuple(DISTRACTORS),
        "distractor of each row": other,
    }
    return KnownTruth(x if colour else x[..., 0], y, truth, tuple(SHAPES), about)


@functools.cache
def _form(shape: Callable[[Floats, Floats], Mask], size: int) -> Mask:
    v, u = np.meshgrid(np.linspace(-1, 1, size), np.linspace(-1, 1, size), indexing="ij")
    return shape(u, v)


def _background(rng: np.random.Generator, channels: int) -> Floats:
    """Smoothed noise and stripes of a direction and width of their own, (H, W, C) from 0 to PAPER."""
    noise = ndimage.uniform_filter(rng.random((SIDE, SIDE)), 2, mode="wrap")
    angle, waves, phase = rng.uniform(0, np.pi), rng.uniform(1.5, 5), rng.uniform(0, 2 * np.pi)
    v, u = (np.arange(SIDE) / SIDE)[:, None], np.arange(SIDE) / SIDE
    stripes = 0.5 + 0.5 * np.sin(2 * np.pi * waves * (np.cos(angle) * u + np.sin(angle) * v) + phase)
    tint = rng.uniform(0.5, 1, channels) if channels > 1 else np.ones(1)
    found: Floats = PAPER * (0.6 * noise + 0.4 * stripes)[..., None] * tint
    return found


@DATA.add("generated", kind="table", mission="Q7")
def known_truth_table(*, train: int = TRAIN, test: int = TEST, seed: int = 0) -> Data:
    """Rows of twelve columns: three act alone, two only together, two say the same, five say nothing.

    The class is the sign of a - b + c + d + 2 e f, where d is seen twice, the second time with a noise of 0.05. All are
    +-(0.5 to 1.5), independent, so that none is near zero and each relevant one counts in every row; rows with a sum between
    -0.3 and 0.3 are drawn anew. Which column has which role is shuffled by the seed; their names are x1 to x12. Truth: 1 on a,
    b, c, e, f; NaN on both copies of d, since a model may use either; 0 on the rest.
    """
    made = known_truth("table", samples=_size(train, test), seed=seed)
    frame = pd.DataFrame(made.x, columns=pd.Index(made.names))
    frame["class"] = np.asarray(made.classes, dtype=object)[made.y]
    data = from_cells(Cells(frame), "known_truth_table", {"target": "class", "task": "classification"}, source="")
    return replace(data, options={"train": train, "test": test, "seed": seed}, **_facts(made, "known_truth_table", train))


def generated_table(samples: int, seed: int) -> KnownTruth:
    """The numbers of ``known_truth_table``."""
    columns = sum(ROLES.values())
    shuffled = np.random.default_rng(seeds.derive(seed, "known truth", "columns")).permutation(columns)
    roles = dict(zip(ROLES, np.split(shuffled, np.cumsum(list(ROLES.values()))[:-1])))
    x, score = np.empty((samples, columns)), np.zeros(samples)
    for i, rng in _drawn(samples, seed, "table"):
        while abs(score[i]) < MARGIN:
            x[i] = rng.uniform(*SIZE_OF_VALUES, columns) * rng.choice((-1.0, 1.0), columns)
            seen, copy = roles["either"]
            x[i, copy] = x[i, seen] + COPY_NOISE * rng.standard_normal()
            score[i] = SIGNS @ x[i, roles["additive"]] + x[i, seen] + 2 * x[i, roles["interaction"]].prod()
    truth = np.zeros(columns)
    truth[roles["additive"]] = truth[roles["interaction"]] = 1
    truth[roles["either"]] = np.nan
    names = tuple(f"x{j + 1}" for j in range(columns))
    about = {
        "label": "the sign of a - b + c + d + 2 e f",
        "truth": "columns of the score; NaN on the two copies of d",
        **{role: tuple(names[j] for j in chosen.tolist()) for role, chosen in roles.items()},
    }
    y = (score > 0).astype(np.int64)
    return KnownTruth(x, y, np.broadcast_to(truth, x.shape).copy(), ("negative", "positive"), about, names)


@DATA.add("generated", kind="dna", mission="Q7")
def known_truth_dna(*, train: int = TRAIN, test: int = TEST, seed: int = 0) -> Data:
    """Sequences of 60 bases whose class is one of three motifs of 8; a fourth motif is in all of them.

    The background is even, the motifs lie anywhere, apart from each other, and each of their bases has a chance of 5 % to be
    drawn anew. Truth: the eight positions of the class's motif.
    """
    made = known_truth("dna", samples=_size(train, test), seed=seed)
    options = {"train": train, "test": test, "seed": seed}
    return _data(made, "known_truth_dna", options, DnaPreparation(LENGTH))


def generated_dna(samples: int, seed: int) -> KnownTruth:
    """The letter codes of ``known_truth_dna``."""
    bases, width = np.frombuffer(BASES.encode(), np.uint8), len(DECOY)
    codes = letters([*MOTIFS.values(), DECOY])
    x, truth, y = np.empty((samples, LENGTH), np.uint8), np.zeros((samples, LENGTH), bool), np.empty(samples, np.int64)
    for i, rng in _drawn(samples, seed, "dna"):
        y[i] = rng.integers(len(MOTIFS))
        x[i] = rng.choice(bases, LENGTH)
        starts = _places(rng, LENGTH, width, width)
        for start, motif in zip(starts, (codes[y[i]], codes[-1])):
            again = rng.choice(bases, width)
            x[i, start : start + width] = np.where(rng.random(width) < MUTATED, again, motif)
        truth[i, starts[0] : starts[0] + width] = True
    about = {"label": "which motif there is", "truth": "its positions", "motifs": dict(MOTIFS), "decoy": DECOY}
    return KnownTruth(x, y, truth, tuple(MOTIFS), about)


def generated_series(samples: int, seed: int, *, channels: int = 1) -> KnownTruth:
    """Series of 128 points whose class is how a burst of 32 swings; a second burst, as strong and as long, says nothing.

    The burst, slow (2 swings), fast (6) or rising (from 1 to 11), and a step or a bump in every class lie anywhere, apart from
    each other, with their own sign and strength in each channel, in noise of deviation 0.25. Truth (N, L): the burst's points.
    """
    checks.count("channels", channels)
    t, window = (np.arange(BURST) + 0.5) / BURST, tukey(BURST, 0.25)
    true, false = list(BURSTS.values()), list(FALSE_BURSTS.values())
    x, truth = np.empty((samples, channels, POINTS), np.float32), np.zeros((samples, POINTS), bool)
    y = np.empty(samples, np.int64)
    for i, rng in _drawn(samples, seed, "series"):
        y[i] = rng.integers(len(true))
        values = NOISE * rng.standard_normal((channels, POINTS))
        starts = _places(rng, POINTS, BURST, BURST)
        for start, burst in zip(starts, (true[y[i]], false[rng.integers(len(false))])):
            strength = rng.uniform(0.8, 1.2, channels) * rng.choice((-1.0, 1.0), channels)
            values[:, start : start + BURST] += strength[:, None] * window * burst(t)
        x[i], truth[i, starts[0] : starts[0] + BURST] = values, True
    about = {"label": "how one burst swings", "truth": "its points", "distractors": tuple(FALSE_BURSTS)}
    return KnownTruth(x, y, truth, tuple(BURSTS), about)


GENERATORS: dict[str, Callable[..., KnownTruth]] = {
    "images": generated_images,
    "table": generated_table,
    "dna": generated_dna,
    "series": generated_series,
}


def _size(train: int, test: int) -> int:
    return checks.count("train", train) + checks.count("test", test)


def _facts(made: KnownTruth, reader: str, train: int) -> dict[str, Any]:
    """What a data set has of every kind."""
    return {
        "truth": made.truth,
        "parts": {"train": np.arange(train), "test": np.arange(train, len(made))},
        "names": [f"{part} {i}" for part, n in (("train", train), ("test", len(made) - train)) for i in range(n)],
        "licence": "generated, free of any",
        "source": f"pellucid's {reader}: {made.about['label']}; truth: {made.about['truth']}",
    }


def _data(made: KnownTruth, reader: str, options: dict[str, Any], preparation: Preparation) -> Data:
    return Data(
        reader=reader,
        options=options,
        kind=preparation.kind,
        task="classification",
        rows=ArrayRows(made.x),
        y=torch.from_numpy(made.y),
        classes=made.classes,
        preparation=preparation,
        **_facts(made, reader, options["train"]),
    )

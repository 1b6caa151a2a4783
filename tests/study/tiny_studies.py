"""Small data and studies for the tests of the study and of the command line: seconds, not minutes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image


def write_images(folder: Path, each: int = 12) -> Path:
    """``left`` and ``right``: a bright bar on that side of a noisy 28 x 28 picture."""
    rng = np.random.default_rng(3)
    for kind, columns in (("left", slice(4, 10)), ("right", slice(18, 24))):
        (folder / kind).mkdir(parents=True)
        for number in range(each):
            pixels = rng.integers(0, 60, (28, 28), dtype=np.uint8)
            pixels[5:23, columns] += 150
            Image.fromarray(pixels).save(folder / kind / f"{number:02d}.png")
    return folder


def write_table(path: Path, rows: int = 80, *, regression: bool = False) -> Path:
    """Two numbers, a category and a target that follows from them; some numbers are missing."""
    rng = np.random.default_rng(4)
    lines = ["height,weight,colour," + ("price" if regression else "species")]
    for i in range(rows):
        height, weight = rng.normal(10, 2), rng.normal(50, 9)
        colour = ["red", "green", "blue"][int(rng.integers(3))]
        value = 3 * height - 0.2 * weight + (4 if colour == "red" else 0)
        target = f"{value:.3f}" if regression else ("cat" if value > 21 else "dog")
        lines.append(f"{height:.2f},{'' if i % 11 == 5 else f'{weight:.1f}'},{colour},{target}")
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


IMAGE_STUDY = """\
name: bars
data: {name: images, path: pictures}
split: {test: 0.25, validation: 0.25}
model: {name: lenet5}
training: {epochs: 3, batch: 4, lr: 0.003, best: accuracy, augment: [shift]}
explanation:
  methods: [gradient, gradient_times_input, smoothgrad, integrated_gradients, occlusion, grad_cam, libra_cam, edge_detector]
  samples: 3
quality: {samples: 4, randomisation_samples: 2}
"""

TABLE_STUDY = """\
name: pets
data: {name: table, path: pets.csv, target: species}
split: {validation: 0.2}
model: {name: mlp, hidden: [8]}
training: {epochs: 4, batch: 16}
explanation: {samples: 3}
quality: {samples: 4, randomisation_samples: 2}
"""


def image_study(folder: Path) -> Path:
    """A folder with pictures and their study; returns the study's file."""
    write_images(folder / "pictures")
    (folder / "bars.yaml").write_text(IMAGE_STUDY, encoding="utf-8")
    return folder / "bars.yaml"


def table_study(folder: Path, **replace: str) -> Path:
    """A folder with a table and its study; ``replace`` exchanges words of the study."""
    write_table(folder / "pets.csv")
    text = TABLE_STUDY
    for old, new in replace.items():
        assert old in text
        text = text.replace(old, new)
    (folder / "pets.yaml").write_text(text, encoding="utf-8")
    return folder / "pets.yaml"


def everything_in(folder: Path) -> dict[str, bytes]:
    """Every file below the folder with its bytes: to see that nothing has changed."""
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}

"""Draw the examples: a folder of small noisy pictures and a table of measurements. Both are invented; the seed is fixed.

python scripts/make_examples.py [FOLDER]      (default: examples/)
"""

from __future__ import annotations

import csv
import sys
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

SIDE = 28
EACH = 20
SITES = 360
HEADER = [
    "site",
    "land_use",
    "season",
    "shade",
    "temperature_c",
    "oxygen_mg_l",
    "nitrate_mg_l",
    "conductivity_us_cm",
    "ph",
    "condition",
]


def shapes(folder: Path, rng: np.random.Generator) -> None:
    """``shapes/<class>/<number>.png``: one circle, square or triangle each, of varying place and size, with noise."""
    for kind in ("circle", "square", "triangle"):
        place = folder / "shapes" / kind
        place.mkdir(parents=True, exist_ok=True)
        for number in range(EACH):
            radius = rng.uniform(7, 10)
            x, y = rng.uniform(SIDE / 2 - 2, SIDE / 2 + 2, size=2)
            turn = rng.uniform(-0.35, 0.35)
            drawn = _drawing(kind, x, y, radius, turn, brightness=int(rng.integers(150, 230)))
            noisy = np.asarray(drawn, float) + rng.normal(0, 18, (SIDE, SIDE)) + 20
            Image.fromarray(noisy.clip(0, 255).astype(np.uint8)).save(place / f"{number:02d}.png", optimize=True)


def _drawing(kind: str, x: float, y: float, radius: float, turn: float, brightness: int) -> Image.Image:
    """Four times too large, then reduced: soft edges."""
    image = Image.new("L", (4 * SIDE, 4 * SIDE))
    pen = ImageDraw.Draw(image)
    if kind == "circle":
        pen.ellipse([4 * (x - radius), 4 * (y - radius), 4 * (x + radius), 4 * (y + radius)], fill=brightness)
    else:
        corners = 4 if kind == "square" else 3
        angles = turn + np.pi * (2 * np.arange(corners) / corners + (1 / 4 if kind == "square" else -1 / 2))
        pen.polygon(
            [(4 * (x + 1.15 * radius * np.cos(a)), 4 * (y + 1.15 * radius * np.sin(a))) for a in angles], fill=brightness
        )
    return image.resize((SIDE, SIDE), Image.Resampling.BOX)


def streams(folder: Path, rng: np.random.Generator) -> None:
    """``streams.csv``: a line per stream; ``condition`` follows oxygen, nitrate, shade and chance. Some values are missing."""
    rows: list[list[str]] = []
    for site in range(1, SITES + 1):
        land = rng.choice(["forest", "meadow", "arable", "town"], p=[0.35, 0.25, 0.25, 0.15])
        season = rng.choice(["spring", "summer", "autumn"])
        shade = rng.beta(5, 2) if land == "forest" else rng.beta(2, 4)
        warmth = rng.normal({"spring": 9, "summer": 16, "autumn": 11}[season], 2) - 3 * shade
        nitrate = rng.gamma(2.0, {"forest": 0.8, "meadow": 1.6, "arable": 4.0, "town": 2.4}[land])
        conductivity = 180 + 45 * nitrate + rng.normal(0, 60) + (150 if land == "town" else 0)
        oxygen = 14.2 - 0.32 * warmth - 0.16 * nitrate + rng.normal(0, 0.6)
        score = 1.4 * (oxygen - 10.1) - 0.45 * (nitrate - 3.2) + 1.8 * (shade - 0.45) + rng.normal(0, 0.7)
        condition = "good" if score > 0.9 else "poor" if score < -0.9 else "fair"
        row = [
            f"S{site:03d}", land, season, f"{shade:.2f}", f"{warmth:.1f}", f"{oxygen:.1f}", f"{nitrate:.2f}",
            f"{max(60, conductivity):.0f}", f"{rng.normal(7.4, 0.35):.1f}", condition,
        ]  # fmt: skip
        for column, chance in ((5, 0.05), (6, 0.08), (1, 0.03)):
            if rng.random() < chance:
                row[column] = ""
        rows.append(row)
    with (folder / "streams.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file, lineterminator="\n").writerows([HEADER, *rows])


if __name__ == "__main__":
    target = Path(sys.argv[1] if len(sys.argv) > 1 else Path(__file__).parent.parent / "examples")
    target.mkdir(parents=True, exist_ok=True)
    shapes(target, np.random.default_rng(1))
    streams(target, np.random.default_rng(2))
    print(f"examples drawn in {target}")

"""How every figure looks, and how it becomes bytes: palette, colour maps, theme, ``svg``, ``png``, ``data_uri``.

The colours are those of Okabe and Ito (2008), which stay apart for all common forms of colour blindness.
"""

from __future__ import annotations

import base64
import html
import io
import re
import threading
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import wraps
from typing import Any, ParamSpec

import matplotlib
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import Colormap, LinearSegmentedColormap, to_rgb
from matplotlib.figure import Figure
from PIL import Image

P = ParamSpec("P")

PALETTE = {
    "blue": "#0072B2",
    "vermillion": "#D55E00",
    "green": "#009E73",
    "purple": "#CC79A7",
    "orange": "#E69F00",
    "sky": "#56B4E9",
    "black": "#000000",
    "yellow": "#F0E442",
}
# Yellow lines cannot be read on white: it is in the palette, not among the lines.
LINES = [colour for name, colour in PALETTE.items() if name != "yellow"]
DASHES = ["-", "--", "-.", ":"]
MARKERS = ["o", "s", "^", "D", "v", "X", "P", "*", "<", ">", "h", "p", "d", "8", "H", (4, 1, 45)]
FOR, AGAINST = PALETTE["vermillion"], PALETTE["blue"]

INK, QUIET, RULE, PANEL, PAPER = "#1f1f1f", "#595959", "#bdbdbd", "#f3f3f3", "#ffffff"
LARGE, HEAD, TEXT, SMALL = 9.5, 8.5, 8.0, 7.0  # font sizes in points; nothing is smaller than SMALL
FONT = "DejaVu Sans"  # comes with matplotlib, so that what is measured is what is drawn, on every machine


def _colour_map(name: str, *colours: str) -> Colormap:
    made = LinearSegmentedColormap.from_list(f"pellucid_{name}", colours, N=255)  # odd: one colour is the middle
    return made.with_extremes(bad=(0.0, 0.0, 0.0, 0.0))


SIGNED = _colour_map("signed", "#003A5C", AGAINST, "#8FC1DE", PAPER, "#F2B58A", FOR, "#6B2C00")
POSITIVE = _colour_map("positive", PAPER, "#BFE6DA", "#5CC2A3", PALETTE["green"], "#006148", "#002E22")
SHARE = _colour_map("share", PAPER, "#C9E1F0", "#7DB8DC", AGAINST, "#00456B")

THEME: dict[str, Any] = {
    "font.family": ["sans-serif"],
    "font.sans-serif": [FONT, "Verdana", "Liberation Sans", "Arial", "Helvetica"],
    "font.size": TEXT,
    "axes.titlesize": LARGE,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.labelsize": TEXT,
    "axes.labelcolor": INK,
    "axes.edgecolor": QUIET,
    "axes.linewidth": 0.8,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "grid.color": "#e4e4e4",
    "grid.linewidth": 0.7,
    "xtick.color": QUIET,
    "ytick.color": QUIET,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "xtick.labelsize": TEXT - 0.5,
    "ytick.labelsize": TEXT - 0.5,
    "legend.fontsize": TEXT - 0.5,
    "legend.frameon": False,
    "lines.linewidth": 1.6,
    "lines.markersize": 5.0,
    "hatch.linewidth": 0.6,
    "text.color": INK,
    "text.hinting": "no_hinting",  # or words would be of another width at another resolution
    "text.parse_math": False,  # a class may be called "$5 to $10"
    "figure.facecolor": PAPER,
    "figure.dpi": 150,
    "savefig.facecolor": PAPER,
    "figure.constrained_layout.w_pad": 0.08,
    "figure.constrained_layout.h_pad": 0.08,
    "svg.fonttype": "none",
    "svg.hashsalt": "pellucid",
}

# matplotlib's settings belong to the whole process; two threads inside `rc_context` would leave them changed.
_settings = threading.RLock()


@contextmanager
def theme() -> Iterator[None]:
    """Matplotlib's own defaults with ``THEME`` on top inside the block, what was there before after it."""
    with _settings, matplotlib.rc_context(), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")  # a class name in a script the font lacks
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(THEME)
        yield


def themed(draw: Callable[P, Figure]) -> Callable[P, Figure]:
    """Decorator of every figure function: drawn in the theme, laid out once, and then left where it is."""

    @wraps(draw)
    def within(*args: P.args, **kwargs: P.kwargs) -> Figure:
        with theme():
            figure = draw(*args, **kwargs)
            figure.draw_without_rendering()  # makes the ticks while the theme holds, and runs the layout
            figure.set_layout_engine("none")
        return figure

    return within


def new_figure(width: float, height: float, *, constrained: bool = True) -> Figure:
    """An empty figure of ``width`` x ``height`` inches with a canvas of its own."""
    figure = Figure(figsize=(width, height), layout="constrained" if constrained else None)
    FigureCanvasAgg(figure)
    return figure


def saying(words: str) -> Figure:
    """A small figure that holds a sentence: what stands where there is nothing to draw."""
    figure = new_figure(4.5, 1.0, constrained=False)
    figure.text(0.5, 0.5, words, ha="center", va="center", color=QUIET, size=HEAD)
    return figure


def line_style(index: int) -> dict[str, Any]:
    """Colour, dashes and marker of the ``index``-th line: 28 pairs of colour and dashes, 16 markers."""
    return {
        "color": LINES[index % len(LINES)],
        "linestyle": DASHES[index // len(LINES) % len(DASHES)],
        "marker": MARKERS[index % len(MARKERS)],
        "markeredgecolor": PAPER,
        "markeredgewidth": 0.3,
    }


def _luminance(colour: Any) -> float:
    """Relative luminance of WCAG 2."""
    parts = np.array(to_rgb(colour))
    linear = np.where(parts <= 0.04045, parts / 12.92, ((parts + 0.055) / 1.055) ** 2.4)
    return float(linear @ [0.2126, 0.7152, 0.0722])


def readable_on(colour: Any) -> str:
    """Dark or white letters, whichever has the higher contrast (WCAG 2) on ``colour``."""
    dark, light, here = (_luminance(c) + 0.05 for c in (INK, PAPER, colour))
    return INK if here / dark > light / here else PAPER


def _save(figure: Figure, form: str, dpi: float, metadata: Mapping[str, None]) -> bytes:
    held = io.BytesIO()
    with theme():
        figure.savefig(held, format=form, dpi=dpi, metadata=metadata)
    return held.getvalue()


def svg(figure: Figure, *, title: str = "", dpi: float = 150) -> str:
    """The figure as an ``<svg>`` element: the same bytes each time, text kept as text, heat maps as small pictures.

    ``title`` is what a screen reader says; ``dpi`` is the resolution of the rasterised parts.
    Ready to stand inside an HTML page (no XML header) and in a file of its own.
    """
    text = _save(figure, "svg", dpi, dict.fromkeys(("Format", "Type", "Creator", "Date"))).decode()
    fonts = re.search(r'; font-family: ([^;"]+)', text)
    if fonts:  # said once for the whole figure, not for every word
        text = text.replace(fonts[0], "")
    opening = f'<svg role="img" font-family="{fonts[1]}" ' if fonts else '<svg role="img" '
    text = text[text.index("<svg") :].replace("<svg ", opening, 1)
    if title:
        text = text.replace(">", f">\n <title>{html.escape(title)}</title>", 1)
    return re.sub(r'(?<=<image xlink:href=")data:image/png;base64,\s*([A-Za-z0-9+/=\s]+)', _smaller_picture, text)


def _smaller_picture(found: re.Match[str]) -> str:
    """The same pixels as a smaller PNG file: without needless transparency, grey or with a palette where that is enough."""
    picture: Image.Image = Image.open(io.BytesIO(base64.b64decode(found[1])))
    if picture.mode == "RGBA" and picture.getchannel("A").getextrema() == (255, 255):
        picture = picture.convert("RGB")
        pixels = np.asarray(picture).reshape(-1, 3)
        if (pixels == pixels[:, :1]).all():
            return _written(picture.convert("L"))
        codes, places = np.unique(pixels @ np.array([1 << 16, 1 << 8, 1]), return_inverse=True)
        if len(codes) <= 256:
            picture = Image.fromarray(places.reshape(picture.height, picture.width).astype(np.uint8))
            picture.putpalette([int(code >> shift & 255) for code in codes for shift in (16, 8, 0)])
    return _written(picture)


def _written(picture: Image.Image) -> str:
    held = io.BytesIO()
    picture.save(held, format="png", optimize=True)
    return data_uri(held.getvalue())


def png(figure: Figure, dpi: float = 150) -> bytes:
    """The figure as a PNG file: the same bytes each time."""
    return _save(figure, "png", dpi, {"Software": None})


def data_uri(content: str | bytes) -> str:
    """An ``<img src=...>`` that needs no file: SVG text or PNG bytes in base 64."""
    kind, held = ("svg+xml", content.encode()) if isinstance(content, str) else ("png", content)
    return f"data:image/{kind};base64,{base64.b64encode(held).decode('ascii')}"

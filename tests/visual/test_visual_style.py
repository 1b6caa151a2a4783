"""Palette, colour maps, theme, and figures as bytes."""

from __future__ import annotations

import base64
import io
import re
from concurrent.futures import ThreadPoolExecutor

import matplotlib
import numpy as np
import pytest
from matplotlib.colors import to_rgb
from PIL import Image

from pellucid.visual.heatmaps import heatmap_sheet
from pellucid.visual.style import POSITIVE, SHARE, SIGNED, data_uri, line_style, new_figure, png, readable_on, svg, themed


def lightness(colours: np.ndarray) -> np.ndarray:
    """CIE L* of sRGB colours (n, 3+)."""
    linear = np.where(colours[:, :3] <= 0.04045, colours[:, :3] / 12.92, ((colours[:, :3] + 0.055) / 1.055) ** 2.4)
    y = linear @ [0.2126, 0.7152, 0.0722]
    return 116 * np.where(y > 0.008856, np.cbrt(y), 7.787 * y + 16 / 116) - 16


@pytest.mark.parametrize("colours", [POSITIVE, SHARE])
def test_sequential_maps_start_white_and_only_get_darker(colours):
    scale = lightness(colours(np.arange(255)))
    assert scale[0] == pytest.approx(100, abs=0.1)
    assert scale[-1] < 30
    assert (np.diff(scale) < 0).all()


def test_the_signed_map_is_white_at_zero_and_equally_dark_on_both_sides():
    assert SIGNED(0.5)[:3] == (1, 1, 1)
    scale = lightness(SIGNED(np.arange(255)))
    assert (np.diff(scale[:128]) > 0).all()
    assert (np.diff(scale[127:]) < 0).all()
    assert np.abs(scale - scale[::-1]).max() < 12  # Okabe and Ito's vermillion is a little lighter than their blue


def test_the_ends_stay_apart_for_people_who_see_no_red_or_no_green():
    """Vienot, Brettel and Mollon 1999, eq. 5 and 6: what a protanope and a deuteranope see of linear RGB."""
    ends = np.array([SIGNED(0.25)[:3], SIGNED(0.75)[:3]]) ** 2.2
    for view in ([[0.11238, 0.88762, 0], [0.11238, 0.88762, 0], [0.00401, -0.00401, 1]],
                 [[0.29275, 0.70725, 0], [0.29275, 0.70725, 0], [-0.02234, 0.02234, 1]]):  # fmt: skip
        seen = (np.clip(ends @ np.transpose(view), 0, 1)) ** (1 / 2.2)
        assert np.abs(seen[0] - seen[1]).max() > 0.3


def test_sixteen_lines_differ_in_colour_and_dashes_and_in_marker():
    looks = [line_style(i) for i in range(16)]
    assert len({(look["color"], look["linestyle"]) for look in looks}) == 16
    assert len({look["marker"] for look in looks}) == 16


def test_letters_are_readable_on_every_share():
    assert readable_on("#ffffff") != readable_on("#00456B")
    for share in np.linspace(0, 1, 101):
        letters, paper = (lightness(np.array([to_rgb(c)]))[0] for c in (readable_on(SHARE(share)), SHARE(share)))
        light, dark = (((level + 16) / 116) ** 3 + 0.05 for level in (max(letters, paper), min(letters, paper)))
        assert light / dark > 3.8


def test_png_holds_no_date_and_no_software():
    picture = Image.open(io.BytesIO(png(new_figure(1, 1), dpi=50)))
    assert picture.size == (50, 50)
    assert set(picture.info) <= {"dpi"}


def test_svg_is_ready_for_a_page_and_names_fonts_once():
    figure = new_figure(2, 1)
    figure.text(0.1, 0.5, "a < b & c")
    figure.text(0.1, 0.2, "again")
    text = svg(figure, title="what it shows")
    assert text.startswith('<svg role="img" font-family="')
    assert text.count("DejaVu Sans") == 1
    assert "sans-serif" in text
    assert "<title>what it shows</title>" in text
    assert "a &lt; b &amp; c" in text
    assert "<metadata" not in text


def test_heat_maps_stand_in_svg_in_their_own_pixels_and_colours(rng):
    values = rng.normal(size=(1, 5, 7))
    text = svg(heatmap_sheet(np.linspace(0, 1, 35).reshape(1, 5, 7), {"gradient": values}))
    pictures = [Image.open(io.BytesIO(base64.b64decode(p))) for p in re.findall(r"base64,([A-Za-z0-9+/=]+)", text)]
    grey, coloured, bar = pictures
    assert (grey.size, grey.mode) == ((7, 5), "L")
    assert bar.size == (256, 1)
    end = np.percentile(np.abs(values), 99.5)
    expected = SIGNED((values[0] + end) / (2 * end), bytes=True)[..., :3]
    assert (np.asarray(coloured.convert("RGB")) == expected).all()
    assert np.asarray(grey).ravel()[[0, -1]].tolist() == [0, 255]


def test_data_uri_holds_what_was_given():
    for content, kind in (("<svg/>", "svg+xml"), (b"\x89PNG", "png")):
        head, body = data_uri(content).split(",")
        assert head == f"data:image/{kind};base64"
        assert base64.b64decode(body) == (content if isinstance(content, bytes) else content.encode())


def test_figures_drawn_in_threads_leave_the_settings_alone():
    @themed
    def small():
        figure = new_figure(1, 1)
        figure.subplots().plot([0, 1])
        return figure

    before = dict(matplotlib.rcParams)
    with ThreadPoolExecutor(4) as pool:
        made = list(pool.map(lambda _: png(small(), dpi=40), range(8)))
    assert len(set(made)) == 1
    assert dict(matplotlib.rcParams) == before

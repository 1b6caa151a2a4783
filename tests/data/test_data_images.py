"""L2, images: folders and CSVs of every kind of picture, and every fault that one of them can have."""

from __future__ import annotations

import io
import struct
import zlib

import numpy as np
import pytest
import torch
from PIL import Image

from pellucid.core.errors import InputError
from pellucid.data import image_files, images
from pellucid.data.image_files import MOST_PIXELS, Header, headers
from pellucid.data.images import images as read_images
from pellucid.data.rows import ArrayRows


def noise(seed, height=12, width=10, channels=3):
    shape = (height, width, channels) if channels > 1 else (height, width)
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def save(path, seed=0, **kwargs):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(noise(seed, **kwargs)).save(path)
    return path


@pytest.fixture
def folder(tmp_path):
    """Two classes of four colour pictures."""
    for k, name in enumerate(["dog", "cat"]):
        for i in range(4):
            save(tmp_path / "pets" / name / f"{i:03}.png", 10 * k + i)
    return tmp_path / "pets"


def notes(data):
    return "\n".join(data.notes)


def test_a_class_per_sub_folder(folder):
    data = read_images(folder)
    assert data.classes == ("cat", "dog")
    assert data.y.tolist() == [0] * 4 + [1] * 4
    assert data.names[0] == "cat/000.png"
    assert (data.kind, data.task, data.notes, data.unreadable, data.parts) == ("image", "classification", [], [], {})
    np.testing.assert_array_equal(data.raw([4])[0], noise(0))
    assert data.input_shape == (3, 12, 10)


def test_in_memory_and_on_demand_give_the_same(folder, monkeypatch):
    """Rows in any order, identical rows, tensors after fitting: equal bit for bit on both paths."""
    (folder / "dog" / "copy.png").write_bytes((folder / "dog" / "001.png").read_bytes())
    (folder / "dog" / "broken.png").write_bytes(b"no picture")
    near = read_images(folder)
    monkeypatch.setattr(images, "MEMORY_BUDGET", 1)
    far = read_images(folder)
    assert isinstance(near.rows, ArrayRows)
    assert isinstance(far.rows, image_files.ImageFiles)
    rows = np.array([8, 0, 3, 3, 7, 1])
    np.testing.assert_array_equal(near.raw(rows), far.raw(rows))
    train = [0, 1, 2, 5, 6]
    for one, other in zip(near.fit(train).tensors(), far.fit(train).tensors()):
        assert torch.equal(one, other)
    assert near.preparation == far.preparation
    assert near.unreadable == far.unreadable
    for data in (near, far):
        same = data.identical()
        assert len(np.unique(same)) == 8
        assert same[data.names.index("dog/copy.png")] == same[data.names.index("dog/001.png")]


def test_a_file_that_vanishes_is_named(folder, monkeypatch):
    monkeypatch.setattr(images, "MEMORY_BUDGET", 1)
    data = read_images(folder)
    (folder / "cat" / "002.png").unlink()
    with pytest.raises(InputError, match=r"002\.png' can no longer be read: no such file"):
        data.raw([0, 2])


def test_an_empty_class_folder_is_named(folder):
    (folder / "emu").mkdir()
    (folder / "emu" / "notes.txt").write_text("nothing here")
    with pytest.raises(InputError, match=r"class folder '.*emu' holds no images\. Add images to it or remove it"):
        read_images(folder)


def test_a_class_without_a_readable_image(folder):
    (folder / "emu").mkdir()
    (folder / "emu" / "a.png").write_bytes(b"x")
    with pytest.raises(InputError, match="no image of class 'emu' can be read"):
        read_images(folder)


def test_folders_that_hold_nothing_to_learn(tmp_path, folder):
    with pytest.raises(InputError, match=r"no class folders in '.*cat'"):
        read_images(folder / "cat")
    with pytest.raises(InputError, match="no file or folder '.*pet'.*Did you mean 'pets'"):
        read_images(tmp_path / "pet")
    (tmp_path / "one").mkdir()
    (folder / "cat").rename(tmp_path / "one" / "cat")
    with pytest.raises(InputError, match=r"only one class folder in .*cat.*two classes"):
        read_images(tmp_path / "one")


def test_unreadable_files_are_listed_with_the_reason(folder):
    """A truncated JPEG, no image at all, an empty file: in ``unreadable`` and in a note, the rest is read."""
    whole = io.BytesIO()
    Image.fromarray(noise(1, 64, 64)).save(whole, "JPEG")
    (folder / "cat" / "cut.jpg").write_bytes(whole.getvalue()[: len(whole.getvalue()) // 2])
    (folder / "cat" / "text.png").write_text("this is text")
    (folder / "dog" / "empty.gif").write_bytes(b"")
    data = read_images(folder)
    assert len(data) == 8
    assert dict(data.unreadable).keys() == {"cat/cut.jpg", "cat/text.png", "dog/empty.gif"}
    assert "cut off before its end" in dict(data.unreadable)["cat/cut.jpg"]
    assert dict(data.unreadable)["cat/text.png"] == "not an image in a known format"
    assert "files that could not be read and are no rows: 3; first: cat/cut.jpg" in notes(data)
    assert ("unreadable files", "3, not among the rows") in data.summary()


def huge(path, side=20_000):
    """A valid PNG of side x side pixels, one bit each, all black."""

    def chunk(name, content):
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    pixels = zlib.compress(bytes((1 + side // 8) * side), 1)
    header = struct.pack(">IIBBBBB", side, side, 1, 0, 0, 0, 0)
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b""))


def test_a_picture_of_20000_x_20000_is_listed_and_never_decoded(folder, monkeypatch):
    huge(folder / "cat" / "huge.png")
    monkeypatch.setattr(image_files, "decode", lambda path, *_: pytest.fail("decoded") if path.stem == "huge" else noise(0))
    data = read_images(folder)
    assert len(data) == 8
    [(name, reason)] = data.unreadable
    assert name == "cat/huge.png"
    assert reason == "the picture: 400 megapixels, more than the 50 that are decoded; shrink the picture first"


def test_the_limit_holds_below_pillows_own(folder, monkeypatch):
    """Pillow warns at 89 megapixels; between the two limits only the header's size decides."""
    huge(folder / "cat" / "large.png", 8_000)
    assert MOST_PIXELS == 50_000_000
    assert read_images(folder).unreadable[0][1].startswith("8,000 x 8,000 pixels: 64 megapixels")


def test_another_size_is_resized_and_said(folder):
    save(folder / "cat" / "wide.png", 5, height=20, width=30)
    data = read_images(folder)
    assert data.input_shape == (3, 12, 10)
    assert data.notes == ["images resized to height x width 12 x 10: 1 of 9, which are 20 x 30; set size to change this"]
    assert read_images(folder, size=[6, 8]).input_shape == (3, 6, 8)
    assert read_images(folder, size=16).raw([0]).shape == (1, 16, 16, 3)


def test_without_a_size_the_longer_side_is_at_most_224(tmp_path):
    for name in "ab":
        save(tmp_path / name / "1.png", 0, height=200, width=448, channels=1)
    data = read_images(tmp_path)
    assert data.input_shape == (1, 100, 224)
    assert "images resized to height x width 100 x 224: 2 of 2, which are 200 x 448; set size" in notes(data)


@pytest.mark.parametrize("size", [0, [3], [4, -1], "big", [1, 2, 3], 2.5])
def test_a_size_that_is_none(folder, size):
    with pytest.raises(InputError, match="size is"):
        read_images(folder, size=size)


def test_modes_are_converted_and_said(tmp_path):
    """RGBA on white, palette, CMYK, 16-bit grey: all become 8-bit RGB beside one colour picture."""
    grey = noise(3, channels=1)
    made = {
        "a/rgb.png": Image.fromarray(noise(0)),
        "a/clear.png": Image.new("RGBA", (10, 12), (255, 0, 0, 0)),
        "a/cmyk.jpg": Image.new("CMYK", (10, 12), (0, 255, 255, 0)),
        "b/deep.png": Image.fromarray(grey.astype(np.uint16) * 257),
        "b/palette.gif": Image.fromarray(noise(0)).quantize(16),
        "b/bit.png": Image.new("1", (10, 12), 1),
    }
    for name, image in made.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        image.save(tmp_path / name)
    data = read_images(tmp_path)
    raw = dict(zip(data.names, data.raw(np.arange(6))))
    assert data.input_shape == (3, 12, 10)
    np.testing.assert_array_equal(raw["a/clear.png"], 255)
    np.testing.assert_array_equal(raw["b/bit.png"], 255)
    np.testing.assert_array_equal(raw["b/deep.png"], np.repeat(grey[..., None], 3, -1))
    assert np.abs(raw["a/cmyk.jpg"].astype(int) - [255, 0, 0]).max() < 12  # lossy
    assert "converted to 8-bit RGB: 1 of mode 1, 1 of mode CMYK, 1 of mode I;16, 1 of mode P, 1 of mode RGBA" in notes(data)
    assert "with transparency, laid on white: 1" in notes(data)


def test_grey_files_give_one_channel_unless_asked(tmp_path):
    for name in "ab":
        save(tmp_path / name / "1.png", 1, channels=1)
    assert read_images(tmp_path).raw([0]).shape == (1, 12, 10)
    assert read_images(tmp_path, channels=3).raw([0]).shape == (1, 12, 10, 3)
    with pytest.raises(InputError, match="channels is 2. Known: 1, 3"):
        read_images(tmp_path, channels=2)


def test_floating_point_pixels_are_refused_not_guessed(folder):
    Image.fromarray(np.ones((12, 10), np.float32)).save(folder / "cat" / "float.tiff")
    assert "floating-point" in dict(read_images(folder).unreadable)["cat/float.tiff"]


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_honoured(tmp_path, orientation):
    """The eight ways to hold a camera give the same upright picture, whose size decides."""
    upright = noise(7, 16, 8)
    undo = {1: 0, 2: "f", 3: 2, 4: "v", 6: 1, 8: -1}
    stored = {
        5: lambda a: a.swapaxes(0, 1),
        7: lambda a: a[::-1, ::-1].swapaxes(0, 1),
        **{k: (lambda a, t=t: a[:, ::-1] if t == "f" else a[::-1] if t == "v" else np.rot90(a, t)) for k, t in undo.items()},
    }[orientation](upright)
    exif = Image.Exif()
    exif[0x0112] = orientation
    for name in "ab":
        (tmp_path / name).mkdir()
        Image.fromarray(np.ascontiguousarray(stored)).save(tmp_path / name / "1.webp", lossless=True, exif=exif)
    data = read_images(tmp_path)
    np.testing.assert_array_equal(data.raw([0])[0], upright)
    assert ("turned upright" in notes(data)) == (orientation > 1)


def test_hidden_and_macintosh_files_are_passed_over_and_others_noted(folder):
    (folder / "cat" / "._000.png").write_bytes(b"junk")
    (folder / ".git").mkdir()
    (folder / "__MACOSX").mkdir()
    (folder / "cat" / "Thumbs.db").write_bytes(b"junk")
    save(folder / "cat" / "more" / "deep.png", 9)
    (folder / "cat" / "more" / "readme.txt").write_text("about")
    save(folder / "stray.png", 8)
    data = read_images(folder)
    assert len(data) == 9
    assert "cat/more/deep.png" in data.names
    assert data.unreadable == []
    [note] = data.notes
    assert note == "files not used (not images by their ending, or outside of the class folders): 2; first: stray.png"


def test_train_and_test_folders_are_parts(tmp_path):
    for part, count in {"train": 6, "test": 2}.items():
        for k, name in enumerate(["x", "y"]):
            for i in range(count):
                save(tmp_path / part / name / f"{i}.png", 100 * k + 10 * count + i)
    data = read_images(tmp_path)
    assert data.classes == ("x", "y")
    assert {k: len(v) for k, v in data.parts.items()} == {"train": 12, "test": 4}
    assert "folders test, train are taken as parts" in notes(data)
    assert data.split(validation=0.25).test.tolist() == sorted(data.parts["test"].tolist())


def test_more_classes_in_test_than_in_training(tmp_path):
    for name in ["train/x", "train/y", "test/x", "test/z"]:
        for i in range(3):
            save(tmp_path / name / f"{i}.png", sum(map(ord, name)) * 10 + i)
    with pytest.raises(InputError, match=r"the test part has classes that training lacks: 'z' \(rows: 3\)"):
        read_images(tmp_path).split()


def test_a_csv_of_paths_and_labels(folder):
    lines = (
        ["file,kind"] + [f"cat/{i:03}.png,feline" for i in range(4)] + ["dog/000.png,canine", "dog/lost.png,canine", ",canine"]
    )
    (folder / "list.csv").write_text("\n".join(lines))
    data = read_images(folder / "list.csv", image="file", label="kind")
    assert data.classes == ("canine", "feline")
    assert data.y.tolist() == [1, 1, 1, 1, 0]
    assert data.unreadable == [("line 8", "no file is named"), ("dog/lost.png", "no such file")]
    assert data.target == "kind"
    with pytest.raises(InputError, match=r"no column 'label' for the labels .*Known: file, kind"):
        read_images(folder / "list.csv", image="file")
    with pytest.raises(InputError, match=r"no column 'filee' for the image files .*Did you mean 'file'"):
        read_images(folder / "list.csv", image="filee", label="kind")


def test_a_csv_with_missing_labels(folder):
    (folder / "list.csv").write_text("path,label\ncat/000.png,a\ncat/001.png,\ncat/002.png,b\n")
    with pytest.raises(InputError, match=r"target 'label' is missing in 1 of 3 rows \(first in .*list.csv, line 3\)"):
        read_images(folder / "list.csv")


def test_several_labels_and_numbers(folder):
    (folder / "m.csv").write_text("path,label\ncat/000.png,furry|small\ncat/001.png,small\ncat/002.png,\n")
    data = read_images(folder / "m.csv")
    assert (data.task, data.classes) == ("multilabel", ("furry", "small"))
    assert data.y.tolist() == [[1, 1], [0, 1], [0, 0]]
    assert "rows without any label: 1" in notes(data)
    (folder / "r.csv").write_text("path,label\ncat/000.png,0.5\ncat/001.png,1.5\ncat/002.png,3\n")
    assert read_images(folder / "r.csv").task == "regression"


def test_nothing_readable(tmp_path):
    for name in "ab":
        (tmp_path / name).mkdir()
        (tmp_path / name / "1.png").write_bytes(b"?")
    with pytest.raises(InputError, match=r"no image in '.*' can be read \(a/1.png: not an image in a known format\)"):
        read_images(tmp_path)


def test_headers_do_not_decode(folder, monkeypatch):
    monkeypatch.setattr(Image.Image, "load", lambda self: pytest.fail("decoded"))
    assert headers([folder / "cat" / "000.png"]) == [Header(12, 10, "RGB")]


def test_several_frames_are_said(folder):
    frames = [Image.fromarray(noise(i)) for i in range(2)]
    frames[0].save(folder / "cat" / "film.gif", save_all=True, append_images=frames[1:])
    assert "with several frames, of which the first is used: 1" in notes(read_images(folder))


def test_large_jpegs_keep_their_picture(tmp_path):
    """Draft decoding (1/2 to 1/8) stays within a few grey levels of the whole picture averaged down."""
    y, x = np.mgrid[:1200, :900]
    smooth = np.stack([x * 255 / 900, y * 255 / 1200, 128 + 0 * x], -1).astype(np.uint8)
    for name in "ab":
        (tmp_path / name).mkdir()
        Image.fromarray(smooth).save(tmp_path / name / "1.jpg", quality=95)
    got = read_images(tmp_path, size=[64, 48]).raw([0])[0]
    want = np.asarray(Image.fromarray(smooth).resize((48, 64), Image.Resampling.BILINEAR))
    assert np.abs(got.astype(int) - want).max() <= 5

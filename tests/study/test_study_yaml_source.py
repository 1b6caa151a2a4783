from __future__ import annotations

import pytest

from pellucid.core.errors import InputError
from pellucid.study.yaml_source import MOST_BYTES, YamlSource, dump


def test_lines_of_keys_items_and_what_is_missing():
    source = YamlSource("a: 1\nb:\n  c: 2\n  d:\n    - x\n    - y\n")
    assert [source.line(loc) for loc in [("a",), ("b",), ("b", "c"), ("b", "d", 1), ("b", "nix"), ()]] == [1, 2, 3, 6, 2, 1]


def test_numbers_as_people_write_them():
    """YAML 1.1 reads 1e-3 as text."""
    value = YamlSource("a: 1e-3\nb: 1.5E+2\nc: -2e5\nd: .5e1\ne: 1e\nf: '1e-3'").value
    assert value == {"a": 0.001, "b": 150.0, "c": -2e5, "d": 5.0, "e": "1e", "f": "1e-3"}


@pytest.mark.parametrize(
    "value", [{"a": "1e-3", "b": 1e-5, "c": [1, 2.5, None, True], "d": {"e": "no", "f": "ü: x"}}, {"a": []}]
)
def test_what_is_dumped_is_read_back(value):
    assert YamlSource(dump(value)).value == value


@pytest.mark.parametrize(
    ("text", "what", "place"),
    [
        ("a: 1\na: 2", "'a' is given twice", "lines 1 and 2"),
        ("x: 0\nb:\n  c: 1\n  d: 2\n  c: 3", "'c' is given twice", "lines 3 and 5"),
        ("a: 1\nb: [1, 2", "not valid YAML", "line 2"),
        ("a: b: c", "not valid YAML: mapping values are not allowed", "line 1, column 5"),
        ("a:\n\tb: 1", "not valid YAML", "line 2, column 1"),
        ("a: !!python/object/apply:os.system [x]", "not valid YAML: could not determine a constructor", "line 1"),
        ("a: !import x", "not valid YAML: could not determine a constructor", "line 1"),
        ("- a\n- b", "a study is a block of 'key: value' lines", "line 1"),
        ("just text", "a study is a block of 'key: value' lines", "line 1"),
        ("a: 1\n---\nb: 2", "not valid YAML", "line 2"),
        ("a: &x [*x]", "an alias contains itself", "line 1"),
        ("a: \x07", "not valid YAML", "study.yaml"),
    ],
)
def test_bad_text_is_refused_with_its_place(text, what, place):
    with pytest.raises(InputError) as error:
        YamlSource(text, "study.yaml")
    assert what in error.value.what
    assert place in str(error.value.where)
    assert "study.yaml" in str(error.value.where)
    assert error.value.cure


def test_aliases_are_walked_once():
    """Nine levels of nine aliases would be a billion nodes."""
    lines = ["a0: &a0 [1, 1]"] + [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]" for i in range(1, 10)]
    assert len(YamlSource("\n".join(lines)).value) == 10


def test_files_that_are_no_text(tmp_path):
    latin = tmp_path / "latin.yaml"
    latin.write_bytes("name: a\nother: Größe".encode("latin-1"))
    with pytest.raises(InputError, match=r"not UTF-8 text .*latin.yaml, line 2.*Save the file as UTF-8"):
        YamlSource.read(latin)
    large = tmp_path / "large.yaml"
    large.write_bytes(b"#" * (MOST_BYTES + 1))
    with pytest.raises(InputError, match="too large for a study"):
        YamlSource.read(large)
    with pytest.raises(InputError, match="cannot read the study: No such file"):
        YamlSource.read(tmp_path / "nix.yaml")


def test_a_byte_order_mark_is_no_key(tmp_path):
    path = tmp_path / "bom.yaml"
    path.write_bytes("name: x".encode("utf-8-sig"))
    assert YamlSource.read(path).value == {"name": "x"}


def test_an_empty_file_has_no_keys():
    assert YamlSource("").value == {}
    assert YamlSource("# nothing\n").value == {}

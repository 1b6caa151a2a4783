"""YAML with line numbers: plain values only, no key twice, and every message points into the file."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from pellucid.core.errors import InputError

# A study is written by hand; a larger file is something else (and aliases could blow it up).
MOST_BYTES = 1 << 20
# YAML 1.1 reads `1e-3` as text because it has no dot; everybody who writes it means the number.
NUMBER = re.compile(r"^[-+]?(\d+\.?\d*|\.\d+)[eE][-+]?\d+$")


class Loader(yaml.SafeLoader):
    """PyYAML's safe loader that also knows ``1e-3``."""


class Dumper(yaml.SafeDumper):
    """The safe dumper whose output ``Loader`` reads back as it was."""

    def increase_indent(self, flow: bool = False, indentless: bool = False) -> None:
        """Indent lists below their key."""
        super().increase_indent(flow, False)


for _class in (Loader, Dumper):
    _class.add_implicit_resolver("tag:yaml.org,2002:float", NUMBER, list("-+.0123456789"))


class YamlSource:
    """One YAML text: its ``value`` (dicts, lists, text, numbers) and the line of every key.

    Refuses what YAML lets through and a person never means: a key twice, a list in place of the mapping,
    an alias that contains itself, tags that would build objects.
    """

    def __init__(self, text: str, file: str | Path = "study") -> None:
        self.file = str(file)
        try:
            self._root = yaml.compose(text, Loader=Loader)
            self._walked: set[int] = set()
            self._refuse_repeats(self._root, ())
            self.value: Any = yaml.load(text, Loader=Loader)
        except yaml.MarkedYAMLError as error:
            mark = error.problem_mark or error.context_mark
            place = f"{self.file}, line {mark.line + 1}, column {mark.column + 1}" if mark else self.file
            raise InputError(f"not valid YAML: {error.problem or error.context}", where=place, cure=_cure(error)) from error
        except yaml.YAMLError as error:
            raise InputError(
                f"not valid YAML: {str(error).splitlines()[0]}", where=self.file, cure="Remove that character."
            ) from error
        if self.value is None:
            self.value = {}
        if not isinstance(self.value, dict):
            raise InputError(
                "a study is a block of 'key: value' lines", where=f"{self.file}, line 1", cure="Begin with 'data:'."
            )

    @classmethod
    def read(cls, path: Path) -> YamlSource:
        """The file as text; not UTF-8, too large or unreadable is said as such."""
        try:
            raw = path.read_bytes()
            if len(raw) > MOST_BYTES:
                raise InputError(
                    f"{len(raw):,} bytes is too large for a study", where=path, cure="Give the YAML file of a study."
                )
            return cls(raw.decode("utf-8-sig"), path)
        except UnicodeDecodeError as error:
            line = raw[: error.start].count(b"\n") + 1
            raise InputError("not UTF-8 text", where=f"{path}, line {line}", cure="Save the file as UTF-8.") from error
        except OSError as error:
            raise InputError(
                f"cannot read the study: {error.strerror}", where=path, cure="Check the path and its permissions."
            ) from error

    def line(self, loc: tuple[int | str, ...]) -> int:
        """The line of the deepest part of ``loc`` that the text has (from 1)."""
        node, line = self._root, 1
        for step in loc:
            found = next(((k, v) for key, k, v in _children(node) if key == step), None)
            if found is None:
                break
            node, line = found[1], found[0].start_mark.line + 1
        return line

    def place(self, *loc: int | str) -> str:
        """``file, line n`` for a message."""
        return f"{self.file}, line {self.line(loc)}"

    def _refuse_repeats(self, node: yaml.Node | None, above: tuple[int, ...]) -> None:
        if node is None:
            return
        if id(node) in above:
            raise InputError(
                "an alias contains itself", where=f"{self.file}, line {node.start_mark.line + 1}", cure="Write it out."
            )
        if id(node) in self._walked:
            return
        self._walked.add(id(node))
        seen: dict[Any, int] = {}
        for key, key_node, value in _children(node):
            line = key_node.start_mark.line + 1
            if key in seen and isinstance(node, yaml.MappingNode):
                raise InputError(
                    f"'{key}' is given twice", where=f"{self.file}, lines {seen[key]} and {line}", cure="Keep one of them."
                )
            seen[key] = line
            self._refuse_repeats(value, (*above, id(node)))


def _children(node: yaml.Node | None) -> Iterator[tuple[Any, yaml.Node, yaml.Node]]:
    """(key, node of the key, node of the value) of a mapping or a list."""
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            yield (key.value if isinstance(key, yaml.ScalarNode) else id(key)), key, value
    elif isinstance(node, yaml.SequenceNode):
        for index, value in enumerate(node.value):
            yield index, value, value


def _cure(error: yaml.MarkedYAMLError) -> str:
    text = f"{error.problem} {error.context}"
    if "\\t" in text:
        return "Indent with spaces, not with tabs."
    if "could not determine a constructor" in text:
        return "Remove the '!' tag: a study holds plain values only."
    if "mapping values are not allowed" in text or "could not find expected ':'" in text:
        return "Check the indentation, the colons (one space after each), and put text with a colon in quotes."
    return "Check the indentation, brackets and quotes around that line."


def dump(value: Any) -> str:
    """YAML that ``YamlSource`` reads back to ``value``: keys in their order, short lists on one line."""
    return str(yaml.dump(value, Dumper=Dumper, sort_keys=False, allow_unicode=True, width=120))

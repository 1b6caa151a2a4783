"""The README is executed: its Python prints what it says, its commands exist, it has what a newcomer needs."""

from __future__ import annotations

import contextlib
import io
import re
from pathlib import Path

import pytest

from pellucid.cli.main import app

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "README.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", TEXT, re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("example", range(len(blocks("python"))))
def test_python_prints_what_the_readme_says(example, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code = blocks("python")[example]
    said = TEXT.split("prints\n\n```\n")[1 + example].split("```")[0]
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        exec(compile(code, "README.md", "exec"), {})

    def read(text: str) -> list[tuple[str, float]]:
        return [(line.split()[0], float(re.search(r"(\d+)%", line)[1])) for line in text.strip().splitlines()]

    # Another processor may round a training differently: the names exactly, the percentages to 10 points.
    assert [name for name, _ in read(out.getvalue())] == [name for name, _ in read(said)]
    assert all(abs(a - b) <= 10 for (_, a), (_, b) in zip(read(out.getvalue()), read(said)))


def test_commands_exist():
    verbs = {command.name for command in app.registered_commands}
    named = set(re.findall(r"pellucid (\w+) ", " ".join(blocks(""))))
    assert named
    assert named <= verbs
    targets = set(re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    assert set(re.findall(r"^make (\w+)", "\n".join(blocks("")), re.MULTILINE)) <= targets


def test_two_commands_and_a_picture():
    assert blocks("")[0].count("make ") == 2
    assert (ROOT / "docs" / "report.png").stat().st_size < 600_000

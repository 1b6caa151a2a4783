from __future__ import annotations

import re
from html.parser import HTMLParser

import pytest

from pellucid.core.errors import InputError
from pellucid.study import pipeline
from pellucid.study import report_tables as tables
from pellucid.study.report import write_report
from pellucid.study.run_directory import RunDirectory
from pellucid.study.specification import load_study
from study.tiny_studies import table_study

SECTIONS = ["result", "data", "model", "training", "evaluation", "explanations", "quality", "reproduce"]
VOID = {"meta", "img", "br", "link", "hr", "input"}


class Page(HTMLParser):
    """Tags, links and pictures; ``faults`` holds tags that are not closed in order."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.faults: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)
        self.faults += self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if not self.open or self.open.pop() != tag:
            self.faults.append(f"/{tag}")

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


@pytest.fixture(scope="module", params=["image_run", "table_run"])
def page(request):
    return Page((request.getfixturevalue(request.param) / "report.html").read_text(encoding="utf-8"))


def test_the_reader_of_the_tests_sees_faults():
    assert Page("<p><b></p>").faults
    assert not Page("<p><b></b></p>").faults


def test_nothing_outside_the_file(page):
    """L1: one self-contained file, no script."""
    names = {tag for tag, _ in page.tags}
    assert not names & {"script", "link", "iframe", "object", "embed", "video", "audio", "base", "form"}
    for tag, attributes in page.tags:
        for key in ("src", "href", "srcset", "data", "action", "poster"):
            value = attributes.get(key)
            assert value is None or value.startswith(("data:image/", "#")), (tag, value)
        assert not any(key.startswith("on") for key in attributes)


def test_style_loads_nothing(image_run):
    text = (image_run / "report.html").read_text()
    style = text[text.index("<style>") : text.index("</style>")]
    assert "url(" not in style
    assert "@import" not in style
    assert "default-src 'none'" in text


def test_tags_are_closed_ids_are_unique_and_links_arrive(page):
    assert page.faults == []
    ids = [a["id"] for _, a in page.tags if "id" in a]
    assert len(ids) == len(set(ids))
    links = [a["href"][1:] for a in page.all("a")]
    assert set(links) <= set(ids)
    assert [i for i in links if i in SECTIONS][-8:] == SECTIONS
    assert [a["id"] for a in page.all("section")] == SECTIONS


def test_pictures_have_words(page):
    pictures = page.all("img")
    assert len(pictures) >= 7
    assert all(len(a["alt"]) > 15 and int(a["width"]) > 100 for a in pictures)


def test_the_numbers_are_those_of_the_run(image_run):
    text = (image_run / "report.html").read_text()
    run = RunDirectory.open(image_run)
    test = run.read_json("evaluation.json")["test"]
    assert tables.percent(test["accuracy"]) in text
    assert tables.percent(1 - test["error_interval"]["upper"]) in text
    for name in run.read_json("quality.json")["methods"]:
        assert f"<code>{name}</code>" in text
    assert "sanity check passed" in text
    assert "sanity check failed" in text
    assert run.read_json("data.json")["fingerprint"] in text
    assert "pellucid run " in text
    assert "seed: 0" in text


def test_a_report_is_written_the_same_again(own_table_run):
    before = own_table_run.report.read_text()
    write_report(own_table_run)
    assert own_table_run.report.read_text().replace("own", "") == before.replace("own", "")


def test_empty_parts_say_why(tmp_path):
    replace = {"explanation: {samples: 3}": "explanation: {methods: []}"}
    study = load_study(table_study(tmp_path, **replace))
    run = pipeline.run_study(study, tmp_path / "run", until="data")
    text = write_report(run).read_text()
    for words in (
        "has not been evaluated yet",
        "training is not finished",
        "no metrics yet",
        "Nothing was explained",
        "not been measured",
    ):
        assert words in text
    assert Page(text).faults == []
    pipeline.resume(RunDirectory.open(run.path))
    text = run.report.read_text()
    assert "Nothing was explained: the study asks for no method" in text
    assert "has not been evaluated yet" not in text


def test_a_run_without_data_has_no_report(tmp_path):
    run = RunDirectory.create("x", tmp_path / "run")
    with pytest.raises(InputError, match="nothing to report yet"):
        write_report(run)


def test_names_from_the_data_are_text_not_markup(tmp_path):
    """A class or column called like a tag must not become one."""
    path = table_study(
        tmp_path, **{"{samples: 3}": "{samples: 2, methods: [gradient]}", "{samples: 4, ran": "{samples: 0, ran"}
    )
    csv = tmp_path / "pets.csv"
    csv.write_text(csv.read_text().replace("colour", "<script>alert(1)</script>").replace("cat", "<b>cat & dog</b>"))
    run = pipeline.run_study(load_study(path), tmp_path / "run")
    text = run.report.read_text()
    assert "<script" not in text
    assert "<b>cat" not in text
    assert "&lt;b&gt;cat &amp; dog&lt;/b&gt;" in text


@pytest.mark.parametrize(
    ("values", "shown"),
    [
        ([0.12345, 1.0], ["0.123", "1.000"]),
        ([1234.5, 2.0], ["1,234.5", "2.0"]),
        ([None, -0.5], ["–", "−0.500"]),
        ([-1e-9], ["0.000"]),
    ],
)
def test_columns_are_aligned(values, shown):
    assert tables.aligned(values) == shown


@pytest.mark.parametrize(
    ("value", "shown"),
    [(None, "–"), (12345, "12,345"), (0.00001, "1.000e−05"), (0.25, "0.25"), (-3.0, "−3"), (True, "yes"), (12345.6, "12,346")],
)
def test_numbers(value, shown):
    assert tables.number(value) == shown


def _quality(**passed: bool) -> dict:
    return {
        "methods": {
            name: {
                "faithfulness": {"plain": {"apd": 0.1 * i, "ir": 0.2}, "area": {"apd": 0.1 * i}},
                "randomisation": {"passed": good, "verdict": "words"},
            }
            for i, (name, good) in enumerate(passed.items(), 1)
        }
    }


def test_the_conclusion_orders_by_faithfulness_and_leaves_out_what_fails():
    text = tables.conclusion(_quality(occlusion=False, gradient=True, smoothgrad=True, edge_detector=False))
    assert re.search(r"Most faithful here.*gradient \(20.%\), smoothgrad \(30.%\)\.", text)
    assert "Doubtful here, as the sanity check fails: occlusion." in text
    assert "edge_detector" not in text
    assert "Every method" in tables.conclusion(_quality(gradient=True, edge_detector=False))


def test_verdicts_are_set_against_the_edge_detector():
    said = dict(tables.verdicts(_quality(gradient=True, smoothgrad=True, edge_detector=False, occlusion=True)))
    assert any("keeps more of the evidence than the edge detector" in line for line in said["gradient"])
    assert any("keeps less of the evidence" in line for line in said["occlusion"])
    assert "has to fail the sanity check" in said["edge_detector"][0]
    assert said["gradient"][-1] == "Sanity check: words."

"""The page as text: escaped, self-contained, the same from the folder alone."""

from __future__ import annotations

import dataclasses
import importlib.util
import json
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from dfqonnx.errors import UsageError
from dfqonnx.evaluation.measures.task_measure import TaskMeasure
from dfqonnx.report import report as m
from dfqonnx.report.files import read_report, rewrite_page
from dfqonnx.report.html import chart_set as plots
from dfqonnx.report.html.images import data_uri
from dfqonnx.report.html.page import render_report
from dfqonnx.report.sections import AgreementFacts
from tests.pages.conftest import EVIL, full_report

EMPTY = m.Report(teacher=m.ModelFacts("a.onnx"), student=m.ModelFacts("b.onnx"))


class Tags(HTMLParser):
    """Collects every start tag."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))


def test_the_page_of_a_report_is_the_same_from_its_folder_alone(folder: Path) -> None:
    first = (folder / "report.html").read_text()
    report, page = rewrite_page(folder)
    assert page.read_text() == first
    assert report == dataclasses.replace(full_report(), files=report.files)


def test_classes_are_called_by_name_where_names_are_known() -> None:
    page = render_report(full_report())
    assert 'data-value="2">dog</td>' in page
    unnamed = render_report(dataclasses.replace(full_report(), class_names=()))
    assert 'data-value="2">2</td>' in unnamed


def test_the_untrained_student_stands_beside_the_trained_one_with_its_labeled_accuracy() -> None:
    assert "<span>85.50 %</span>" in render_report(full_report())


def test_no_name_out_of_a_model_becomes_a_tag_or_an_attribute() -> None:
    found = Tags(render_report(full_report())).tags
    assert not [tag for tag in found if "onerror" in tag[1] or tag[1].get("src") == "x"]
    assert sum(tag == "script" for tag, _ in found) == 1
    assert EVIL not in render_report(full_report())


def test_the_page_refers_to_nothing_outside_and_its_policy_forbids_it(folder: Path) -> None:
    found = Tags((folder / "report.html").read_text()).tags
    targets = [v for _, attrs in found for k, v in attrs.items() if k in ("src", "href")]
    assert targets
    assert all(v is not None and v.startswith(("#", "data:")) for v in targets)
    policy = next(attrs["content"] for tag, attrs in found if "http-equiv" in attrs)
    assert policy is not None
    assert policy.startswith("default-src 'none'")
    assert "script-src 'sha256-" in policy


def test_links_lead_to_anchors_that_are_there(folder: Path) -> None:
    found = Tags((folder / "report.html").read_text()).tags
    anchors = {attrs.get("id") for _, attrs in found}
    links = {attrs.get("href") or attrs.get("xlink:href") for tag, attrs in found if tag == "a"}
    assert {link[1:] for link in links if link} <= anchors


def test_a_report_with_nothing_in_it_still_gives_a_page() -> None:
    page = render_report(EMPTY)
    assert "nothing was measured" in page
    assert "<svg" not in page


def test_without_matplotlib_the_page_says_how_to_get_charts(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    real = importlib.util.find_spec
    monkeypatch.setattr(
        plots.importlib.util,
        "find_spec",
        lambda name: None if name == "matplotlib" else real(name),
    )
    page = render_report(full_report())
    assert "pip install matplotlib" in page
    assert "<svg" not in page


def test_images_that_do_not_fit_the_report_are_left_out(folder: Path) -> None:
    few = np.zeros((3, 32, 32, 3), np.uint8)
    assert 'id="images"' not in render_report(full_report(), few)
    np.savez(folder / "synthetic" / "images.npz", x=np.zeros(3))
    rewrite_page(folder)
    assert 'id="images"' not in (folder / "report.html").read_text()


def test_a_large_network_keeps_the_page_far_below_five_megabytes() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (12, 224, 224, 3), dtype=np.uint8)
    assert len(render_report(full_report(400), pixels)) < 2_000_000


@pytest.mark.parametrize(("side", "kind"), [(32, "png"), (224, "jpeg")])
@pytest.mark.parametrize("channels", [1, 3])
def test_small_images_stay_exact_and_large_ones_are_scaled_down(
    side: int, kind: str, channels: int
) -> None:
    uri = data_uri(np.full((side, side, channels), 7, np.uint8))
    assert uri.startswith(f"data:image/{kind};base64,")
    assert len(uri) < 4000


def test_lists_of_numbers_take_one_line_in_the_json() -> None:
    text = full_report().to_json()
    assert re.search(r'"counts": \[\s?\d+, \d+', text)
    assert len(text.splitlines()) < 700


def test_what_a_later_version_adds_is_passed_over(folder: Path) -> None:
    path = folder / "report.json"
    content = json.loads(path.read_text())
    path.write_text(json.dumps({**content, "future": {"x": 1}}))
    assert read_report(folder).drop == full_report().drop


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{", "not a readable report"),
        ("[]", "schema is None"),
        ('{"schema": "dfqonnx.report/9"}', "dfqonnx.report/9"),
        ('{"schema": "dfqonnx.report/3"}', "teacher"),
    ],
)
def test_a_damaged_report_is_told_by_file_and_key(tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / "report.json").write_text(text)
    with pytest.raises(UsageError, match=re.escape(words)):
        read_report(tmp_path)


def test_a_folder_without_report_is_told(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"has no report\.json"):
        read_report(tmp_path)


def test_the_measure_of_a_task_has_a_tile_before_that_of_the_noise() -> None:
    boxes = TaskMeasure(
        name="map50", task="boxes", truth="labels", teacher=0.34, student=0.33, n=128,
        inputs="evaluation", meaning="how well boxes fit",
    )  # fmt: skip
    report = dataclasses.replace(
        EMPTY, measures=(boxes,), agreement=AgreementFacts(sqnr_db=20.0, images=128)
    )
    page = render_report(report)
    start = page.index('id="main-measure"')
    assert "<b>0.33</b><span>map50, 0.34 for the float model" in page[start : start + 200]
    assert "n = 128 evaluation inputs" in page[start : start + 200]
    assert start < page.index("SQNR of the worst output")
    assert 'id="main-measure"' not in render_report(EMPTY)

"""The pages in a real browser: nothing is fetched, nothing breaks, everything can be read."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from dfqonnx.evaluation.measures.task_measure import TaskMeasure
from dfqonnx.report.comparison import ComparedStudent, ComparisonTable
from dfqonnx.report.html.comparison_page import write_page
from tests.pages.conftest import full_report

PHONE, DESK = 390, 1280
MAP50 = TaskMeasure(
    name="a_measure_of_boxes", task="boxes", truth="labels", teacher=0.3412, student=0.3355,
    n=128, inputs="evaluation", meaning="how well boxes fit",
)  # fmt: skip


@dataclass
class Visit:
    """An open page, and what happened while it opened."""

    page: Any
    complaints: list[str] = field(default_factory=list)
    fetched: list[str] = field(default_factory=list)


@pytest.fixture
def visit(browser: Any, folder: Path) -> Iterator[Visit]:
    page = browser.new_page()
    found = Visit(page)
    page.on("console", lambda message: found.complaints.append(message.text))
    page.on("pageerror", lambda error: found.complaints.append(str(error)))
    page.on("request", lambda request: found.fetched.append(request.url))
    page.set_viewport_size({"width": DESK, "height": 900})
    page.goto((folder / "report.html").as_uri())
    yield found
    page.close()


def test_the_page_opens_without_a_complaint_and_fetches_nothing_but_itself(visit: Visit) -> None:
    outside = [url for url in visit.fetched[1:] if not url.startswith("data:")]
    assert visit.complaints == []
    assert outside == []


def test_every_image_is_there(visit: Visit) -> None:
    widths = visit.page.eval_on_selector_all("img", "all => all.map(i => i.naturalWidth)")
    assert len(widths) == 12 + 4  # by class, and those on which the two part
    assert min(widths) > 0


def test_names_out_of_a_model_stay_text(visit: Visit) -> None:
    assert visit.page.title() == "inconclusive: net.w4a4.onnx"
    assert visit.page.locator("img[src=x]").count() == 0
    assert visit.page.get_by_text("onerror=").count() > 5


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [PHONE, DESK])
def test_nothing_sticks_out_sideways_and_text_can_be_read(
    visit: Visit, width: int, scheme: str
) -> None:
    visit.page.set_viewport_size({"width": width, "height": 800})
    visit.page.emulate_media(color_scheme=scheme)
    visit.page.eval_on_selector_all("details", "all => all.forEach(d => d.open = true)")
    assert visit.page.evaluate("document.documentElement.scrollWidth") <= width
    colors = visit.page.evaluate(
        "(() => { const s = getComputedStyle(document.querySelector('section'));"
        " return [s.color, s.backgroundColor]; })()"
    )
    brightness = [sum(map(int, c[4:-1].split(","))) for c in colors]
    assert abs(brightness[0] - brightness[1]) > 500  # of 765: ink and paper are far apart
    assert (brightness[0] > brightness[1]) == (scheme == "dark")


def test_a_press_on_a_head_sorts_by_value_and_a_second_one_turns_it_round(visit: Visit) -> None:
    def column() -> list[float]:
        texts = visit.page.locator("#layer-table tbody td:nth-child(5)").all_inner_texts()
        return [float(text) for text in texts]

    head = visit.page.locator("#layer-table thead th").nth(4)
    before = column()
    head.get_by_role("button").click()
    assert column() == sorted(before)
    assert head.get_attribute("aria-sort") == "ascending"
    head.get_by_role("button").click()
    assert column() == sorted(before, reverse=True)


def test_a_layer_leads_to_its_place_in_the_folded_graph(visit: Visit) -> None:
    place = visit.page.locator("#n2")
    assert not place.is_visible()
    visit.page.locator("#layer-table a[href='#n2']").click()
    place.wait_for(state="visible")
    assert "conv2" in place.inner_text()


def test_charts_stand_in_the_page_and_follow_its_colors(visit: Visit) -> None:
    assert visit.page.locator("svg").count() == 3 + 4 + 2  # charts, weights, activations
    visit.page.emulate_media(color_scheme="dark")
    fill = "getComputedStyle(document.querySelector('#layers svg a path')).fill"
    dark = visit.page.evaluate(fill)
    visit.page.emulate_media(color_scheme="light")
    assert visit.page.evaluate(fill) != dark


def test_the_report_that_is_shown_has_every_section() -> None:
    report = full_report()
    assert None not in (report.layer_noise, report.training, report.held_out_classes, report.audit)


@pytest.mark.parametrize("width", [PHONE, 800, DESK])
def test_no_cell_of_a_comparison_is_cut(browser: Any, tmp_path: Path, width: int) -> None:
    path = "/a/folder/with/a/long/name/" * 4 + "net.onnx"
    report = dataclasses.replace(full_report(), measures=(MAP50,))
    table = ComparisonTable(
        teacher=dataclasses.replace(report.teacher, path=path),
        images="ten",
        students=(
            *(ComparedStudent(name, name, report) for name in ("near", path, "far" * 30)),
            ComparedStudent("bad", path, None, f"{path} does not fit"),
        ),
        preprocess={},
    )
    write_page(table, tmp_path / "compare.html")
    page = browser.new_page()
    page.set_viewport_size({"width": width, "height": 900})
    page.goto((tmp_path / "compare.html").as_uri())
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    scroll = "(() => { const s = document.querySelector('.scroll'); return"
    assert page.evaluate(f"{scroll} s.scrollWidth - s.clientWidth; }})()") <= 0
    page.close()

"""The page of a frontier: every number has its name, also where the table is laid out in cards."""

from __future__ import annotations

import re

import pytest

from dfqonnx.core.bit_choice import StudentForecast
from dfqonnx.report.frontier_data import Frontier, FrontierPoint
from dfqonnx.report.html.frontier_page import render_frontier


def student(size: int, loss: float, *, measure: str = "") -> FrontierPoint:
    return FrontierPoint(
        forecast=StudentForecast(name="mixed", noise=0.01, drop=None, bytes=size, speed=1.5),
        is_mixed=True,
        widths="3 x w8a8",
        command="dfqonnx run net.onnx",
        measured=loss if measure else None,
        measure=measure,
    )


def page_of(*points: FrontierPoint) -> str:
    return render_frontier(
        Frontier(model="net.onnx", target="size", bytes=1000, points=points, unit="drop", images=8)
    )


def test_cells_have_labels_and_columns_without_numbers_are_left_out() -> None:
    page = page_of(student(100, 0.9, measure="map50"), student(200, 0.1, measure="map50"))
    cells = re.findall(r"<td([^>]*)>", page)
    assert cells
    assert all("data-label=" in cell for cell in cells)
    assert "measured, map50" in page
    assert "drop estimated" not in page
    assert len(re.findall(r"<tr[^>]*>", page)) == 3


def test_the_student_that_is_proposed_and_those_that_are_beaten_are_named() -> None:
    page = page_of(
        student(100, 0.4, measure="points"),
        student(200, 0.6, measure="points"),
        student(300, 0.1, measure="points"),
    )
    assert page.count("(proposed)") == 2  # in the table and among the commands
    rows = re.findall(r'data-label="beaten by">([^<]*)<', page)
    assert rows == ["", "1", ""]


@pytest.mark.parametrize("losses", [(0.04, 0.08), (-0.1, 0.3), (0.02, 5.0), (0.5, 0.5)])
def test_the_axis_of_losses_has_numbers(losses: tuple[float, float]) -> None:
    points = [student(100 + k, loss, measure="points") for k, loss in enumerate(losses)]
    charts = re.findall(r"<svg.*?</svg>", page_of(*points), re.DOTALL)
    assert len(charts) == 2
    for chart in charts:
        texts = [text.replace("\u2212", "-") for text in re.findall(r">([^<>]+)</text>", chart)]
        numbers = {float(text) for text in texts if re.fullmatch(r"-?[0-9.]+", text)}
        near = {value for value in numbers if min(losses) - 0.5 <= value <= max(losses) * 1.5}
        assert len(near) >= 2

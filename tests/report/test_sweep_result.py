"""Fronts, tables, JUnit and the comparison with an earlier sweep."""

from __future__ import annotations

import itertools
import json
import math
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
import xmlschema

from dfqonnx.errors import UsageError
from dfqonnx.evaluation.statistics import wilson_interval
from dfqonnx.report.html.sweep_page import render_sweep
from dfqonnx.report.since import compare_sweeps, mover_low
from dfqonnx.report.sweep_files import format_sweep, format_sweep_junit
from dfqonnx.report.sweep_result import (
    QualityFigure,
    Status,
    SweepResult,
    SweepRow,
    choose_quality,
    find_front,
)
from dfqonnx.report.sweep_table import read_rows, write_parquet

EVIL = "<img src=x onerror=alert(1)>::error::\n&"


def row(
    seed: int = 0, *, loss: float = 1.0, reach: float = 0.5, size: float = 1000, speed: float = 2.0,
    status: Status = "complete", reason: str = "", model: str = "net",
) -> SweepRow:  # fmt: skip
    drop = QualityFigure(
        name="drop", value=loss, low=loss - reach, high=loss + reach, unit=" points"
    )
    figures = {
        "bytes": size, "speedup": speed, "speedup-low": speed - 0.01,
        "speedup-high": speed + 0.01, "float-nodes": 0.0, "seconds": 1.5,
    }  # fmt: skip
    is_there = status in {"complete", "gate failed"}
    return SweepRow(
        task=f"{model}-s{seed}", model=model, model_location=f"{model}.onnx", bits="w4a8",
        target="onnxruntime-cpu", recipe="ptq", seed=seed, status=status, reason=reason,
        qualities=(drop,) if is_there else (), figures=figures if is_there else {},
        model_sha256="ab", folder=f"tasks/{model}-s{seed}",
    )  # fmt: skip


def result(*rows: SweepRow) -> SweepResult:
    return SweepResult(
        name="many", rows=rows, engine="this process", created="2026-01-02T03:04:05",
        seconds=9.5, version="0.0",
    )  # fmt: skip


def test_the_front_is_what_no_other_point_dominates() -> None:
    rng = np.random.default_rng(0)
    for count in (1, 2, 5, 40):
        for _ in range(50):
            points = {str(k): tuple(map(int, rng.integers(0, 8, 2))) for k in range(count)}
            brute = {
                name
                for name, a in points.items()
                if not any(b[0] <= a[0] and b[1] <= a[1] and b != a for b in points.values())
            }
            assert find_front({n: (p[0], p[1]) for n, p in points.items()}) == brute


def test_the_fronts_of_a_sweep_are_of_quality_against_bytes_and_speed() -> None:
    rows = (
        row(0, loss=0.1, size=400, speed=1.0),
        row(1, loss=0.5, size=200, speed=3.0),
        row(2, loss=0.6, size=300, speed=2.0),
        row(3, status="unsupported", reason="no"),
    )
    found = result(*rows)
    assert found.front("net", "bytes") == {"net-s0", "net-s1"}
    assert found.front("net", "speedup") == {"net-s0", "net-s1"}
    assert found.exit_code == 1
    assert found.describe_counts() == "3 complete, 1 unsupported"


def test_tasks_are_compared_by_the_measure_that_most_have() -> None:
    share = QualityFigure(name="agreement", value=99, unit=" %", higher_is_better=True)
    both = replace(row(0), qualities=(*row(0).qualities, share))
    one = replace(row(1), qualities=(share,))
    assert choose_quality([both, both]) == "drop"
    assert choose_quality([both, one]) == "agreement"
    assert choose_quality([]) is None


def test_the_interval_of_a_difference_is_that_of_newcombe() -> None:
    """Newcombe (1998), method 10, example (a): 56/70 against 48/80 is 0.0524 to 0.3339."""
    first, second = wilson_interval(56, 70), wilson_interval(48, 80)
    low = mover_low((second.value, second.high), (first.value, first.low))
    assert low == pytest.approx(0.0524, abs=5e-5)


@pytest.mark.parametrize(
    ("before", "now", "worse"),
    [
        (row(), row(), []),
        (row(loss=1.0), row(loss=1.6), []),  # 0.6 within sqrt(0.5^2 + 0.5^2) = 0.707
        (row(loss=1.0), row(loss=1.8), ["drop"]),
        (row(loss=1.8), row(loss=1.0), []),
        (row(loss=1.0, reach=0), row(loss=1.001, reach=0), ["drop"]),
        (row(size=1000), row(size=1009), []),
        (row(size=1000), row(size=1011), ["the size"]),
        (row(speed=2.0), row(speed=1.95), []),
        (row(speed=2.0), row(speed=1.8), ["the speedup"]),
        (row(speed=2.0), row(speed=2.5), []),
        (row(), row(status="failed", reason="why"), ["the outcome"]),
        (row(), row(status="gate failed"), ["the outcome"]),
        (row(status="gate failed"), row(status="lost"), ["the outcome"]),
        (row(status="failed"), row(), []),
        (row(status="gate failed"), row(), []),
    ],
)
def test_only_what_is_worse_by_more_than_chance_is_a_regression(
    before: SweepRow, now: SweepRow, worse: list[str]
) -> None:
    found = compare_sweeps([before], [now])
    assert [change.what for change in found if change.is_worse] == worse


def test_a_measure_where_more_is_better_gets_worse_downwards() -> None:
    def with_share(value: float) -> SweepRow:
        share = QualityFigure(
            name="agreement", value=value, low=value - 1, high=value + 0.5, unit=" %",
            higher_is_better=True,
        )  # fmt: skip
        return replace(row(), qualities=(share,))

    reach = math.hypot(1, 0.5)  # down from the one, up from the other
    for step, expected in ((reach + 0.01, True), (reach - 0.01, False), (-5, False)):
        found = compare_sweeps([with_share(97)], [with_share(97 - step)])
        assert any(change.is_worse for change in found) == expected


def test_tasks_that_only_one_sweep_has_are_told_and_fail_nothing() -> None:
    found = compare_sweeps([row(0), row(1)], [row(1), row(2)])
    assert [(change.task, change.is_worse) for change in found] == [
        ("net-s2", False),
        ("net-s0", False),
    ]


def test_the_parquet_table_says_the_same_as_the_json(tmp_path: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    rows = (row(0), row(1, loss=0.25), row(2, status="failed", reason=EVIL))
    found = result(*rows)
    write_parquet(found, tmp_path / "sweep.parquet")
    (tmp_path / "sweep.json").write_text(found.to_json(), encoding="utf-8")
    assert read_rows(tmp_path / "sweep.parquet") == rows
    assert read_rows(tmp_path) == rows
    small = parquet.read_table(
        tmp_path / "sweep.parquet", filters=[("quality_value", "<", 0.5)]
    ).to_pylist()
    assert [(each["task"], each["bytes"]) for each in small] == [("net-s1", 1000.0)]
    only_failed = parquet.read_table(tmp_path / "sweep.parquet", columns=["status", "reason"])
    assert only_failed.to_pylist()[2] == {"status": "failed", "reason": EVIL}


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("none.json", None, "no such file"),
        ("a.json", "{", "not a readable JSON"),
        ("a.json", "[]", "its schema is None"),
        ("a.json", '{"schema": "dfqonnx.sweep/1", "rows": [{"task": 1}]}', "rows.0"),
        ("a.parquet", "PAR1", "not the Parquet table of a sweep"),
    ],
)
def test_an_earlier_sweep_that_cannot_be_read_is_a_sentence(
    tmp_path: Path, name: str, text: str | None, words: str
) -> None:
    if text is not None:
        (tmp_path / name).write_text(text, encoding="utf-8")
    with pytest.raises(UsageError, match=words):
        read_rows(tmp_path / name)


@pytest.mark.parametrize("schema", ["junit_ant.xsd", "junit_jenkins.xsd"])
def test_junit_has_a_case_for_each_task_and_regression(schema: str) -> None:
    rows = (row(0), row(1, status="failed", reason=EVIL), row(2, status="cancelled"))
    changes = compare_sweeps([row(0, loss=-5)], rows)
    text = format_sweep_junit(result(*rows), changes)
    found = xmlschema.XMLSchema(Path(__file__).with_name(schema))
    found.validate(text)
    suite = ElementTree.fromstring(text)[0]
    counts = [suite.attrib[key] for key in ("tests", "failures", "errors", "skipped")]
    assert counts == ["4", "2", "0", "1"]
    found_cases = [len(suite.findall(f"testcase{part}")) for part in ("", "/failure", "/skipped")]
    assert found_cases == [4, 2, 1]


def test_the_page_shows_every_task_and_obeys_no_name() -> None:
    rows = (
        row(0, loss=0.1, size=400), row(1, loss=0.5, size=200),
        row(2, status="failed", reason=EVIL), row(0, model="b&<i>"),
    )  # fmt: skip
    changes = compare_sweeps([row(0, loss=-5), row(9)], rows)
    page = render_sweep(result(*rows), changes)
    assert "<img src=x" not in page
    assert "<i>" not in page
    assert page.count("<svg") == 2, "two tasks of one model; the other model has one point"
    for each in ("2 &nbsp;net", "drop worse", "What did not work"):
        assert each in page
    text = format_sweep(result(*rows), changes)
    assert "1 regressions" in text
    assert "<img" not in text


def test_json_names_the_tasks_on_the_fronts() -> None:
    rows = [row(k, loss=loss, size=size) for k, (loss, size) in enumerate(
        itertools.product((0.1, 0.9), (100, 200))
    )]  # fmt: skip
    content = json.loads(result(*rows).to_json())
    assert content["fronts"] == [
        {"model": "net", "quality": "drop", "bytes": ["net-s0"], "speedup": ["net-s0", "net-s1"]}
    ]

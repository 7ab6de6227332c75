"""The short page of results: it says what the long ones say, and nothing else."""

from __future__ import annotations

import importlib
import json
import re
from pathlib import Path
from typing import Any

import pytest


@pytest.fixture
def summary(root: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(root / "pipelines" / "benchmarks")
    return importlib.import_module("summary")


def test_the_short_page_is_that_of_the_long_ones(summary: Any, root: Path) -> None:
    folder = root / "pipelines" / "results"
    lines = (folder / "with_data.jsonl").read_text(encoding="utf-8").splitlines()
    long = summary.read_page(folder / "RESULTS.md", summary.COLUMNS)
    made = summary.page(long, [json.loads(each) for each in lines])
    told = "python pipelines/benchmarks/summary.py writes it anew"
    assert made == (folder / "README.md").read_text(encoding="utf-8"), told


def test_the_first_table_of_the_readme_is_that_of_the_records(summary: Any, root: Path) -> None:
    folder = root / "pipelines" / "results"
    records = [json.loads(each) for each in
               (folder / "with_data.jsonl").read_text(encoding="utf-8").splitlines()]  # fmt: skip
    narrow = json.loads((folder / "int4_with_data.json").read_text(encoding="utf-8"))
    long = summary.read_page(folder / "RESULTS.md", summary.COLUMNS)
    table = summary.headline(long, records, narrow)
    readme = (root / "README.md").read_text(encoding="utf-8")
    assert summary.put_headline(readme, table) == readme, "summary.py writes it anew"
    assert len(table.splitlines()) == 7
    assert "| 4.71 at W4A8 | 0.84 |" in table
    assert "| no such format | 1.64 |" in table


def test_every_number_stands_in_a_long_page(root: Path) -> None:
    folder = root / "pipelines" / "results"
    short = (folder / "README.md").read_text(encoding="utf-8")
    long = "".join((folder / f"{name}.md").read_text(encoding="utf-8") for name in
                   ("RESULTS", "WITH_DATA"))  # fmt: skip
    drops, beside = short.split("## ")[1:]
    numbers = re.findall(r"-?\d+\.\d+(?: \([^)]*\))?", drops)
    numbers += re.findall(r"\d+\.\d\d+(?=\** \|)(?!\d* \|\n)", beside)
    assert len(numbers) > 40
    assert [number for number in numbers if number not in long] == []


def test_the_best_of_a_row_is_bold_and_less_may_be_better(summary: Any) -> None:
    def record(method: str, value: float, less: bool) -> dict[str, Any]:
        return {
            "network": f"n{less}", "method": method, "judged": "m", "less": less, "size": 0.25,
            "figures": {"m": value}, "teacher": {},
        }  # fmt: skip

    values = {"ours, default": 1.0, "quantize_static minmax": 2.0}
    rows = [record(*pair, less) for less in (False, True) for pair in values.items()]
    table = summary.with_data(rows).splitlines()
    assert table[2] == "| nFalse | m | - | 1.00 | - | **2.00** | - | 0.25 |"
    assert table[3] == "| nTrue | m (less is better) | - | **1.000** | - | 2.000 | - | 0.25 |"

"""RESULTS.md from reports: means and spreads worked out by hand."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from dfqonnx.config.effort import EFFORTS
from dfqonnx.report.report import SCHEMA


def write(folder: Path, seed: int, drop: float | None, **more: Any) -> None:
    report: dict[str, Any] = {
        "schema": SCHEMA,
        "teacher": {"path": "somewhere/net.onnx", "top1": {"value": 91.5}},
        "bits": {"weights": 4, "activations": 4, "first_last": None, "residual": 8},
        "drop": None if drop is None else {"points": {"value": drop, "n": 10000}},
        "recipe": "default at quick scale",
        "seed": seed,
        "seconds": {"total": 100.0 + seed},
        "peak_memory_mib": 1000.0,
        "environment": {"processor": "a | processor", "cores": 2},
        "images": {"divergence": 0.01},
        "training": {
            "steps": 300,
            "kept": True,
            "untrained_top1": {"value": 90.25},
            "images_seen": 38_400,
        },
    }
    report |= more
    folder.mkdir(parents=True)
    (folder / "report.json").write_text(json.dumps(report))
    recipe = {"name": more.get("name", "default"), "scale": "quick", **more.get("scales", {})}
    (folder / "recipe.yaml").write_text(yaml.safe_dump(recipe))


def page(root: Path, *places: str | Path) -> list[str]:
    words = [sys.executable, root / "pipelines" / "benchmarks" / "results.py", *places]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    return done.stdout.splitlines()


def cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip("|").split(" | ")]


def test_runs_that_differ_in_the_seed_share_a_row_with_mean_and_spread(
    root: Path, tmp_path: Path
) -> None:
    write(tmp_path / "a", 0, 0.5)
    write(tmp_path / "b", 1, 0.8)
    write(tmp_path / "deep" / "c", 2, 0.2, images=None)
    lines = page(root, tmp_path)
    assert "## net (91.50 % in float)" in lines
    (row,) = [line for line in lines if line.startswith("| default")]
    # (0.5 + 0.8 + 0.2) / 3 = 0.5; 91.5 - 90.25 = 1.25; (100 + 101 + 102) / 3 = 101
    assert cells(row) == [
        "default", "quick", "-", "W4A4", "like the others", "8", "0.50 (0.20 .. 0.80)", "1.25", "3",
        "10,000", "300", "38,400", "0.0100", "101", "1,000", "a",
    ]  # fmt: skip
    assert "- a: a | processor, 2 cores" in lines


def test_what_is_missing_is_a_dash_and_every_convention_has_its_own_row(
    root: Path, tmp_path: Path
) -> None:
    write(
        tmp_path / "a",
        0,
        None,
        recipe="default",
        training=None,
        images=None,
        seconds={},
        peak_memory_mib=None,
    )
    write(
        tmp_path / "b",
        0,
        1.5,
        bits={"weights": 4, "activations": 4, "first_last": 8, "residual": 8},
    )
    write(
        tmp_path / "c",
        0,
        0.0,
        bits={"weights": 8, "activations": 8, "first_last": None, "residual": 8},
    )
    write(tmp_path / "d", 0, 2.0, name="aaa")
    (tmp_path / "a" / "recipe.yaml").unlink()
    rows = [cells(line) for line in page(root, tmp_path) if line.startswith(("| default", "| aaa"))]
    assert [row[:7] for row in rows] == [
        ["default", "quick", "-", "W8A8", "like the others", "8", "0.00"],
        ["default", "-", "-", "W4A4", "like the others", "8", "-"],
        ["aaa", "quick", "-", "W4A4", "like the others", "8", "2.00"],
        ["default", "quick", "-", "W4A4", "8", "8", "1.50"],
    ]
    (bare,) = [row for row in rows if row[1] == "-"]
    assert bare[6:15] == ["-", "-", "1", "-", "-", "-", "-", "-", "-"]


def test_a_training_that_was_given_up_leaves_the_untrained_drop(root: Path, tmp_path: Path) -> None:
    write(tmp_path / "a", 0, 1.1, training={"steps": 200, "kept": False, "untrained_top1": None})
    (row,) = [line for line in page(root, tmp_path) if line.startswith("| default")]
    assert cells(row)[6:8] == ["1.10", "1.10"]


def test_the_same_seed_twice_counts_once_and_the_last_one_wins(root: Path, tmp_path: Path) -> None:
    write(tmp_path / "1", 0, 9.0)
    write(tmp_path / "2", 0, 1.0)
    (row,) = [line for line in page(root, tmp_path) if line.startswith("| default")]
    assert cells(row)[6:9] == ["1.00", "1.25", "1"]


def test_budgets_have_rows_of_their_own_and_images_are_counted_as_drawn(
    root: Path, tmp_path: Path
) -> None:
    drawn = {"steps": 300, "kept": True, "images_seen": 9600}  # 32 a step instead of 128
    write(tmp_path / "a", 0, 0.5, command="dfqonnx run --model net.onnx --bits 4")
    write(tmp_path / "b", 0, 0.9, command="dfqonnx run --budget 120s --bits 4", training=drawn)
    write(tmp_path / "c", 0, 0.4, command="dfqonnx run --bits 4 --budget 1800s")
    rows = [cells(line) for line in page(root, tmp_path) if line.startswith("| default")]
    assert [row[2] for row in rows] == ["-", "120s", "1800s"]
    assert [row[6] for row in rows] == ["0.50", "0.90", "0.40"]
    assert [row[11] for row in rows] == ["38,400", "9,600", "38,400"]


def test_an_effort_is_told_by_the_work_of_the_recipe(root: Path, tmp_path: Path) -> None:
    for folder, factors in EFFORTS.items():
        scales = {
            "synthesis": {"budget_scale": factors.images},
            "distillation": {"budget_scale": factors.training},
        }
        write(tmp_path / folder, 0, 0.5, scales=scales)
    rows = [cells(line) for line in page(root, tmp_path) if line.startswith("| default")]
    assert [row[2] for row in rows] == ["-", "effort high", "effort quick"]


def test_a_default_with_budgets_gets_a_curve_that_begins_at_ptq(root: Path, tmp_path: Path) -> None:
    write(tmp_path / "a", 0, 0.5, command="dfqonnx run --bits 4", seconds={"total": 380.0})
    write(tmp_path / "b", 1, 0.7, command="dfqonnx run --bits 4", seconds={"total": 420.0})
    longer = "dfqonnx run --bits 4 --budget 1800s"
    write(tmp_path / "c", 0, 0.4, command=longer, seconds={"total": 1790.0})
    write(tmp_path / "d", 0, 0.9, name="ptq", seconds={"total": 27.0}, training={"steps": 0})
    write(tmp_path / "e", 0, 0.8, name="dfqf")
    lines = page(root, tmp_path)
    at = lines.index("### net at W4A4")
    assert lines[at - 2] == "## Drop against seconds"
    assert lines[at + 4 : at + 7] == [
        "| 27 | ptq | - | 0 | 0.90 | 1 |",
        "| 400 | default | - | 300 | 0.60 | 2 |",  # (380 + 420) / 2, (0.5 + 0.7) / 2
        "| 1,790 | default | 1800s | 300 | 0.40 | 1 |",
    ]
    assert '    x-axis "seconds" [27, 400, 1790]' in lines
    assert "    line [0.90, 0.60, 0.40]" in lines


def test_a_table_of_side_by_side_comes_last_as_it_is(root: Path, tmp_path: Path) -> None:
    write(tmp_path / "a", 0, 0.5)
    assert "## Side by side" not in page(root, tmp_path)
    (tmp_path / "side_by_side.md").write_text("### net at W4A4, seed 0\n\n| candidate |\n")
    lines = page(root, tmp_path)
    at = lines.index("### net at W4A4, seed 0")
    assert lines.index("## Side by side") < at
    assert lines[at + 1 : at + 5] == ["", "| candidate |", "", "## Machines"]


def test_records_add_up_and_rows_of_a_page_stay_until_they_are_measured_again(
    root: Path, tmp_path: Path
) -> None:
    records, into = tmp_path / "measured.jsonl", tmp_path / "PAGE.md"
    options = ["--records", records, "--into", into]
    runs = tmp_path / "runs"
    write(runs / "a", 0, 0.5)
    write(runs / "b", 0, 3.0, name="dfqf")
    (runs / "side_by_side.md").write_text("### net at W4A4, seed 0\n\n| candidate |\n")
    assert page(root, runs, *options) == []
    first = into.read_text()
    page(root, *options)  # nothing new: the page says the same
    assert into.read_text() == first
    records.write_text("")  # as if reports were gone: rows stay
    page(root, *options)
    assert into.read_text() == first
    write(tmp_path / "c", 0, 0.7)
    write(tmp_path / "d", 1, 0.9)
    page(root, tmp_path / "c", *options)
    page(root, tmp_path / "d", *options)
    lines = into.read_text().splitlines()
    rows = [cells(line) for line in lines if line.startswith(("| default", "| dfqf"))]
    assert [row[6] for row in rows] == ["0.80 (0.70 .. 0.90)", "3.00"]  # (0.7 + 0.9) / 2
    assert lines.count("### net at W4A4, seed 0") == 1
    assert "## net (91.50 % in float)" in lines
    assert len(records.read_text().splitlines()) == 2
    assert not list(tmp_path.glob(".*"))


def test_seeds_of_two_machines_share_a_row_and_a_gpu_has_its_own(
    root: Path, tmp_path: Path
) -> None:
    write(tmp_path / "a", 0, 0.5)
    write(tmp_path / "b", 1, 0.7, environment={"processor": "b", "cores": 2})
    device = {"processor": "b", "cores": 2, "device": "a GPU"}
    write(tmp_path / "c", 0, 0.4, environment=device)
    into = tmp_path / "PAGE.md"
    page(root, tmp_path, "--into", into)
    first = into.read_text()
    rows = [cells(line) for line in first.splitlines() if line.startswith("| default")]
    assert [row[6] for row in rows] == ["0.60 (0.50 .. 0.70)", "0.40"]
    assert [row[13] for row in rows] == ["100 / 101", "100"]  # seconds: 100 + seed
    assert [row[15].rstrip("| ") for row in rows] == ["a, b", "c"]
    assert first.endswith("- a: a | processor, 2 cores\n- b: b, 2 cores\n- c: b, 2 cores, a GPU\n")
    write(tmp_path / "other" / "d", 0, 1.0, name="dfqf")
    page(root, tmp_path / "other", "--into", into)
    kept = [line for line in into.read_text().splitlines() if line.startswith("| default")]
    assert kept == [line for line in first.splitlines() if line.startswith("| default")]


def test_seconds_that_nobody_knows_leave_their_machine_a_dash(root: Path, tmp_path: Path) -> None:
    write(tmp_path / "a", 0, 0.5, seconds={})
    write(tmp_path / "b", 1, 0.7, environment={"processor": "b", "cores": 2})
    (row,) = [line for line in page(root, tmp_path) if line.startswith("| default")]
    assert cells(row)[13] == "- / 101"  # seconds: 100 + seed


def test_a_broken_record_is_named_with_its_line(root: Path, tmp_path: Path) -> None:
    records = tmp_path / "measured.jsonl"
    records.write_text('{"row": {}}\n')
    words = [sys.executable, root / "pipelines" / "benchmarks" / "results.py", "--records", records]
    done = subprocess.run(words, capture_output=True, text=True)
    assert done.returncode == 1
    assert f"{records}:1: no record of a run" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_place_that_cannot_be_written_is_named(root: Path, tmp_path: Path) -> None:
    write(tmp_path / "a", 0, 0.5)
    for option in ("--records", "--into"):
        place = tmp_path / "missing" / "file"
        words = [
            sys.executable,
            root / "pipelines" / "benchmarks" / "results.py",
            tmp_path,
            option,
            place,
        ]
        done = subprocess.run(words, capture_output=True, text=True)
        assert done.returncode == 1
        assert done.stderr == f"{place}: cannot be written: No such file or directory\n"


def test_without_runs_and_records_it_asks_for_them(root: Path) -> None:
    words = [sys.executable, root / "pipelines" / "benchmarks" / "results.py"]
    done = subprocess.run(words, capture_output=True, text=True)
    assert done.returncode == 2
    assert "name folders of runs, or --records" in done.stderr


@pytest.mark.parametrize("content", ["Wrote net.onnx", '{"schema": "other/1"}', "[1]", '"text"'])
def test_a_file_that_is_no_report_is_named(content: str, root: Path, tmp_path: Path) -> None:
    file = tmp_path / "run.log"
    file.write_text(content)
    words = [sys.executable, root / "pipelines" / "benchmarks" / "results.py", file]
    done = subprocess.run(words, capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr.startswith(f"{file}: no report of a run: ")


def test_a_folder_without_reports_is_named(root: Path, tmp_path: Path) -> None:
    words = [sys.executable, root / "pipelines" / "benchmarks" / "results.py", tmp_path]
    done = subprocess.run(words, capture_output=True, text=True)
    assert done.returncode == 1
    assert f"{tmp_path}: no report.json" in done.stderr

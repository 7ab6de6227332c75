"""The page of the matrix says what the records say, and keeps the prose around it."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "pipelines/benchmarks"))

from runtimes.matrix_page import draw_page

FILE = {"checker": "", "bytes": 300, "float_bytes": 1200}


def proof(**changes: Any) -> dict[str, Any]:
    found = {
        "failure": "", "loads": True, "parity_db": 31.4, "trained_parity_db": None, "same": 1.0,
        "trained_same": None, "integer_share": 1.0, "partitions": None, "elsewhere": [],
        "speedup": None, "load": 0.1,
    }  # fmt: skip
    return {**found, **changes}


def drawn(folder: Path, records: dict[str, Any], target: str) -> str:
    page = folder / "page.md"
    page.write_text("# Targets\n\nProse.\n")
    for _ in range(2):  # drawing again changes nothing
        draw_page(page, records, {target: ()})
    return page.read_text()


def test_the_prose_is_kept_and_a_table_is_there_once(tmp_path: Path) -> None:
    records = {
        "resnet20 openvino w8a8": FILE,
        "resnet20 openvino w8a8 openvino 2026.4.1": proof(speedup=1.5, trained_parity_db=45.0),
    }
    text = drawn(tmp_path, records, "openvino")
    assert text.startswith("# Targets\n\nProse.\n")
    assert text.count("### `openvino`") == 1
    row = next(line for line in text.splitlines() if line.startswith("| ResNet-20"))
    assert row == "| ResNet-20 | W8A8 | yes | 0.25 | 45 dB; same 100 %; integer 100 %; x1.50 |"


@pytest.mark.parametrize(
    ("found", "words"),
    [
        (proof(speedup=2.0, load=9.0), "~x2.00"),
        (proof(partitions=1, elsewhere=["QuantizeLinear"]), "1 part and the ends"),
        (proof(partitions=2, elsewhere=["Gemm"]), "2 parts, 1 nodes on the CPU"),
        (proof(failure="no Cast(21)", loads=False), "**does not load** (1)"),
        (proof(failure="out of memory"), "**does not run** (1)"),
    ],
)
def test_a_cell_says_what_the_runtime_did(
    tmp_path: Path, found: dict[str, Any], words: str
) -> None:
    key = "resnet20 onnxruntime-qnn w8a8"
    text = drawn(tmp_path, {key: FILE, f"{key} onnxruntime-qnn 2.7.0": found}, "onnxruntime-qnn")
    assert words in text
    if found["failure"]:
        assert f"1. {found['failure']}" in text


def test_a_target_without_a_runtime_is_rules_only(tmp_path: Path) -> None:
    refused = {"refused": "TensorRT takes no INT4 weights of Conv"}
    records = {"resnet20 tensorrt w8a8": FILE, "resnet20 tensorrt w4a8": refused}
    text = drawn(tmp_path, records, "tensorrt")
    assert "| ResNet-20 | W8A8 | yes | 0.25 | rules only |" in text
    assert "refused (1)" in text
    assert "Not measured yet" in drawn(tmp_path, {}, "tensorrt")

"""The page of operators says what is true."""

from __future__ import annotations

import onnx
import pytest

from dfqonnx.convert import op_registry as registry
from dfqonnx.convert.op_registry import OPERATORS
from tests.convert.operator_table import PAGE, render

NEWEST = onnx.defs.onnx_opset_version()


def test_the_page_of_operators_is_what_the_registry_and_the_cases_give() -> None:
    if f"(onnx {onnx.__version__})" not in PAGE.read_text(encoding="utf-8"):
        pytest.skip("the page counts the cases of another version of onnx")
    assert PAGE.read_text(encoding="utf-8") == render(), (
        "write it anew: python -m tests.convert.operator_table"
    )


def test_at_least_110_operators_are_claimed() -> None:
    assert len({OPERATORS[key].op for key in OPERATORS}) >= 110


def test_every_operator_is_known_in_every_version_that_a_normalized_model_can_hold() -> None:
    missing = [
        f"{op} at opset {opset}"
        for op in sorted({OPERATORS[key].op for key in OPERATORS})
        for opset in range(21, NEWEST + 1)
        if registry.since_version("", op, opset)
        and registry.find("", op, opset) is None
        and not onnx.defs.get_schema(op, opset).deprecated
    ]
    assert missing == []

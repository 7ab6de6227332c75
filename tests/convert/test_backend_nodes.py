"""Every registered operator against ONNX's own backend node tests, within their own tolerances."""

from __future__ import annotations

import re

import numpy as np
import pytest

import dfqonnx.convert.program  # noqa: F401  (files the operators)
from dfqonnx.convert.op_registry import OPERATORS
from tests.convert.nodes import COMPOSED, array, backend_cases, run

NOT_RUN = {  # pattern of case names -> why they do not apply
    r"FLOAT8|FLOAT4|E8M0|e8m0|U?INT[24]\b|U?INT[24]_|_u?int[24]\b": "torch cannot compute in it",
    r"_string|STRING": "there are no strings in a network of tensors",
    r"_uint(16|32|64)(_|$)": "torch has no arithmetic for wide unsigned integers",
    r"test_bitwise_not_3d": "torch has no arithmetic for wide unsigned integers",
    r"test_identity_(sequence|opt)": "sequences and optionals are not tensors",
    r"test_training_dropout|test_batchnorm_.*_training_mode": "training mode is refused",
    r"test_resize_downsample_scales_(linear|cubic)_align_corners": (
        "with a fractional size ONNX Runtime divides by the whole output size, and so do we"
    ),
    r"test_attention_.*_(bf16|fp16)_expanded": (
        "expected values were rounded to half precision elsewhere than at the nodes"
    ),
}
OWN_TESTS = {  # operators without a backend case of their own -> the test that holds them
    "GlobalLpPool": "test_old_versions.py",
}
NAMES = sorted({OPERATORS[name].op for name in OPERATORS} - set(OWN_TESTS))


def reason_not_to_run(name: str) -> str | None:
    return next((why for pattern, why in NOT_RUN.items() if re.search(pattern, name)), None)


@pytest.mark.parametrize("op", [*NAMES, COMPOSED])
def test_operator_passes_its_backend_cases(op: str) -> None:
    cases = backend_cases().get(op, ())
    ran = [case for case in cases if reason_not_to_run(case.name) is None]
    failures = []
    for case in ran:
        try:
            check(case)
        except Exception as error:  # noqa: BLE001  all failures of an operator are shown at once
            failures.append(f"{case.name}: {type(error).__name__} {str(error)[:300]}")
    assert ran, f"no backend case was run for {op}"
    assert not failures, "\n".join(failures)


def check(case: object) -> None:
    for inputs, expected in case.data_sets:
        results = run(case.model, inputs)
        for result, wanted in zip(results, map(array, expected), strict=True):
            assert result.shape == wanted.shape
            assert result.dtype == wanted.dtype
            if result.dtype.kind not in "iub":
                result, wanted = result.astype(np.float64), wanted.astype(np.float64)
            np.testing.assert_allclose(result, wanted, rtol=case.rtol, atol=case.atol)


def test_every_exclusion_still_matches_a_case() -> None:
    names = [case.name for group in backend_cases().values() for case in group]
    assert [p for p in NOT_RUN if not any(re.search(p, name) for name in names)] == []


def test_most_backend_cases_of_registered_operators_are_run() -> None:
    names = [case.name for group in backend_cases().values() for case in group]
    ran = [name for name in names if reason_not_to_run(name) is None]
    assert len(ran) >= 0.8 * len(names)  # 1,205 of 1,430 with onnx 1.23

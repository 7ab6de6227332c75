"""Forms of operators that only older opsets have, and modes without a backend case.

Reference: ONNX Runtime.
Tolerance: float32 sums of at most a few dozen terms in another order, 1e-5 relative to the output.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import onnxruntime as ort
import pytest

from dfqonnx.convert import op_registry as registry
from tests.convert.nodes import one_node, run


def image(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def ints(*values: int) -> np.ndarray:
    return np.array(values, np.int64)


def floats(*values: float) -> np.ndarray:
    return np.array(values, np.float32)


X = image(2, 4, 7, 6)
REDUCE = ("L1", "L2", "LogSum", "LogSumExp", "Max", "Mean", "Min", "Prod", "Sum", "SumSquare")
CASES: list[tuple[str, int, list[Any], dict[str, Any]]] = [
    ("ArgMax", 11, [X], {"axis": 2, "keepdims": 0}),
    ("ArgMin", 7, [X], {"axis": 1}),
    ("AveragePool", 7, [X], {"kernel_shape": [3, 3], "pads": [0, 1, 1, 0], "strides": [2, 2]}),
    (
        "AveragePool",
        10,
        [X],
        {"kernel_shape": [3, 3], "pads": [0, 0, 1, 1], "count_include_pad": 1, "ceil_mode": 1},
    ),
    ("AveragePool", 19, [X], {"kernel_shape": [3, 2], "auto_pad": "SAME_LOWER", "strides": [2, 2]}),
    ("BatchNormalization", 7, [X, *(np.abs(image(4, seed=s)) + 0.1 for s in range(4))], {}),
    ("BatchNormalization", 9, [X, *(np.abs(image(4, seed=s)) + 0.1 for s in range(4))], {}),
    ("Clip", 7, [X], {"min": -0.5, "max": 0.25}),
    ("Clip", 11, [X, np.float32(-0.5), None], {}),
    ("Dropout", 7, [X], {"ratio": 0.3}),
    ("Dropout", 10, [X], {}),
    ("Gemm", 7, [image(2, 3), image(3, 4), image(4)], {"alpha": 0.5, "beta": 2.0}),
    ("Gemm", 9, [image(3, 2), image(4, 3), image(2, 1)], {"transA": 1, "transB": 1}),
    ("GlobalLpPool", 7, [X], {"p": 3}),
    (
        "GroupNormalization",
        18,
        [X, floats(1.5, 0.5), floats(0.25, -1)],
        {"num_groups": 2},
    ),
    ("Hardmax", 11, [X], {"axis": 2}),
    ("LogSoftmax", 11, [X], {"axis": 2}),
    ("LpPool", 7, [X], {"kernel_shape": [2, 3], "p": 2, "pads": [1, 1, 0, 0]}),
    ("MaxPool", 7, [X], {"kernel_shape": [3, 3], "pads": [2, 1, 0, 1], "strides": [2, 2]}),
    ("MaxPool", 10, [X], {"kernel_shape": [3, 2], "ceil_mode": 1, "strides": [2, 2]}),
    ("MaxPool", 11, [X], {"kernel_shape": [2, 2], "auto_pad": "SAME_LOWER"}),
    ("OneHot", 9, [ints(0, -1, 2), ints(3), floats(-1, 2)], {"axis": 0}),
    ("Pad", 7, [X], {"pads": [0, 0, 1, 2, 0, 0, 3, 0], "value": 1.5}),
    ("Pad", 7, [X], {"pads": [0, 0, 1, 2, 0, 0, 3, 0], "mode": "reflect"}),
    ("Pad", 7, [X], {"pads": [0, 0, -1, 2, 0, 0, 3, -2]}),
    *((f"Reduce{name}", 7, [np.abs(X)], {"axes": [1, -1], "keepdims": 0}) for name in REDUCE),
    *((f"Reduce{name}", 11, [np.abs(X)], {}) for name in REDUCE),
    ("ReduceMean", 13, [X], {"axes": [2, 3]}),
    ("Resize", 10, [X, floats(1, 1, 2, 3)], {"mode": "nearest"}),
    ("Resize", 10, [X, floats(1, 1, 1.6, 0.7)], {"mode": "linear"}),
    ("Resize", 11, [X, floats(), floats(1, 1, 2, 2)], {"mode": "linear"}),
    (
        "Resize",
        13,
        [X, None, None, ints(2, 4, 9, 11)],
        {"mode": "cubic", "coordinate_transformation_mode": "align_corners"},
    ),
    (
        "Resize",
        13,
        [X, None, floats(1, 1, 0.6, 0.6)],
        {"mode": "linear", "coordinate_transformation_mode": "align_corners"},
    ),
    (
        "Resize",
        11,
        [X, floats(), floats(1, 1, 2.5, 2.5)],
        {"mode": "nearest", "coordinate_transformation_mode": "tf_half_pixel_for_nn"},
    ),
    (
        "Resize",
        13,
        [X, None, floats(1, 1, 2, 2)],
        {"mode": "linear", "coordinate_transformation_mode": "pytorch_half_pixel"},
    ),
    ("ScatterElements", 11, [X, ints(1, 3, 2).reshape(1, 3, 1, 1), image(1, 3, 1, 1)], {"axis": 1}),
    ("ScatterND", 11, [image(5, 3), ints(4, 1).reshape(2, 1), image(2, 3)], {}),
    ("Slice", 7, [X], {"starts": [1, -3], "ends": [4, 9999], "axes": [1, 2]}),
    ("Slice", 10, [X, ints(5, -1), ints(-100, -7), ints(2, 3), ints(-2, -1)], {}),
    ("Softmax", 7, [X], {}),
    ("Softmax", 11, [X], {"axis": 2}),
    ("Squeeze", 7, [image(1, 3, 1, 2)], {"axes": [0, 2]}),
    ("Squeeze", 11, [image(1, 3, 1, 2)], {}),
    ("TopK", 7, [X], {"k": 2, "axis": 2}),
    ("TopK", 10, [X, ints(3)], {"axis": 3}),
    ("Unsqueeze", 7, [image(3, 2)], {"axes": [0, 3]}),
    ("Upsample", 7, [X], {"scales": [1.0, 1.0, 2.0, 3.0]}),
    ("Upsample", 9, [X, floats(1, 1, 2, 2)], {"mode": "linear"}),
]


@pytest.mark.parametrize(
    ("op", "opset", "inputs", "attributes"),
    [pytest.param(*c, id=f"{c[0]}-opset{c[1]}-{i}") for i, c in enumerate(CASES)],
)
def test_form_agrees_with_onnx_runtime(
    op: str, opset: int, inputs: list[Any], attributes: dict[str, Any]
) -> None:
    several = 2 if op == "TopK" else 1
    model = one_node(op, opset=opset, inputs=inputs, outputs=several, **attributes)
    compare(model, [inputs[0]])


@pytest.mark.parametrize(("sizes", "outputs"), [([1, 2, 1], 3), (None, 2)])
@pytest.mark.parametrize("opset", [7, 11, 13, 18])
def test_split_agrees_with_onnx_runtime(opset: int, sizes: list[int] | None, outputs: int) -> None:
    attributes: dict[str, Any] = {"axis": 1}
    inputs = [X]
    if sizes is not None and opset < 13:
        attributes["split"] = sizes
    elif sizes is not None:
        inputs.append(ints(*sizes))
    elif opset >= 18:
        attributes["num_outputs"] = outputs
    compare(one_node("Split", opset=opset, inputs=inputs, outputs=outputs, **attributes), [X])


@pytest.mark.parametrize("auto_pad", ["SAME_UPPER", "SAME_LOWER", "VALID"])
@pytest.mark.parametrize("op", ["Conv", "ConvTranspose"])
def test_convolution_with_auto_pad_agrees_with_onnx_runtime(op: str, auto_pad: str) -> None:
    weight = image(4, 2, 3, 4) if op == "Conv" else image(4, 3, 3, 4)
    group = 2 if op == "Conv" else 1
    model = one_node(
        op, opset=11, inputs=[X, weight], auto_pad=auto_pad, strides=[2, 3], group=group
    )
    compare(model, [X])


@pytest.mark.parametrize(
    "attributes",
    [
        {"pads": [0, 1, 1, 0], "strides": [2, 2], "output_padding": [1, 1]},
        {"output_shape": [15, 11], "strides": [2, 2]},
        {"pads": [1, 1, 1, 1], "dilations": [2, 2], "group": 2},
    ],
)
def test_transposed_convolution_agrees_with_onnx_runtime(attributes: dict[str, Any]) -> None:
    weight, bias = image(4, 3, 3, 3), image(3 * attributes.get("group", 1))
    compare(one_node("ConvTranspose", opset=11, inputs=[X, weight, bias], **attributes), [X])


def compare(model: Any, inputs: list[np.ndarray]) -> None:
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    wanted = session.run(
        None, {i.name: v for i, v in zip(session.get_inputs(), inputs, strict=True)}
    )
    for result, reference in zip(run(model, inputs), wanted, strict=True):
        assert result.dtype == reference.dtype
        assert result.shape == reference.shape
        scale = max(1.0, float(np.abs(reference).max(initial=0)))
        np.testing.assert_allclose(result, reference, rtol=0, atol=1e-5 * scale)


def test_cases_stand_for_the_old_forms_of_every_operator_that_has_them() -> None:
    functions = {}
    for name in registry.OPERATORS:
        known = registry.OPERATORS[name]
        functions.setdefault(known.op, {}).setdefault(known.function, []).append(known.since)
    shown = {(op, registry.since_version("", op, opset)) for op, opset, _, _ in CASES}
    shown |= {("Split", since) for since in (2, 11, 13, 18)}
    newest_only = {"Cast", "CastLike", "Constant", "GridSample", "Range", "Scatter", "TopK"}
    missing = [
        (op, versions)
        for op, forms in functions.items()
        if op not in newest_only
        for versions in sorted(forms.values(), key=max)[:-1]
        if not any((op, version) in shown for version in versions)
    ]
    assert missing == []

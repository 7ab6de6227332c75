"""Gradients of one differentiable representative per family, against finite differences.

Double precision; torch's gradcheck compares within its default 1e-5 + 1e-3 relative, which suits
differences with a step of 1e-6, along random directions (fast mode). Inputs keep away from kinks
and ties.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir
import pytest
import torch

from dfqonnx.convert.importer import program_from_ir
from dfqonnx.convert.module import ProgramModule
from tests.convert.nodes import one_node

RNG = np.random.default_rng(0)


def spread(*shape: int) -> np.ndarray:
    """Distinct values, none within 0.02 of each other or of 0, in random order."""
    count = int(np.prod(shape))
    values = (np.arange(count) - count / 2 + 0.5) * (4.0 / count)
    return RNG.permutation(values).reshape(shape)


def positive(*shape: int) -> np.ndarray:
    return np.abs(spread(*shape)) + 0.3


X = spread(1, 4, 5, 4)
ints = np.array
CASES: list[tuple[str, list[Any], dict[str, Any]]] = [
    (
        "Conv",
        [X, spread(4, 2, 3, 3), spread(4)],
        {"pads": [0, 1, 1, 0], "strides": [2, 1], "group": 2},
    ),
    ("ConvTranspose", [X, spread(4, 2, 3, 3)], {"pads": [1, 0, 0, 1], "strides": [2, 2]}),
    ("Gemm", [spread(3, 4), spread(5, 4), spread(5)], {"transB": 1, "alpha": 0.5}),
    ("MatMul", [spread(2, 3, 4), spread(4, 5)], {}),
    ("BatchNormalization", [X, positive(4), spread(4), spread(4), positive(4)], {}),
    ("InstanceNormalization", [X, spread(4), spread(4)], {}),
    ("LayerNormalization", [X, spread(5, 4), spread(5, 4)], {"axis": 2}),
    ("LRN", [X], {"size": 3, "alpha": 0.1}),
    ("Relu", [X], {}),
    ("Clip", [X, np.array(-0.51), np.array(0.77)], {}),
    ("PRelu", [X, positive(4, 1, 1)], {}),
    ("HardSwish", [X], {}),
    ("Gelu", [X], {"approximate": "tanh"}),
    ("Mish", [X], {}),
    ("Softmax", [X], {"axis": 1}),
    ("LogSoftmax", [X], {"axis": 1}),
    ("Div", [X, positive(1, 4, 1, 1)], {}),
    ("Pow", [positive(2, 3), np.array(3.0)], {}),
    ("Max", [X, np.array(0.0)], {}),
    ("Erf", [X], {}),
    ("MaxPool", [X], {"kernel_shape": [3, 2], "pads": [2, 0, 0, 1], "strides": [2, 1]}),
    ("AveragePool", [X], {"kernel_shape": [3, 2], "pads": [2, 0, 0, 1], "dilations": [1, 2]}),
    ("GlobalAveragePool", [X], {}),
    ("LpPool", [positive(1, 2, 4, 4)], {"kernel_shape": [2, 2], "p": 3}),
    ("ReduceMean", [X, ints([2, 3])], {"keepdims": 0}),
    ("ReduceMax", [X, ints([1])], {}),
    ("ReduceL2", [X, ints([1, 2])], {}),
    ("Reshape", [X, ints([0, -1, 2])], {}),
    ("Transpose", [X], {"perm": [0, 2, 3, 1]}),
    ("Slice", [X, ints([3]), ints([-9]), ints([2]), ints([-2])], {}),
    ("Gather", [X, ints([[0, -1], [2, 2]])], {"axis": 1}),
    ("GatherND", [X, ints([[0, 1], [0, 3]])], {}),
    ("ScatterND", [X, ints([[0, 1], [0, 3]]), spread(2, 5, 4)], {"reduction": "add"}),
    ("Pad", [X, ints([0, 0, 2, 1, 0, 0, 1, 3])], {"mode": "reflect"}),
    ("Pad", [X, ints([0, 0, 2, -1, 0, 0, 1, 3])], {}),
    ("Resize", [X, None, np.array([1, 1, 1.6, 0.7], np.float32)], {"mode": "cubic"}),
    ("Resize", [X, None, np.array([1, 1, 2, 2], np.float32)], {"mode": "nearest"}),
    ("Resize", [X, None, np.array([1, 1, 2, 2], np.float32)], {"mode": "linear"}),
    ("DepthToSpace", [X], {"blocksize": 2}),
    ("CumSum", [X, ints(1)], {"reverse": 1}),
    ("Einsum", [X], {"equation": "nchw->nhw"}),
]


@pytest.mark.parametrize(
    ("op", "inputs", "attributes"),
    [pytest.param(*c, id=f"{c[0]}-{i}") for i, c in enumerate(CASES)],
)
def test_gradient_agrees_with_finite_differences(
    op: str, inputs: list[Any], attributes: dict[str, Any]
) -> None:
    model = one_node(op, opset=21, inputs=inputs, **attributes)
    net = ProgramModule(program_from_ir(ir.serde.deserialize_model(model)))
    x = torch.from_numpy(inputs[0].copy()).requires_grad_()
    assert torch.autograd.gradcheck(lambda value: net(value)[0], (x,), fast_mode=True)

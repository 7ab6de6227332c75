"""Channels before an InstanceNormalization: same outputs, even spread, and who is left alone."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest
import torch
from onnx import numpy_helper, parser

from dfqonnx.convert.importer import program_from_ir
from dfqonnx.convert.module import ProgramModule
from dfqonnx.convert.program import Program
from dfqonnx.equalization.instance_norm import (
    find_normalized_convs,
    normalize_before_instance_norm,
    scale_factors,
)

TEXT = """<ir_version: 8, opset_import: ["": 17]>
net (float[N,3,12,12] x) => (float[N,6,12,12] y) {
    c = Conv<pads=[1,1,1,1]>(x, w, b)
    y = InstanceNormalization(c, g, h)
}"""


def program(spread: np.ndarray, text: str = TEXT) -> Program:
    rng = np.random.default_rng(0)
    model = parser.parse_model(text)
    weight = rng.standard_normal((6, 3, 3, 3)) * spread[:, None, None, None]
    arrays = {"w": weight, "b": rng.standard_normal(6) * spread, "g": np.ones(6), "h": np.zeros(6)}
    for name, array in arrays.items():
        model.graph.initializer.append(numpy_helper.from_array(array.astype("f4"), name))
    return program_from_ir(ir.serde.deserialize_model(model))


def test_outputs_stay_and_channels_become_even() -> None:
    before = program(np.array([0.1, 1.0, 10.0, 0.5, 3.0, 30.0]))
    x = torch.randn(4, 3, 12, 12, generator=torch.Generator().manual_seed(0))
    after, count = normalize_before_instance_norm(before, x)
    assert count == 1
    first, second = (ProgramModule(p, taps=("c",))(x) for p in (before, after))
    # epsilon weighs otherwise by at most 1 / (2 * MARGIN) of it; float32 adds less
    torch.testing.assert_close(second[0], first[0], rtol=5e-3, atol=5e-3)
    spreads = second[1]["c"].var((0, 2, 3))
    assert float(spreads.max() / spreads.min()) == pytest.approx(1.0, abs=1e-3)
    assert float(second[1]["c"].mean((0, 2, 3)).abs().max()) < 1e-3 * float(spreads.max())


def test_variances_near_epsilon_are_left_alone() -> None:
    variance = torch.tensor([1e-6, 1.0, 4.0])
    found = scale_factors(variance, 1e-3)
    assert float(found[0]) == 1.0
    assert float(found[1]) / float(found[2]) == pytest.approx(2.0)
    assert bool((scale_factors(torch.zeros(3), 1e-3) == 1).all())


def test_a_value_that_others_read_too_is_left_alone() -> None:
    text = TEXT.replace("y = Inst", "n = Inst").replace("\n}", "\n    y = Add(n, c)\n}")
    assert not find_normalized_convs(program(np.ones(6), text))
    assert (
        normalize_before_instance_norm(program(np.ones(6), text), torch.zeros(1, 3, 12, 12))[1] == 0
    )

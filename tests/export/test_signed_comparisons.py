"""Bounds of codes where a runtime compares uint8 codes as int8.

IREE 3.13 gave a Clip(50, 100) on codes 0 to 255 wrong on 128 of them, and PP-OCR's text detector,
which has such a Clip in each HardSwish, came out at 0 dB. Neither a Clip nor a MaxPool may read
uint8 codes in a file for `portable`. `compare_as_signed` does here what IREE does.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import onnx.parser
import onnx_ir as ir
import pytest
from numpy.typing import NDArray
from onnx import numpy_helper
from onnx.reference import ReferenceEvaluator
from onnx.reference.op_run import OpRun

from dfqonnx.export.retarget import retarget
from dfqonnx.lint.lint import lint_file
from dfqonnx.runtime.kernel_audit import audit_kernels
from dfqonnx.targets.profile import TARGETS
from tests.export.ortrun import run
from tests.targets.made import Made

PORTABLE = TARGETS["portable"]
COMPARING = {"Clip", "MaxPool"}
X = np.linspace(-40, 40, 640, dtype=np.float32).reshape(1, 1, 20, 32)
# a HardSwish on codes whose lower bound is above 0, and a coarser quantizer behind a fine one
GATED = """
<ir_version: 8, opset_import: ["": 13]>
net (float[1, 1, 20, 32] x) => (float[1, 1, 20, 32] y)
<float s = {0.25}, uint8 z = {100}, uint8 lo = {88}, uint8 hi = {112}, float sixth = {0.041666668},
 float t = {1.5}, uint8 n = {8}, uint8 zero = {0}, uint8 most = {15}>
{
    q = QuantizeLinear(x, s, z)
    a = DequantizeLinear(q, s, z)
    c = Clip(q, lo, hi)
    b = DequantizeLinear(c, sixth, lo)
    m = Mul(a, b)
    r = QuantizeLinear(m, s, z)
    r1 = DequantizeLinear(r, s, z)
    w = QuantizeLinear(r1, t, n)
    w1 = Clip(w, zero, most)
    y = DequantizeLinear(w1, t, n)
}
"""
SIMPLE = """
<ir_version: 8, opset_import: ["": 13]>
net (float[1, 1, 20, 32] x) => (float[1, 1, 20, 32] y)
<float s = {0.25}, uint8 z = {100}, uint8 lo = {LOW}, uint8 hi = {HIGH}>
{
    q = QuantizeLinear(x, s, z)
    c = Clip(BOUNDS)
    y = DequantizeLinear(c, s, z)
}
"""


class Clip(OpRun):  # type: ignore[misc]
    """Clip as IREE computes it."""

    op_domain = ""

    def _run(self, x: NDArray, low: NDArray | None = None, high: NDArray | None = None) -> tuple:
        kind = np.int8 if x.dtype == np.uint8 else x.dtype
        low, high = (None if end is None else end.astype(kind) for end in (low, high))
        found = x.astype(kind)
        found = found if low is None else np.maximum(found, low)
        found = found if high is None else np.minimum(found, high)
        return (found.astype(x.dtype),)


def compare_as_signed(proto: onnx.ModelProto, x: NDArray[np.float32]) -> NDArray[np.float32]:
    """Run a file as a runtime does whose Clip takes uint8 for int8."""
    newer = onnx.ModelProto()
    newer.CopyFrom(proto)
    newer.opset_import[0].version = 21  # the reference knows no older quantizers
    found: NDArray[np.float32] = ReferenceEvaluator(newer, new_ops=[Clip]).run(None, {"x": x})[0]
    return found


def convert(text: str, folder: Path, target: str = "portable") -> onnx.ModelProto:
    """Return the same for a target."""
    onnx.save(onnx.parser.parse_model(text), folder / "given.onnx")
    return ir.to_proto(retarget(folder / "given.onnx", TARGETS[target]).model)


def find_compared(proto: onnx.ModelProto) -> list[str]:
    """Return what compares codes, which here are made by a QuantizeLinear in front."""
    codes = {n.output[0] for n in proto.graph.node if n.op_type == "QuantizeLinear"}
    return [n.op_type for n in proto.graph.node if n.input[0] in codes and n.op_type in COMPARING]


@pytest.mark.parametrize(("net", "bits"), [
    ("projected", "w8a8"), ("projected", "w4a4"), ("residual", "w4a4"),
])  # fmt: skip
def test_no_code_is_compared_in_a_file_for_all_runtimes(
    net: str, bits: str, tmp_path: Path
) -> None:
    made = Made(PORTABLE, net, bits, tmp_path)
    assert find_compared(made.proto) == []
    assert lint_file(made.path, "portable").findings == ()
    assert not audit_kernels(made.path).float_weighted
    bounds = [node for node in made.nodes("Clip") if made.makers[node.input[0]].op_type == "Cast"]
    assert bounds, "what bounds the codes now"
    for clip in bounds:
        low, high = (made.arrays[name] for name in clip.input[1:])
        assert low.dtype == high.dtype == np.float32
        assert 0 <= low < high <= 255
        assert float(low).is_integer()
        assert float(high).is_integer()


def test_a_clip_that_compares_signed_codes_is_wrong_on_codes_and_right_on_reals(
    tmp_path: Path,
) -> None:
    proto, found = onnx.parser.parse_model(GATED), convert(GATED, tmp_path)
    right = run(proto.SerializeToString(), X, optimize=False)
    assert find_compared(proto) == ["Clip", "Clip"]
    assert (compare_as_signed(proto, X) != right).mean() > 0.1
    assert find_compared(found) == []
    np.testing.assert_array_equal(compare_as_signed(found, X), right)
    for optimize in (False, True):
        made = run(found.SerializeToString(), X, optimize=optimize)
        np.testing.assert_array_equal(made, right)


def test_bounds_come_back_to_the_codes_for_a_target_that_takes_them_there(tmp_path: Path) -> None:
    first = GATED.split("    r = ")[0] + "    y = Identity(m)\n}\n"
    there = convert(first, tmp_path)
    onnx.save(there, tmp_path / "portable.onnx")
    back = ir.to_proto(retarget(tmp_path / "portable.onnx", TARGETS["onnxruntime-cpu"]).model)
    given = onnx.parser.parse_model(first)
    assert Counter(n.op_type for n in back.graph.node) == Counter(
        n.op_type for n in given.graph.node
    )
    arrays = {t.name: numpy_helper.to_array(t) for t in back.graph.initializer}
    (clip,) = [n for n in back.graph.node if n.op_type == "Clip"]
    assert [arrays[name].tolist() for name in clip.input[1:]] == [88, 112]
    assert {arrays[name].dtype for name in clip.input[1:]} == {np.dtype(np.uint8)}


@pytest.mark.parametrize("bounds", ["q, lo, hi", "q, , hi", "q, lo", "q"])
@pytest.mark.parametrize(("low", "high"), [(0, 15), (90, 110), (130, 255), (100, 100)])
def test_each_clip_on_codes_has_an_equal_form(
    bounds: str, low: int, high: int, tmp_path: Path
) -> None:
    text = SIMPLE.replace("BOUNDS", bounds).replace("LOW", str(low)).replace("HIGH", str(high))
    right = run(onnx.parser.parse_model(text).SerializeToString(), X, optimize=False)
    found = convert(text, tmp_path)
    assert find_compared(found) == []
    np.testing.assert_array_equal(compare_as_signed(found, X), right)


def test_signed_codes_are_no_finding_and_become_unsigned_ones(tmp_path: Path) -> None:
    text = SIMPLE.replace("uint8", "int8").replace("BOUNDS", "q, lo, hi")
    text = text.replace("{100}", "{5}").replace("LOW", "-20").replace("HIGH", "90")
    onnx.save(onnx.parser.parse_model(text), tmp_path / "signed.onnx")
    findings = lint_file(tmp_path / "signed.onnx", "portable").findings
    assert "codes-compared-as-signed" not in {finding.rule.name for finding in findings}
    found = convert(text, tmp_path)
    right = run(onnx.parser.parse_model(text).SerializeToString(), X, optimize=False)
    np.testing.assert_array_equal(compare_as_signed(found, X), right)


def test_a_pool_on_codes_reads_them_as_reals(tmp_path: Path) -> None:
    pool = "MaxPool<kernel_shape = [2, 2], strides = [2, 2], pads = [1, 1, 1, 1]>"
    text = SIMPLE.replace("Clip(BOUNDS)", f"{pool}(p)").replace("20, 32] y", "11, 17] y")
    text = text.replace("    c = ", "    p = Transpose<perm = [0, 1, 2, 3]>(q)\n    c = ")
    text = text.replace("LOW", "0").replace("HIGH", "255")
    found = convert(text, tmp_path)
    assert [node.op_type for node in found.graph.node][2:5] == ["Cast", "MaxPool", "Cast"]
    right = run(onnx.parser.parse_model(text).SerializeToString(), X, optimize=False)
    for optimize in (False, True):
        made = run(found.SerializeToString(), X, optimize=optimize)
        np.testing.assert_array_equal(made, right)
    onnx.save(found, tmp_path / "pooled.onnx")
    findings = lint_file(tmp_path / "pooled.onnx", "portable").findings
    assert findings == ()


def test_other_targets_keep_the_clip_on_codes(tmp_path: Path) -> None:
    text = SIMPLE.replace("BOUNDS", "q, lo, hi").replace("LOW", "0").replace("HIGH", "90")
    for target in ("onnxruntime-cpu", "openvino"):
        assert find_compared(convert(text, tmp_path, target)) == ["Clip"]

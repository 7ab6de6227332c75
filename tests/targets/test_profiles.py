"""Every target: its file computes what the student that was trained under its rules computes.

The rules are read from the file itself, so that a fact that nobody follows is seen here.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto

from dfqonnx.core.quantization import MAX_BITS, NodeRules
from dfqonnx.evaluation.parity import StudentOutputs, measure_parity
from dfqonnx.runtime.kernel_audit import audit_kernels
from dfqonnx.runtime.session import Session
from dfqonnx.targets.profile import TARGETS, TargetProfile
from tests.export.qnets import Net
from tests.targets.made import Made

ALL = tuple(TARGETS)


def widths(target: TargetProfile) -> list[str]:
    """Return the best widths, and the narrowest that the target takes."""
    least = [
        4 if limit is None else limit.bits
        for limit in (target.least_weights, target.least_activations)
    ]
    return [*dict.fromkeys((*target.best_widths, f"w{least[0]}a{least[1]}"))]


CASES = [(name, "residual", bits) for name in ALL for bits in widths(TARGETS[name])]
CASES += [(name, "projected", widths(TARGETS[name])[-1]) for name in ALL]


@pytest.mark.parametrize(("name", "net", "bits"), CASES, ids=str)
def test_the_file_computes_what_was_trained_under_the_targets_rules(
    name: str, net: str, bits: str, tmp_path: Path
) -> None:
    made = Made(TARGETS[name], net, bits, tmp_path)
    onnx.checker.check_model(made.proto, full_check=True)
    with torch.no_grad():
        x = torch.from_numpy(made.x)
        torch_run = StudentOutputs(made.student.codes(x), made.student(x)[0].numpy())
    parity = measure_parity(made.path, made.x, torch_run=torch_run)
    assert parity is not None
    assert parity.off_vs_torch is not None
    compared = [parity.off_vs_torch]
    compared += [parity.on_vs_off] if made.target.on_onnxruntime_cpu else []
    for found in compared:
        assert found.largest <= 1
        assert found.fraction_without_ties <= 1e-4  # sums in another order, close to a border
    _hold_to_the_rules(made)
    if made.target.on_onnxruntime_cpu:
        assert not audit_kernels(made.path).float_weighted


def _hold_to_the_rules(made: Made) -> None:
    target = made.target
    container = TensorProto.INT8 if target.activations.signed else TensorProto.UINT8
    if made.plan.narrowest().activations > MAX_BITS:
        container = TensorProto.UINT16
    for node in made.nodes("QuantizeLinear"):
        assert made.types[node.input[2]] == container
        assert target.activations.zero_points or made.arrays[node.input[2]] == 0
    if target.power_of_two:
        assert all((np.log2(scale) % 1 == 0).all() for scale in made.scales())
    if not target.per_channel:
        assert all(scale.ndim == 0 for scale in made.scales())
    for weight in made.plan.weights:
        if weight.bias is None:
            continue
        source = made.bias_of(weight.node)
        assert (source in made.arrays) == target.float_bias
        if not target.float_bias:
            assert made.types[made.makers[source].input[0]] == TensorProto.INT32
    behind = [made.makers[n.input[0]].op_type for n in made.nodes("DequantizeLinear")
              if n.input[0] in made.makers]  # fmt: skip
    allowed = {"QuantizeLinear", "Cast"}
    allowed |= {"Clip"} if target.integer_clip else set()
    allowed |= {"Pad"} if target.first_conv_padding is not None else set()
    assert set(behind) <= allowed
    assert made.proto.opset_import[0].version in {each.opset for each in target.opsets}


@pytest.mark.parametrize("bits", ["w8a8", "w4a8"])
def test_openvino_adds_what_was_not_rounded_and_one_operand_that_was(
    bits: str, tmp_path: Path
) -> None:
    for net, counted in (("residual", [1, 1]), ("projected", [1])):
        made = Made(TARGETS["openvino"], net, bits, tmp_path)
        operands = [
            [made.makers[name].op_type for name in node.input] for node in made.nodes("Add")
        ]
        assert [kinds.count("Conv") for kinds in operands] == counted
        assert all(kinds[0] == "Conv" for kinds in operands)
        assert all(kinds[1] == "DequantizeLinear" for kinds in operands)


@pytest.mark.parametrize("name", ["onnxruntime-qnn", "vitisai", "stm32"])
def test_outputs_are_quantized_where_the_target_wants_whole_groups(
    name: str, tmp_path: Path
) -> None:
    made = Made(TARGETS[name], "residual", "w8a8", tmp_path)
    (out,) = made.proto.graph.output
    assert made.makers[out.name].op_type == "DequantizeLinear"
    (quantizer,) = [q for q in made.plan.activations if q.role == "output"]
    with torch.no_grad():
        seen = made.student(torch.from_numpy(made.x))[0].numpy()
    params = made.student.qparams().activations[quantizer.name]
    top, bottom = ((end - params.zero_point) * params.scale for end in (params.hi, params.lo))
    assert (seen.max(), seen.min()) <= (top, 0.0)
    assert seen.min() >= bottom
    assert (top - bottom) < 4 * (seen.max() - seen.min())  # not a guess that wastes levels


def test_the_smallest_file_packs_two_bits_and_leaves_zero_points_out(tmp_path: Path) -> None:
    made = Made(TARGETS["size"], "residual", "w2a8", tmp_path)
    assert made.weight_types() == {TensorProto.INT2}
    assert made.proto.opset_import[0].version == 25
    constant = [n for n in made.nodes("DequantizeLinear") if "Q " not in n.name
                and made.makers.get(n.input[0], n).op_type != "QuantizeLinear"]  # fmt: skip
    readers = {name: node.op_type for node in made.proto.graph.node for name in node.input}
    assert {len(n.input) for n in constant if readers[n.output[0]] == "Conv"} == {2}
    assert {len(n.input) for n in constant if readers[n.output[0]] == "Gemm"} == {3}
    sizes = {}
    for name in ("size", "onnxruntime-cpu", "portable"):
        folder = tmp_path / name
        folder.mkdir()
        sizes[name] = Made(TARGETS[name], "residual", "w2a8", folder).path.stat().st_size
    assert sizes["size"] < sizes["onnxruntime-cpu"] < sizes["portable"]


def test_qnn_gets_a_cut_between_an_exponential_in_float_and_what_reads_it(tmp_path: Path) -> None:
    net = Net()
    a = net.add("Exp", net.conv("image", "stem", (8, 3, 3, 3)), name="exp")
    onnx.save(
        _with_output(net, net.add("Mul", a, net.constant("half", np.float32(0.5)), name="mul")),
        tmp_path / "net.onnx",
    )
    for name, between in (("onnxruntime-qnn", "Sum"), ("onnxruntime-cpu", "Exp")):
        folder = tmp_path / name
        folder.mkdir()
        rules = NodeRules(keep_float=("exp",))
        made = Made(TARGETS[name], tmp_path / "net.onnx", "w8a8", folder, rules=rules)
        (mul,) = made.nodes("Mul")
        assert made.makers[mul.input[0]].op_type == between
        with torch.no_grad():
            seen = made.student(torch.from_numpy(made.x))[0].numpy()
        session = Session(made.path, optimization="off")
        (found,) = session.run({session.inputs[0].name: made.x})
        off = np.abs(found - seen) > 1e-5 * np.abs(seen)
        assert off.mean() < 1e-3  # a code that lies on the border


def _with_output(net: Net, value: str) -> onnx.ModelProto:
    net.last = value
    return net.proto(output_shape=("N", 8, 6, 6))

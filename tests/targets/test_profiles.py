"""Every target: its file computes what the student that was trained under its rules computes.

The rules are read from the file itself, so that a fact that nobody follows is seen here.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from numpy.typing import NDArray
from onnx import TensorProto, numpy_helper

from dfqonnx.convert.importer import to_program
from dfqonnx.core.quantization import BitWidths, QuantizationConfig
from dfqonnx.evaluation.parity import StudentOutputs, measure_parity
from dfqonnx.export.export import export
from dfqonnx.export.writer import write
from dfqonnx.fakequant.student import Student
from dfqonnx.graph.load import load
from dfqonnx.graph.normalize import normalize
from dfqonnx.placement.place import place_quantizers
from dfqonnx.ptq.gptq import gptq
from dfqonnx.targets.profile import TARGETS, TargetProfile
from tests.export.qnets import Net, residual

ALL = tuple(TARGETS)


def projected() -> Net:
    """A residual block whose shortcut is a Conv, ReLU6, a HardSwish and an average pool."""
    net = Net(seed=3)
    low, high = (net.constant(f"b{v}", np.float32(v)) for v in (0, 6))
    a = net.add("Clip", net.conv("image", "stem", (16, 3, 3, 3), pads=[1] * 4), low, high, name="c")
    b = net.conv(a, "c1", (24, 16, 3, 3), pads=[1] * 4)
    s = net.conv(a, "shortcut", (24, 16, 1, 1))
    c = net.add("Relu", net.add("Add", b, s, name="sum"), name="relu")
    d = net.add("HardSwish", net.conv(c, "c2", (16, 24, 1, 1)), name="swish")
    d = net.add("AveragePool", d, name="average", kernel_shape=[2, 2], strides=[2, 2])
    e = net.conv(d, "depthwise", (16, 1, 3, 3), group=16, pads=[1] * 4)
    net.head(net.add("Relu", e, name="relu2"), 16)
    return net


NETS = {"residual": residual, "projected": projected}


class Made:
    """A file for a target, and what the student that it was made of computes."""

    def __init__(self, target: TargetProfile, net: str, bits: str, folder: Path) -> None:
        self.target, self.path = target, folder / "student.onnx"
        onnx.save(NETS[net]().proto(), folder / "net.onnx")
        model = normalize(load(folder / "net.onnx"))
        quant = QuantizationConfig(BitWidths.parse(bits))
        self.plan = place_quantizers(model, quant, target, input_signed=True)
        program = to_program(model)
        self.student = Student(program, self.plan)
        generator = torch.Generator().manual_seed(0)
        x = torch.randn(24, *model.input_shape, generator=generator)
        self.student.initialize([x])
        gptq(self.student, program, x, generator=generator)
        metadata = {"dfqonnx.target": target.name}
        write(export(model, self.plan, self.student.qparams(), metadata=metadata), self.path)
        self.proto = onnx.load(self.path)
        self.x: NDArray[np.float32] = x.numpy()
        self.arrays = {t.name: numpy_helper.to_array(t) for t in self.proto.graph.initializer}
        self.types = {t.name: t.data_type for t in self.proto.graph.initializer}
        self.makers = {name: node for node in self.proto.graph.node for name in node.output}

    def nodes(self, op: str) -> list[onnx.NodeProto]:
        return [node for node in self.proto.graph.node if node.op_type == op]

    def scales(self) -> list[NDArray[np.float32]]:
        kinds = ("QuantizeLinear", "DequantizeLinear")
        return [self.arrays[node.input[1]] for op in kinds for node in self.nodes(op)]

    def weight_types(self) -> set[int]:
        return {self.types[w.weight] for w in self.plan.weights}

    def bias_of(self, name: str) -> str:
        return next(node.input[2] for node in self.proto.graph.node if node.name == name)


def widths(target: TargetProfile) -> list[str]:
    """Return the best widths, and the narrowest that the target takes."""
    least = [
        4 if limit is None else limit.bits
        for limit in (target.least_weights, target.least_activations)
    ]
    return [*dict.fromkeys((*target.best_widths, f"w{least[0]}a{least[1]}"))]


CASES = [(name, net, bits) for name in ALL for net in NETS for bits in widths(TARGETS[name])]


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


def _hold_to_the_rules(made: Made) -> None:
    target = made.target
    container = TensorProto.INT8 if target.activations.signed else TensorProto.UINT8
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
    assert constant
    assert all(len(node.input) == 2 for node in constant)
    sizes = {}
    for name in ("size", "onnxruntime-cpu", "portable"):
        folder = tmp_path / name
        folder.mkdir()
        sizes[name] = Made(TARGETS[name], "residual", "w2a8", folder).path.stat().st_size
    assert sizes["size"] < sizes["onnxruntime-cpu"] < sizes["portable"]

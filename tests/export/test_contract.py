"""What a user's program sees of the exported file, and what it weighs."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto

from dfqonnx.core.input_format import PRESETS
from dfqonnx.core.quantization import BitWidths, QuantizationConfig
from dfqonnx.core.quantization_plan import QuantizationParameters
from dfqonnx.errors import InternalError
from dfqonnx.export.export import export
from dfqonnx.export.metadata import describe, read_metadata, recorded_quantization
from dfqonnx.export.writer import write
from dfqonnx.graph.load import load
from dfqonnx.graph.model import Contract
from dfqonnx.graph.normalize import normalize
from dfqonnx.placement.place import place_quantizers
from dfqonnx.targets.onnxruntime_cpu import ONNXRUNTIME_CPU
from tests.export.ortrun import run
from tests.export.qnets import Net, chain, export_net, residual


def ports(values: list[onnx.ValueInfoProto]) -> list[tuple[str, int, list[int | str]]]:
    found = []
    for value in values:
        tensor = value.type.tensor_type
        dims = [d.dim_param or d.dim_value for d in tensor.shape.dim]
        found.append((value.name, tensor.elem_type, dims))
    return found


@pytest.mark.parametrize("batch", ["images", 1, 4])
def test_names_types_and_axes_of_inputs_and_outputs_are_the_users(
    batch: str | int, tmp_path: Path
) -> None:
    net = Net((batch, 3, 8, 8))
    a = net.add("Relu", net.conv("image", "stem", (8, 3, 3, 3)), name="relu")
    net.head(net.add("Relu", net.conv(a, "c1", (8, 8, 3, 3)), name="relu1"), 8)
    proto = net.proto(output_shape=(batch, 5))
    found = export_net(proto, tmp_path)
    assert ports(list(found.proto.graph.input)) == ports(list(proto.graph.input))
    assert ports(list(found.proto.graph.output)) == ports(list(proto.graph.output))
    size = batch if isinstance(batch, int) else 3
    assert run(found.path, found.x[:size], optimize=True).shape == (size, 5)


@pytest.mark.parametrize("ending", ["Conv", "Relu", "Flatten", "Add"])
def test_an_output_in_the_middle_of_things_keeps_its_name(ending: str, tmp_path: Path) -> None:
    net = Net()
    a = net.add("Relu", net.conv("image", "stem", (16, 3, 3, 3), pads=[1] * 4), name="relu0")
    b = net.conv(a, "c1", (16, 16, 3, 3), pads=[1] * 4)
    shape: tuple[int | str, ...] = ("N", 16, 8, 8)
    if ending == "Relu":
        net.add("Relu", b, name="end")
    elif ending == "Add":
        net.add("Add", a, b, name="end")
    elif ending == "Flatten":
        net.add("Flatten", b, name="end")
        shape = ("N", 1024)
    proto = net.proto(output_shape=shape)
    found = export_net(proto, tmp_path)
    assert ports(list(found.proto.graph.output)) == ports(list(proto.graph.output))
    on, off = (run(found.path, found.x, optimize=o) for o in (True, False))
    # one level of an 8-bit output, where a sum lies on a tie
    assert np.abs(on - off).max() <= np.abs(off).max() / 100


def test_a_half_precision_contract_is_kept_by_casts(tmp_path: Path) -> None:
    found = export_net(chain().proto(), tmp_path)
    contract = found.model.contract
    half = replace(
        found.model,
        contract=Contract(
            tuple(replace(p, dtype=TensorProto.FLOAT16) for p in contract.inputs),
            tuple(replace(p, dtype=TensorProto.FLOAT16) for p in contract.outputs),
        ),
    )
    path = tmp_path / "half.onnx"
    write(export(half, found.plan, found.params), path)
    result = run(path, found.x.astype(np.float16), optimize=True)
    assert result.dtype == np.float16
    expected = run(found.path, found.x.astype(np.float16).astype(np.float32), optimize=True)
    # the same numbers, rounded to half precision at the end
    np.testing.assert_array_equal(result, expected.astype(np.float16))


def test_the_users_metadata_stays_and_ours_is_added(tmp_path: Path) -> None:
    quant = QuantizationConfig(BitWidths(4, 8), first_last_bits=8)
    ours = describe(
        version="1.2.3",
        quant=quant,
        target=ONNXRUNTIME_CPU.name,
        seed=3,
        recipe="abc",
        teacher="f00",
        inputs=PRESETS["cifar10"],
    )
    found = export_net(chain().proto(), tmp_path, metadata=ours)
    props = {p.key: p.value for p in found.proto.metadata_props}
    assert props["author"] == "somebody"
    assert read_metadata(found.path) == props
    assert recorded_quantization(props) == quant
    assert props["dfqonnx.target"] == "onnxruntime-cpu"
    assert props["dfqonnx.seed"] == "3"
    assert props["dfqonnx.preprocess"] == PRESETS["cifar10"].to_json()
    assert found.proto.producer_name == "dfqonnx"
    assert found.proto.producer_version == "1.2.3"


def test_equal_inputs_give_equal_bytes(tmp_path: Path) -> None:
    first = export_net(residual().proto(), tmp_path).path.read_bytes()
    assert export_net(residual().proto(), tmp_path).path.read_bytes() == first


def test_the_model_given_to_export_is_left_as_it_was(tmp_path: Path) -> None:
    found = export_net(residual().proto(), tmp_path)
    fresh = normalize(load(found.source))
    assert [n.op_type for n in found.model.ir.graph] == [n.op_type for n in fresh.ir.graph]
    assert set(found.model.ir.graph.initializers) == set(fresh.ir.graph.initializers)


def test_four_bit_weights_need_opset_21_and_int8_storage_opset_13(tmp_path: Path) -> None:
    packed = export_net(residual().proto(), tmp_path).proto
    assert (packed.opset_import[0].version, packed.ir_version) == (21, 10)
    assert {t.data_type for t in packed.graph.initializer if len(t.dims) == 4} == {TensorProto.INT4}
    found = export_net(residual().proto(), tmp_path, storage="int8")
    plain = found.proto
    assert (plain.opset_import[0].version, plain.ir_version) == (13, 8)
    assert TensorProto.INT4 not in {t.data_type for t in plain.graph.initializer}
    onnx.checker.check_model(plain, full_check=True)
    packed_output = run(export_net(residual().proto(), tmp_path).path, found.x, optimize=True)
    # after the Cast folds both files are one graph
    np.testing.assert_array_equal(run(plain.SerializeToString(), found.x, optimize=True),
                                  packed_output)  # fmt: skip


def test_an_operator_younger_than_opset_13_keeps_the_file_at_21(tmp_path: Path) -> None:
    net = Net()
    a = net.add("Relu", net.conv("image", "stem", (8, 3, 3, 3)), name="relu")
    a = net.add("HardSwish", a, name="swish")
    net.head(net.add("Relu", net.conv(a, "c1", (8, 8, 3, 3)), name="relu1"), 8)
    found = export_net(net.proto(), tmp_path, storage="int8")
    assert found.proto.opset_import[0].version == 21


def test_only_standard_operators_no_inner_shapes_and_no_constant_twice(tmp_path: Path) -> None:
    proto = export_net(residual().proto(), tmp_path).proto
    assert {node.domain for node in proto.graph.node} <= {"", "ai.onnx"}
    assert [o.domain for o in proto.opset_import] == [""]
    assert not proto.graph.value_info
    contents = [(t.data_type, tuple(t.dims), t.raw_data) for t in proto.graph.initializer]
    assert len(contents) == len(set(contents))
    assert TensorProto.FLOAT not in {
        t.data_type for t in proto.graph.initializer if len(t.dims) > 1
    }


def test_scales_and_zero_points_of_activations_have_rank_0(tmp_path: Path) -> None:
    proto = export_net(residual().proto(), tmp_path).proto
    ranks = {t.name: len(t.dims) for t in proto.graph.initializer}
    for node in proto.graph.node:
        if node.op_type == "QuantizeLinear":
            assert [ranks[name] for name in node.input[1:]] == [0, 0]


def test_node_names_of_the_user_stay_so_that_the_file_can_be_read_beside_the_old_one(
    tmp_path: Path,
) -> None:
    names = {n.name for n in export_net(residual().proto(), tmp_path).proto.graph.node}
    assert {"stem", "c1", "add1", "relu1", "widen", "pool", "fc"} <= names
    assert {"Q image", "Q relu0_out", "Q relu0_out@4"} <= names


def test_parameters_that_do_not_fit_are_our_own_mistake_and_say_so(tmp_path: Path) -> None:
    found = export_net(chain().proto(), tmp_path)
    plan = place_quantizers(
        found.model, QuantizationConfig(BitWidths(2, 4)), ONNXRUNTIME_CPU, input_signed=True
    )
    with pytest.raises(InternalError, match=r"leave|codes -?\d+.*grid"):
        export(found.model, plan, found.params)
    with pytest.raises(InternalError, match="without parameters"):
        export(found.model, plan, QuantizationParameters({}, {}))


def test_a_real_resnet20_takes_at_most_a_fifth_of_the_float_file(
    shared: Path, tmp_path: Path
) -> None:
    source = shared / "models" / "cifar10_resnet20_bn.onnx"
    found = export_net(onnx.load(source), tmp_path)
    assert found.path.stat().st_size <= 0.20 * source.stat().st_size


def test_what_reads_the_input_behind_the_last_layer_reads_it_unrounded(tmp_path: Path) -> None:
    proto = chain().proto()
    tap = onnx.helper.make_node("Exp", ["image"], ["tap"], name="tap")
    proto.graph.node.append(tap)
    shape = [d.dim_param or d.dim_value for d in proto.graph.input[0].type.tensor_type.shape.dim]
    proto.graph.output.append(
        onnx.helper.make_tensor_value_info("tap", onnx.TensorProto.FLOAT, shape)
    )
    found = export_net(proto, tmp_path)
    (node,) = [node for node in found.proto.graph.node if node.name == "tap"]
    assert list(node.input) == ["image"]

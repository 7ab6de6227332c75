"""Reading files: what is accepted, and what is refused with which words."""

from __future__ import annotations

import contextlib
import hashlib
import os
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import external_data_helper, helper

from dfqonnx.errors import DfqError, UnsupportedModel, UsageError
from dfqonnx.graph.load import load
from dfqonnx.graph.normalize import normalize
from dfqonnx.graph.passes.edit import get_shape
from tests.graph.smallnets import assert_same, network, run, save, through

PLAIN = """
    c = Conv(x, w, b) r = Relu(c) g = GlobalAveragePool(r) f = Flatten(g)
    y = Gemm<transB=1>(f, k, kb)
"""
WEIGHTS = {"w": (4, 3, 3, 3), "b": (4,), "k": (5, 4), "kb": (5,)}


def plain(**options: object) -> onnx.ModelProto:
    return network(PLAIN, WEIGHTS, **options)  # type: ignore[arg-type]


def test_source_records_hash_size_opset_producer_and_metadata(tmp_path: Path) -> None:
    proto = plain(opset=13)
    proto.producer_name, proto.producer_version = "maker", "1.2"
    proto.metadata_props.add(key="author", value="someone")
    path = save(proto, tmp_path)
    source = load(path).source
    assert source.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert source.bytes == path.stat().st_size
    assert (source.opset, source.producer) == (13, "maker 1.2")
    assert source.metadata == {"author": "someone"}


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "is empty"),
        (b"\xff\xd8\xff\xe0" + b"\0" * 64, "JPEG"),
        (b"PK\x03\x04" + b"\0" * 64, "zip archive"),
        (b"\x80\x02}q\x00.", "pickle"),
        (b"hello world, this is no model", "not a"),
        (b"\x08\x08", "no graph"),
    ],
)
def test_a_file_that_is_no_model_is_named_for_what_it_is(
    tmp_path: Path, content: bytes, says: str
) -> None:
    path = tmp_path / "net.onnx"
    path.write_bytes(content)
    with pytest.raises(UsageError, match=says):
        load(path)


def test_missing_files_and_folders_are_usage_errors(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no such file"):
        load(tmp_path / "absent.onnx")
    with pytest.raises(UsageError, match="is a folder"):
        load(tmp_path)


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9, 0.999])
def test_a_truncated_file_is_a_usage_error(tmp_path: Path, share: float) -> None:
    path = save(plain(), tmp_path)
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])
    with pytest.raises(UsageError, match=r"truncated|no graph|damaged"):
        load(path)


def test_a_tensor_shorter_than_its_shape_is_a_usage_error(tmp_path: Path) -> None:
    proto = plain()
    proto.graph.initializer[0].raw_data = proto.graph.initializer[0].raw_data[:-4]
    with pytest.raises(UsageError, match=r"'w' has 428 bytes of data, its shape .* needs 432"):
        load(save(proto, tmp_path))


REFUSED = [
    ("y = Relu(x)", {}, {}, "no Conv, Gemm or MatMul"),
    (PLAIN, WEIGHTS, {"image": "int64[N,3,8,8] x"}, "its type is INT64"),
    (PLAIN, WEIGHTS, {"image": "int8[N,3,8,8] x"}, "its type is INT8"),
    ("s = Add(x, z) y = Conv(s, w)", WEIGHTS, {"image": "float[N,3,8,8] x, float[N,3,8,8] z"},
     r"one image input.*'x' \(FLOAT Nx3x8x8\), 'z'"),
    (PLAIN, WEIGHTS, {"opset": 6}, "opset 6 is older than 7"),
    ("c = Conv(x, w) y = my.domain.Magic(c)", WEIGHTS, {}, "domain 'my.domain'"),
    ("c = Conv(x, w) y = GRUUnit(c)", WEIGHTS, {}, r"\(GRUUnit\): opset 17 of ONNX has no such"),
]  # fmt: skip


@pytest.mark.parametrize(("body", "weights", "options", "says"), REFUSED)
def test_models_that_cannot_be_quantized_are_refused_by_node(
    tmp_path: Path, body: str, weights: dict[str, tuple[int, ...]], options: dict, says: str
) -> None:
    with pytest.raises(UnsupportedModel, match=says):
        load(save(network(body, weights, **options), tmp_path))


def test_a_type_that_onnx_does_not_know_is_told_by_its_number(tmp_path: Path) -> None:
    proto = plain()
    proto.graph.input[0].type.tensor_type.elem_type = 99
    with pytest.raises(UnsupportedModel, match="its type is type 99, a real one or UINT8"):
        load(save(proto, tmp_path))


def test_every_offending_node_is_named_at_once(tmp_path: Path) -> None:
    body = "c = Conv(x, w) q = DequantizeLinear(c, s) y = GRUUnit(q)"
    with pytest.raises(UnsupportedModel) as refusal:
        load(save(network(body, {"w": (4, 3, 3, 3), "s": ()}), tmp_path))
    assert [o.op for o in refusal.value.offenses] == ["DequantizeLinear", "GRUUnit"]
    assert "already quantized" in str(refusal.value)


def test_batchnorm_in_training_mode_is_refused(tmp_path: Path) -> None:
    body = "c = Conv(x, w) y, m, v = BatchNormalization<training_mode=1>(c, g, b, mu, va)"
    weights = {"w": (4, 3, 3, 3), "g": (4,), "b": (4,), "mu": (4,), "va": (4,)}
    with pytest.raises(UnsupportedModel, match="training mode"):
        load(save(network(body, weights), tmp_path))


def test_control_flow_is_refused(tmp_path: Path) -> None:
    proto = plain()
    branch = helper.make_graph([helper.make_node("Identity", ["y"], ["t"])], "then", [], [])
    node = helper.make_node(
        "If", ["c"], ["z"], name="choice", then_branch=branch, else_branch=branch
    )
    proto.graph.node.append(node)
    with pytest.raises(UnsupportedModel, match=r"choice \(If\): control flow"):
        load(save(proto, tmp_path))


def test_a_network_whose_weights_are_all_computed_is_refused(tmp_path: Path) -> None:
    body = "t = Transpose<perm=[1,0]>(x) y = MatMul(x, t)"
    proto = network(body, {}, image="float[4,4] x", result="float[4,4] y")
    with pytest.raises(UnsupportedModel, match="its weight is computed"):
        normalize(load(save(proto, tmp_path)))


def test_an_open_image_size_is_chosen_and_stays_open(tmp_path: Path) -> None:
    path = save(plain(image="float[N,3,H,W] x"), tmp_path)
    usual = normalize(load(path))
    assert usual.input_shape == (3, 224, 224)
    assert usual.open_axes == (2, 3)
    assert normalize(load(path), image_size=(8, 6)).input_shape == (3, 8, 6)
    assert normalize(load(path), image_size=(64,)).input_shape == (3, 64, 64)
    assert get_shape(usual.ir.graph.inputs[0]) == ("N", 3, None, None)


@pytest.mark.parametrize("size", [(8, 6, 4), (0,), (-8, 8)])
def test_an_image_size_that_does_not_fit_is_a_mistake(tmp_path: Path, size: tuple[int]) -> None:
    path = save(plain(image="float[N,3,H,W] x"), tmp_path)
    with pytest.raises(UsageError, match="does not fit the model's input"):
        normalize(load(path), image_size=size)


def test_an_image_size_that_contradicts_the_file_is_a_mistake(tmp_path: Path) -> None:
    path = save(plain(), tmp_path)
    assert normalize(load(path), image_size=(8, 8)).input_shape == (3, 8, 8)
    with pytest.raises(UsageError, match=r"^image_size 16x16 does not fit the model"):
        normalize(load(path), image_size=(16, 16))


def external(tmp_path: Path) -> Path:
    proto = plain()
    external_data_helper.convert_model_to_external_data(
        proto, location="net.data", size_threshold=0, convert_attribute=False
    )
    path = tmp_path / "net.onnx"
    onnx.save(proto, path)
    return path


def test_external_data_is_read_and_counted(tmp_path: Path) -> None:
    path = external(tmp_path)
    loaded = load(path)
    assert loaded.source.bytes == path.stat().st_size + (tmp_path / "net.data").stat().st_size
    assert_same(plain(), normalize(loaded))


def test_missing_or_short_external_data_is_a_usage_error(tmp_path: Path) -> None:
    path, data = external(tmp_path), tmp_path / "net.data"
    content = data.read_bytes()
    data.write_bytes(content[: len(content) // 2])
    with pytest.raises(UsageError, match=r"asks for bytes that net.data does not have"):
        load(path)
    data.unlink()
    with pytest.raises(UsageError, match=r"'net.data' is missing"):
        load(path)


@pytest.mark.parametrize("location", ["../net.data", "/etc/hostname", "", "link.data"])
def test_external_data_outside_the_folder_is_never_read(tmp_path: Path, location: str) -> None:
    folder = tmp_path / "inner"
    folder.mkdir()
    (tmp_path / "net.data").write_bytes(b"\0" * 4096)
    os.symlink(tmp_path / "net.data", folder / "link.data")
    path = external(folder)
    proto = onnx.load(path, load_external_data=False)
    for tensor in proto.graph.initializer:
        for entry in tensor.external_data:
            if entry.key == "location":
                entry.value = location
    path.write_bytes(proto.SerializeToString())
    with pytest.raises(UsageError, match="outside the model's folder"):
        load(path)


@pytest.mark.parametrize("opset", [7, 9, 11, 13, 15, 18, 21, 22])
def test_opsets_from_7_on_reach_21_with_the_same_numbers(tmp_path: Path, opset: int) -> None:
    proto = plain(opset=opset)
    proto.ir_version = 10 if opset > 15 else 4
    _, model = through(proto, tmp_path)
    assert model.ir.graph.opset_imports == {"": max(opset, 21)}
    assert_same(proto, model)


@pytest.mark.parametrize("ir_version", [3, 4, 7])
def test_weights_listed_as_graph_inputs_are_still_weights(tmp_path: Path, ir_version: int) -> None:
    proto = plain(opset=8)
    proto.ir_version = ir_version
    for tensor in proto.graph.initializer:
        info = helper.make_tensor_value_info(tensor.name, tensor.data_type, list(tensor.dims))
        proto.graph.input.append(info)
    _, model = through(proto, tmp_path)
    assert [v.name for v in model.ir.graph.inputs] == ["x"]
    assert [p.name for p in model.contract.inputs] == ["x"]
    assert_same(proto, model)


def test_local_functions_are_inlined(tmp_path: Path) -> None:
    text = """
        <ir_version: 8, opset_import: ["" : 17, "local" : 1]>
        net (float[N,3,8,8] x) => (float[N,4,6,6] y) { c = Conv(x, w) y = local.act(c) }
        <domain: "local", opset_import: ["" : 17]> act (a) => (b) { b = Relu(a) }
    """
    proto = onnx.parser.parse_model(text)
    weight = np.random.default_rng(0).standard_normal((4, 3, 3, 3)).astype(np.float32)
    proto.graph.initializer.append(onnx.numpy_helper.from_array(weight, "w"))
    _, model = through(proto, tmp_path)
    assert [n.op_type for n in model.ir.graph] == ["Conv", "Relu"]
    x = np.ones((2, 3, 8, 8), np.float32)
    assert run(proto.SerializeToString(), x)[0].shape == (2, 4, 6, 6)
    assert_same(proto, model)


def test_a_graph_with_a_missing_value_is_refused(tmp_path: Path) -> None:
    proto = plain()
    proto.graph.node[1].input[0] = "nowhere"
    with pytest.raises(UnsupportedModel, match=r"not valid ONNX.*\n.*nowhere"):
        load(save(proto, tmp_path))


@pytest.mark.parametrize("seed", range(40))
def test_a_damaged_file_never_yields_anything_but_our_errors(tmp_path: Path, seed: int) -> None:
    path = save(plain(opset=11), tmp_path)
    data, draw = bytearray(path.read_bytes()), np.random.default_rng(seed)
    for place in draw.integers(0, len(data) if seed % 2 else 400, size=4):
        data[place] = draw.integers(256)
    path.write_bytes(bytes(data))
    with contextlib.suppress(DfqError):  # some damage only changes a weight
        assert normalize(load(path)).input_shape


def test_a_graph_name_that_is_not_text_is_refused(tmp_path: Path) -> None:
    data = network("y = Conv(x, w)", {"w": (4, 3, 3, 3)}).SerializeToString()
    path = tmp_path / "net.onnx"
    path.write_bytes(data.replace(b"\x12\x03net", b"\x12\x03n\x93t"))
    with pytest.raises(UsageError, match=r"the name b'n\\x93t' is not text"):
        load(path)

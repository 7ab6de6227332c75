"""What can be no ONNX model is refused by a glance at its fields, like the parser would."""

from __future__ import annotations

from pathlib import Path

import onnx
import pytest

from dfqonnx.errors import UsageError
from dfqonnx.graph.file_signature import check_signature
from tests.cli.networks import SMALL, WEIGHTS, model_from

MODEL = model_from(SMALL, **WEIGHTS).SerializeToString()


def is_model(path: Path, data: bytes) -> bool:
    path.write_bytes(data)
    try:
        check_signature(path)
    except UsageError:
        return False
    return True


def parses(data: bytes) -> bool:
    """Whether ONNX's own parser takes it for a model."""
    proto = onnx.ModelProto()
    try:
        proto.ParseFromString(data)
    except Exception:  # noqa: BLE001 - the parser's own error, of whichever version
        return False
    return proto.HasField("graph") and bool(proto.ir_version) and bool(proto.opset_import)


def test_a_model_passes_with_its_fields_in_any_order(tmp_path: Path) -> None:
    path = tmp_path / "net.onnx"
    assert is_model(path, MODEL)
    proto = onnx.ModelProto.FromString(MODEL)
    proto.metadata_props.add(key="a", value="b")
    parts = [onnx.ModelProto(graph=proto.graph), onnx.ModelProto(opset_import=proto.opset_import),
             onnx.ModelProto(metadata_props=proto.metadata_props),
             onnx.ModelProto(ir_version=8, producer_name="x")]  # fmt: skip
    assert is_model(path, b"".join(part.SerializeToString() for part in parts))


@pytest.mark.parametrize("cut", [1, 2, 5, 100, len(MODEL) // 2, len(MODEL) - 1])
def test_a_truncated_model_is_refused(tmp_path: Path, cut: int) -> None:
    assert not is_model(tmp_path / "net.onnx", MODEL[:cut])


@pytest.mark.parametrize(
    "data",
    [b"# Title\n", b"{}", b"<html>", b"\x89PNG\r\n", b"\xff\xd8\xff\xe0", b"PK\x03\x04" * 9, b"abc",
     b"\x00" * 64, b"\xff" * 64, b"\x08\x08", MODEL + b"\x07", MODEL + b"garbage!"],
)  # fmt: skip
def test_another_kind_of_file_is_refused(tmp_path: Path, data: bytes) -> None:
    assert not is_model(tmp_path / "net.onnx", data)


def test_no_model_that_the_parser_takes_is_refused(tmp_path: Path) -> None:
    rng = __import__("numpy").random.default_rng(0)
    for _ in range(300):
        data = bytearray(MODEL)
        data[int(rng.integers(0, 40))] = int(rng.integers(0, 256))
        if parses(bytes(data)):
            assert is_model(tmp_path / "net.onnx", bytes(data))

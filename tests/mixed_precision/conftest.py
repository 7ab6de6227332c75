"""A small residual network, and a network that is linear."""

from __future__ import annotations

from pathlib import Path

import onnx
import pytest

from dfqonnx.convert.importer import to_program
from dfqonnx.convert.program import Program
from dfqonnx.graph.load import load
from dfqonnx.graph.model import NormalizedModel
from dfqonnx.graph.normalize import normalize
from tests.cli.networks import model_from
from tests.fakequant.conftest import one_thread, tiny_model

__all__ = ["one_thread"]
LINEAR = """<ir_version: 8, opset_import: ["": 17]>
linear (float[N,3,8,8] x) => (float[N,1] y)
{
    a = Conv<pads=[1,1,1,1], kernel_shape=[3,3]>(x, w, b)
    p = GlobalAveragePool(a)
    f = Flatten(p)
    y = Gemm<transB=1>(f, v, c)
}"""


def open_file(path: Path) -> tuple[NormalizedModel, Program]:
    model = normalize(load(path))
    return model, to_program(model)


@pytest.fixture(scope="session")
def residual_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("residual") / "residual.onnx"
    onnx.save(tiny_model(), path)
    return path


@pytest.fixture(scope="session")
def residual(residual_path: Path) -> tuple[NormalizedModel, Program]:
    return open_file(residual_path)


@pytest.fixture(scope="session")
def linear(tmp_path_factory: pytest.TempPathFactory) -> tuple[NormalizedModel, Program]:
    path = tmp_path_factory.mktemp("linear") / "linear.onnx"
    onnx.save(model_from(LINEAR, w=(8, 3, 3, 3), b=(8,), v=(1, 8), c=(1,)), path)
    return open_file(path)

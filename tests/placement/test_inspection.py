"""Inspection: costs against known counts, and a form that JSON takes."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from pathlib import Path

import pytest

from dfqonnx.core.input_format import PRESETS
from dfqonnx.core.quantization import BitWidths, QuantizationConfig
from dfqonnx.errors import UsageError
from dfqonnx.graph.cost import estimate_costs
from dfqonnx.placement.inspection import inspect_file
from tests.graph.smallnets import network, save, through

W4A4 = QuantizationConfig(BitWidths(4, 4))


def test_costs_are_the_textbook_counts(tmp_path: Path) -> None:
    body = """
        a = Conv<pads=[1,1,1,1], strides=[2,2]>(x, w, b) d = Conv<group=4>(a, v)
        t = ConvTranspose<strides=[2,2]>(d, u) f = Flatten(t) y = Gemm<transB=1>(f, k)
    """
    weights = {"w": (4, 3, 3, 3), "b": (4,), "v": (4, 1, 3, 3), "u": (4, 2, 2, 2), "k": (5, 32)}
    _, model = through(network(body, weights), tmp_path)
    found = [(c.op, c.multiply_adds, c.parameters) for c in estimate_costs(model)]
    assert found == [
        ("Conv", 4 * 4 * 4 * 3 * 9, 4 * 27 + 4),
        ("Conv", 4 * 2 * 2 * 9, 4 * 9 + 4),  # own bias of zeros added
        ("ConvTranspose", 4 * 2 * 2 * 2 * 4, 4 * 2 * 4),
        ("Gemm", 5 * 32, 5 * 32 + 5),
    ]


def test_resnet20_costs_what_the_literature_says(shared: Path) -> None:
    found = inspect_file(shared / "models" / "cifar10_resnet20_folded.onnx", W4A4)
    assert found.multiply_adds == 40_551_040  # 40.55 M, as tabulated for this network
    assert found.parameters == 268_346 + 688  # weights and Gemm; a bias for each Conv channel


def test_inspection_is_json_and_names_every_site(shared: Path) -> None:
    found = inspect_file(shared / "models" / "cifar10_resnet20_bn.onnx", W4A4, PRESETS["cifar10"])
    text = json.dumps(dataclasses.asdict(found))
    assert json.loads(text)["batchnorm"] == "present"
    kinds = [s.kind for s in found.sites]
    assert {k: kinds.count(k) for k in set(kinds)} == {"activation": 39, "weight": 20, "alias": 7}
    assert all(s.reason for s in found.sites)
    assert "input (N x 3 x 32 x 32)" in str(found)


def test_the_input_specification_decides_the_sign_of_the_input(shared: Path) -> None:
    path = shared / "models" / "cifar10_resnet20_bn.onnx"
    reasons = [
        next(s.reason for s in inspect_file(path, W4A4, PRESETS[p]).sites if s.name == "input")
        for p in ("cifar10", "zero-one")
    ]
    assert [r.split(",")[0] for r in reasons] == ["signed", "unsigned"]


def test_a_model_that_cannot_be_quantized_gives_all_its_refusals(tmp_path: Path) -> None:
    path = save(network("c = Conv(x, w) y = GRUUnit(c)", {"w": (4, 3, 3, 3)}), tmp_path)
    found = inspect_file(path, W4A4)
    assert len(found.refusals) == 1
    assert "GRUUnit" in str(found.refusals[0])
    assert "cannot be quantized" in str(found)


def test_an_unreadable_file_is_still_an_error(tmp_path: Path) -> None:
    with pytest.raises(UsageError):
        inspect_file(tmp_path / "absent.onnx", W4A4)


def test_inspecting_imports_neither_torch_nor_onnxruntime(tmp_path: Path, root: Path) -> None:
    path = save(network("y = Conv(x, w)", {"w": (4, 3, 3, 3)}), tmp_path)
    script = (
        "import sys; from pathlib import Path\n"
        "from dfqonnx.placement.inspection import inspect_file\n"
        "from dfqonnx.core.quantization import BitWidths, QuantizationConfig\n"
        f"inspect_file(Path({str(path)!r}), QuantizationConfig(BitWidths(4, 4)))\n"
        "assert not {'torch', 'onnxruntime'} & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", script], check=True, cwd=root)

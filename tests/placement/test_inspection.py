"""Inspection: costs against known counts, and a form that JSON takes."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from dfqonnx.core.quantization import BitWidths, QuantizationConfig
from dfqonnx.errors import UnsupportedModel
from dfqonnx.graph.cost import estimate_costs
from dfqonnx.graph.load import load
from dfqonnx.graph.normalize import normalize
from dfqonnx.placement.inspection import Inspection, build_inspection, refusal
from dfqonnx.placement.place import place_quantizers
from dfqonnx.targets.onnxruntime_cpu import ONNXRUNTIME_CPU
from tests.graph.smallnets import network, save, through

W4A4 = QuantizationConfig(BitWidths(4, 4))


def inspected(path: Path, *, signed: bool = True) -> Inspection:
    model = normalize(load(path))
    plan = place_quantizers(model, W4A4, ONNXRUNTIME_CPU, input_signed=signed)
    return build_inspection(model, plan, W4A4)


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
    found = inspected(shared / "models" / "cifar10_resnet20_folded.onnx")
    assert found.multiply_adds == 40_551_040  # 40.55 M, as tabulated for this network
    assert found.parameters == 268_346 + 688  # weights and Gemm; a bias for each Conv channel


def test_inspection_is_json_and_names_every_site(shared: Path) -> None:
    found = inspected(shared / "models" / "cifar10_resnet20_bn.onnx")
    text = json.dumps(dataclasses.asdict(found))
    assert json.loads(text)["batchnorm"] == "present"
    kinds = [s.kind for s in found.quantizers]
    assert {k: kinds.count(k) for k in set(kinds)} == {"activation": 39, "weight": 20, "shared": 7}
    assert all(s.reason for s in found.quantizers)
    assert "input (N x 3 x 32 x 32)" in str(found)


def test_the_input_format_decides_the_sign_of_the_input(shared: Path) -> None:
    path = shared / "models" / "cifar10_resnet20_bn.onnx"
    reasons = [
        next(s.reason for s in inspected(path, signed=signed).quantizers if s.name == "input")
        for signed in (True, False)
    ]
    assert [r.split(",")[0] for r in reasons] == ["signed", "unsigned"]


def test_a_model_that_cannot_be_quantized_gives_all_its_refusals(tmp_path: Path) -> None:
    path = save(network("c = Conv(x, w) y = GRUUnit(c)", {"w": (4, 3, 3, 3)}), tmp_path)
    with pytest.raises(UnsupportedModel) as caught:
        inspected(path)
    found = refusal(path, W4A4, caught.value)
    assert len(found.refusals) == 1
    assert "GRUUnit" in str(found.refusals[0])
    assert "cannot be quantized" in str(found)


def test_placement_imports_neither_torch_nor_onnxruntime(tmp_path: Path, root: Path) -> None:
    path = save(network("y = Conv(x, w)", {"w": (4, 3, 3, 3)}), tmp_path)
    script = (
        "import sys; from pathlib import Path\n"
        "from dfqonnx.core.quantization import BitWidths, QuantizationConfig\n"
        "from dfqonnx.graph.load import load\n"
        "from dfqonnx.graph.normalize import normalize\n"
        "from dfqonnx.placement.inspection import build_inspection\n"
        "from dfqonnx.placement.place import place_quantizers\n"
        "from dfqonnx.targets.onnxruntime_cpu import ONNXRUNTIME_CPU\n"
        f"model = normalize(load(Path({str(path)!r})))\n"
        "quant = QuantizationConfig(BitWidths(4, 4))\n"
        "plan = place_quantizers(model, quant, ONNXRUNTIME_CPU, input_signed=True)\n"
        "build_inspection(model, plan, quant)\n"
        "assert not {'torch', 'onnxruntime'} & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", script], check=True, cwd=root)


def test_what_could_not_be_simplified_is_listed_with_its_reason(tmp_path: Path) -> None:
    pads = np.array([0, 0, 1, 1, 0, 0, 1, 1], np.int64)
    body = 'p = Pad<mode="reflect">(x, pads) y = Conv(p, w)'
    found = inspected(save(network(body, {"w": (4, 3, 3, 3), "pads": pads}), tmp_path))
    (skipped,) = dataclasses.asdict(found)["skipped"]
    assert (skipped["node"], skipped["rewrite"]) == ("Pad_p", "fold_pads")
    assert str(found).endswith(
        "could not be simplified (1)\n"
        "  Pad_p  Pad, fold pads: it pads in mode reflect, and a layer pads with zeros only"
    )

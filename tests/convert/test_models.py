"""Whole models against ONNX Runtime, as the files are and normalised.

Bound: largest error at most 1e-4 of the largest output (float32 sums in another order; measured
about 1e-6).
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import onnxruntime as ort
import pytest
import torch

from dfqonnx.convert.net import Net
from dfqonnx.convert.program import Program, program_from_ir, to_program
from dfqonnx.graph.load import load
from dfqonnx.graph.normalise import normalise

BOUND = 1e-4
OWN = "models/resnet20.onnx"
CLASSIFIERS = (
    "own_resnet20_cifar10.onnx",
    "cifar10_resnet20_bn.onnx",
    "cifar10_resnet20_folded.onnx",
    "cifar10_resnet20_dynamo.onnx",
    "cifar10_resnet56_bn.onnx",
    "cifar10_resnet56_folded.onnx",
    "cifar10_wrn16_1_bn.onnx",
    "cifar10_wrn16_1_folded.onnx",
    "imagenet_mobilenetv1_025_bn.onnx",
    "imagenet_mobilenetv1_025_nhwc_folded.onnx",
    "third_party/winml_cifar10_cnn.onnx",
    "third_party/cntk_mnist.onnx",
)
OTHERS = (
    "third_party/ultraface_rfb320.onnx",
    "third_party/fastestdet_coco.onnx",
    "third_party/dnsmos_p808.onnx",
    "third_party/stm_mobilenetv2_050_128.onnx",
)


@pytest.fixture(params=[OWN, *CLASSIFIERS])
def path(request: pytest.FixtureRequest, root: Path) -> Path:
    if request.param == OWN:
        return root / OWN
    return request.getfixturevalue("shared") / "models" / request.param


def reference(path: Path, n: int) -> tuple[np.ndarray, list[np.ndarray]]:
    """Random images and what ONNX Runtime says to them; fixed-batch files are fed one by one."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3  # initializers that are also inputs are worth a warning to it
    session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    (source,) = session.get_inputs()
    shape = [d if isinstance(d, int) else n for d in source.shape]
    shape[0] = n
    x = np.random.default_rng(n).standard_normal(shape).astype(np.float32)
    whole = not isinstance(source.shape[0], int)
    parts = [x] if whole else [x[i : i + 1] for i in range(n)]
    results = [session.run(None, {source.name: part}) for part in parts]
    return x, [np.concatenate(values) for values in zip(*results, strict=True)]


def check(program: Program, path: Path, *, n: int, **options: Any) -> None:
    x, wanted = reference(path, n)
    net = Net(program, outputs=program.outputs, **options)
    image = torch.from_numpy(x).requires_grad_()
    results, _ = net(image)
    for result, value in zip(results, wanted, strict=True):
        assert result.shape == value.shape
        error = np.abs(result.detach().numpy() - value).max() / np.abs(value).max()
        assert error <= BOUND
    (gradient,) = torch.autograd.grad(sum(r.square().sum() for r in results), image)
    assert torch.isfinite(gradient).all()
    assert gradient.abs().max() > 0


@pytest.mark.parametrize("n", [1, 4])
def test_normalised_classifier_agrees_with_onnx_runtime(path: Path, n: int) -> None:
    check(to_program(normalise(load(path))), path, n=n, channels_last=n == 4)


def test_file_as_it_is_agrees_with_onnx_runtime(path: Path) -> None:
    program = program_from_ir(ir.load(path))
    fixed = path.name == "cntk_mnist.onnx"  # its Reshape holds the batch of 1
    check(program, path, n=1 if fixed else 4)


def test_nothing_is_read_back_from_the_device(path: Path) -> None:
    """The meta device has shapes and no values: a read-back, which stalls a GPU, would raise."""
    model = normalise(load(path))
    program = to_program(model)
    net = Net(program, outputs=program.outputs).to("meta")
    results, _ = net(torch.empty(2, *model.input_shape, device="meta"))
    assert all(result.device.type == "meta" and result.shape[0] == 2 for result in results)


@pytest.mark.parametrize("name", OTHERS)
def test_other_file_as_it_is_agrees_with_onnx_runtime(shared: Path, name: str) -> None:
    check(program_from_ir(ir.load(shared / "models" / name)), shared / "models" / name, n=1)


def test_every_classifier_of_the_manifest_is_tested(shared: Path) -> None:
    entries = json.loads((shared / "models" / "manifest.json").read_text())
    measured = {e["file"].removeprefix("models/") for e in entries if e.get("top1")}
    assert measured == set(CLASSIFIERS)

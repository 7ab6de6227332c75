"""Whole models against ONNX Runtime, as the files are and normalized.

Bound: largest error at most 1e-4 of the largest output (float32 sums in another order; measured
about 1e-6). The models are those of the manifest beside the repository; where it is absent all but
the project's own are skipped.
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

from dfqonnx.convert.importer import program_from_ir, to_program
from dfqonnx.convert.module import ProgramModule
from dfqonnx.convert.program import Program
from dfqonnx.graph.load import load
from dfqonnx.graph.normalize import normalize
from tests.conftest import SHARED

BOUND = 1e-4
OWN = "models/resnet20.onnx"
MANIFEST = SHARED / "models" / "manifest.json"
ENTRIES: dict[str, dict[str, Any]] = {  # empty where the manifest is absent
    e["file"].removeprefix("models/"): e
    for e in (json.loads(MANIFEST.read_text(encoding="utf-8")) if MANIFEST.is_file() else [])
}
CLASSIFIERS = [name for name, e in ENTRIES.items() if e.get("top1")]
OTHERS = [name for name in ENTRIES if name not in CLASSIFIERS] or ["manifest.json"]
NOT_AS_IT_IS = {  # file -> why
    "third_party/winml_style_candy.onnx": "removed experimental operators, in no ONNX version",
}
# Off the same net in float64: ONNX Runtime 2e-3, we 4e-4 (15 InstanceNormalization, 720 x 720).
BOUNDS = {
    "third_party/winml_style_candy.onnx": 5e-3,
}
SIZES = {  # instead of the size that the manifest feeds
    # Noise of 480 x 640 shows no text: the largest output is 0.002, float32 noise 1e-4 of it.
    "third_party/ppocr_det.onnx": (224, 224),
}


def fed(name: str) -> tuple[int, ...] | None:
    """Height and width for an input that leaves them open."""
    feeds = ENTRIES[name].get("feed", {}).values()
    return SIZES.get(name, next((tuple(shape[2:]) for shape in feeds), None))


@pytest.fixture(params=[OWN, *CLASSIFIERS])
def path(request: pytest.FixtureRequest, root: Path) -> Path:
    if request.param == OWN:
        return root / OWN
    return request.getfixturevalue("shared") / "models" / request.param


def reference(
    path: Path, n: int, size: tuple[int, ...] | None = None
) -> tuple[np.ndarray, list[np.ndarray]]:
    """Random images and what ONNX Runtime says to them; fixed-batch files are fed one by one."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3  # initializers that are also inputs are worth a warning to it
    session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    (source,) = session.get_inputs()
    shape = [n, *source.shape[1:]]
    if size is not None:
        shape[2:] = size
    x = np.random.default_rng(n).standard_normal(shape).astype(np.float32)
    whole = not isinstance(source.shape[0], int)
    parts = [x] if whole else [x[i : i + 1] for i in range(n)]
    results = [session.run(None, {source.name: part}) for part in parts]
    return x, [np.concatenate(values) for values in zip(*results, strict=True)]


def check(
    program: Program,
    path: Path,
    *,
    n: int,
    size: tuple[int, ...] | None = None,
    bound: float = BOUND,
    **options: Any,
) -> None:
    x, wanted = reference(path, n, size)
    net = ProgramModule(program, outputs=program.outputs, **options)
    image = torch.from_numpy(x).requires_grad_()
    results, _ = net(image)
    for result, value in zip(results, wanted, strict=True):
        assert result.shape == value.shape
        error = np.abs(result.detach().numpy() - value).max() / np.abs(value).max()
        assert error <= bound
    (gradient,) = torch.autograd.grad(sum(r.square().sum() for r in results), image)
    assert torch.isfinite(gradient).all()
    assert gradient.abs().max() > 0


@pytest.mark.parametrize("n", [1, 4])
def test_normalized_classifier_agrees_with_onnx_runtime(path: Path, n: int) -> None:
    check(to_program(normalize(load(path))), path, n=n, channels_last=n == 4)


def test_file_as_it_is_agrees_with_onnx_runtime(path: Path) -> None:
    program = program_from_ir(ir.load(path))
    fixed = path.name == "cntk_mnist.onnx"  # its Reshape holds the batch of 1
    check(program, path, n=1 if fixed else 4)


def test_nothing_is_read_back_from_the_device(path: Path) -> None:
    """The meta device has shapes and no values: a read-back, which stalls a GPU, would raise."""
    model = normalize(load(path))
    program = to_program(model)
    net = ProgramModule(program, outputs=program.outputs).to("meta")
    results, _ = net(torch.empty(2, *model.input_shape, device="meta"))
    assert all(result.device.type == "meta" and result.shape[0] == 2 for result in results)


@pytest.mark.parametrize("name", OTHERS)
def test_other_file_as_it_is_agrees_with_onnx_runtime(shared: Path, name: str) -> None:
    if name in NOT_AS_IT_IS:
        pytest.skip(NOT_AS_IT_IS[name])
    path = shared / "models" / name
    check(program_from_ir(ir.load(path)), path, n=1, size=fed(name))


@pytest.mark.parametrize("name", OTHERS)
def test_other_file_normalized_agrees_with_onnx_runtime(shared: Path, name: str) -> None:
    path, size = shared / "models" / name, fed(name)
    model = normalize(load(path), image_size=size)
    check(to_program(model), path, n=1, size=size, bound=BOUNDS.get(name, BOUND))

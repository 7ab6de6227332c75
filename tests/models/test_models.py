"""The shipped models are what their manifest says, and can be made again."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import pickle
import sys
from collections import Counter
from pathlib import Path
from types import ModuleType

import numpy as np
import onnx
import pytest
import torch

MODELS = Path(__file__).parents[2] / "models"
MANIFEST = json.loads((MODELS / "manifest.json").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("train_resnet20", MODELS / "train_resnet20.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("facts", MANIFEST, ids=lambda facts: facts["file"])
def test_the_manifest_tells_the_truth(facts: dict) -> None:
    path = MODELS / facts["file"]
    data = path.read_bytes()
    assert len(data) == facts["bytes"]
    assert hashlib.sha256(data).hexdigest() == facts["sha256"]
    model = onnx.load_from_string(data)
    assert dict(Counter(node.op_type for node in model.graph.node)) == facts["ops"]
    assert {o.domain or "ai.onnx": o.version for o in model.opset_import} == facts["opset"]


def test_every_onnx_file_has_a_manifest_entry() -> None:
    assert {path.name for path in MODELS.glob("*.onnx")} == {facts["file"] for facts in MANIFEST}


def operators(model: onnx.ModelProto) -> list[tuple[str, dict]]:
    """Operators and attributes in order, less what carries no meaning.

    Identity only shares initializers that happen to be equal; training_mode 0 is the default.
    """
    return [
        (
            node.op_type,
            {
                a.name: onnx.helper.get_attribute_value(a)
                for a in node.attribute
                if not (a.name == "training_mode" and a.i == 0)
            },
        )
        for node in model.graph.node
        if node.op_type != "Identity"
    ]


def test_one_training_step_runs_and_the_export_has_the_shipped_graph(
    script: ModuleType, tmp_path: Path
) -> None:
    torch.manual_seed(0)
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (8, 32, 32, 3), dtype=np.uint8)
    labels = torch.from_numpy(rng.integers(0, 10, 8))
    net = script.ResNet20()
    before = net.fc.weight.detach().clone()
    phases = (script.Phase(epochs=1, peak=0.1, smoothing=0.05),)
    script.train(net, script.normalize(images), labels, phases=phases, size=4)
    assert not torch.equal(before, net.fc.weight)
    script.export(net, tmp_path / "again.onnx")
    again, shipped = (onnx.load(tmp_path / "again.onnx"), onnx.load(MODELS / "resnet20.onnx"))
    assert operators(again) == operators(shipped)
    assert again.metadata_props == shipped.metadata_props
    assert [i.name for i in again.graph.input] == [i.name for i in shipped.graph.input]
    assert again.graph.output == shipped.graph.output


@pytest.mark.parametrize("form", ["npz", "binary", "python"])
def test_every_published_form_of_the_data_set_reads_the_same(
    script: ModuleType, form: str, tmp_path: Path
) -> None:
    rng = np.random.default_rng(1)
    images = rng.integers(0, 256, (6, 32, 32, 3), dtype=np.uint8)
    labels = rng.integers(0, 10, 6)
    planes = images.transpose(0, 3, 1, 2).reshape(6, 3072)
    path = tmp_path
    if form == "npz":
        path = tmp_path / "data.npz"
        np.savez(path, x=images, y=labels)
    elif form == "binary":
        rows = np.concatenate([labels[:, None].astype(np.uint8), planes], axis=1)
        rows[:3].tofile(tmp_path / "data_batch_1.bin")
        rows[3:].tofile(tmp_path / "data_batch_2.bin")
    else:
        for number, part in ((1, slice(0, 3)), (2, slice(3, 6))):
            content = {b"data": planes[part], b"labels": labels[part].tolist()}
            (tmp_path / f"data_batch_{number}").write_bytes(pickle.dumps(content, protocol=2))
    x, y = script.read(path)
    assert np.array_equal(x, images)
    assert np.array_equal(y, labels)


def test_a_data_file_that_wants_to_run_code_is_refused(script: ModuleType, tmp_path: Path) -> None:
    (tmp_path / "data_batch_1").write_bytes(pickle.dumps(print, protocol=2))
    with pytest.raises(pickle.UnpicklingError, match="has no place"):
        script.read(tmp_path)


def test_augmentation_only_shifts_and_flips(script: ModuleType) -> None:
    x = torch.arange(32.0).expand(64, 3, 32, 32).contiguous()  # every row counts the columns
    y = script.augment(x, torch.Generator().manual_seed(0))
    steps = (y[..., 1:] - y[..., :-1]).abs()
    assert set(steps.unique().tolist()) <= {1.0}
    assert y.shape == x.shape

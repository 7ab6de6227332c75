"""Real networks of every task: the measures give what the scripts beside the data give.

The figures are those of `eval_coco.py` and `eval_ocr.py` on the float models. Students are the
float models with their weights rounded, so that nothing has to be trained here.
"""

from __future__ import annotations

import tarfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from dfqonnx.config.measuring import MeasuringConfig
from dfqonnx.config.request import validate_request
from dfqonnx.core.input_format import PRESETS, Preprocessing
from dfqonnx.evaluation.measures.task_measure import TaskMeasure
from dfqonnx.workflows.validate import validate

BGR = replace(PRESETS["zero-one"], channels="BGR", name="bgr")
SIGNED_BGR = replace(PRESETS["minus-one-one"], channels="BGR", name="signed-bgr")


def rounded(path: Path, folder: Path, *, levels: int) -> Path:
    """The network with every large weight rounded to so many levels on either side of zero."""
    model = onnx.load(path)
    constants = [n.attribute[0].t for n in model.graph.node if n.op_type == "Constant"]
    for tensor in [*model.graph.initializer, *constants]:
        values = numpy_helper.to_array(tensor)
        if values.dtype == np.float32 and values.size > 256:
            step = max(float(np.abs(values).max()), 1e-12) / levels
            changed = (np.rint(values / step) * step).astype(np.float32)
            tensor.CopyFrom(numpy_helper.from_array(changed, tensor.name))
    onnx.save(model, folder / "rounded.onnx")
    return folder / "rounded.onnx"


def measured(
    teacher: Path,
    student: Path,
    *,
    preprocess: Preprocessing,
    eval_data: Path | None = None,
    images: Path | None = None,
    image_size: str | None = None,
    measuring: MeasuringConfig | None = None,
) -> dict[str, TaskMeasure]:
    config = validate_request(
        teacher, student, preprocess=preprocess, eval_data=eval_data, images=images,
        image_size=image_size, measuring=measuring,
    )  # fmt: skip
    best: dict[str, TaskMeasure] = {}
    for each in validate(config).measures:
        best.setdefault(each.name, each)
    return best


@pytest.mark.slow
def test_fastestdet_reaches_what_the_script_beside_the_data_says(
    shared: Path, tmp_path: Path
) -> None:
    teacher = shared / "models" / "third_party" / "fastestdet_coco.onnx"
    found = measured(
        teacher,
        rounded(teacher, tmp_path, levels=127),
        preprocess=BGR,
        eval_data=shared / "data" / "coco_val128.tar",
    )
    assert found["map50"].teacher == pytest.approx(0.3405, abs=5e-5)  # printed with two decimals
    assert found["map"].teacher == pytest.approx(0.1852, abs=5e-5)
    assert found["map50"].n == 128
    fidelity = found["fidelity_map50"].student
    assert fidelity is not None
    assert fidelity > 0.9


@pytest.mark.slow
def test_a_text_recognizer_reads_what_the_script_beside_the_data_says(
    shared: Path, tmp_path: Path
) -> None:
    teacher = shared / "models" / "third_party" / "ppocr_rec.onnx"
    found = measured(
        teacher,
        rounded(teacher, tmp_path, levels=127),
        preprocess=SIGNED_BGR,
        eval_data=shared / "data" / "text_lines.tar",
        image_size="48x320",
    )
    assert found["characters"].teacher == pytest.approx(0.9629, abs=5e-5)
    assert found["lines"].teacher == pytest.approx(0.7933, abs=5e-5)
    for name in ("characters", "lines"):
        student, fidelity = found[name].student, found[f"fidelity_{name}"].student
        assert student is not None
        assert fidelity is not None
        assert student < found[name].teacher  # one step for all channels ruins this network
        assert fidelity < 1


def photographs(shared: Path, folder: Path, count: int) -> Path:
    with tarfile.open(shared / "data" / "coco_val128.tar") as archive:
        names = [n for n in archive.getnames() if n.startswith("images/") and n.endswith(".jpg")]
        for name in names[:count]:
            member = archive.extractfile(name)
            assert member is not None
            (folder / Path(name).name).write_bytes(member.read())
    return folder


@pytest.mark.slow
def test_faces_are_compared_on_photographs_without_labels(shared: Path, tmp_path: Path) -> None:
    teacher = shared / "models" / "third_party" / "ultraface_rfb320.onnx"
    images = tmp_path / "images"
    images.mkdir()
    found = measured(
        teacher,
        rounded(teacher, tmp_path, levels=127),
        preprocess=replace(PRESETS["raw"], mean=(127.0,), std=(128.0,), name="face"),
        images=photographs(shared, images, 40),
    )
    fidelity = found["fidelity_map50"]
    assert fidelity.inputs == "real"
    assert fidelity.student is not None
    assert fidelity.student > 0.9
    assert "map50" not in found


@pytest.mark.slow
def test_speech_quality_is_a_value(shared: Path, tmp_path: Path) -> None:
    teacher = shared / "models" / "third_party" / "dnsmos_p808.onnx"
    x = np.clip(np.random.default_rng(0).normal(-0.3, 0.4, (12, 900, 120)), -1, 1)
    np.savez(tmp_path / "x.npz", x=x, y=np.full(12, 3.0))
    found = measured(
        teacher,
        rounded(teacher, tmp_path, levels=31),
        preprocess=PRESETS["raw"],
        eval_data=tmp_path / "x.npz",
    )
    assert found["mae"].student is not None
    assert found["label_mae"].teacher is not None
    assert found["label_mae"].student is not None
    gap = abs(found["label_mae"].teacher - found["label_mae"].student)
    assert gap <= found["mae"].student + 1e-6  # the triangle inequality


@pytest.mark.slow
def test_the_map_of_a_text_detector_is_a_mask(shared: Path, tmp_path: Path) -> None:
    models = shared / "models" / "third_party"
    pages = tmp_path / "pages"
    pages.mkdir()
    with tarfile.open(shared / "data" / "text_lines.tar") as archive:
        for name in [n for n in archive.getnames() if n.startswith("pages/")][:4]:
            member = archive.extractfile(name)
            if member is not None:
                (pages / Path(name).name).write_bytes(member.read())
    found = measured(
        models / "ppocr_det.onnx",
        rounded(models / "ppocr_det.onnx", tmp_path, levels=127),
        preprocess=SIGNED_BGR,
        images=pages,
        image_size="192x256",
    )
    fidelity = found["fidelity_miou"].student
    assert fidelity is not None
    assert 0.5 < fidelity < 1

"""The other networks: two of two classes, small ones, and those without a real input at hand."""

from __future__ import annotations

from pathlib import Path

from realdata.photographs import (
    agreement,
    coco_reader,
    image_format,
    imagenet_reader,
    person,
)
from realdata.small_pictures import small_tasks
from realdata.task import Task, one_fold
from realdata.tasks import read_tasks

UNIT = image_format("0..1", 255.0, 0.0, 1.0)
FITTED = ("MobileNetV1 0.25", *(task.name for task in small_tasks()))  # to them the estimate was
UNTOLD = {  # networks of the folder that are not measured, and why
    "third_party/mlperf/ad_autoencoder_bn.onnx": "no machine sounds at hand",
    "third_party/mlperf/kws_dscnn_bn.onnx": "no recorded keywords at hand",
}


def all_tasks(shared: Path) -> tuple[Task, ...]:
    """Return the networks that have real inputs, one export of every set of weights."""
    two_classes = (
        Task(
            name="visual wake words", file="third_party/mlperf/vww_mobilenetv1_025_96_bn.onnx",
            kind="classes", reads="128 of coco_val128", judged="top-1",
            read=coco_reader(UNIT, (96, 96)), fidelity=agreement, truth=person,
            folds=one_fold(0, 128), preprocess=UNIT,
        ),
        Task(
            name="MobileNetV2 0.5, 2 classes", file="third_party/stm_mobilenetv2_050_128.onnx",
            kind="classes", reads="200 of the ImageNet sample, no labels", judged="agreement",
            read=imagenet_reader(UNIT, (3, 128, 128)), fidelity=agreement,
            folds=one_fold(0, 200), preprocess=UNIT,
        ),
    )  # fmt: skip
    return (*read_tasks(shared), *two_classes, *small_tasks())

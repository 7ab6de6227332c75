"""The other networks: two of two classes, and those that no real input is at hand for."""

from __future__ import annotations

from pathlib import Path

from realdata.photographs import (
    agreement,
    coco_reader,
    image_format,
    imagenet_reader,
    person,
)
from realdata.task import Task, one_fold
from realdata.tasks import read_tasks

UNIT = image_format("0..1", 255.0, 0.0, 1.0)
KNOWN = ("MobileNetV1 0.25",)  # the estimate of the drop was fitted to it
UNTOLD = {  # networks of the folder that are not measured, and why
    "third_party/mlperf/ad_autoencoder_bn.onnx": "no machine sounds at hand",
    "third_party/mlperf/kws_dscnn_bn.onnx": "no recorded keywords at hand",
}


def all_tasks(shared: Path) -> tuple[Task, ...]:
    """Return the networks that the estimate was not fitted to and that have real inputs."""
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
    others = [task for task in read_tasks(shared) if task.name not in KNOWN]
    return (*others, *two_classes)

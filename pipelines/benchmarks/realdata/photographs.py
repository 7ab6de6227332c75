"""Networks that read photographs: classes, boxes, style; and the photographs.

ImageNet's 1,000 sample images in an order of their own (a permutation fixed by a seed), COCO's 128
in the order of their list. Boxes are decoded and measured by `eval_coco.py`, which lies beside the
data and computes what pycocotools computes; the float model's detections of a score of at least
`CERTAIN` are the truth of the fidelity.
"""

from __future__ import annotations

import csv
import io
import tarfile
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from realdata.task import (
    Array,
    Feed,
    Figures,
    Outputs,
    RealInputs,
    Task,
    find,
    first,
    load_measures,
    one_fold,
    two_halves,
)

from dfqonnx.core.input_format import InputFormat, Preprocessing

CERTAIN = 0.3
FACES = 0.5
FAINT = 0.01  # scores below it are no detection
SIDE = 416  # pixels of an image that boxes are scaled to where it has no size of its own
Pixels = NDArray[np.uint8]


def image_format(name: str, scale: float, mean: float, std: float, **more: Any) -> Preprocessing:
    """Return how a network reads pixels, alike in all channels."""
    return Preprocessing(name=name, scale=scale, mean=(mean,) * 3, std=(std,) * 3, **more)


@cache
def read_coco(data: Path) -> tuple[Any, Any, tuple[Image.Image, ...]]:
    """Return the measures, the labels and the images of coco_val128."""
    measures = load_measures(data, "eval_coco.py")
    labels, images = measures.load(str(find(data / "coco_val128.tar")))
    return measures, labels, tuple(images[entry["image"]] for entry in labels["images"])


def read_imagenet(data: Path) -> tuple[list[bytes], NDArray[np.int64]]:
    """Return the JPEG files of the ImageNet sample, and their labels."""
    with tarfile.open(find(data / "imagenet_sample1000_224.tar")) as archive:
        content = {
            member.name.split("/")[-1]: handle.read()
            for member in archive
            if member.isfile() and (handle := archive.extractfile(member)) is not None
        }
    rows = list(csv.DictReader(io.StringIO(content["labels.csv"].decode())))
    order = np.random.default_rng(0).permutation(len(rows))
    files = [content[rows[place]["file"].split("/")[-1]] for place in order]
    return files, np.array([int(rows[place]["label"]) for place in order])


def fit(image: Image.Image, height: int, width: int) -> Pixels:
    """Return an image stretched to a size, (1, H, W, 3)."""
    scaled = image.convert("RGB").resize((width, height), Image.Resampling.BILINEAR)
    return np.asarray(scaled, np.uint8)[None]


def coco_reader(inputs: Preprocessing, size: tuple[int, int]) -> Callable[[Path], RealInputs]:
    """Return what reads coco_val128 for a network of `size`, stretched."""

    def read(data: Path) -> RealInputs:
        measures, labels, images = read_coco(data)
        form = InputFormat(inputs, (3, *size))

        def feed(place: int) -> Feed:
            return form.to_tensor(fit(images[place], *size))

        return RealInputs(count=len(images), feed=feed, facts=(measures, labels))

    return read


def imagenet_reader(
    inputs: Preprocessing, shape: tuple[int, int, int]
) -> Callable[[Path], RealInputs]:
    """Return what reads the ImageNet sample for a network of `shape`."""

    def read(data: Path) -> RealInputs:
        files, labels = read_imagenet(data)
        form = InputFormat(inputs, shape)
        height, width, _ = form.image_size

        def feed(place: int) -> Feed:
            return form.to_tensor(fit(Image.open(io.BytesIO(files[place])), height, width))

        return RealInputs(count=len(files), feed=feed, facts=labels)

    return read


def top1(real: RealInputs, places: Sequence[int], outputs: Outputs) -> Figures:
    """Return the share of the labels that are hit, in percent."""
    return {"top-1": float(100 * (first(outputs).argmax(1) == real.facts[list(places)]).mean())}


def agreement(teacher: Outputs, student: Outputs) -> Figures:
    """Return the share of equal classes, in percent."""
    same = first(teacher).argmax(1) == first(student).argmax(1)
    return {"agreement": float(100 * same.mean())}


def person(real: RealInputs, places: Sequence[int], outputs: Outputs) -> Figures:
    """Return the accuracy of person or no person, labeled from the boxes as `eval_coco.py` does."""
    _, labels = real.facts
    known = [
        any(
            box[4] == 0
            and (box[2] - box[0]) * (box[3] - box[1]) > 0.005 * entry["width"] * entry["height"]
            for box in entry["boxes"]
        )
        for entry in (labels["images"][place] for place in places)
    ]
    return {"top-1": float(100 * (first(outputs).argmax(1) == np.array(known)).mean())}


def fastestdet_boxes(measures: Any, output: tuple[Array, ...], width: int, height: int) -> Array:
    """Return detections (n, 6): x1, y1, x2, y2, class, score."""
    return np.asarray(measures.fastestdet(output[0], width, height))


def coco_precision(real: RealInputs, places: Sequence[int], outputs: Outputs) -> Figures:
    """Return mAP of FastestDet on the labeled boxes, in percent."""
    measures, labels = real.facts
    entries = [labels["images"][place] for place in places]
    found = [
        {
            "image": entry["image"],
            "boxes": fastestdet_boxes(measures, output, entry["width"], entry["height"]),
        }
        for entry, output in zip(entries, outputs, strict=True)
    ]
    at_half, mean = measures.mean_ap(measures.matches({"images": entries}, found))
    return {"mAP@0.5": float(at_half), "mAP": float(mean)}


def ultraface_boxes(measures: Any, output: tuple[Array, ...]) -> Array:
    """Return detections (n, 6) of UltraFace, whose outputs are scores and decoded boxes."""
    scores, boxes = output[0][0, :, 1].astype(np.float64), output[1][0].astype(np.float64) * SIDE
    likely = scores > FAINT
    scores, boxes = scores[likely], boxes[likely]
    classes = np.zeros(len(scores))
    kept = measures.nms(boxes, scores, classes, 0.3)
    return np.column_stack((boxes[kept], classes[kept], scores[kept]))


def box_fidelity(
    measures: Any, teacher: Sequence[Array], student: Sequence[Array], certain: float
) -> Figures:
    """Return average precision, in percent, with the float model's own detections as truth."""
    entries: list[dict[str, Any]] = [
        {"image": str(place), "boxes": boxes[boxes[:, 5] >= certain][:, :5]}
        for place, boxes in enumerate(teacher)
    ]
    boxes = sum(len(entry["boxes"]) for entry in entries)
    if not boxes:
        return {"boxes": 0.0}
    found = [{"image": str(place), "boxes": boxes} for place, boxes in enumerate(student)]
    at_half, mean = measures.mean_ap(measures.matches({"images": entries}, found))
    return {"fidelity mAP@0.5": float(at_half), "fidelity mAP": float(mean), "boxes": float(boxes)}


def fastestdet_fidelity(data: Path) -> Callable[[Outputs, Outputs], Figures]:
    """Return the fidelity of FastestDet."""

    def fidelity(teacher: Outputs, student: Outputs) -> Figures:
        measures, _, _ = read_coco(data)
        both = [
            [fastestdet_boxes(measures, output, SIDE, SIDE) for output in outputs]
            for outputs in (teacher, student)
        ]
        return box_fidelity(measures, both[0], both[1], certain=CERTAIN)

    return fidelity


def ultraface_fidelity(data: Path) -> Callable[[Outputs, Outputs], Figures]:
    """Return the fidelity of UltraFace."""

    def fidelity(teacher: Outputs, student: Outputs) -> Figures:
        measures, _, _ = read_coco(data)
        both = [[ultraface_boxes(measures, out) for out in part] for part in (teacher, student)]
        return box_fidelity(measures, both[0], both[1], certain=FACES)

    return fidelity


def picture_fidelity(teacher: Outputs, student: Outputs) -> Figures:
    """Return PSNR of pictures of 0 to 255, both clipped to that: the mean over pictures, in dB."""
    t, s = (np.clip(first(part), 0, 255).astype(np.float64) for part in (teacher, student))
    error = np.square(t - s).mean((1, 2, 3))
    return {"PSNR": float(np.mean(10 * np.log10(255**2 / np.maximum(error, 1e-12))))}


BYTES = image_format("127/128", 1.0, 127.0, 128.0)
HALVES = image_format("-1..1, NHWC", 1.0, 127.5, 127.5, layout="NHWC")
FASTESTDET = image_format("0..1, BGR", 255.0, 0.0, 1.0, channels="BGR")
CANDY = image_format("0..255, BGR", 1.0, 0.0, 1.0, channels="BGR")


def photograph_tasks(data: Path) -> tuple[Task, ...]:
    """Return the tasks whose inputs are photographs."""
    halves = two_halves(128)
    coco = "coco_val128, each half calibrating for the other"
    imagenet = "ImageNet sample, 100 to calibrate, 900 to test"
    return (
        Task(
            name="FastestDet", file="third_party/fastestdet_coco.onnx", kind="boxes", reads=coco,
            judged="fidelity mAP@0.5", read=coco_reader(FASTESTDET, (352, 352)),
            fidelity=fastestdet_fidelity(data), truth=coco_precision, folds=halves,
            preprocess=FASTESTDET,
        ),
        Task(
            name="EfficientNet-Lite0", file="efficientnet_lite0_folded.onnx", kind="classes",
            reads=imagenet, judged="top-1", read=imagenet_reader(BYTES, (3, 224, 224)),
            fidelity=agreement, truth=top1, folds=one_fold(100, 900), preprocess=BYTES,
        ),
        Task(
            name="MobileNetV1 0.25", file="imagenet_mobilenetv1_025_nhwc_folded.onnx",
            kind="classes", reads=imagenet, judged="top-1",
            read=imagenet_reader(HALVES, (224, 224, 3)), fidelity=agreement, truth=top1,
            folds=one_fold(100, 900), preprocess=HALVES,
        ),
        Task(
            name="UltraFace", file="third_party/ultraface_rfb320.onnx", kind="boxes", reads=coco,
            judged="fidelity mAP@0.5", read=coco_reader(BYTES, (240, 320)),
            fidelity=ultraface_fidelity(data), folds=halves, preprocess=BYTES,
        ),
        Task(
            name="candy", file="third_party/winml_style_candy.onnx", kind="images",
            reads="coco_val128, 16 to calibrate, 12 to test (720 x 720 each)", judged="PSNR",
            read=coco_reader(CANDY, (720, 720)), fidelity=picture_fidelity,
            folds=one_fold(16, 12), preprocess=CANDY,
        ),
    )  # fmt: skip

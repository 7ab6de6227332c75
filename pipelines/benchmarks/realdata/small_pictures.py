"""Classifiers of small pictures, CIFAR-10's and MNIST's; one export of every set of weights.

The estimate of the drop was fitted to all of them, so it is not asked of them here.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
from realdata.photographs import agreement, top1
from realdata.task import Feed, RealInputs, Task, find, one_fold

from dfqonnx.core.input_format import InputFormat, Preprocessing

TESTED = 500


def small_reader(name: str, inputs: Preprocessing) -> Callable[[Path], RealInputs]:
    """Return what reads a file of pictures `x` (N, H, W, C) and classes `y` (N,)."""

    def read(data: Path) -> RealInputs:
        with np.load(find(data / name)) as content:
            pixels, labels = content["x"], content["y"].astype(np.int64)
        height, width, channels = pixels.shape[1:]
        form = InputFormat(inputs, (channels, height, width))

        def feed(place: int) -> Feed:
            return form.to_tensor(pixels[place : place + 1])

        return RealInputs(count=len(pixels), feed=feed, facts=labels)

    return read


def small_tasks() -> tuple[Task, ...]:
    """Return one task for every set of weights."""
    imagenet = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
    cifar = (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)
    wide = (0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)
    half = (0.5,) * 3, (0.5,) * 3
    networks = (
        ("own ResNet-20", "own_resnet20_cifar10.onnx", cifar),
        ("ResNet-20", "cifar10_resnet20_folded.onnx", imagenet),
        ("ResNet-56", "cifar10_resnet56_folded.onnx", imagenet),
        ("WRN-16-1", "cifar10_wrn16_1_folded.onnx", wide),
        ("WinML CNN", "third_party/winml_cifar10_cnn.onnx", half),
    )
    found = [
        _task(
            name,
            file,
            "cifar10_test.npz",
            Preprocessing(name="known", scale=255.0, mean=mean, std=std),
        )
        for name, file, (mean, std) in networks
    ]
    gray = Preprocessing(name="known", scale=1.0, mean=(0.0,), std=(1.0,), channels="gray")
    return (*found, _task("MNIST CNN", "third_party/cntk_mnist.onnx", "mnist_test.npz", gray))


def _task(name: str, file: str, data: str, inputs: Preprocessing) -> Task:
    return Task(
        name=name, file=file, kind="classes", reads=f"{TESTED} of {data}", judged="top-1",
        read=small_reader(data, inputs), fidelity=agreement, truth=top1,
        folds=one_fold(0, TESTED), preprocess=inputs,
    )  # fmt: skip

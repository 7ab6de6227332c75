"""Where torch works."""

from __future__ import annotations

import torch

from dfqonnx.errors import EnvironmentProblem
from dfqonnx.spec.run import Device


def choose_device(wanted: Device) -> str:
    """Return where torch works.

    Raises:
        EnvironmentProblem: CUDA was asked for and is not there.
    """
    there = torch.cuda.is_available()
    if wanted == "cuda" and not there:
        raise EnvironmentProblem(
            "--device cuda: torch finds no CUDA device; check `dfqonnx doctor`, or use --device cpu"
        )
    return "cuda" if there and wanted != "cpu" else "cpu"

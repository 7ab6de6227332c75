"""Where torch works, and whether both torch and ONNX Runtime accept the teacher."""

from __future__ import annotations

from pathlib import Path

import torch

from dfqonnx.config.commands import Device
from dfqonnx.convert.program import Program
from dfqonnx.convert.shape_check import check_shapes
from dfqonnx.errors import EnvironmentProblem, Offense, UnsupportedModel, UsageError
from dfqonnx.runtime.session import Session


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


def device_name(device: str) -> str | None:
    """Return what a GPU calls itself; None for the processor."""
    return torch.cuda.get_device_name() if device == "cuda" else None


def check_teacher(path: Path, program: Program, shape: tuple[int, ...]) -> None:
    """Find out before anything slow whether the float network can be executed.

    Args:
        path: the user's file.
        program: what is trained.
        shape: of its input without the batch axis.

    Raises:
        UnsupportedModel: ONNX Runtime does not load it, or a node does not accept what reaches it.
    """
    check_shapes(program, shape)
    try:
        Session(path, optimization="off")
    except UsageError as error:
        reason = str(error).removeprefix(f"{path}: ")
        raise UnsupportedModel(
            f"{path}: the float model itself does not run:",
            [Offense("graph", "", reason, "export it again, and try it in ONNX Runtime")],
        ) from None

"""Whether ONNX Runtime runs a float network at all: asked before anything slow. Needs no torch."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from dfqonnx.errors import Offense, UnsupportedModel, UsageError
from dfqonnx.export.closed_files import closed_files
from dfqonnx.graph.model import NormalizedModel
from dfqonnx.runtime.session import Session


def check_executable(path: Path, model: NormalizedModel) -> None:
    """Refuse a float network that ONNX Runtime does not run.

    Raises:
        UnsupportedModel: it does not load it, or does not run it on an image of noise.
    """
    x = np.random.default_rng(0).uniform(0, 1, (1, *model.input_shape)).astype(np.float32)
    try:
        with closed_files(model.interface, path) as (file,):
            Session(file, optimization="off").run_batched({model.input: x})
    except UsageError as error:
        reason = error.message.removeprefix(f"{path}: ")
        raise UnsupportedModel(
            f"{path}: the float model itself does not run:",
            [Offense("graph", "", reason, "export it again, and try it in ONNX Runtime")],
        ) from None

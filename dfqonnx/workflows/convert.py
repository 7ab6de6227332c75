"""`convert`: a quantized file in the form of another target, where that is exact."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from dfqonnx.core.atomic_write import check_file_out
from dfqonnx.errors import UsageError
from dfqonnx.export.metadata import read_metadata
from dfqonnx.export.retarget import retarget
from dfqonnx.export.writer import write
from dfqonnx.runtime.session import require_runtime
from dfqonnx.targets.profile import TARGET_KEY, TARGETS
from dfqonnx.workflows.preflight import check_model


@dataclass(frozen=True)
class Conversion:
    """What was written."""

    out: Path
    target: str
    bytes: int
    notes: tuple[str, ...]


def convert(model: Path, target: str, out: Path) -> Conversion:
    """Write the quantized file `model` for `target` to `out`; it computes exactly the same.

    Raises:
        UsageError: a path or the target is wrong, or the file is not quantized.
        UnsupportedModel: it has no equal form for the target; every reason is given.
        EnvironmentProblem: the runtime, the disk or a permission is missing.
    """
    profile = TARGETS[target]
    check_model(model, what="model")
    check_file_out(out)
    if out.suffix.lower() != ".onnx":
        raise UsageError(f"--out {out}: give NAME.onnx")
    if out.exists() and out.samefile(model):
        raise UsageError(f"--out {out}: is the file itself; choose another name")
    if out.exists() and TARGET_KEY not in read_metadata(out):
        raise UsageError(f"--out {out}: is there, and not from dfqonnx; choose another name")
    require_runtime()
    made = retarget(model, profile)
    return Conversion(out, target, write(made.model, out), made.notes)

"""All networks of the tables, and how inputs pass through their files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from realdata.photographs import photograph_tasks
from realdata.speech import speech_tasks
from realdata.task import Outputs, RealInputs, Task, find
from realdata.texts import text_tasks

from dfqonnx.runtime.session import Session

ORDER = (
    "FastestDet", "EfficientNet-Lite0", "MobileNetV1 0.25", "UltraFace", "PP-OCR det",
    "PP-OCR rec", "PP-OCR cls", "candy", "DNSMOS",
)  # fmt: skip


def read_tasks(shared: Path) -> tuple[Task, ...]:
    """Return the nine tasks of the comparison; nothing is read from disk yet."""
    data, models = shared / "data", shared / "models"
    found = (*photograph_tasks(data), *text_tasks(data, models), *speech_tasks())
    return tuple(sorted(found, key=lambda task: ORDER.index(task.name)))


def run_file(path: Path, real: RealInputs, places: Sequence[int]) -> Outputs:
    """Return all outputs of a file for the inputs at `places`, one by one, on one thread."""
    session = Session(find(path))
    name = session.inputs[0].name
    found = []
    for place in places:
        outputs = session.run_batched({name: real.feed(place)})
        found.append(tuple(outputs[port.name] for port in session.outputs))
    return found

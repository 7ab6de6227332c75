"""Which decoder reads a detector's outputs: the one asked for, or the first that knows them."""

from __future__ import annotations

from dataclasses import dataclass

from dfqonnx.errors import UsageError
from dfqonnx.evaluation.heads import anchor_heads, grid_heads, yolo_heads
from dfqonnx.evaluation.heads.head import HEADS, Arrays, Frame, Head

MODULES = (anchor_heads, grid_heads, yolo_heads)  # importing them fills the table
ORDER = (  # the most particular shapes first
    "fastestdet", "ultraface", "ssd", "ssd-sigmoid", "centernet", "end-to-end", "yolov5",
    "yolox-decoded", "yolox", "yolov8",
)  # fmt: skip


@dataclass(frozen=True)
class ChosenHead:
    """The head that was chosen, and why."""

    name: str
    head: Head
    reason: str


def find_head(outputs: Arrays, frame: Frame) -> ChosenHead | None:
    """Return the first head that recognizes the float model's outputs; None where none does."""
    for name in ORDER:
        reason = HEADS[name].recognize(outputs, frame)
        if reason is not None:
            return ChosenHead(name, HEADS[name], reason)
    return None


def require_head(name: str, outputs: Arrays, frame: Frame) -> ChosenHead:
    """Return the head called `name`, which must be able to decode these outputs.

    Raises:
        UsageError: unknown, or the outputs are of another form.
    """
    head = HEADS[name]
    try:
        head.decode(outputs, frame)
    except (ValueError, IndexError, KeyError, StopIteration, FloatingPointError):
        shapes = ", ".join(f"{key} {'x'.join(map(str, v.shape))}" for key, v in outputs.items())
        raise UsageError(
            f"--head {name}: the model's outputs ({shapes}) are not {head.about}; use another"
            f" head ({', '.join(HEADS)}), or --metric file.py:function"
        ) from None
    return ChosenHead(name, head, "asked for with --head")


def explain_no_head() -> str:
    """Return what to do where no head recognizes the outputs."""
    return (
        f"no decoder is known for these outputs (known: {', '.join(HEADS)}); choose one with"
        " --head, or measure with --metric file.py:function"
    )

"""How busy a GPU is while a run has it: what `nvidia-smi` says every half second.

Its figure is the percent of the last sampling period in which a kernel ran, whatever that kernel
left idle: 100 is no proof of speed, and 20 is one of waiting.
"""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch

from dfqonnx.core.context import RunContext

QUERY = ("--query-gpu=utilization.gpu", "--format=csv,noheader,nounits", "-lms", "500")


@dataclass
class Utilization:
    """Percentages seen so far, filled when sampling ends."""

    samples: list[int] = field(default_factory=list)

    @property
    def mean(self) -> float | None:
        """Their mean; None without any."""
        return sum(self.samples) / len(self.samples) if self.samples else None


@contextmanager
def sample_utilization(context: RunContext) -> Iterator[Utilization]:
    """Sample the first GPU while the block runs; nothing on a processor, or without that tool."""
    found = Utilization()
    if context.device == "cpu":
        yield found
        return
    with tempfile.TemporaryFile("w+", encoding="utf-8") as file:
        try:
            tool = subprocess.Popen(
                ["nvidia-smi", "--id=0", *QUERY], stdout=file, stderr=subprocess.DEVNULL
            )
        except OSError:
            yield found
            return
        try:
            yield found
        finally:
            tool.terminate()
            tool.wait()
            file.seek(0)
            found.samples += [int(line) for line in file if line.strip().isdigit()]


def describe_gpu(context: RunContext, busy: float | None) -> str | None:
    """Return the name of the GPU of a run and how busy it was, in percent; None without one."""
    if context.device == "cpu":
        return None
    name = torch.cuda.get_device_name()
    return name if busy is None else f"{name}, {busy:.0f} % busy with images and training"

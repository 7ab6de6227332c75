"""One short run, its processor seconds and its largest memory stage by stage; one process for each.

    python pipelines/benchmarks/cost_runs.py MODEL BITS PREPROCESS --out FOLDER

Writes one line of JSON to stdout. Seconds are those of the processor, so that what other programs
take of the machine counts little; the speed of the machine is measured before and behind the run.
The largest resident memory is reset at the begin of each stage (Linux).
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import math
import time
from pathlib import Path
from typing import Any

import psutil

from dfqonnx.config.commands import RunConfig
from dfqonnx.config.recipe import Recipe, read_recipe
from dfqonnx.config.request import run_request
from dfqonnx.core.context import RunContext
from dfqonnx.core.progress import SilentProgress
from dfqonnx.synthesis.budget import measure_optimization_rate
from dfqonnx.workflows.machine_speed import measure_speed
from dfqonnx.workflows.run import plan_quantizers, run_targets
from dfqonnx.workflows.stage_seconds import count_run
from dfqonnx.workflows.teacher import open_teacher
from dfqonnx.workflows.time_limits import measure_pass

STATUS, RESET = Path("/proc/self/status"), Path("/proc/self/clear_refs")


class StageMeter(SilentProgress):
    """Notes the processor seconds and the largest resident memory of each stage."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self.peak_mib: dict[str, float] = {}
        self._stage, self._began = "open", 0.0  # the process began with its processor's clock

    def start(self, stage: str, total: int, *, done: int = 0) -> None:
        """Begin a stage, unless it is the one that goes on."""
        if stage != self._stage:
            self.close()
            self._stage = stage

    def close(self) -> None:
        """End the stage that goes on."""
        now, name = time.process_time(), self._stage
        self.seconds[name] = self.seconds.get(name, 0.0) + now - self._began
        self.peak_mib[name] = max(self.peak_mib.get(name, 0.0), read_peak_mib())
        RESET.write_text("5", encoding="ascii")
        self._began = now


def read_peak_mib() -> float:
    """Return the largest resident memory since it was last reset."""
    lines = STATUS.read_text(encoding="ascii", errors="replace").splitlines()
    (peak,) = (line.split()[1] for line in lines if line.startswith("VmHWM"))
    return int(peak) / 1024


def shorten(recipe: Recipe) -> Recipe:
    """Return a recipe that does a little of everything: what is fitted is a unit of its work."""
    synthesis = dataclasses.replace(recipe.synthesis, budget_scale=0.04)
    distillation = dataclasses.replace(
        recipe.distillation,
        steps=12,
        batch_size=64,
        calibration_images=128,
        holdout_images=64,
        gptq_damping=(0.3,),
    )
    return dataclasses.replace(recipe, synthesis=synthesis, distillation=distillation)


def measure(config: RunConfig) -> dict[str, Any]:
    """Do one run and return what it took, and what it did."""
    loaded = {"seconds": time.process_time(), "mib": psutil.Process().memory_info().rss / 2**20}
    meter = StageMeter()
    run_targets((config,), progress=meter)
    meter.close()
    speeds = [measure_speed(clock=time.process_time) for _ in range(2)]
    context = RunContext()
    teacher = open_teacher(config, context)
    plan = plan_quantizers(config, teacher, context.progress)
    counts = count_run(config, teacher, plan, context)
    passes = [
        measure_pass(teacher.program, teacher.inputs.shape, clock=time.process_time)
        for _ in range(3)
    ]
    rate = math.inf
    if counts.synthesis.optimized:
        rate = measure_optimization_rate(
            teacher.program,
            teacher.inputs.shape,
            context,
            precision=config.recipe.synthesis.pixels.precision,
            clock=time.process_time,
        )
    return {
        "model": config.model.stem,
        "bits": config.quant.bits.label,
        "loaded": loaded,
        "seconds": meter.seconds,
        "peak_mib": meter.peak_mib,
        "speed": max(speeds),
        "pass_seconds": min(passes),
        "optimization_rate": None if math.isinf(rate) else rate,
        "counts": counts.to_json(),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("model", type=Path)
    parser.add_argument("bits")
    parser.add_argument("preprocess")
    parser.add_argument("--out", type=Path, required=True, help="folder of the run")
    given = parser.parse_args()
    config = run_request(
        given.model, given.bits, preprocess=given.preprocess, out=given.out, device="cpu",
        recipe=shorten(read_recipe("default")),
    )  # fmt: skip
    print(json.dumps(measure(config)))


if __name__ == "__main__":
    main()

"""What a second process brings to training: rounds with one and with two take turns, in one job.

    torchrun --nproc-per-node 2 pipelines/benchmarks/two_processes.py models/resnet20.onnx

In a round of one, rank 0 takes steps alone while rank 1 waits for its message, asleep; in a round
of two, both share the same steps. Printed is one line of JSON with medians over rounds:

    wall         seconds of a step alone / (2 seconds of a step together): 1 is perfect
    processor    processor seconds of a step alone / those of both together: what sharing costs,
                 whatever else the machine does
"""

from __future__ import annotations

import argparse
import json
import os
import time
from itertools import repeat
from pathlib import Path
from statistics import median

import numpy as np
import torch

from dfqonnx.config.request import run_request
from dfqonnx.convert.module import ProgramModule
from dfqonnx.core.context import RunContext
from dfqonnx.core.ranks import Ranks
from dfqonnx.data.probe_images import make_probe_images
from dfqonnx.distill.image_pool import Batch
from dfqonnx.distill.step_gradients import StepGradients
from dfqonnx.distill.trainer import Replica
from dfqonnx.fakequant.student import Student
from dfqonnx.workflows.process_group import open_ranks
from dfqonnx.workflows.run import plan_quantizers
from dfqonnx.workflows.teacher import open_teacher


class Steps:
    """Training steps of a network on one batch, alone or shared."""

    def __init__(self, model: Path, bits: str, images: int, ranks: Ranks) -> None:
        config = run_request(model, bits, preprocess="zero-one", out=Path("none"), device="cpu")
        alone, self._ranks = RunContext(), ranks
        opened = open_teacher(config, alone)
        student = Student(opened.program, plan_quantizers(config, opened, alone.progress))
        teacher = ProgramModule(opened.program, taps=student.features, channels_last=True)
        pixels = make_probe_images(
            opened.inputs.image_size, rng=np.random.default_rng(0), count=images
        )
        self.batch = Batch(opened.inputs.to_tensor(torch.from_numpy(pixels)))
        student.initialize([self.batch.x])
        training = config.recipe.distillation
        self._replica = Replica(
            student, teacher, training, batches=repeat(self.batch), sample=[self.batch.x]  # type: ignore[arg-type]
        )  # fmt: skip
        groups = [group for own in self._replica.optimizers for group in own.param_groups]
        own = [p for group in groups for p in group["params"]]
        self._gradients = {
            shared: StepGradients(
                self._replica._loss,
                own,
                teacher,
                part=None,
                context=RunContext(ranks=ranks) if shared else alone,
            )
            for shared in (False, True)
        }

    def time(self, count: int, *, shared: bool) -> tuple[float, float]:
        """Return wall clock and processor seconds of a step; a rank that waits has none."""
        self._ranks.agree(None)
        wall, own = time.perf_counter(), time.process_time()
        if shared or not self._ranks.rank:
            self._replica.gradients = self._gradients[shared]
            for _ in range(count):
                self._replica.step(0.5, 0.5)
        return (time.perf_counter() - wall) / count, (time.process_time() - own) / count


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("model", type=Path)
    parser.add_argument("--bits", default="w4a4")
    parser.add_argument("--images", type=int, default=64, help="of a step")
    parser.add_argument("--steps", type=int, default=6, help="of a round")
    parser.add_argument("--rounds", type=int, default=7)
    given = parser.parse_args()
    with open_ranks(on_gpus=False) as ranks:
        steps = Steps(given.model, given.bits, given.images, ranks)
        steps.time(2, shared=True)
        found = []
        for _ in range(given.rounds):
            times = tuple(steps.time(given.steps, shared=each) for each in (False, True))
            found.append(ranks.gather(times))
        if ranks.rank:
            return
        wall = median(first[0][0] / (2 * max(first[1][0], other[1][0])) for first, other in found)
        own = median(first[0][1] / (first[1][1] + other[1][1]) for first, other in found)
        alone = median(first[0][0] for first, _ in found)
        print(json.dumps({
            "model": given.model.stem, "images": given.images, "rounds": given.rounds,
            "seconds_alone": round(alone, 4), "wall": round(wall, 3), "processor": round(own, 3),
            "load": round(os.getloadavg()[0], 1), "cores": os.cpu_count(),
        }))  # fmt: skip


if __name__ == "__main__":
    main()

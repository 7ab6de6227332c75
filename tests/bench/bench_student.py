"""How fast a student trains against the float network it came from: prints ratios.

    python -m tests.bench.bench_student [MODEL] [--bits 4] [--batch 128] [--rounds 9] [--threads 1]

One step is forward, loss (KD and block outputs), backward, Adam. The teacher's forward pass is left
out of the first ratio and counted on both sides of the second. The float network has the same
operators, weights and biases as parameters, and the same memory order. Rounds are interleaved; the
ratio is that of the medians of CPU seconds, which other processes disturb least.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from dfqonnx.convert.importer import to_program
from dfqonnx.convert.module import ProgramModule
from dfqonnx.convert.program import OpCall
from dfqonnx.core.quantization import BitWidths, QuantizationConfig
from dfqonnx.core.quantization_plan import WeightQuantizer
from dfqonnx.distill.losses import feature_loss, kd_loss
from dfqonnx.fakequant.student import Student
from dfqonnx.graph.load import load
from dfqonnx.graph.normalize import normalize
from dfqonnx.placement.place import place_quantizers
from dfqonnx.targets.onnxruntime_cpu import ONNXRUNTIME_CPU

MODEL = Path(__file__).parents[2] / "models" / "resnet20.onnx"


class FloatOp(nn.Module):
    """A weighted node with trainable float weight and bias."""

    def __init__(self, site: WeightQuantizer, step: OpCall, tensors: Any) -> None:
        super().__init__()
        self.step = step
        weight = tensors[site.weight].clone()
        if weight.dim() == 4:
            weight = weight.contiguous(memory_format=torch.channels_last)
        own = [weight] + ([tensors[site.bias].clone()] if site.bias else [])
        self.own = nn.ParameterList(own)

    def forward(self, x: Tensor) -> Tensor:
        return self.step.function(x, *self.own, **self.step.attributes)  # type: ignore[no-any-return]


def median_seconds(candidates: dict[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    found: dict[str, list[float]] = {name: [] for name in candidates}
    for _ in range(rounds + 1):
        for name, run in candidates.items():
            start = time.process_time()
            run()
            found[name].append(time.process_time() - start)
    return {name: statistics.median(values[1:]) for name, values in found.items()}


def say(line: str) -> None:
    sys.stdout.write(line + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", nargs="?", type=Path, default=MODEL)
    parser.add_argument("--bits", default="4")
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)

    model = normalize(load(options.model))
    sites = place_quantizers(
        model, QuantizationConfig(BitWidths.parse(options.bits)), ONNXRUNTIME_CPU, input_signed=True
    )
    program = to_program(model)
    student = Student(program, sites)
    replaced = {s.node: FloatOp(s, program.step(s.node), program.tensors) for s in sites.weights}
    float_net = ProgramModule(program, replace=replaced, taps=student.features, channels_last=True)
    teacher = ProgramModule(program, taps=student.features, channels_last=True)
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(options.batch, *model.input_shape, generator=generator)
    student.initialize([x[:32]])

    def label() -> tuple[Tensor, dict[str, Tensor]]:
        with torch.no_grad():
            return teacher(x)

    goal, goal_blocks = label()

    def step_of(net: nn.Module) -> Callable[[], None]:
        optimizer = torch.optim.Adam(list(net.parameters()), lr=1e-6, fused=True)

        def step() -> None:
            logits, blocks = net(x)
            loss = kd_loss(logits, goal, 4.0) + feature_loss(blocks, goal_blocks)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()

        return step

    seconds = median_seconds(
        {"float": step_of(float_net), "student": step_of(student), "teacher": label},
        options.rounds,
    )
    own = seconds["float"] / seconds["student"]
    both = (seconds["float"] + seconds["teacher"]) / (seconds["student"] + seconds["teacher"])
    say(f"{options.model.name}, {options.bits} bits, batch {options.batch}")
    for name, value in seconds.items():
        say(f"  {name:8} {1e3 * value:8.1f} ms CPU")
    say(f"student / float training rate  {own:.2f}   (at least 0.7)")
    say(f"with the teacher in both       {both:.2f}")


if __name__ == "__main__":
    main()

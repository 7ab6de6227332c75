"""How fast is the imported teacher against the same network written by hand in PyTorch?

    python tests/bench/bench_teacher.py [--threads 1] [--batch 128] [--rounds 15]

Forward and backward to the input of models/resnet20.onnx, weights frozen. Both networks run
alternately in one process; printed is the median over rounds of (by hand / imported) seconds, so 1
means equal and more means that the imported one is faster. Compared like with like:
BatchNormalization kept on both sides, and folded on both sides.
"""

from __future__ import annotations

import argparse
import itertools
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import onnx_ir as ir
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dfqonnx.convert.importer import program_from_ir, to_program
from dfqonnx.convert.module import ProgramModule
from dfqonnx.convert.program import Program
from dfqonnx.graph.load import load
from dfqonnx.graph.normalize import normalize

MODEL = Path(__file__).parents[2] / "models" / "resnet20.onnx"


class Unit(nn.Module):
    """Conv, then BatchNormalization if it is kept."""

    def __init__(self, i: int, o: int, *, k: int, stride: int, bn: bool) -> None:
        super().__init__()
        self.conv = nn.Conv2d(i, o, k, stride, k // 2, bias=not bn)
        self.bn = nn.BatchNorm2d(o) if bn else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        return self.bn(self.conv(x))


class Block(nn.Module):
    """Two 3x3 units and a shortcut."""

    def __init__(self, i: int, o: int, *, bn: bool) -> None:
        super().__init__()
        stride = 1 if i == o else 2
        self.first = Unit(i, o, k=3, stride=stride, bn=bn)
        self.second = Unit(o, o, k=3, stride=1, bn=bn)
        self.down = nn.Identity() if i == o else Unit(i, o, k=1, stride=2, bn=bn)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.second(F.relu(self.first(x))) + self.down(x))


class ResNet20(nn.Module):
    """CIFAR ResNet-20 with projection shortcuts."""

    def __init__(self, *, bn: bool) -> None:
        super().__init__()
        widths = [16, 16, 16, 16, 32, 32, 32, 64, 64, 64]
        self.stem = Unit(3, 16, k=3, stride=1, bn=bn)
        pairs = itertools.pairwise(widths)
        self.blocks = nn.Sequential(*(Block(i, o, bn=bn) for i, o in pairs))
        self.head = nn.Linear(64, 10)
        self.eval().requires_grad_(False)

    def forward(self, x: Tensor) -> Tensor:
        x = self.blocks(F.relu(self.stem(x)))
        return self.head(torch.flatten(F.adaptive_avg_pool2d(x, 1), 1))


def seconds(network: Callable[[Tensor], Tensor], x: Tensor) -> float:
    start = time.perf_counter()
    torch.autograd.grad(network(x).square().sum(), x)
    if x.is_cuda:
        torch.cuda.synchronize()
    return time.perf_counter() - start


def say(line: str) -> None:
    sys.stdout.write(line + "\n")


def compare(title: str, program: Program, hand: nn.Module, options: argparse.Namespace) -> None:
    x = torch.randn(options.batch, 3, 32, 32, device=options.device).requires_grad_()
    net = ProgramModule(program, channels_last=options.channels_last).to(options.device)
    hand = hand.to(options.device)
    if options.channels_last:
        hand = hand.to(memory_format=torch.channels_last)
        x = x.detach().contiguous(memory_format=torch.channels_last).requires_grad_()

    def imported(images: Tensor) -> Tensor:
        return net(images)[0]

    for network in (imported, hand):
        for _ in range(2):
            seconds(network, x)
    pairs = []
    for turn in range(options.rounds):
        order = (imported, hand) if turn % 2 else (hand, imported)
        took = {network: seconds(network, x) for network in order}
        pairs.append((took[imported], took[hand]))
    ratios = sorted(b / a for a, b in pairs)
    low, high = ratios[len(ratios) // 4], ratios[-1 - len(ratios) // 4]
    fastest = options.batch / min(a for a, _ in pairs)
    say(
        f"{title}: ratio {statistics.median(ratios):.3f} (quartiles {low:.3f} to {high:.3f}),"
        f" at best {fastest:.0f} images/s imported"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--channels-last", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    say(f"torch {torch.__version__}, {options}")
    kept = program_from_ir(ir.load(MODEL))
    compare("BatchNormalization kept", kept, ResNet20(bn=True), options)
    folded = to_program(normalize(load(MODEL)))
    compare("BatchNormalization folded", folded, ResNet20(bn=False), options)


if __name__ == "__main__":
    main()

"""What a GPU does with dfqonnx, in eight minutes at most: one command, one JSON, one table.

    gpu_check.py --out FOLDER [--minutes 8] [--device cuda] [--data cifar10_test.npz]

Needs no network, PyTorch with CUDA, and what `dfqonnx` imports (`dfqonnx doctor` names what is
missing). In this order, each as far as the time allows, and each with what went wrong where
something did:

    losses     20 training steps of ResNet-20 at W4A4 on the same images, on the CPU and on the GPU:
               the losses, their largest relative difference, the seconds of a step on both
    runs       ResNet-20 at W4A4 and W3A3 with the default recipe: steps, seconds of every stage,
               what is told of the drop, and the drop itself where --data is given
    long       W4A4 with a hundred times the steps that the default takes
    paper      `dfqf` and `dfq-akd` at the scale of their papers, with what time is left

The GPU's utilization is what `nvidia-smi` says twice a second. Ends with 1 where a part failed.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
import yaml

from dfqonnx.config.request import run_request
from dfqonnx.convert.module import ProgramModule
from dfqonnx.core.context import RunContext
from dfqonnx.data.probe_images import make_probe_images
from dfqonnx.distill.distill import make_pool
from dfqonnx.distill.trainer import Trainer
from dfqonnx.equalization.equalize import equalize
from dfqonnx.errors import DfqError
from dfqonnx.fakequant.student import Student
from dfqonnx.report.environment import describe_environment
from dfqonnx.synthesis.budget import SynthesisPlan
from dfqonnx.synthesis.synthesize import SyntheticImages
from dfqonnx.workflows.gpu_utilization import sample_utilization
from dfqonnx.workflows.run import plan_quantizers
from dfqonnx.workflows.teacher import open_teacher

MODEL = Path(__file__).parents[2] / "models" / "resnet20.onnx"
STEPS, IMAGES = 20, 512
LONGER = 100  # times the steps of a CPU
FIRST_STEP = 1e-3  # relative: float32 sums in another order; a step behind it, codes flip
LEAST_SECONDS = 30.0  # below which a part is not begun
Device = Literal["cuda", "cpu"]


@dataclass
class Clock:
    """The time that is left."""

    seconds: float
    began: float = field(default_factory=time.monotonic)

    def left(self) -> float:
        """Return the seconds that are left; none is below 0."""
        return max(0.0, self.seconds - (time.monotonic() - self.began))


def train_steps(device: Device, bits: str, *, steps: int = STEPS) -> dict[str, Any]:
    """Return the losses of the first steps on a device, and the seconds of one behind the first."""
    config = run_request(MODEL, bits, out="unused")
    context = RunContext(device=device)
    teacher = open_teacher(config, RunContext())
    plan = plan_quantizers(config, teacher, context.progress)
    network = equalize(
        teacher.program,
        plan,
        teacher.model.statistics,
        spec=config.recipe.equalization,
        inputs=teacher.inputs,
        progress=context.progress,
    )
    pixels = make_probe_images(
        teacher.inputs.image_size, rng=np.random.default_rng(0), count=IMAGES, photo=True
    )
    images = SyntheticImages(
        pixels=pixels,
        source="probes",
        reason="",
        plan=SynthesisPlan(images=IMAGES, optimized=0, batch=1, first_batch_steps=0, batch_steps=0),
        seconds=0.0,
        kinds=np.zeros(IMAGES, np.int64),
    )
    student = Student(network.program, network.plan)
    distillation = config.recipe.distillation
    host = make_pool(images, teacher.inputs, holdout=64, mixed=False, context=RunContext())
    student.initialize(host.batches(host.fitting, 64))  # on the CPU: both begin with the same
    student.to(device)
    net = ProgramModule(network.program, taps=student.features, channels_last=True).to(device)
    pool = make_pool(images, teacher.inputs, holdout=64, mixed=False, context=context)
    replica = Trainer(
        student, net, pool, config=distillation, online=None, context=context
    ).replicas[0]
    losses, marks = [], [time.perf_counter()]
    for step in range(steps):
        losses.append(replica.step(step / steps, (step + 1) / steps))  # waits for the device
        marks.append(time.perf_counter())
    taken = np.diff(marks)[1:]
    return {"losses": losses, "seconds_per_step": float(np.median(taken)) if len(taken) else None}


def compare_losses(device: Device, *, steps: int = STEPS) -> dict[str, Any]:
    """Return the losses of 20 steps on both, and by how much they differ, relatively."""
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    on_cpu, on_device = (
        train_steps("cpu", "w4a4", steps=steps),
        train_steps(device, "w4a4", steps=steps),
    )
    a, b = np.array(on_cpu["losses"]), np.array(on_device["losses"])
    apart = np.abs(a - b) / np.abs(a)
    return {
        "cpu": on_cpu,
        device: on_device,
        "first_step_apart": float(apart[0]),
        "largest_apart": float(apart.max()),
        "good": bool(apart[0] < FIRST_STEP and np.isfinite(b).all()),
    }


def quantize(
    out: Path, bits: str, places: argparse.Namespace, clock: Clock, *, words: tuple[str, ...] = ()
) -> dict[str, Any]:
    """Return what a run's report says; where it failed, why."""
    command = [
        sys.executable, "-m", "dfqonnx", "run", "--model", str(MODEL), "--bits", bits,
        "--device", places.device, "--out", str(out), "--quiet", "--json", *words,
    ]  # fmt: skip
    if places.data is not None:
        command += ["--eval-data", str(places.data)]
    began = time.perf_counter()
    with sample_utilization(RunContext(device=places.device)) as busy:
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=clock.left())
        except subprocess.TimeoutExpired:
            return {"good": False, "problem": f"not done when {clock.seconds:.0f} s were over"}
    if done.returncode:
        return {"good": False, "problem": f"exit {done.returncode}: {done.stderr.strip()[-1000:]}"}
    report = json.loads((out / "report.json").read_text(encoding="utf-8"))
    return {
        "good": True,
        "bits": bits,
        "seconds": time.perf_counter() - began,
        "utilization": busy.mean,
        "steps": (report["training"] or {}).get("steps"),
        "stages": report["seconds"],
        "drop": report["drop"],
        "estimated_drop": report["estimated_drop"],
        "untrained_kl": (report["training"] or {}).get("untrained_kl"),
        "trained_kl": (report["training"] or {}).get("trained_kl"),
    }


def write_recipe(folder: Path, name: str, **distillation: Any) -> Path:
    """Write a recipe that is the default but for some keys of its training."""
    file = folder / f"{name}.yaml"
    text = yaml.safe_dump({"about": name, "distillation": distillation})
    file.write_text(text, encoding="utf-8")
    return file


def check(places: argparse.Namespace, clock: Clock) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield every part's name and what it showed."""
    yield "environment", {"good": True, **describe_environment(gpu_name(places.device))}
    yield "losses", attempt(partial(compare_losses, places.device))
    steps = 0
    for bits in ("w4a4", "w3a3"):
        found = attempt(partial(quantize, places.out / bits, bits, places, clock))
        steps = steps or found.get("steps") or 0
        yield f"default {bits}", found
    if steps and clock.left() > LEAST_SECONDS:
        recipe = write_recipe(places.out, "long", steps=LONGER * steps)
        words = ("--recipe", str(recipe), "--budget", f"{0.6 * clock.left():.0f}s")
        yield "long w4a4", quantize(places.out / "long", "w4a4", places, clock, words=words)
    for left, name in ((2, "dfqf"), (1, "dfq-akd")):
        if clock.left() > left * LEAST_SECONDS:
            budget = f"{0.9 * clock.left() / left:.0f}s"
            asked = ("--recipe", name, "--scale", "paper", "--budget", budget)
            yield f"{name} paper", quantize(places.out / name, "w4a4", places, clock, words=asked)
        else:
            yield f"{name} paper", {"good": True, "problem": "not measured: no time was left"}


def attempt(part: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """Return what a part showed; where it raised, its last lines: the parts behind it still run."""
    try:
        return part()
    except (DfqError, RuntimeError, TypeError, ValueError) as error:
        return {"good": False, "problem": f"{type(error).__name__}: {error}"}


def gpu_name(device: Device) -> str | None:
    """Return the GPU's name."""
    return torch.cuda.get_device_name() if device == "cuda" else None


def table(parts: dict[str, dict[str, Any]]) -> str:
    """Return the parts as a Markdown table."""
    lines = ["| part | steps | seconds | GPU busy | result |", "| --- | --- | --- | --- | --- |"]
    for name, found in parts.items():
        steps, seconds, busy = (found.get(key) for key in ("steps", "seconds", "utilization"))
        cells = (
            name,
            "" if steps is None else f"{steps:,}",
            "" if seconds is None else f"{seconds:.0f}",
            "" if busy is None else f"{busy:.0f} %",
            describe(name, found),
        )
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def describe(name: str, found: dict[str, Any]) -> str:
    """Return a part's result in a few words."""
    if "problem" in found:
        return " ".join(str(found["problem"]).replace("|", "/").split())[:200]
    if name == "environment":
        return f"{found.get('device') or 'no GPU'}, torch {found.get('torch')}"
    if name == "losses":
        times = " and ".join(
            f"{1e3 * each['seconds_per_step']:.1f} ms a step on {device}"
            for device, each in found.items()
            if isinstance(each, dict) and each["seconds_per_step"] is not None
        )
        first, most = found["first_step_apart"], found["largest_apart"]
        return f"first step {first:.1e} apart, at most {most:.1e}; {times}"
    points = ((found["drop"] or {}).get("points") or {}).get("value")
    told = f"KL {found['untrained_kl']:.4f} to {found['trained_kl']:.4f}"
    return told if points is None else f"{told}, drop {points:.2f} points"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--out", type=Path, required=True, help="folder for everything written")
    parser.add_argument("--minutes", type=float, default=8.0, help="for all parts together")
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--data", type=Path, help="labeled CIFAR-10 images; never trained on")
    places = parser.parse_args()
    if places.device == "cuda" and not torch.cuda.is_available():
        raise SystemExit("torch finds no CUDA device; `dfqonnx doctor` says more")
    places.out.mkdir(parents=True, exist_ok=True)
    clock, parts = Clock(60 * places.minutes), {}
    for name, found in check(places, clock):
        parts[name] = found
        print(f"{name}: {describe(name, found)}", flush=True)
        (places.out / "gpu_check.json").write_text(json.dumps(parts, indent=1), encoding="utf-8")
        (places.out / "gpu_check.md").write_text(table(parts), encoding="utf-8")
    print(f"Wrote {places.out / 'gpu_check.json'} and gpu_check.md beside it.")
    raise SystemExit(0 if all(found["good"] for found in parts.values()) else 1)


if __name__ == "__main__":
    main()

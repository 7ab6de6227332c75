"""What the cost model says of larger networks, of several GPUs and of many models: docs/scale.md.

    python pipelines/benchmarks/scale_page.py            takes a minute; nothing is trained

Networks are written with random weights (`made_networks`), opened, planned and counted as a run
does it; seconds and memory follow from the counts. Prices and the speed of a GPU are assumptions,
stated in `ASSUMED` and on the page.
"""

from __future__ import annotations

import argparse
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path

from made_networks import write_resnet
from tables.figures import line

from dfqonnx.config.request import run_request
from dfqonnx.core.context import RunContext
from dfqonnx.core.cost_model import (
    CONSTANTS,
    MachineCost,
    StageSeconds,
    predict_machine,
    predict_stages,
)
from dfqonnx.core.memory_model import predict_memory
from dfqonnx.core.run_counts import ImageCounts, RunCounts
from dfqonnx.placement.place import place_quantizers
from dfqonnx.targets.profile import TARGETS
from dfqonnx.workflows.stage_seconds import count_run
from dfqonnx.workflows.teacher import open_teacher

ROOT = Path(__file__).parents[2]
FROM, TO = "<!-- made by pipelines/benchmarks/scale_page.py -->\n", "<!-- to here -->\n"
GIB, HOUR = 2**30, 3600.0
MINUTES_FROM = 100.0  # seconds


@dataclass(frozen=True, kw_only=True)
class Assumed:
    """What is assumed of machines and prices."""

    gpu_speed: float = 150.0  # of one GPU, in cores of speed 1, for passes of the network
    link_bytes: float = 200e9  # a second, of gradients among the GPUs of a machine
    core_dollars: float = 0.045  # an hour of a core with 4 GiB
    gpu_dollars: float = 3.0  # an hour of a GPU with its share of a machine
    models: int = 10_000
    cores: int = 2_000  # of the cluster
    busy: float = 0.85  # the share of the time in which a core has work


ASSUMED = Assumed()


@dataclass(frozen=True)
class Case:
    """A network at one width."""

    name: str
    bits: str
    counts: RunCounts


def count(name: str, path: Path, bits: str) -> Case:
    """Return what a run of the default recipe would do; the rehearsal in a runtime is left out."""
    config = run_request(path, bits, preprocess="zero-one", out=path.parent / "none", device="cpu")
    context = RunContext()
    teacher = open_teacher(config, context)
    plan = place_quantizers(
        teacher.model, config.quant, TARGETS[config.target], input_signed=teacher.inputs.signed
    )
    return Case(name, bits, count_run(config, teacher, plan, context))


def on_gpus(case: Case, gpus: int) -> StageSeconds:
    """Return the seconds on GPUs: passes there, all else on a core, the proof in ONNX Runtime."""
    core = predict_machine(case.counts.size)
    fast = MachineCost(
        pass_seconds=core.pass_seconds / ASSUMED.gpu_speed,
        optimize_seconds=core.optimize_seconds / ASSUMED.gpu_speed,
    )
    optimizer = CONSTANTS.step_parameter / ASSUMED.gpu_speed
    constants = replace(CONSTANTS, step_parameter=optimizer)
    found = predict_stages(case.counts, fast, devices=gpus, constants=constants)
    exchange = 8 * case.counts.size.parameters / ASSUMED.link_bytes if gpus > 1 else 0.0
    return StageSeconds(
        open=found.open,
        synthesize=found.synthesize,
        initialize=found.initialize,
        distill=found.distill + case.counts.steps * exchange,
        possible_distill=found.possible_distill,
        evaluate=predict_stages(case.counts, core).evaluate,
    )


def with_gpu_schedule(case: Case) -> Case:
    """Return a case with as many images and steps as small networks get, in batches of 64."""
    images = ImageCounts(images=5120, optimized=1024, batch=64, steps=510)
    counts = replace(
        case.counts, synthesis=images, all_images=images, batch=64, part=64, calibration=512,
        calibration_batch=64, probes=32, gptq=256, dampings=3, held_out=256, steps=4000,
        possible_steps=4000,
    )  # fmt: skip
    return Case(case.name, case.bits, counts)


def on_core(case: Case) -> StageSeconds:
    return predict_stages(case.counts, predict_machine(case.counts.size))


def hours(seconds: float) -> str:
    if seconds >= HOUR:
        return f"{seconds / HOUR:.1f} h"
    return f"{seconds / 60:.0f} min" if seconds >= MINUTES_FROM else f"{seconds:.0f} s"


def table_of_networks(cases: list[Case]) -> str:
    heads = ["network", "bits", "parameters", "multiply-adds", "values", "images", "steps",
             "one core", "of it training", "memory"]  # fmt: skip
    lines = [line(heads), line(["---", "---", *["---:"] * (len(heads) - 2)])]
    for case in cases:
        size, counts, core = case.counts.size, case.counts, on_core(case)
        lines.append(line([
            case.name, case.bits.upper(), f"{size.parameters / 1e6:.1f} M",
            f"{size.multiply_adds / 1e9:.2f} G", f"{size.values / 1e6:.1f} M",
            f"{counts.synthesis.images:,}", f"{counts.steps:,} of {counts.batch}",
            hours(core.total), hours(core.distill),
            f"{predict_memory(counts).peak / GIB:.1f} GiB",
        ]))  # fmt: skip
    return "".join(lines)


def describe_fleet(cases: list[Case]) -> str:
    """Return the lines about many models, a third of each network, at eight bits and at four."""
    heads = ["10,000 models at", "core hours", "hours on 2,000 cores", "machines of 16 cores",
             "dollars", "largest task"]  # fmt: skip
    lines = [line(heads), line(["---", *["---:"] * (len(heads) - 1)])]
    for bits in ("w8a8", "w4a8"):
        own = [case for case in cases if case.bits == bits]
        mean = sum(on_core(case).total for case in own) / len(own)
        worked = ASSUMED.models * mean / HOUR
        largest = max(predict_memory(case.counts).peak for case in own)
        lines.append(line([
            bits.upper(), f"{worked:,.0f}", f"{worked / ASSUMED.cores / ASSUMED.busy:,.1f}",
            f"{ASSUMED.cores // 16}", f"{worked / ASSUMED.busy * ASSUMED.core_dollars:,.0f}",
            f"{largest / GIB:.1f} GiB",
        ]))  # fmt: skip
    return "".join(lines)


def describe_gpus(case: Case) -> str:
    """Return the lines about one large network on several GPUs."""
    heads = ["GPUs", "images", "ranges", "training", "measuring", "whole", "dollars"]
    lines = [line(heads), line(["---:"] * len(heads))]
    for gpus in (1, 2, 4, 8):
        found = on_gpus(case, gpus)
        cost = found.total / HOUR * gpus * ASSUMED.gpu_dollars
        times = (found.synthesize, found.initialize, found.distill, found.evaluate, found.total)
        lines.append(line([str(gpus), *map(hours, times), f"{cost:.2f}"]))
    return "".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--into", type=Path, default=ROOT / "docs/scale.md")
    page = parser.parse_args().into
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        networks = {
            "ResNet-20, 32 x 32": ROOT / "models/resnet20.onnx",
            "ResNet of 5 M, 128 x 128": write_resnet(
                folder / "r.onnx", (2, 2, 2, 2), width=32, size=128
            ),
            "ResNet-50, 224 x 224": write_resnet(folder / "resnet50.onnx"),
        }  # fmt: skip
        cases = [count(*item, bits) for bits in ("w8a8", "w4a8") for item in networks.items()]
        large = write_resnet(folder / "large.onnx", (3, 4, 23, 3), width=96)
        wide = count("ConvNet of 100 M, 224 x 224", large, "w4a8")
    made = "".join([
        table_of_networks([*cases, wide]),
        "\nThe ConvNet of 100 million parameters on the GPUs of one machine (not measured), with"
        " 5,120 images, a fifth of them optimized, and 4,000 steps of 64:\n\n",
        describe_gpus(with_gpu_schedule(wide)),
        "\n", describe_fleet(cases),
    ])  # fmt: skip
    text = page.read_text(encoding="utf-8")
    before, _, rest = text.partition(FROM)
    after = rest.partition(TO)[2]
    page.write_text(f"{before}{FROM}\n{made}\n{TO}{after}", encoding="utf-8")
    print(made)


if __name__ == "__main__":
    main()

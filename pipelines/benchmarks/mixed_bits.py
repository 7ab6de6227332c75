"""Mixed widths against uniform, random and magnitude-based ones of the same bytes.

    mixed_bits.py [--shared ../shared] [--only NETWORK ...] [--outcome rounded] [--seeds 3]
    mixed_bits.py --page                    # only the page, from the records that are there

For each network, sensitivities are measured once. Students of three sizes and more are then chosen
by them, at random, and by the magnitude of weights (layers of larger mean |w| get the wider ones
first), each as large as the file may be, which is written with untrained numbers and counted. What
a student then loses is measured on synthetic images that the search did not see:

    rounded     ranges set, weights rounded to the nearest code: a second a student
    fitted      and refitted by GPTQ, as `--recipe ptq` does with one damping
    trained     as a run does, by `TRAINING_STEPS` steps on the images of `--effort quick`

`pipelines/results/mixed_bits.jsonl` keeps a line for each student, which is not made again, and
`MIXED_BITS.md` shows the curves, and how well the noise that was foretold ranks the outcomes.
Files of students as they come out of whole trainings are measured by `dfqonnx frontier --train`.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from dfqonnx.config.commands import RunConfig
from dfqonnx.config.request import run_request
from dfqonnx.config.search_limits import SearchLimits, SizeLimit, WidthSearch, read_limits
from dfqonnx.config.synthesis import SynthesisConfig
from dfqonnx.convert.module import ProgramModule
from dfqonnx.core.context import RunContext
from dfqonnx.core.progress import SilentProgress
from dfqonnx.core.quantization import MAX_BITS, BitWidths, NodeRules
from dfqonnx.distill.agreement import measure_agreement
from dfqonnx.distill.distill import distill
from dfqonnx.equalization.equalize import EqualizedNetwork, equalize
from dfqonnx.evaluation.drop_estimate.fixed_images import make_fixed_images
from dfqonnx.evaluation.drop_estimate.saturating_loss import rank_correlation
from dfqonnx.fakequant.student import Student
from dfqonnx.ptq.gptq import gptq
from dfqonnx.synthesis.sources.dead_leaves import sample_dead_leaves
from dfqonnx.synthesis.synthesize import SyntheticImages, synthesize
from dfqonnx.workflows.choose_widths import MeasuredNetwork, choose_widths, measure_for_search
from dfqonnx.workflows.teacher import Teacher, open_teacher
from dfqonnx.workflows.untrained_files import UntrainedFiles

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "pipelines" / "results"
RECORDS, PAGE = RESULTS / "mixed_bits.jsonl", RESULTS / "MIXED_BITS.md"
NETWORKS = {  # below the repository, or below ../shared/models
    "resnet20": "models/resnet20.onnx",
    "mobilenetv1": "imagenet_mobilenetv1_025_bn.onnx",
    "efficientnet-lite0": "efficientnet_lite0_bn.onnx",
    "fastestdet": "third_party/fastestdet_coco.onnx",
    "candy": "third_party/winml_style_candy.onnx",
}
SHARES = (0.05, 0.15, 0.3, 0.5, 0.75)  # of the way from the smallest uniform size to the largest
OUTCOME_SEED = 47_023  # of the images that outcomes are measured on, not that of any search
FITTING, CALIBRATING, MEASURING = 32, 32, 64  # images; fewer of large ones
VALUES = 2**21  # numbers of all of them together
TRAINING_STEPS, TRAINING_WORK = 100, 0.3  # work on images, of all that the default recipe makes


@dataclass(frozen=True, kw_only=True)
class Made:
    """One student: how it was chosen, what was foretold, and what came out."""

    network: str
    target: str
    kind: str  # uniform, mixed, random or magnitude
    seed: int
    bytes: int
    ratio: float  # over the float file's bytes
    foretold: float | None  # noise over signal, of mixed and uniform students
    outcome: str  # rounded, fitted or trained
    loss: float  # KL in nats, else noise over signal
    top1: float | None  # share of images with the float model's class


Assignment = Mapping[str, int]  # weight bits by node


class Bench:
    """A network with its sensitivities, and students of it."""

    def __init__(self, name: str, path: Path, target: str) -> None:
        self.name, self.target = name, target
        self.config = run_request(
            path, "auto", limits=read_limits("auto"), target=target, recipe="ptq"
        )
        self.context = RunContext(progress=SilentProgress())
        self.teacher: Teacher = open_teacher(self.config, self.context)
        self.measured: MeasuredNetwork = measure_for_search(self.config, self.teacher, self.context)
        self.folder = tempfile.TemporaryDirectory(prefix="mixed-bits-")
        self.files = UntrainedFiles(
            config=self.config, teacher=self.teacher, folder=Path(self.folder.name)
        )
        self.narrow = {w.node: w.grid.bits for w in self.measured.narrow.weights}
        self.wide = {w.node: w.grid.bits for w in self.measured.plans[MAX_BITS].weights}
        self._made: SyntheticImages | None = None

    def configure(self, bits: Assignment) -> RunConfig:
        """Return the run of a student with weights of these widths, activations at 8 bits."""
        rules = tuple((node, BitWidths(width, MAX_BITS)) for node, width in bits.items())
        quant = replace(self.config.quant, bits=BitWidths(min(bits.values()), MAX_BITS))
        return replace(self.config, quant=quant, nodes=NodeRules(bits_for=rules))

    def count_bytes(self, config: RunConfig) -> int:
        """Return the bytes of the file."""
        plan = self.files.place(config.quant.bits, config.nodes)
        return self.files.size(self.files.write(plan, config))

    def choose_in_order(self, order: Sequence[str], size: int) -> RunConfig:
        """Return the student in which as many layers as fit are wide, in this order."""
        low, high = 0, len(order)
        while low < high:
            middle = (low + high + 1) // 2
            fits = self.count_bytes(self._widen(order[:middle])) <= size
            low, high = (middle, high) if fits else (low, middle - 1)
        return self._widen(order[:low])

    def _widen(self, nodes: Sequence[str]) -> RunConfig:
        return self.configure({**self.narrow, **{node: self.wide[node] for node in nodes}})

    def search(self, size: int) -> RunConfig:
        """Return the student that the search chooses within a size."""
        assert self.config.search is not None
        limits = SearchLimits(max_size=SizeLimit(str(size), bytes=size))
        asked = replace(self.config, search=WidthSearch(limits, self.config.search.nodes))
        found = choose_widths(asked, self.teacher, self.context, measured=self.measured)
        return found.config

    def by_magnitude(self) -> list[str]:
        """Return the layers by the mean magnitude of their weights, the largest first."""
        tensors = self.teacher.program.tensors
        weights = {w.node: tensors[w.weight] for w in self.measured.narrow.weights}
        return sorted(weights, key=lambda node: -float(weights[node].abs().mean()))

    def outcome(self, config: RunConfig, how: str) -> tuple[float, float | None]:
        """Return what a student loses, and the share of equal classes."""
        inputs = self.teacher.inputs
        plan = self.files.place(config.quant.bits, config.nodes)
        network: EqualizedNetwork = equalize(
            self.teacher.program, plan, self.teacher.model.statistics,
            spec=replace(config.recipe.equalization, cross_layer=False), inputs=inputs,
            progress=SilentProgress(),
        )  # fmt: skip
        student = Student(network.program, network.plan).eval()
        if how == "trained":
            self._train(student, network)
            return self._compare(student, network)
        most = max(2, VALUES // int(np.prod(inputs.image_size)))
        generator = torch.Generator().manual_seed(OUTCOME_SEED)
        pixels = sample_dead_leaves(min(CALIBRATING, most), inputs.image_size, generator)
        x = inputs.to_tensor(pixels)
        student.initialize(torch.split(x, 8))
        if how == "fitted":
            gptq(student, network.program, x[:FITTING], generator=generator)
        return self._compare(student, network)

    def _train(self, student: Student, network: EqualizedNetwork) -> None:
        recipe = run_request(self.config.model, 4).recipe
        distill(
            network, student, self._images(recipe.synthesis),
            config=replace(recipe.distillation, steps=TRAINING_STEPS, guard_images=0),
            equalization=recipe.equalization, inputs=self.teacher.inputs, context=self.context,
        )  # fmt: skip

    def _images(self, spec: SynthesisConfig) -> SyntheticImages:
        if self._made is None:
            teacher = self.teacher
            self._made = synthesize(
                teacher.program, teacher.model.statistics, inputs=teacher.inputs, config=spec,
                context=self.context, most_work=TRAINING_WORK,
            )  # fmt: skip
        return self._made

    def _compare(self, student: Student, network: EqualizedNetwork) -> tuple[float, float | None]:
        most = max(2, VALUES // int(np.prod(self.teacher.inputs.image_size)))
        teacher = ProgramModule(network.program, taps=student.features, channels_last=True)
        found = measure_agreement(student, teacher, torch.split(self._held_out(most), 8))
        return found.distance, found.top1

    def _held_out(self, most: int) -> Tensor:
        inputs = self.teacher.inputs
        families = make_fixed_images(inputs.image_size, seed=OUTCOME_SEED)
        pixels = np.stack(list(families.values()), 1).reshape(-1, *inputs.image_size)
        kept = np.ascontiguousarray(pixels[: min(MEASURING, most)])
        return inputs.to_tensor(torch.from_numpy(kept))


def list_students(
    bench: Bench, seeds: int, shares: Sequence[float] = SHARES
) -> Iterator[tuple[str, int, Callable[[], RunConfig]]]:
    """Yield kind, seed or size, and how the student is chosen; cheap ones first."""
    small, large = (bench.count_bytes(bench.configure(b)) for b in (bench.narrow, bench.wide))
    yield "uniform", small, partial(bench.configure, bench.narrow)
    yield "uniform", large, partial(bench.configure, bench.wide)
    layers = list(bench.narrow)
    for share in shares:
        size = int(small + share * (large - small))
        yield "mixed", size, partial(bench.search, size)
        yield "magnitude", size, partial(bench.choose_in_order, bench.by_magnitude(), size)
        for seed in range(seeds):
            order = [layers[i] for i in np.random.default_rng(seed).permutation(len(layers))]
            yield f"random-{seed}", size, partial(bench.choose_in_order, order, size)


def foretell(bench: Bench, config: RunConfig) -> float:
    """Return the sum of what all quantizers of a student cost."""
    costs = bench.measured.sensitivity
    weights, activations = costs.of("weight"), costs.of("activation")
    plan = bench.files.place(config.quant.bits, config.nodes)
    noise = sum(
        weights[w.node, w.grid.bits].noise for w in plan.weights if (w.node, w.grid.bits) in weights
    )
    return noise + sum(
        activations[q.name, q.grid.bits].noise
        for q in plan.activations
        if (q.name, q.grid.bits) in activations
    )


def measure(name: str, path: Path, target: str, *, outcome: str, seeds: int) -> None:
    """Make the students of a network that have no record."""
    known = {(m.network, m.target, m.kind, m.seed, m.outcome) for m in read_records()}
    bench = Bench(name, path, target)
    whole = bench.teacher.model.source.bytes
    for kind, size, choose in list_students(bench, seeds):
        plain, _, seed = kind.partition("-")
        key = (name, target, kind, size, outcome)
        if key in known:
            continue
        config = choose()
        taken = bench.count_bytes(config)
        loss, top1 = bench.outcome(config, outcome)
        made = Made(
            network=name, target=target, kind=kind, seed=size, bytes=taken, ratio=taken / whole,
            foretold=foretell(bench, config), outcome=outcome, loss=loss, top1=top1,
        )  # fmt: skip
        with RECORDS.open("a", encoding="utf-8") as file:
            file.write(json.dumps(asdict(made)) + "\n")
        print(f"{name} {target} {plain}{seed} {made.ratio:.3f}: {made.foretold:.3g} -> {loss:.3g}")


def read_records() -> list[Made]:
    """Return all students that were made."""
    if not RECORDS.exists():
        return []
    return [Made(**json.loads(line)) for line in RECORDS.read_text().splitlines() if line]


def render(records: Sequence[Made]) -> str:
    """Return the page."""
    lines = [
        "# Mixed widths against others of the same bytes",
        "",
        "Written by `pipelines/benchmarks/mixed_bits.py`. Losses are of untrained students, but"
        " where a heading says trained, on synthetic images that no search saw: KL in nats for"
        " classes, else noise over signal.",
    ]
    groups = dict.fromkeys((m.network, m.target, m.outcome) for m in records)
    for group in groups:
        own = [m for m in records if (m.network, m.target, m.outcome) == group]
        students = {(m.kind, m.bytes): m for m in own}.values()  # one that two sizes led to, once
        pairs = [(m.foretold, m.loss) for m in students if m.foretold is not None]
        rank = rank_correlation([a for a, _ in pairs], [b for _, b in pairs])
        lines += [
            "",
            f"## {group[0]}, {group[1]}, {group[2]}",
            "",
            f"Rank correlation of the noise foretold with the loss, {len(pairs)} students:"
            f" {rank:.3f}.",
            "",
            "| bytes over float | mixed | magnitude | random, mean | uniform |",
            "| --- | --- | --- | --- | --- |",
        ]
        for size in sorted({m.seed for m in own}):
            lines.append(_row([m for m in own if m.seed == size]))
    return "\n".join(lines) + "\n"


def _row(own: Sequence[Made]) -> str:
    cells = []
    for kind in ("mixed", "magnitude", "random", "uniform"):
        losses = [m.loss for m in own if m.kind.split("-")[0] == kind]
        cells.append(f"{np.mean(losses):.4g}" if losses else "")
    return f"| {max(m.ratio for m in own):.3f} | " + " | ".join(cells) + " |"


def main() -> None:
    """Measure what is asked for, and write the page."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--shared", type=Path, default=ROOT.parent / "shared")
    parser.add_argument("--only", nargs="*", default=[], choices=[*NETWORKS])
    parser.add_argument("--outcome", choices=("rounded", "fitted", "trained"), default="rounded")
    parser.add_argument("--target", default="onnxruntime-cpu")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--page", action="store_true")
    asked = parser.parse_args()
    for name in () if asked.page else asked.only or NETWORKS:
        place = NETWORKS[name]
        path = ROOT / place if place.startswith("models/") else asked.shared / "models" / place
        measure(name, path, asked.target, outcome=asked.outcome, seeds=asked.seeds)
    PAGE.write_text(render(read_records()), encoding="utf-8")


if __name__ == "__main__":
    main()

"""Fit the cost model on five networks and show what it predicts of five others.

    python pipelines/benchmarks/cost_model.py --runs pipelines/results/cost_runs.jsonl --fit
    python pipelines/benchmarks/cost_model.py --runs pipelines/results/cost_runs.jsonl

A run is a line of `cost_runs.py`, which measures one network at one width. With --fit the constants
of `dfqonnx/core/cost_constants.json` are written anew, from the runs of the networks in `FITTED`
alone: non-negative least squares of relative errors, one stage at a time. Then COST_MODEL.md is
written beside the runs: measured against predicted, in processor seconds and MiB. `whole` is what
`--dry-run` says, whose one pass of the network is measured; `size` is predicted from the network's
size alone.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from scipy.optimize import nnls
from tables.figures import line

from dfqonnx.core import cost_model, memory_model
from dfqonnx.core.cost_model import CONSTANTS, CostConstants, MachineCost, StageSeconds
from dfqonnx.core.run_counts import RunCounts
from dfqonnx.synthesis.budget import SHARE

FITTED = (
    "own_resnet20_cifar10", "wide", "ultraface_rfb320", "ppocr_cls", "imagenet_mobilenetv1_025_bn",
)  # fmt: skip
WITHIN = 1.5  # the factor that predictions are held to
FILE = Path(cost_model.__file__).with_name("cost_constants.json")
MIB = 2**20
STAGES = ("open", "synthesize", "initialize", "distill", "evaluate")
Features = Callable[["Run"], Sequence[float]]
Target = Callable[["Run"], float]
HEAD = """# Cost model

Made by `python pipelines/benchmarks/cost_model.py` from `cost_runs.jsonl`; edit nothing by hand. The equations are in `dfqonnx/core/cost_model.py` and
`memory_model.py`, the constants in `cost_constants.json`. Each line is a short run of everything (12 training steps, 128 calibration images, 4 % of the
work for images) in a process of its own, on one core of a machine that other programs kept busy: seconds are those of the processor.

`dry run` is the prediction with one pass of the network measured, as `--dry-run` does; `size` the one from the network's size alone. Predicted over measured
is to be within 1.5 either way. The runs are from before GPTQ's search for codes became three times as fast, the constants of that search are as measured since.
"""  # noqa: E501 (lines of a page)


@dataclass(frozen=True)
class Run:
    """One measured run; `speed` is that of its processor beside the mean of all runs."""

    model: str
    bits: str
    seconds: dict[str, float]
    peak_mib: dict[str, float]
    speed: float
    pass_seconds: float
    optimize_seconds: float
    counts: RunCounts

    @property
    def t(self) -> float:
        """Seconds of a pass at speed 1."""
        return self.pass_seconds * self.speed

    def own(self, stage: str) -> float:
        """Return the seconds of a stage at speed 1."""
        return self.seconds[stage] * self.speed

    @property
    def machine(self) -> MachineCost:
        """What was measured of the machine."""
        return MachineCost(
            pass_seconds=self.pass_seconds,
            optimize_seconds=self.optimize_seconds,
            speed=self.speed,
        )

    @property
    def total(self) -> float:
        """The seconds of all stages."""
        return sum(self.seconds.values())

    @property
    def peak(self) -> float:
        """The largest memory, in MiB."""
        return max(self.peak_mib.values())


def read_runs(path: Path) -> tuple[list[Run], float]:
    """Return the runs of a file, and the mean speed by which theirs are divided."""
    lines = [json.loads(text) for text in path.read_text(encoding="utf-8").splitlines()]
    speed = math.exp(sum(math.log(each["speed"]) for each in lines) / len(lines))
    return [read_run(each, speed) for each in lines], speed


def read_run(content: dict[str, Any], mean_speed: float) -> Run:
    seconds = dict(content["seconds"])
    seconds["evaluate"] += seconds.pop("export", 0.0)
    rate = content["optimization_rate"]
    return Run(
        model=content["model"],
        bits=content["bits"],
        seconds=seconds,
        peak_mib=content["peak_mib"],
        speed=content["speed"] / mean_speed,
        pass_seconds=content["pass_seconds"],
        optimize_seconds=SHARE / rate if rate else 0.0,
        counts=RunCounts.from_json(content["counts"]),
    )


def least_squares(
    runs: Sequence[Run], features: Features, target: Target, weight: Target
) -> list[float]:
    """Return factors, none below 0, of the features that come closest to the targets."""
    matrix = np.array([features(run) for run in runs], np.float64)
    wanted = np.array([target(run) for run in runs], np.float64)
    weights = 1.0 / np.array([weight(run) for run in runs], np.float64)
    scales = np.maximum(np.abs(matrix).max(0), 1e-30)
    found, _ = nnls(matrix / scales * weights[:, None], wanted * weights)
    return [float(value) for value in found / scales]


def fit(runs: Sequence[Run], reference: float) -> CostConstants:
    """Return the constants that the runs give; the others stay."""
    own = [run for run in runs if run.model in FITTED]

    def solve(names: str, features: Features, target: Target, by: Target) -> None:
        found.update(zip(names.split(), least_squares(own, features, target, by), strict=True))

    found: dict[str, float] = {"reference_seconds": reference}
    solve(
        "multiply_add value node",
        lambda run: [
            run.counts.size.multiply_adds, run.counts.size.values, run.counts.size.nodes / 32,
        ],
        lambda run: run.t, lambda run: run.t,
    )  # fmt: skip
    solve(
        "open open_node open_byte open_pass",
        lambda run: [1, run.counts.size.nodes, run.counts.size.file_bytes, run.t],
        own_seconds("open"), own_seconds("open"),
    )  # fmt: skip
    solve("synthesize pixel", image_features, image_target, own_seconds("synthesize"))
    ratios = [run.optimize_seconds / run.pass_seconds for run in own if run.optimize_seconds]
    found["optimize_pass"] = float(np.median(ratios))
    solve(
        "initialize initialize_node initialize_parameter range_pass solve",
        lambda run: [
            1, run.counts.size.nodes, run.counts.size.parameters,
            cost_model.range_passes(run.counts) * run.t,
            run.counts.dampings * sum(map(cost_model.solve_seconds, run.counts.layers)),
        ],
        own_seconds("initialize"), own_seconds("initialize"),
    )  # fmt: skip
    solve(
        "distill_node step_pass",
        lambda run: [run.counts.size.nodes, run.counts.steps * run.counts.batch * run.t],
        lambda run: run.own("distill") - known_step_seconds(run), own_seconds("distill"),
    )  # fmt: skip
    solve(
        "evaluate evaluate_node evaluate_pass",
        lambda run: [1, run.counts.size.nodes, cost_model.proof_passes(run.counts) * run.t],
        own_seconds("evaluate"), own_seconds("evaluate"),
    )  # fmt: skip
    return replace(CONSTANTS, **found, **fit_memory(own))


def own_seconds(stage: str) -> Target:
    return lambda run: run.own(stage)


def image_features(run: Run) -> list[float]:
    return [1, run.counts.synthesis.images * run.counts.size.pixels]


def image_target(run: Run) -> float:
    """Return what is left of making images without the passes whose time was measured."""
    counts = run.counts
    checked = min(cost_model.CHECKED, counts.synthesis.images) * counts.has_statistics
    optimized = counts.synthesis.steps * counts.synthesis.batch * run.optimize_seconds * run.speed
    return run.seconds["synthesize"] * run.speed - checked * run.t - optimized


def known_step_seconds(run: Run) -> float:
    own = CONSTANTS.step + CONSTANTS.step_parameter * run.counts.size.parameters
    return run.counts.steps * own


def fit_memory(runs: Sequence[Run]) -> dict[str, float]:
    """Return the constants of memory, stage by stage; what is held all along is counted.

    What a stage needs is its largest memory less what is held: the libraries as the first stage
    finds them in the run that has least, images, parameters and the file.
    """
    loaded = min(run.peak_mib["open"] for run in runs) * MIB
    unit = replace(
        CONSTANTS, memory_loaded=loaded, memory_optimize=1.0, memory_ranges=1.0, memory_solve=1.0,
        memory_train=1.0,
    )  # fmt: skip

    def needs(run: Run) -> memory_model.StageBytes:
        return memory_model.predict_memory(run.counts, unit)

    def rise(stage: str) -> Target:
        return lambda run: run.peak_mib[stage] * MIB - needs(run).held

    def peak(stage: str) -> Target:
        return lambda run: run.peak_mib[stage] * MIB

    def solve(stage: str, features: Features) -> list[float]:
        return least_squares(runs, features, rise(stage), peak(stage))

    (optimize,) = solve("synthesize", lambda run: [needs(run).synthesize])
    ranges, gptq = solve(
        "initialize",
        lambda run: [
            needs(run).initialize - memory_model.solve_bytes(run.counts.layers),
            memory_model.solve_bytes(run.counts.layers),
        ],
    )
    (train,) = solve("distill", lambda run: [needs(run).distill])
    return {
        "memory_loaded": loaded,
        "memory_optimize": optimize,
        "memory_ranges": ranges,
        "memory_solve": gptq,
        "memory_train": train,
    }


def predict(run: Run, constants: CostConstants, *, measured: bool) -> StageSeconds:
    machine = run.machine
    if not measured:
        machine = cost_model.predict_machine(run.counts.size, run.speed, constants)
    return cost_model.predict_stages(run.counts, machine, constants=constants)


def table(runs: Sequence[Run], constants: CostConstants) -> tuple[list[str], bool]:
    """Return the lines of a table, and whether all predictions are within the factor."""
    heads = ["network", "bits", "measured, s", "dry run", "size", "measured, MiB", "predicted",
             *STAGES]  # fmt: skip
    lines = [line(heads), line(["---", "---", *["---:"] * (len(heads) - 2)])]
    good = True
    for run in runs:
        whole = predict(run, constants, measured=True)
        alone = predict(run, constants, measured=False)
        memory = memory_model.predict_memory(run.counts, constants).peak / MIB
        ratios = [whole.total / run.total, alone.total / run.total, memory / run.peak]
        good &= all(1 / WITHIN <= ratio <= WITHIN for ratio in ratios)
        stages = [getattr(whole, name) / run.seconds[name] for name in STAGES]
        lines.append(
            line([
                run.model, run.bits.upper(), f"{run.total:.1f}",
                f"{whole.total:.1f} ({ratios[0]:.2f})", f"{alone.total:.1f} ({ratios[1]:.2f})",
                f"{run.peak:,.0f}", f"{memory:,.0f} ({ratios[2]:.2f})",
                *(f"{ratio:.2f}" for ratio in stages),
            ])
        )  # fmt: skip
    return lines, good


def page(runs: Sequence[Run], constants: CostConstants) -> tuple[str, bool]:
    """Return the page, and whether the networks that were not fitted are within the factor."""
    fitted, _ = table([run for run in runs if run.model in FITTED], constants)
    others, good = table([run for run in runs if run.model not in FITTED], constants)
    parts = [
        HEAD,
        "\n## Five networks that the constants are fitted on\n\n", "".join(fitted),
        "\n## Others, which they never saw\n\n", "".join(others),
        "\nThe columns on the right are predicted over measured seconds of each stage, with the"
        " pass measured.\n",
    ]  # fmt: skip
    return "".join(parts), good


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--runs", type=Path, required=True, help="lines of cost_runs.py")
    parser.add_argument("--fit", action="store_true", help="write the constants anew")
    given = parser.parse_args()
    runs, speed = read_runs(given.runs)
    constants = CONSTANTS
    if given.fit:
        measured = json.loads(given.runs.read_text(encoding="utf-8").splitlines()[0])
        reference = measured.get("reference_seconds", CONSTANTS.reference_seconds) / speed
        constants = fit(runs, reference)
        rounded = {name: float(f"{value:.4g}") for name, value in asdict(constants).items()}
        constants = CostConstants(**rounded)
        FILE.write_text(json.dumps(rounded, indent=2) + "\n", encoding="utf-8")
    text, good = page(runs, constants)
    given.runs.with_name("COST_MODEL.md").write_text(text, encoding="utf-8")
    print(text)
    raise SystemExit(0 if good else 1)


if __name__ == "__main__":
    main()

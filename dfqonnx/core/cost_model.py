"""Seconds of a run from the size of its network: a linear model, fitted on five networks.

Seconds of one image through the float network, on a core of relative speed f:

    t = (MULTIPLY_ADD m + VALUE v + NODE n / 32) / f        m multiply-adds, v values, n nodes

and of the stages, with B images a step, N images, D dampings of GPTQ, P parameters, F bytes:

    open         OPEN + OPEN_NODE n + OPEN_BYTE F + OPEN_PASS t
    synthesize   SYNTHESIZE + PIXEL N pixels + steps B OPTIMIZE_PASS t + N' t
    initialize   INITIALIZE + INITIALIZE_NODE n + INITIALIZE_PARAMETER P + RANGE_PASS (passes) t
                 + D SOLVE (seconds of GPTQ's own arithmetic, see `solve_seconds`)
    distill      DISTILL_NODE n + steps (STEP + STEP_PARAMETER P + STEP_PASS B t / devices)
    evaluate     EVALUATE + EVALUATE_NODE n + EVALUATE_PASS (passes) t

Where a pass was measured it stands for the first line, and everything without t is divided by f.
N' are images that are compared with BatchNormalization; on several devices each makes its share of
the images that are optimized. STEP and STEP_PARAMETER are too small in short runs to be fitted: a
step of a tiny network, and fifteen passes of the optimizer over the parameters at 10 GB/s. The
passes of `initialize` and `evaluate`
are counted in `range_passes` and `proof_passes`. `pipelines/benchmarks/cost_model.py` fits the
constants of `cost_constants.json` and shows what they predict of networks that they never saw.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from importlib.resources import files
from typing import Self

from dfqonnx.core.run_counts import ImageCounts, LayerShape, NetworkSize, RunCounts

PASS_BATCH = 32  # images of a pass that share what a node costs in itself
CHECKED = 1024  # images at most that are compared with BatchNormalization
RANGE, PROBE, GPTQ, AGREEMENT = 3.0, 22.0, 3.0, 1.6  # passes of an image, counted in the code
PROOF, ESTIMATED, FIXED_IMAGES = 10.0, 2.0, 512  # of a held-out image; of those of the estimate
MIN_POSITIONS, MAX_POSITIONS = 4096, 16384  # of a layer, that GPTQ samples
PRODUCT, COPY, COLUMN = 1.2e-10, 1e-8, 1.6e-5  # seconds of GPTQ on one core
SEARCH, SEARCH_COLUMN = 3.9e-9, 6e-5


@dataclass(frozen=True, kw_only=True)
class CostConstants:
    """The fitted constants: seconds unless said otherwise, named as in the formulas above."""

    reference_seconds: float  # of the work that `machine_speed` times, on a core of speed 1
    multiply_add: float
    value: float
    node: float
    open: float
    open_node: float
    open_byte: float
    open_pass: float  # passes
    synthesize: float
    pixel: float
    optimize_pass: float  # passes
    initialize: float
    initialize_node: float
    initialize_parameter: float
    range_pass: float  # over the passes that are counted
    solve: float  # over `solve_seconds`
    distill_node: float
    step: float
    step_parameter: float
    step_pass: float  # passes
    evaluate: float
    evaluate_node: float
    evaluate_pass: float  # over the passes that are counted
    memory_loaded: float  # bytes; the others of this kind are bytes a byte
    memory_file: float
    memory_pixels: float
    memory_optimize: float
    memory_ranges: float
    memory_solve: float
    memory_train: float
    memory_parameters: float
    memory_evaluate: float

    @classmethod
    def read(cls) -> Self:
        """Return the constants that the package comes with."""
        text = (files("dfqonnx.core") / "cost_constants.json").read_text(encoding="utf-8")
        return cls(**json.loads(text))


CONSTANTS = CostConstants.read()


@dataclass(frozen=True, kw_only=True)
class MachineCost:
    """What a machine takes for a network: a pass and an optimization step of one image.

    `speed` is that of one core (or device) relative to the one that was fitted on.
    """

    pass_seconds: float
    optimize_seconds: float
    speed: float = 1.0


def predict_machine(
    size: NetworkSize, speed: float = 1.0, constants: CostConstants = CONSTANTS
) -> MachineCost:
    """Return what a machine of a speed takes for a network of which nothing was measured."""
    c = constants
    once = c.multiply_add * size.multiply_adds + c.value * size.values
    once = (once + c.node * size.nodes / PASS_BATCH) / speed
    return MachineCost(pass_seconds=once, optimize_seconds=c.optimize_pass * once, speed=speed)


@dataclass(frozen=True, kw_only=True)
class StageSeconds:
    """The seconds of each stage of a run."""

    open: float
    synthesize: float
    initialize: float
    distill: float
    possible_distill: float  # where a student turns out to need it, for all images as well
    evaluate: float

    @property
    def total(self) -> float:
        """The seconds of all that is surely done."""
        return self.open + self.synthesize + self.initialize + self.distill + self.evaluate


def predict_stages(
    counts: RunCounts,
    machine: MachineCost,
    *,
    labeled: int = 0,
    devices: int = 1,
    constants: CostConstants = CONSTANTS,
) -> StageSeconds:
    """Return the seconds of the stages on so many equal `devices`.

    `labeled` images of the user are measured as well.
    """
    c, size, t, f = constants, counts.size, machine.pass_seconds, machine.speed
    step = (c.step + c.step_parameter * size.parameters) / f
    step += c.step_pass * counts.batch * t / devices
    prepared = c.distill_node * size.nodes / f
    again = 0.0
    if counts.possible_steps > counts.steps and counts.all_images != counts.synthesis:
        again = image_seconds(counts, counts.all_images, machine, devices=devices, constants=c)
    opened = c.open + c.open_node * size.nodes + c.open_byte * size.file_bytes
    own = c.initialize + c.initialize_node * size.nodes + c.initialize_parameter * size.parameters
    solved = counts.dampings * c.solve * sum(map(solve_seconds, counts.layers))
    return StageSeconds(
        open=opened / f + c.open_pass * t,
        synthesize=image_seconds(counts, counts.synthesis, machine, devices=devices, constants=c),
        initialize=(own + solved) / f + c.range_pass * range_passes(counts) * t,
        distill=counts.steps * step + prepared * (counts.steps > 0),
        possible_distill=counts.possible_steps * step
        + prepared * (counts.possible_steps > 0)
        + again,
        evaluate=(c.evaluate + c.evaluate_node * size.nodes) / f
        + c.evaluate_pass * proof_passes(counts, labeled) * t,
    )


def image_seconds(
    counts: RunCounts,
    images: ImageCounts,
    machine: MachineCost,
    *,
    devices: int = 1,
    constants: CostConstants = CONSTANTS,
) -> float:
    """Return the seconds of making images."""
    c, size, f = constants, counts.size, machine.speed
    checked = min(CHECKED, images.images) * counts.has_statistics * machine.pass_seconds
    painted = (c.synthesize + c.pixel * images.images * size.pixels) / f
    optimized = images.steps * images.batch * machine.optimize_seconds
    return painted + checked + optimized / devices


def range_passes(counts: RunCounts) -> float:
    """Return how often one image passes the network while ranges are set."""
    agreement = AGREEMENT * counts.held_out
    ranges = RANGE * counts.calibration + PROBE * counts.probes
    return ranges + agreement + counts.dampings * (GPTQ * counts.gptq + agreement)


def proof_passes(counts: RunCounts, labeled: int = 0) -> float:
    """Return how often one image passes the network while the file is measured."""
    return counts.held_out * PROOF + FIXED_IMAGES * ESTIMATED + 2 * labeled


def solve_seconds(layer: LayerShape) -> float:
    """Return how long GPTQ takes for a node and one damping, on one core: its own arithmetic.

    With O outputs, G groups, M inputs of an output and P sampled positions:

        PRODUCT P M (M + 2 O/G) G + COPY P M G + COLUMN M   and, where codes are searched,
        SEARCH O M^2 + SEARCH_COLUMN M
    """
    m, groups = layer.fan_in, layer.groups
    positions = min(MAX_POSITIONS, max(MIN_POSITIONS, 8 * m))
    seconds = PRODUCT * positions * m * (m + 2 * layer.outputs / groups) * groups
    seconds += COPY * positions * m * groups + COLUMN * m
    if layer.searched:
        seconds += SEARCH * layer.outputs * m**2 + SEARCH_COLUMN * m
    return seconds

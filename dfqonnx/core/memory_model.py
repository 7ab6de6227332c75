"""Peak memory of a run from the size of its network: a linear model, fitted on five networks.

    peak = LOADED + FILE F + PIXELS N pixels + PARAMETERS 4 P + max over stages of

    synthesize   OPTIMIZE 4 v B               B images are optimized at once, of v values each
    initialize   RANGES 4 q C + SOLVE (4 y + 8 P' M G + 24 M^2 G)
                                              C images pass at once, q of their values a quantizer;
                                              y outputs sampled of all layers; the largest layer at
                                              P' positions, M inputs and G groups
    distill      TRAIN 4 q B                  B images pass at once
    evaluate     EVALUATE 4 l E               E images pass ONNX Runtime at once, l values alive

in bytes, F those of the file, N images and P parameters. FILE, PIXELS, PARAMETERS and EVALUATE are
counted in the code: three copies of the file and of all images, sixteen of the parameters (two
float networks, the student, codes, gradients, two moments, the mean patches, kept states), three of
what is alive. The others are fitted; the constants are in `cost_constants.json`, see `cost_model`.
"""

from __future__ import annotations

from dataclasses import dataclass

from dfqonnx.core.cost_model import CONSTANTS, MAX_POSITIONS, MIN_POSITIONS, CostConstants
from dfqonnx.core.run_counts import LayerShape, RunCounts

FLOAT, DOUBLE, MATRICES = 4, 8, 24  # bytes: float32, float64, three matrices of the latter
MOST_PIXELS, MOST_WORK = 256e6, 0.9e9  # bytes: of all images, of what a batch takes
EVALUATED = 32  # images that pass ONNX Runtime together, at most


@dataclass(frozen=True, kw_only=True)
class StageBytes:
    """The bytes that a run holds all along, and those that each stage needs besides."""

    held: float
    synthesize: float
    initialize: float
    distill: float
    evaluate: float

    @property
    def peak(self) -> float:
        """The most bytes at any time."""
        stages = (self.synthesize, self.initialize, self.distill, self.evaluate)
        return self.held + max(stages)


def predict_memory(counts: RunCounts, constants: CostConstants = CONSTANTS) -> StageBytes:
    """Return the bytes that a run needs on one machine."""
    c, size = constants, counts.size
    images = max(counts.synthesis.images, counts.all_images.images * (counts.possible_steps > 0))
    optimized = max(counts.synthesis.batch * (counts.synthesis.steps > 0), 0)
    trains = counts.steps > 0 or counts.possible_steps > 0
    return StageBytes(
        held=c.memory_loaded
        + c.memory_file * size.file_bytes
        + c.memory_pixels * images * size.pixels
        + c.memory_parameters * FLOAT * size.parameters,
        synthesize=c.memory_optimize * FLOAT * size.values * optimized,
        initialize=c.memory_ranges * FLOAT * size.quantized * counts.calibration_batch
        + c.memory_solve * solve_bytes(counts.layers) * (counts.dampings > 0),
        distill=c.memory_train * FLOAT * size.quantized * counts.part * trains,
        evaluate=c.memory_evaluate * FLOAT * size.live * min(EVALUATED, max(1, counts.held_out)),
    )


def bound_memory(file_bytes: int, constants: CostConstants = CONSTANTS) -> float:
    """Return the most bytes that a run takes as a rule, of whose network only the file is known.

    The parameters are as many float32 as fill the file; images and batches are the largest that
    runs choose (`synthesis/budget`, `distill/batch_size`).
    """
    c = constants
    own = (c.memory_file + c.memory_parameters) * file_bytes
    return c.memory_loaded + own + c.memory_pixels * MOST_PIXELS + MOST_WORK


def solve_bytes(layers: tuple[LayerShape, ...]) -> float:
    """Return the bytes that GPTQ takes: samples of all layers, and the matrices of the largest."""
    sampled, largest = 0.0, 0.0
    for layer in layers:
        positions = min(MAX_POSITIONS, max(MIN_POSITIONS, 8 * layer.fan_in))
        sampled += FLOAT * positions * layer.outputs
        inputs = DOUBLE * positions * layer.fan_in * layer.groups
        largest = max(largest, inputs + MATRICES * layer.fan_in**2 * layer.groups)
    return sampled + largest

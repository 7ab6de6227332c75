"""How many steps, and how fast at each.

Rate over peak: rises linearly over `warmup`, then falls along a cosine to `floor`. Without a budget
the number of steps depends on the network and the bits only, so that it is the same on every
machine: a step costs about four forward passes (teacher one, student three) per image. In depthwise
networks a step's time goes into the numbers that it moves, not into multiply-adds: one such number
takes as long as `TRAFFIC` of them (nanoseconds for an image and step, on one core: 0.05 a
multiply-add and 6 a number; of 11 networks of 1 M to 19 G multiply-adds 7 are told within 20 %, a
detector takes a fifth less, and three take 1.6 to 3 times as long, two of them tiny).
"""

from __future__ import annotations

from dataclasses import replace

from dfqonnx.config.distillation import DistillationConfig
from dfqonnx.core.quantization import BitWidths

LEAST, MOST = 200, 8000
STRETCH = 1.5  # of the work, to come nearer to LEAST
WORK = 4.8e13  # multiply-adds of a whole training at w4a4, numbers moved included
TRAFFIC = 120
ROUNDED = 0.8  # of the schedule: all weights stand on their codes from here on
NEEDY = 10**-2.5  # normalized error (25 dB) above which eight bits are trained as well
NEEDY_KL = 0.01  # nats above which a classifier is, too: 0.02 on MobileNetV1 0.25, 0.003 elsewhere
NEEDED = 0.3  # its work relative to w4a4
NEAR_KL = 0.1  # nats below which fewer-bit weights alone leave little to learn
EASED = 0.6  # of the work, there
GENTLE = 0.1  # of the rates, at eight bits: steps are so short that little is to be moved


def width_at(done: float) -> float:
    """Return how wide the ramp between two codes still is (`fakequant/soft_rounding`), 1 to 0."""
    return max(0.0, 1.0 - done / ROUNDED)


def training_budget(
    bits: BitWidths, *, error: float | None = None, kl: float | None = None
) -> float:
    """Return training work relative to w4a4: fewer bits need more, eight need none.

    After initialization and reconstruction w8a8 is as a rule at its teacher's accuracy, and
    training on synthetic images takes away from it; `needs_training` tells the exceptions. With
    activations of eight bits and a student that is near already, less brings as much.

    Args:
        bits: widths trained.
        error: normalized error of the untrained student's outputs; None where unknown.
        kl: of the untrained student from its teacher, in nats; None where unknown.
    """
    narrow = min(bits.weights, bits.activations)
    if narrow == 8:
        return NEEDED if needs_training(error, kl) else 0.0
    near = bits.activations == 8 and kl is not None and kl < NEAR_KL
    share = {2: 2.1, 3: 1.6, 4: 1.0, 5: 0.7, 6: 0.5, 7: 0.4}[narrow]
    return EASED * share if near else share


def reduce_lr_for_8bit(spec: DistillationConfig, bits: BitWidths) -> DistillationConfig:
    """Return the recipe with the rates of eight bits, where it leaves the schedule open.

    Measured on a detector at w8a8 that starts at 18.0 dB: 19.3 after 100 steps at a sixteenth of
    the rates, 18.7 after 60 at a quarter, and 12.6 after 20 at half of them.
    """
    if spec.steps is not None or min(bits.weights, bits.activations) < 8:
        return spec
    weight_rate, step_rate = (GENTLE * rate for rate in spec.optimizer.rates())
    gentle = replace(spec.optimizer, weight_lr=weight_rate, scale_lr=step_rate)
    return replace(spec, optimizer=gentle)


def needs_training(error: float | None, kl: float | None) -> bool:
    """Tell whether a student stands so far off before training that eight bits are trained, too."""
    return (error or 0.0) > NEEDY or (kl or 0.0) > NEEDY_KL


def default_steps(multiply_adds: int, share: float, batch: int, *, numbers: int = 0) -> int:
    """Return the steps of a run without a budget.

    Args:
        multiply_adds: of one image through the network.
        share: of the work at w4a4; see `training_budget`.
        batch: images per step.
        numbers: per image that pass activation quantizers.
    """
    if not share:
        return 0
    passes = 4.0 * batch
    steps = share * WORK / (passes * max(1, multiply_adds + TRAFFIC * numbers))
    return max(1, int(min(MOST, max(steps, min(LEAST, STRETCH * steps)))))


def steps_within(seconds: float, done: int, per_step: float) -> int:
    """Return the total steps when `seconds` are left and a step takes `per_step`."""
    return max(done + 1, done + int(seconds / max(per_step, 1e-6)))

"""How many steps a training takes, and how its rates depend on the bits.

Without a time limit the number of steps depends on the network, its bits and how far the untrained
student is off, so that it is the same on every machine. Of a classifier the work follows what is
still to be gained, its KL from the teacher:

    work = KL_BUDGET (KL / KL_AT_W4A4)^KL_POWER          relative to `WORK`

Longer trainings bring less and less: of ResNet-20 at W4A4 (KL 0.13, `KL_BUDGET`: 500 steps) 330
steps of Adam lost 0.57 points and 2,188 steps 0.67, while a ResNet-20 of 100 classes, which begins
further off, lost 3.0 with a limit of two minutes and 2.0 after ten (one to six runs each). 300
steps of Muon (`muon`) come as near to the teacher of `models/resnet20.onnx` as 600 of Adam.

A step costs about four forward passes per image: one of the teacher, three of the student. In
depthwise networks its time goes into the values that it moves, not into
multiply-adds: a value takes as long as `MULTIPLY_ADDS_PER_VALUE` of them. (Nanoseconds for an image
and step, on one core: 0.05 a multiply-add and 6 a value. Of 11 networks of 1 M to 19 G
multiply-adds, 7 are predicted within 20 %, a detector takes a fifth less, and three take 1.6 to 3
times as long, two of them tiny.)
"""

from __future__ import annotations

from dataclasses import replace

from dfqonnx.config.distillation import DistillationConfig
from dfqonnx.core.quantization import MAX_BITS, BitWidths

MIN_STEPS, MAX_STEPS = 300, 8000
STRETCH = 1.5  # the most that the work may grow by, to come nearer to MIN_STEPS
WORK = 4.8e13  # multiply-adds of a training of budget 1, values moved included
MULTIPLY_ADDS_PER_VALUE = 120
HARD_ROUNDING_FROM = 0.8  # of the schedule: all weights are on their codes from here on
NEEDS_TRAINING_ERROR = 10**-2.5  # normalized error (25 dB) above which 8 bits are trained as well
NEEDS_TRAINING_KL = 0.03  # nats, for a classifier: 0.7 points, of 24 a nat (`TRIALS.md`)
BUDGET_AT_8_BITS = 0.3  # of the work at w4a4, where 8 bits need training
KL_AT_W4A4 = 0.13  # nats, of an untrained ResNet-20 on held-out synthetic images
KL_BUDGET, KL_POWER = 0.23, 0.6  # of the work, there; how it grows with KL
EXPECTED_KL = {2: 2.0, 3: 0.4, 4: 0.1, 5: 0.04, 6: 0.02, 7: 0.02}  # nats, of untrained students
EXPECTED_AT_A8, EXPECTED_OF_DEPTHWISE = 0.2, 5.0  # times these
LEAST_BUDGET, MOST_BUDGET = 0.05, 1.4  # of a classifier
NEAR_DIVERGENCE = (
    1.0  # nats: on two networks GPTQ gains on other inputs below, and nothing above 1.9
)
BUDGET_WHERE_HELD = 0.1  # of the work, where scales and biases alone are trained
CLASSES_WHERE_HELD = 0.4  # the same, of a classifier
GUARD_WHERE_HELD = 64  # dead leaves on which that must not lose
LR_FACTOR_AT_8_BITS = 0.1  # scales are so small that little is to be moved
LEAST_IMAGES = 8000  # seen by a training that moves the codes of weights
MUON_BATCH = 64  # images of a step from which on Muon moves the codes


def rounding_temperature(done: float) -> float:
    """Return the temperature of soft rounding (`fakequant/soft_rounding`), which falls to 0."""
    return max(0.0, 1.0 - done / HARD_ROUNDING_FROM)


def knows_inputs(*, images: bool, divergence: float | None) -> bool:
    """Return whether synthetic inputs are near to what a network was trained on.

    That is so for `images`, and for other inputs where BatchNormalization vouches for them:
    `divergence` is that of the training data from the inputs, in nats, None without statistics.
    """
    return images or (divergence is not None and divergence < NEAR_DIVERGENCE)


def fits_weights(bits: BitWidths, *, known: bool) -> bool:
    """Return whether weights may be fitted to synthetic inputs at all, by GPTQ or by training.

    Where inputs are not `known`, eight bits lose more by that than by rounding: what is gained on
    structured fields is lost on inputs of other levels.
    """
    return known or min(bits.weights, bits.activations) < MAX_BITS


def choose_dampings(
    config: DistillationConfig, bits: BitWidths, *, known: bool, has_classes: bool
) -> DistillationConfig:
    """Return the recipe without GPTQ where no weights are fitted; see `fits_weights`.

    Of a classifier whose activations have eight bits the middle one of its dampings is tried alone:
    on three of them (own ResNet-20, WinML and MNIST CNNs, at W8A8 and W4A8) it is the one that
    agreed best of the default's three. At W4A4 it left 3 to 14 % more divergence on the first of
    them, and on a detector (FastestDet) a fifth more error at W8A8.
    """
    if not fits_weights(bits, known=known):
        return replace(config, gptq_damping=())
    tried = config.gptq_damping
    if bits.activations < MAX_BITS or not has_classes or len(tried) < 2:
        return config
    return replace(config, gptq_damping=(sorted(tried)[len(tried) // 2],))


def training_budget(
    bits: BitWidths,
    *,
    error: float | None = None,
    kl: float | None = None,
    needs_training_kl: float = 0.0,
) -> float:
    """Return training work relative to `WORK`: eight bits need none, a classifier what its KL says.

    After initialization w8a8 is as a rule at its teacher's accuracy, and training on synthetic
    images takes away from it; `needs_training` knows the exceptions. Outputs without classes take
    more where there are fewer bits.

    `bits` are the narrowest; `error` and `kl` (nats) are the untrained student's, None if unknown.
    Up to a KL of `needs_training_kl` a recipe leaves a classifier of any bits untrained.
    """
    narrow = min(bits.weights, bits.activations)
    if kl is not None and needs_training_kl and kl <= needs_training_kl:
        return 0.0
    if narrow == 8:
        return BUDGET_AT_8_BITS if needs_training(error, kl) else 0.0
    if kl is not None:
        budget: float = KL_BUDGET * (max(0.0, kl) / KL_AT_W4A4) ** KL_POWER
        return min(MOST_BUDGET, max(LEAST_BUDGET, budget))
    return {2: 2.1, 3: 1.6, 4: 1.0, 5: 0.7, 6: 0.5, 7: 0.4}[narrow]


def expect_kl(bits: BitWidths, *, depthwise: bool) -> float:
    """Return how far an untrained classifier is from its teacher as a rule, in nats."""
    narrow = min(bits.weights, bits.activations)
    if narrow == MAX_BITS:
        return 0.0
    kl = EXPECTED_KL[narrow] * (EXPECTED_AT_A8 if bits.activations >= MAX_BITS else 1.0)
    return kl * (EXPECTED_OF_DEPTHWISE if depthwise else 1.0)


def needs_training(error: float | None, kl: float | None) -> bool:
    """Return whether an untrained student is so far off that even eight bits are trained."""
    return (error or 0.0) > NEEDS_TRAINING_ERROR or (kl or 0.0) > NEEDS_TRAINING_KL


def choose_optimizer(
    config: DistillationConfig, bits: BitWidths, *, kl: float | None
) -> DistillationConfig:
    """Return the recipe with optimizer and rates of its batch and bits, its schedule left open.

    Muon gives every direction of a matrix a step of one length, those that are noise as well, and
    the gradient of few images is mostly that: below `MUON_BATCH` images a step codes have Adam, at
    the rate of biases. And a classifier whose activations have eight bits has little to move where
    it is near, `kl` nats before training:

        rates = peak rates * min(1, max(LR_FACTOR_AT_8_BITS, kl / KL_AT_W4A4))

    Both measured in `TRIALS.md`. Eight bits have Adam as well, and the least of these rates: a
    detector at w8a8 that starts at 18.0 dB has 19.3 after 100 steps at a sixteenth of the peak,
    18.7 after 60 at a quarter, and 12.6 after 20 at half. The rates of held codes stay.
    """
    optimizer, narrow = config.optimizer, min(bits.weights, bits.activations)
    if config.steps is not None or (optimizer.rounding == "held" and narrow < MAX_BITS):
        return config
    rates = optimizer.rates()
    if optimizer.kind == "muon" and (narrow >= MAX_BITS or config.batch_size < MUON_BATCH):
        optimizer = replace(optimizer, kind="adam")
        rates = replace(rates, weights=rates.biases)
    if narrow >= MAX_BITS:
        rates = rates.times(LR_FACTOR_AT_8_BITS)
    elif kl is not None and bits.activations >= MAX_BITS:
        rates = rates.times(min(1.0, max(LR_FACTOR_AT_8_BITS, kl / KL_AT_W4A4)))
    optimizer = replace(
        optimizer, weight_lr=rates.weights, bias_lr=rates.biases, scale_lr=rates.scales
    )
    return replace(config, optimizer=optimizer)


def hold_codes(
    config: DistillationConfig, bits: BitWidths, *, kl: float | None, images: int
) -> DistillationConfig:
    """Return the recipe that leaves GPTQ's codes alone, where it leaves the schedule open.

    That is so where training would see fewer than `LEAST_IMAGES`: `images` of them at its own
    length, whatever a time budget makes of it. So it is of large networks: EfficientNet-Lite0 at
    w4a8 in 643 steps of 4 images ends no nearer to its teacher at any of three rates, and nearer by
    12 and 21 % in 96 and 300 steps with codes held.

    And it is so for outputs without classes (`kl` None) of narrow weights under eight-bit
    activations. Soft rounding leads such a network away from where GPTQ left it, and does not come
    back in affordable time: on a detector at w4a8, 1,200 steps of 4 images end at an error of 0.14
    that began at 0.10, on dead leaves, and are worse on all four other kinds. Scales and biases
    alone take 7 to 16 % off in 200 steps, on kinds trained on and others alike.
    """
    if config.steps is not None or config.optimizer.rounding != "soft":
        return config
    if bits.weights == MAX_BITS or not images:
        return config
    if images >= LEAST_IMAGES and (kl is not None or bits.activations < MAX_BITS):
        return config
    optimizer = replace(
        config.optimizer,
        kind=None,
        rounding="held",
        weight_lr=None,
        bias_lr=None,
        scale_lr=None,
    )
    guard = max(config.guard_images, GUARD_WHERE_HELD)
    return replace(config, optimizer=optimizer, guard_images=guard)


def reduce_where_held(budget: float, config: DistillationConfig, *, has_classes: bool) -> float:
    """Return the work of a training that holds the codes, which has less to learn."""
    if config.optimizer.rounding != "held":
        return budget
    return budget * (CLASSES_WHERE_HELD if has_classes else BUDGET_WHERE_HELD)


def default_steps(multiply_adds: int, budget: float, batch_size: int, *, values: int = 0) -> int:
    """Return the number of steps where neither a recipe nor a time budget decides.

    `multiply_adds` and `values`, which pass activation quantizers, are those of one image; `budget`
    is the work relative to w4a4, see `training_budget`.
    """
    if not budget:
        return 0
    passes = 4.0 * batch_size
    work = max(1, multiply_adds + MULTIPLY_ADDS_PER_VALUE * values)
    steps = budget * WORK / (passes * work)
    return max(1, int(min(MAX_STEPS, max(steps, min(MIN_STEPS, STRETCH * steps)))))


def steps_within(seconds: float, done: int, per_step: float) -> int:
    """Return the total number of steps when `seconds` are left and a step takes `per_step`."""
    return max(done + 1, done + int(seconds / max(per_step, 1e-6)))

"""Guessing how a model reads its images, when neither the user nor the file says so.

Every preset that fits the input's shape feeds the same procedural images to the model.

With BatchNormalization statistics the preset wins whose activations come closest to them. A
channel with mean m and variance v on the images, m* and v* on the training data, is off by
    KL(N(m, v) || N(m*, v*)) = ((m - m*)^2 + v) / (2 v*) - log(v / v*) / 2 - 1/2
averaged over channels, then over layers. The first layers matter most: they see the pixels' scale.

Without: trained layers keep their pre-activations on the scale of their own biases, and not far
off center. On the first layer, with s the root mean square of the channels' standard deviations and
b the standard deviation of the bias, the preset with the least
    |log(s / b)| + median over channels of |mean| / standard deviation
wins. This separates pixels in 0..255 from normalized ones, but not two presets that differ by a few
percent, and the first layer of a network without biases says nothing.

Values that are no images are tried at powers of 4 on either side of what is usual, -4 to 4, as
structured fields. That is left only for a scale that is better by `CLEARLY`. On two networks whose
BatchNormalization was folded away the scale that wins is right, or a quarter of the right one.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from dfqonnx.core.input_format import METADATA_KEY, PRESETS, InputFormat, Preprocessing
from dfqonnx.core.quantization_plan import ChannelStatistics
from dfqonnx.errors import UsageError
from dfqonnx.runtime.session import Array, Session

USUAL = ("imagenet", "zero-one", "minus-one-one", "cifar10", "cifar100", "raw")
NOISE = Preprocessing(
    name="noise", scale=255.0 / 8, mean=(4.0,), std=(1.0,), layout="NHWC", channels="values"
)  # pixels span -4..4


VALUE_SCALES = (1.0, 1 / 16, 1 / 4, 4.0, 16.0, 64.0, 256.0)  # of `NOISE`
CLEARLY = 1.0  # of the measure without statistics: a factor of e


@dataclass(frozen=True)
class InputFormatGuess:
    """Preprocessing and where it comes from."""

    preprocessing: Preprocessing  # fitted to the model's layout and channels
    reason: str  # one sentence for the user
    certain: bool  # whether the model's metadata said so


USUAL_VALUES = InputFormatGuess(
    NOISE, "the model reads no image, and values between -4 and 4 are usual", False
)


def read_recorded_format(metadata: Mapping[str, str]) -> InputFormatGuess | None:
    """Return what a file's metadata say; None where they say nothing.

    Raises:
        UsageError: the metadata hold a specification that cannot be read.
    """
    if METADATA_KEY not in metadata:
        return None
    try:
        values = json.loads(metadata[METADATA_KEY])
        inputs = Preprocessing.parse(values, name=str(values.get("name", "metadata")))
    except (ValueError, AttributeError, RecursionError) as error:
        raise UsageError(
            f"the model's metadata {METADATA_KEY} cannot be read ({error}); give --preprocess"
        ) from None
    return InputFormatGuess(inputs, "it is recorded in the model's metadata", True)


def candidate_formats(shape: tuple[int, ...]) -> list[InputFormat]:
    """Return the presets that fit a model's input `shape` (no batch), the most usual first."""
    found = []
    for name in USUAL:
        preset = PRESETS[name].fitted(shape)
        try:
            channels = InputFormat(preset, shape).image_size[2]
        except UsageError:
            continue
        preset = replace(preset, channels="gray") if channels == 1 else preset
        found.append(InputFormat(preset, shape))
    return found


PROBES = 64  # images fed under each preset
PROBE_VALUES = 2**22  # pixels of all of them together
FLOOR = 1e-3  # of a layer's median variance: keeps dead channels from drowning the others
Score = Callable[[Mapping[str, Array]], float]


def probe_count(shape: tuple[int, int, int]) -> int:
    """Return how many images (H, W, C) to feed; none where one is more than all should be."""
    frame = math.prod(shape)
    return 0 if frame > PROBE_VALUES else max(8, min(PROBES, PROBE_VALUES // frame))


def find_nearest_statistics(
    model: bytes,
    statistics: Mapping[str, ChannelStatistics],
    pixels: NDArray[np.uint8],
    formats: Sequence[InputFormat],
) -> InputFormatGuess:
    """Return the preset under which the images (N, H, W, C) come closest to the statistics.

    `model` is an ONNX file whose outputs are the values that statistics are known of.
    """

    def distance(outputs: Mapping[str, Array]) -> float:
        return float(np.mean([_distance(outputs[n], statistics[n]) for n in outputs]))

    best, found = _best(Session(model), distance, pixels, formats)
    reason = "with it procedural images come closest to the BatchNorm statistics"
    return InputFormatGuess(best.preprocessing, f"{reason} ({found:.3f})", False)


def find_likeliest_scale(
    model: bytes,
    bias: NDArray[np.float32],
    pixels: NDArray[np.uint8],
    formats: Sequence[InputFormat],
) -> InputFormatGuess:
    """Return the preset under which the first layer's values are most like a trained layer's.

    `model` is an ONNX file whose output is the first layer's; the most usual preset comes first.
    """
    best, found = _best(Session(model), _oddity_of(bias), pixels, formats)
    if not math.isfinite(found):
        usual = formats[0].preprocessing
        return InputFormatGuess(usual, "it is the usual one for an input of this shape", False)
    reason = "with it the first layer's values are most like those of a trained layer"
    return InputFormatGuess(best.preprocessing, reason, False)


def value_formats(shape: tuple[int, ...]) -> list[InputFormat]:
    """Return formats of values of a model's input `shape` (no batch), the usual one first."""
    scaled = [replace(NOISE, std=(NOISE.std[0] / scale,)) for scale in VALUE_SCALES]
    return [InputFormat(each, shape) for each in scaled]


def find_scale_of_values(
    model: bytes,
    bias: NDArray[np.float32],
    pixels: NDArray[np.uint8],
    formats: Sequence[InputFormat],
) -> InputFormatGuess:
    """Return the scale under which the first layer's values are most like a trained layer's.

    As `find_likeliest_scale`, but the usual one, which comes first, stays where no other is better
    by `CLEARLY`.
    """
    session = Session(model)
    best, found = _best(session, _oddity_of(bias), pixels, formats)
    usual = formats[0]
    _, figure = _best(session, _oddity_of(bias), pixels, [usual])
    if not found < figure - CLEARLY:
        return USUAL_VALUES
    reason = "the model reads no image, and with them its first layer is most like a trained one"
    return InputFormatGuess(best.preprocessing, reason, False)


def _oddity_of(bias: NDArray[np.float32]) -> Score:
    def oddity(outputs: Mapping[str, Array]) -> float:
        mean, variance = _moments(next(iter(outputs.values())))
        deviation = np.maximum(np.sqrt(variance), 1e-12)
        scale = max(float(np.sqrt(variance.mean())), 1e-12) / float(bias.std(ddof=1))
        return abs(math.log(scale)) + float(np.median(np.abs(mean) / deviation))

    return oddity


def _best(
    session: Session, score: Score, pixels: NDArray[np.uint8], formats: Sequence[InputFormat]
) -> tuple[InputFormat, float]:
    """Return the first preset with the lowest finite score."""
    port = session.inputs[0]
    figures = []
    for form in formats:
        x = form.to_tensor(pixels)
        with np.errstate(all="ignore"):
            figure = score(session.run_batched({port.name: x}))
        figures.append(figure if math.isfinite(figure) else math.inf)
    at = int(np.argmin(figures))
    return formats[at], figures[at]


def _distance(value: Array, known: ChannelStatistics) -> float:
    if not (np.isfinite(known.mean).all() and np.isfinite(known.variance).all()):
        return 0.0
    mean, variance = _moments(value)
    target = np.maximum(known.variance, max(1e-8, FLOOR * float(np.median(known.variance))))
    ratio = np.maximum(variance, 1e-8) / target
    return float(0.5 * ((mean - known.mean) ** 2 / target + ratio - np.log(ratio) - 1).mean())


def _moments(value: Array) -> tuple[Array, Array]:
    """Return mean and variance per channel of a value (N, C, ...), each (C,)."""
    axes = tuple(axis for axis in range(value.ndim) if axis != 1)
    return value.mean(axes, dtype=np.float64), value.var(axes, dtype=np.float64)

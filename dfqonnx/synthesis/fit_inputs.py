"""What a network reads, where nothing says it: values fitted to its BatchNormalization.

Nothing says whether features are decibels from -80 to 0 or normalized ones from -3 to 3, but the
statistics behind the first layers depend on it. Structured fields z (`data/structured_fields`) of
mean 0 and deviation 1 are read as

    x = m + d z                 m, d of every feature, or the same for all

with m and d such that they are as near to the training data as possible: they minimize

    J = mean over layers and channels of KL(N(M, V) || N(M', V'))

where M, V are the mean and variance that BatchNormalization knows and M', V' those of the fields
(`divergence`). This direction of KL costs most where the training data reach further than the
fields, so ranges rather end too wide than too narrow. The same m and d are tried on a grid of
powers of 4; then Adam gives every feature its own m + d u and d exp(v), along the last axis or the
first, with `PRIOR` times the mean of u^2 + v^2 beside J for features that no statistic tells of.
What does not take off a tenth of J on other fields is left alone.

A network with one channel may read images after all. Dead leaves and pictures of text get their
best m and d as well. The preset that was guessed for them stays unless something comes `CLEARLY`
nearer; then it is values where these are nearer by `VALUES_NEARER` and the input is not square,
else images of the scale that was found.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dfqonnx.convert.module import ProgramModule
from dfqonnx.convert.program import Program
from dfqonnx.core.context import RunContext
from dfqonnx.core.input_format import InputFormat, Layout, Preprocessing
from dfqonnx.core.quantization_plan import ChannelStatistics
from dfqonnx.data.probe_images import make_probe_images
from dfqonnx.data.structured_fields import structured_fields
from dfqonnx.data.text_images import text_images
from dfqonnx.synthesis.bn_statistics import BatchNormTargets, gaussian_distance, moments
from dfqonnx.synthesis.budget import measure_cost

SCALES = tuple(4.0**k for k in range(-3, 8))  # deviations that are tried
OFFSETS = (-4.0, -2.0, -1.0, 0.0, 1.0, 2.0, 4.0)  # means that are tried, in deviations
FEW, MANY, VALUES = 16, 128, 2**21  # fields on the grid, and for Adam; values of all together
STEPS, BATCH, LEAST_BATCH, RATE = 60, 32, 8, 0.05  # of Adam
MOST_FEATURES = 1024
PRIOR = 0.01  # nats that a feature costs whose m or d is off the shared one by d, or by a factor e
WORK = 2.5e11  # multiply-adds of everything, in a minute or more
BACKWARD = 3.0  # passes that a step of Adam takes
BETTER = 0.9  # of J: what features of their own have to reach
CLEARLY = 0.25  # of the J of images under the preset that was guessed
VALUES_NEARER, NOISE = 0.5, 0.05  # of the J of images at their best scale, and nats below it
LEAST, LARGEST = 1e-6, 1e5  # values that are fitted
SMALLEST = 1e-4  # range of a feature, relative to the largest one and to its own middle
DIGITS = 5
FEATURE_AXES: tuple[tuple[int, Layout], ...] = ((1, "NHWC"), (0, "NCHW"))  # of fields (H, W)


@dataclass(frozen=True)
class FittedInputs:
    """An input format, and how far synthetic inputs are from the training data under it."""

    inputs: InputFormat
    divergence: float  # J, in nats


@dataclass(frozen=True)
class _Scaling:
    """m and d, each (H or 1, W or 1)."""

    mean: Tensor
    deviation: Tensor

    def apply(self, fields: Tensor) -> Tensor:
        """Return x of fields (N, H, W)."""
        return self.mean + self.deviation * fields


def fit_inputs(
    program: Program,
    statistics: Mapping[str, ChannelStatistics],
    guessed: InputFormat,
    *,
    open_axes: Sequence[int],
    context: RunContext,
) -> FittedInputs | None:
    """Return the input format that comes nearest to the statistics of a network; see above.

    None where it reads images as `guessed`, has no statistics, or is too large to try. `open_axes`,
    counted with the batch axis as 0, get no features of their own.
    """
    if not statistics or (guessed.is_image and guessed.image_size[2] != 1):
        return None
    fitter = _Fitter(program, statistics, guessed, context=context)
    if fitter.batch < LEAST_BATCH:
        return None
    if not guessed.is_image:
        return fitter.fit_values(features=not open_axes)
    preset, images = fitter.fit_images()
    height, width, _ = guessed.image_size
    if height != width:
        values = fitter.fit_values(features=not open_axes)
        wanted = min(VALUES_NEARER * images.divergence, images.divergence - NOISE)
        if values.divergence < min(wanted, CLEARLY * preset):
            return values
    return images if images.divergence < CLEARLY * preset else None


@dataclass(frozen=True)
class _Units:
    """Mean and deviation of pixels, all together, where these are -1 to 1."""

    center: float
    spread: float

    @classmethod
    def of(cls, pixels: NDArray[np.uint8]) -> Self:
        """Measure pixels (N, H, W, 1)."""
        values = pixels.astype(np.float64) / 127.5 - 1
        return cls(float(values.mean()), max(float(values.std()), 1e-6))

    def standardized(self, pixels: NDArray[np.uint8]) -> Tensor:
        """Return planes (N, H, W) of mean 0 and deviation 1, all together."""
        values = (pixels[..., 0].astype(np.float64) / 127.5 - 1 - self.center) / self.spread
        return torch.from_numpy(values.astype(np.float32))


class _Fitter:
    """Synthetic inputs of one shape, and the network that reads them."""

    def __init__(
        self,
        program: Program,
        statistics: Mapping[str, ChannelStatistics],
        guessed: InputFormat,
        *,
        context: RunContext,
    ) -> None:
        self._guessed, self._device = guessed, torch.device(context.device)
        self._known = BatchNormTargets(statistics, self._device)
        taps = tuple(self._known.mean)
        self._net = ProgramModule(program, taps=taps, outputs=(), channels_last=True)
        self._net.to(self._device)
        self._height, self._width, _ = guessed.image_size
        count = max(FEW, min(MANY, VALUES // (self._height * self._width)))
        rng, size = np.random.default_rng(context.seed), (self._height, self._width, 1)
        pixels = np.concatenate(list(structured_fields(2 * count, size, rng)))
        self._of_fields = _Units.of(pixels)
        fields = self._of_fields.standardized(pixels).to(self._device)
        self._fields, self._others = fields[:count], fields[count:]  # (N, H, W) each
        work = WORK * min(1.0, (context.budget_seconds or 60.0) / 60)
        passes = work / measure_cost(program, guessed.shape).work
        passes -= 3 * FEW * len(SCALES) * len(OFFSETS)
        self.batch = min(BATCH, count, int(passes / (2 * BACKWARD * STEPS)))

    def fit_values(self, *, features: bool) -> FittedInputs:
        """Return values at their best scale, which may be one for each of the `features`."""
        shared = self._search_scaling(self._fields)
        scaling, divergence = shared, self._measure(self._others, shared)
        layout: Layout = "NHWC"
        for axis, counted in FEATURE_AXES:
            if features and 1 < (self._height, self._width)[axis] <= MOST_FEATURES:
                each = self._fit_features(shared, axis)
                found = self._measure(self._others, each)
                if found < BETTER * divergence:
                    scaling, divergence, layout = each, found, counted
        made = self._preprocessing(scaling, self._of_fields)
        made = replace(made, layout=layout, channels="values")
        return FittedInputs(InputFormat(made, self._guessed.shape), divergence)

    def fit_images(self) -> tuple[float, FittedInputs]:
        """Return J of procedural images as they were guessed, and images at their best scale."""
        rng, size = np.random.default_rng(0), (self._height, self._width, 1)
        leaves = make_probe_images(size, rng=rng, count=2 * FEW)
        text = np.stack(list(text_images(2 * FEW, size, rng)))
        as_guessed, fitted = [], []
        for pixels in (leaves, text):
            with torch.no_grad():
                x = self._guessed.to_tensor(torch.from_numpy(pixels)).to(self._device)
                as_guessed.append(float(self._divergence(x)))
            units = _Units.of(pixels)
            planes = units.standardized(pixels).to(self._device)
            scaling = self._search_scaling(planes)
            preset = self._guessed.preprocessing
            made = replace(
                self._preprocessing(scaling, units), layout=preset.layout, channels="gray"
            )
            inputs = InputFormat(made, self._guessed.shape)
            fitted.append(FittedInputs(inputs, self._measure(planes, scaling)))
        return min(as_guessed), min(fitted, key=lambda each: each.divergence)

    def _measure(self, planes: Tensor, scaling: _Scaling) -> float:
        with torch.no_grad():
            return float(self._divergence(scaling.apply(planes[: 2 * FEW])))

    def _divergence(self, x: Tensor) -> Tensor:
        """Return J of inputs (N, ...), a scalar."""
        values = self._net(x.reshape(len(x), *self._guessed.shape))[1]
        found = [
            gaussian_distance(mean, variance, *_floored(value, variance)).mean()
            for value, (mean, variance) in self._known.pairs(values)
        ]
        return torch.stack(found).mean()

    def _search_scaling(self, planes: Tensor) -> _Scaling:
        """Return the best m and d, the same everywhere, for planes (N, H, W)."""
        planes = planes[:FEW]
        tried = [(scale, offset * scale) for scale in SCALES for offset in OFFSETS]
        scale, mean = min(tried, key=lambda pair: self._try(planes, *pair))
        near = [(scale * a, mean + scale * b) for a in (0.5, 1.0, 2.0) for b in (-0.5, 0.0, 0.5)]
        scale, mean = min(near, key=lambda pair: self._try(planes, *pair))
        return _Scaling(planes.new_full((1, 1), mean), planes.new_full((1, 1), scale))

    def _try(self, planes: Tensor, scale: float, mean: float) -> float:
        with torch.no_grad():
            found = float(self._divergence(mean + scale * planes))
        return found if math.isfinite(found) else math.inf

    def _fit_features(self, start: _Scaling, axis: int) -> _Scaling:
        """Return m and d of every feature along an axis of the fields."""
        form = (self._height, 1) if axis == 0 else (1, self._width)
        moved, grown = (self._fields.new_zeros(form).requires_grad_(True) for _ in range(2))
        optimizer = torch.optim.Adam([moved, grown], lr=RATE)

        def scaling() -> _Scaling:
            return _Scaling(start.mean + start.deviation * moved, start.deviation * grown.exp())

        generator = torch.Generator().manual_seed(0)
        for step in range(STEPS):
            chosen = torch.randperm(len(self._fields), generator=generator)[: self.batch]
            loss = self._divergence(scaling().apply(self._fields[chosen.to(self._device)]))
            loss = loss + PRIOR * (moved.square() + grown.square()).mean()
            slopes = torch.autograd.grad(loss, [moved, grown])
            for value, slope in zip((moved, grown), slopes, strict=True):
                value.grad = slope.nan_to_num(0.0, 0.0, 0.0)
            optimizer.param_groups[0]["lr"] = RATE * (1 + math.cos(math.pi * step / STEPS)) / 2
            optimizer.step()
        found = scaling()
        return _Scaling(found.mean.detach(), found.deviation.detach())

    def _preprocessing(self, scaling: _Scaling, units: _Units) -> Preprocessing:
        """Return the preprocessing under which pixels become x; layout and channels are to set."""
        mean, deviation = (
            part.double().cpu().flatten().numpy() for part in (scaling.mean, scaling.deviation)
        )
        middle = np.clip(mean - deviation * (units.center / units.spread), -LARGEST, LARGEST)
        reach = np.clip(deviation / units.spread, LEAST, LARGEST)  # to either end of the pixels
        reach = np.maximum(reach, SMALLEST * np.maximum(reach.max(), np.abs(middle)))
        return Preprocessing(
            name="fitted",
            scale=255.0,
            mean=tuple(_rounded(each) for each in (reach - middle) / (2 * reach)),
            std=tuple(_rounded(each) for each in 1 / (2 * reach)),
        )


def _floored(value: Tensor, variance: Tensor) -> tuple[Tensor, Tensor]:
    """Return mean and variance of a value's channels; one that stays dead counts finitely."""
    mean, found = moments(value)
    return mean, found.clamp_min(1e-3 * float(variance.median()))


def _rounded(value: float) -> float:
    return float(f"{value:.{DIGITS}g}")

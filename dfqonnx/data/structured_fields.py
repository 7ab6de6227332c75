"""Values for inputs that are no images: fields with the structure that measured signals have.

White noise averages out: behind a few layers and a pooling every sample of it looks alike, and the
last layers never leave a small part of their range. Spectrograms, features of speech, vibration and
sensor data have levels, slopes, repetition and silence instead. A field over two axes, "time" and
"frequency" (either may be the first, and a vector has only one), in a valid range of -1 to 1, is

    x = level + contrast f / std f          f = a P + b H + c E,  a, b, c random shares
    P    noise of amplitude |frequency|^-p, p uniform in 0..2, stretched along one of the axes
    H    cos(2 pi k(t) v): a stack of k harmonics along frequency, whose pitch k drifts in time
    E    e(t) + g(v): envelopes along either axis, noise of amplitude |frequency|^-1.5
    gate half of the fields are switched on and off in time; off is a floor with a little noise

`contrast` is log-uniform between 1/16 and 1/2, because neither the scale of the inputs nor how much
of their range one of them uses is known; `level` has deviation 0.35. A quarter of the samples is
white noise whose four deviations span the range. Everything outside of the range is cut.

Voss and Clarke, "1/f noise in music and speech", Nature 258, 1975, for spectra of signals.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from dfqonnx.core.input_format import round_to_pixels

Floats = NDArray[np.float32]

NOISE_SHARE = 0.25  # of the samples, that are white noise
STEEPEST, ENVELOPE_SLOPE = 2.0, 1.5  # p of P, and of E
STRETCH = 2.0  # octaves by which P is stretched either way, at most
DRIFT = 0.2  # deviation of the logarithm of the pitch over time
LEAST_CONTRAST, MOST_CONTRAST = 1 / 16, 1 / 2
LEVEL_SPREAD = 0.35
CHUNK_VALUES = 2**20


def structured_fields(
    count: int, shape: tuple[int, int, int], rng: Generator
) -> Iterator[NDArray[np.uint8]]:
    """Yield chunks of uint8 samples (B, H, W, C), `count` in all; channels are samples of own."""
    height, width, channels = shape
    chunk = max(1, CHUNK_VALUES // math.prod(shape))
    for first in range(0, count, chunk):
        size = min(chunk, count - first)
        turned = rng.random() < 0.5  # whether time runs along the second axis
        axes = (width, height) if turned else (height, width)
        fields = _sample_fields(size * channels, *axes, rng)  # (B C, T, F)
        fields = fields.transpose(0, 2, 1) if turned else fields
        values = fields.reshape(size, channels, height, width).transpose(0, 2, 3, 1)
        noise = rng.standard_normal(values.shape, np.float32) / 4
        plain = rng.random((size, 1, 1, 1)) < NOISE_SHARE
        yield round_to_pixels((np.where(plain, noise, values) + 1) * 127.5)


def _sample_fields(count: int, times: int, bands: int, rng: Generator) -> Floats:
    """Return fields (N, T, F) around the range -1..1, not yet cut."""

    def uniform() -> Floats:
        return rng.random((count, 1, 1), np.float32)

    parts = (
        _power_noise(count, times, bands, rng),
        _harmonics(count, times, bands, rng),
        _envelope(count, times, rng)[:, :, None] + _envelope(count, bands, rng)[:, None, :],
    )
    shares = (uniform() ** 2 for _ in parts)
    weighted = [a * _normalized(part) for a, part in zip(shares, parts, strict=True)]
    field = np.sum(weighted, 0)  # (N, T, F)
    contrast = MOST_CONTRAST * (LEAST_CONTRAST / MOST_CONTRAST) ** uniform()
    level = LEVEL_SPREAD * rng.standard_normal((count, 1, 1), np.float32)
    floor = level - contrast * (1 + 2 * uniform())
    still = rng.standard_normal((count, times, bands), np.float32)
    off = (uniform() < 0.5) & _switched(count, times, rng)[:, :, None]
    found = np.where(off, floor + 0.1 * contrast * still, level + contrast * _normalized(field))
    return np.asarray(found, np.float32)


def _power_noise(count: int, times: int, bands: int, rng: Generator) -> Floats:
    """Return P, (N, T, F)."""
    stretch = 2 ** (STRETCH * rng.uniform(-1, 1, (count, 1, 1)))
    down = np.fft.fftfreq(times)[:, None] * times * stretch
    across = np.fft.rfftfreq(bands)[None] * bands / stretch
    slope = rng.uniform(0, STEEPEST, (count, 1, 1))
    spectrum = np.fft.rfft2(rng.standard_normal((count, times, bands), np.float32))
    spectrum *= (np.hypot(down, across) + 0.5) ** -slope
    return np.asarray(np.fft.irfft2(spectrum, s=(times, bands)), np.float32)


def _harmonics(count: int, times: int, bands: int, rng: Generator) -> Floats:
    """Return H, (N, T, F)."""
    pitch = max(2.0, bands / 4) ** rng.random((count, 1))  # cycles over all bands
    drifting = pitch * np.exp(DRIFT * _envelope(count, times, rng))  # (N, T)
    turns = drifting[:, :, None] * (np.arange(bands) / bands)
    return np.asarray(np.cos(2 * np.pi * turns), np.float32)


def _envelope(count: int, size: int, rng: Generator) -> Floats:
    """Return smooth noise (N, size) of deviation 1; zeros where there is one place only."""
    frequency = np.fft.rfftfreq(size) * size
    frequency[0] = np.inf
    spectrum = np.fft.rfft(rng.standard_normal((count, size), np.float32))
    return _normalized(np.fft.irfft(spectrum * frequency**-ENVELOPE_SLOPE, n=size))


def _switched(count: int, times: int, rng: Generator) -> NDArray[np.bool_]:
    """Return states (N, T) that change at random, once to a quarter of the times in the mean."""
    rate = max(2.0, times / 4) ** rng.random((count, 1)) / times
    switches = rng.random((count, times)) < rate
    return np.asarray(np.cumsum(switches, 1) % 2 == 1)


def _normalized(values: NDArray[np.floating]) -> Floats:
    """Return values (N, ...) with mean 0 and deviation 1 in each sample; constant ones become 0."""
    axes = tuple(range(1, values.ndim))
    values = values - values.mean(axes, keepdims=True)
    deviation = np.sqrt(np.square(values).mean(axes, keepdims=True))
    return np.asarray(values / np.maximum(deviation, 1e-6), np.float32)

"""The error of a quantized speech-quality network (DNSMOS P.808), in points of MOS, on speech.

    python pipelines/benchmarks/speech_quality.py --float dnsmos_p808.onnx QUANTIZED.onnx ...
        [--wav FOLDER]

Speech is read aloud by espeak-ng: several languages, voices, speeds and pitches, clean or behind
white or pink noise, reverberation, telephone bands, overdrive or gaps; `--wav` adds recordings.
It measures, and nothing that ships may be chosen by it. Without espeak-ng the script says so and
ends with 0.

The network reads 900 frames x 120 mel bands of 9 s at 16 kHz, as its authors feed it:

    power  |STFT|^2, periodic Hann window of 321 samples, a frame every 160, edges padded with zeros
    mel    120 triangles between 0 and 8 kHz, each of area 1 (Slaney 1998)
    dB     10 log10(max(1e-10, power / largest)), at most 80 below the largest;  x = (dB + 40) / 40

Source: Reddy, Gopal and Cutler, "DNSMOS", ICASSP 2021.
"""

from __future__ import annotations

import argparse
import io
import shutil
import subprocess
import wave
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray
from scipy.signal import butter, fftconvolve, lfilter, resample_poly, sosfilt

from dfqonnx.runtime.session import Session

Floats = NDArray[np.float64]

RATE, SAMPLES = 16000, 144000  # 9 s
WINDOW, HOP, MELS, FRAMES = 321, 160, 120, 900
SEED = 20
TOGETHER = 4  # inputs at once
VOICES = (
    *("en-us", "en-gb+f3", "de+m3", "fr-fr+f2", "es+m1", "it+f4", "pl", "pt-br+f1", "ru+m5"),
    *("en-us+whisper", "en-gb+croak", "nl+f5"),
)
TEXTS = (
    "The birch canoe slid on the smooth planks. Glue the sheet to the dark blue background.",
    "It is easy to tell the depth of a well. These days a chicken leg is a rare dish.",
    "Rice is often served in round bowls. The juice of lemons makes fine punch, they say.",
    "The box was thrown beside the parked truck. The hogs were fed chopped corn and garbage.",
    "Four hours of steady work faced us. A large size in stockings is hard to sell, is it not?",
)
DAMAGE = (
    *("clean", "clean", "white 25", "white 10", "white 0", "pink 15", "pink 5"),
    *("room", "room 15", "telephone", "overdrive", "gaps", "faint"),
)


def main() -> None:
    """Print the error of every quantized file on every clip, and in the mean."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--float", type=Path, required=True, help="dnsmos_p808.onnx")
    parser.add_argument("quantized", type=Path, nargs="+", help="files to measure")
    parser.add_argument("--wav", type=Path, help="folder of 16-bit recordings to measure on, too")
    parser.add_argument("--clips", type=int, default=96, help="clips that espeak-ng reads aloud")
    args = parser.parse_args()
    if shutil.which("espeak-ng") is None:
        print("skipped: there is no espeak-ng on this machine to read texts aloud")
        return
    clips = [*speak_clips(args.clips), *(read_wavs(args.wav) if args.wav else ())]
    x = np.stack([log_mel(clip) for clip in clips]).astype(np.float32)  # (N, 900, 120)
    expected = scores(args.float, x)
    print(f"{len(x)} clips, float score {expected.mean():.2f} +- {expected.std():.2f}")
    print("| file | mean absolute error | largest | bias | correlation | SQNR over the variance |")
    print("| --- | --- | --- | --- | --- | --- |")
    for path in args.quantized:
        error = (found := scores(path, x)) - expected
        ratio = 10 * np.log10(expected.var() / np.square(error).mean())
        print(
            f"| {path.name} | {abs(error).mean():.3f} | {abs(error).max():.3f} |"
            f" {error.mean():+.3f} | {np.corrcoef(found, expected)[0, 1]:.4f} | {ratio:.1f} dB |"
        )


def scores(path: Path, x: NDArray[np.float32]) -> Floats:
    """Return the network's scores for inputs (N, 900, 120), (N,)."""
    session = Session(path)
    found = session.run_batched({session.inputs[0].name: x}, size=TOGETHER)
    return next(iter(found.values())).astype(np.float64).reshape(-1)


def speak_clips(count: int) -> Iterator[Floats]:
    """Yield `count` clips of 9 s, each with a voice, texts and a damage of its own."""
    rng = np.random.default_rng(SEED)
    for index in range(count):
        voice, damage = VOICES[index % len(VOICES)], DAMAGE[index % len(DAMAGE)]
        speed, pitch = int(rng.integers(110, 210)), int(rng.integers(20, 80))
        text = " ".join(rng.permutation(TEXTS))
        command = ["espeak-ng", "--stdout", "-v", voice, "-s", str(speed), "-p", str(pitch), text]
        made = subprocess.run(command, check=True, capture_output=True).stdout
        yield _damaged(_to_length(_read_wav(io.BytesIO(made)), rng), damage, rng)


def read_wavs(folder: Path) -> Iterator[Floats]:
    """Yield every recording of 16 bits in `folder`, repeated or cut to 9 s."""
    for path in sorted(folder.rglob("*.wav")):
        with path.open("rb") as file:
            yield _to_length(_read_wav(file), np.random.default_rng(SEED))


def _read_wav(file: IO[bytes]) -> Floats:
    """Return the first channel of 16-bit samples at 16 kHz, in -1..1."""
    # espeak-ng cannot know the length of what it streams: all that follows the header is samples
    with wave.open(file) as sound:
        if sound.getsampwidth() != 2:
            raise SystemExit(f"{file}: {8 * sound.getsampwidth()} bits a sample; 16 are read")
        rate, channels = sound.getframerate(), sound.getnchannels()
        raw = sound.readframes(sound.getnframes())
    samples = np.frombuffer(raw[: len(raw) // 2 * 2], "<i2").astype(np.float64) / 2**15
    divisor = int(np.gcd(rate, RATE))
    return np.asarray(resample_poly(samples[::channels], RATE // divisor, rate // divisor))


def _to_length(sound: Floats, rng: Generator) -> Floats:
    """Return 9 s of `sound`, repeated where it is shorter, from a random start where longer."""
    sound = np.tile(sound, -(-SAMPLES // max(1, len(sound))))
    start = int(rng.integers(len(sound) - SAMPLES + 1))
    return sound[start : start + SAMPLES]


def _damaged(clip: Floats, damage: str, rng: Generator) -> Floats:
    """Return a clip with one of `DAMAGE`; a number behind it is a signal-to-noise ratio in dB."""
    kind, _, ratio = damage.partition(" ")
    white = rng.standard_normal(SAMPLES)
    if kind == "telephone":
        clip = sosfilt(butter(4, (300, 3400), "bandpass", fs=RATE, output="sos"), clip)
    if kind == "overdrive":
        clip = np.clip(8 * clip, -0.3, 0.3)
    if kind == "gaps":
        clip = clip * np.repeat(rng.random(SAMPLES // 1600) > 0.25, 1600)
    if kind == "faint":
        clip = 0.01 * clip + 1e-4 * white
    if kind == "room":
        decay = np.exp(-6.9 * np.arange(RATE // 2) / (RATE // 2))  # 60 dB in half a second
        echo = fftconvolve(clip, decay * rng.standard_normal(len(decay)))[:SAMPLES]
        clip = clip + 0.5 * echo * clip.std() / echo.std()
    if ratio:
        noise = lfilter([1.0], [1.0, -0.97], white) if kind == "pink" else white
        clip = clip + noise * clip.std() / noise.std() * 10 ** (-float(ratio) / 20)
    return np.asarray(clip)


def log_mel(clip: Floats) -> Floats:
    """Return what the network reads of 9 s, (900, 120)."""
    half = WINDOW // 2
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(WINDOW) / WINDOW)
    frames = np.lib.stride_tricks.sliding_window_view(np.pad(clip, half), WINDOW)[::HOP]
    power = np.abs(np.fft.rfft(frames[:FRAMES] * window)) ** 2  # (900, 161)
    mel = power @ mel_filters().T  # (900, 120)
    decibels = 10 * np.log10(np.maximum(mel, 1e-10) / max(mel.max(), 1e-10))
    return np.asarray((np.maximum(decibels, decibels.max() - 80) + 40) / 40)


def mel_filters() -> Floats:
    """Return the triangles over frequency, (120, 161): linear to 1 kHz, logarithmic above."""
    hertz = np.fft.rfftfreq(WINDOW, 1 / RATE)
    top = 15 + 27 * np.log(RATE / 2 / 1000) / np.log(6.4)  # in mel; 1 kHz is 15
    mel = np.linspace(0, top, MELS + 2)
    corners = np.where(mel < 15, mel * 200 / 3, 1000 * 6.4 ** ((mel - 15) / 27))
    rising = (hertz - corners[:-2, None]) / np.diff(corners)[:-1, None]
    falling = (corners[2:, None] - hertz) / np.diff(corners)[1:, None]
    triangles = np.maximum(0, np.minimum(rising, falling))
    return np.asarray(triangles * 2 / (corners[2:] - corners[:-2])[:, None])


if __name__ == "__main__":
    main()

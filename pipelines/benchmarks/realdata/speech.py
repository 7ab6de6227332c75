"""A network that scores speech: sentences spoken by espeak-ng, spoilt in several ways.

The network reads the log-mel features of `speech_quality.py`, (900, 120) for 9 s at 16 kHz.

Calibration and test clips have no sentence, no voice and no kind of damage's random numbers in
common. Damage: white or pink noise, hum, another speaker, a telephone's band, clipping, a room's
echo, or none, at signal-to-noise ratios between 0 and 30 dB.
"""

from __future__ import annotations

import io
import shutil
import subprocess
import wave
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from realdata.task import Absent, Feed, Figures, Fold, Outputs, RealInputs, Task, first
from scipy.signal import butter, fftconvolve, resample_poly, sosfilt
from speech_quality import RATE, log_mel

SECONDS = 9
CALIBRATION, TEST = 100, 60
Sound = NDArray[np.float64]  # (samples,)
SENTENCES = (
    (  # to calibrate
        "The harbor lay quiet under a thin sheet of morning fog.",
        "Please bring two copies of the signed form to room fourteen.",
        "He measured the shelf twice and still cut the board too short.",
        "Rain is expected in the north, with sunny spells along the coast.",
        "Nobody could explain why the third bell rang an hour early.",
        "Our train leaves from platform nine at a quarter past seven.",
        "She keeps the spare keys in a blue jar behind the kitchen door.",
        "The committee postponed its decision until the end of the month.",
        "A small brown dog chased the leaves across the empty square.",
        "If the pump fails again, switch it off and call the workshop.",
    ),
    (  # to test
        "Fresh bread and strong coffee were all they had for breakfast.",
        "Turn left after the bridge and follow the river for two miles.",
        "The old violin had been repaired with great patience and some glue.",
        "Could you repeat the last four digits of the account number?",
        "Snow covered the tents before the climbers had finished their soup.",
        "Every Thursday the museum opens its doors free of charge.",
        "My grandmother planted these roses in nineteen sixty two.",
        "The engineer wrote down each reading with the time beside it.",
    ),
)
VOICES = (
    ("en-us+m1", "en-us+f1", "en-gb+m3", "en-gb+f3", "en-029+m4", "en-gb-scotland+f2"),
    ("en-gb-x-rp+m2", "en-gb-x-rp+f4", "en-us-nyc+m7", "en-gb-x-gbclan+f5", "en-us-nyc+f5"),
)
DAMAGE = ("none", "white", "pink", "hum", "speaker", "telephone", "clipping", "echo")


def speak(text: str, voice: str, speed: int) -> Sound:
    """Return 9 s of a sentence, said again and again.

    Raises:
        Absent: espeak-ng is missing or does not speak.
    """
    program = shutil.which("espeak-ng")
    if program is None:
        raise Absent("espeak-ng is not installed (Debian: apt-get install espeak-ng)")
    words = [program, "--stdout", "-v", voice, "-s", str(speed), text]
    done = subprocess.run(words, capture_output=True, check=False)
    if done.returncode or not done.stdout:
        raise Absent(f"espeak-ng -v {voice}: {done.stderr.decode(errors='replace').strip()}")
    with wave.open(io.BytesIO(done.stdout)) as file:
        rate = file.getframerate()
        values = np.frombuffer(done.stdout[44:], np.int16).astype(np.float64) / 2**15
    return np.resize(resample_poly(values, RATE, rate), RATE * SECONDS)


def spoil(
    sound: Sound, other: Sound, *, kind: str, ratio: float, rng: np.random.Generator
) -> Sound:
    """Return the sound with a kind of damage; `ratio` is signal over noise in dB."""
    spread, count = float(sound.std()), len(sound)
    if kind == "telephone":
        band = butter(4, (300, 3400), "bandpass", fs=RATE, output="sos")
        return np.asarray(sosfilt(band, sound))
    if kind == "clipping":
        return np.clip(sound, -spread, spread)
    if kind == "echo":
        decay = np.exp(-np.arange(RATE // 2) / (0.02 + 0.005 * ratio) / RATE)
        room = rng.standard_normal(RATE // 2) * decay
        room[0] = 3.0
        return np.asarray(fftconvolve(sound, room)[:count])
    if kind == "white":
        noise = rng.standard_normal(count)
    elif kind == "pink":
        spectrum = np.fft.rfft(rng.standard_normal(count))
        noise = np.fft.irfft(spectrum / np.sqrt(np.maximum(1, np.arange(len(spectrum)))), count)
    elif kind == "hum":
        time = np.arange(count) / RATE
        noise = sum(np.sin(2 * np.pi * 50 * k * time) / k for k in (1, 2, 3, 5)) + 0 * time
    elif kind == "speaker":
        noise = np.roll(other, count // 3)
    else:
        return sound
    return sound + noise * spread / max(float(noise.std()), 1e-12) * 10 ** (-ratio / 20)


@cache
def clips(part: int, count: int) -> tuple[Feed, ...]:
    """Return clips to calibrate on (`part` 0) or to test on (1), each a feed."""
    rng = np.random.default_rng(900 + part)
    sentences, voices = SENTENCES[part], VOICES[part]
    spoken = [
        speak(text, voices[k % len(voices)], int(rng.integers(130, 200)))
        for k, text in enumerate(sentences * 2)
    ]
    found = []
    for k in range(count):
        sound, other = spoken[k % len(spoken)], spoken[(k + 3) % len(spoken)]
        kind, ratio = DAMAGE[k % len(DAMAGE)], float(rng.uniform(0, 30))
        level = 10 ** float(rng.uniform(-1.5, 0)) / max(float(np.abs(sound).max()), 1e-9)
        heard = spoil(sound, other, kind=kind, ratio=ratio, rng=rng) * level
        rounded = np.round(np.clip(heard, -1, 1) * 2**15) / 2**15
        found.append(log_mel(rounded).astype(np.float32)[None])
    return tuple(found)


def read_speech(data: Path) -> RealInputs:
    """Return the clips, those to calibrate on first; `data` is not needed."""
    made = clips(0, CALIBRATION) + clips(1, TEST)
    return RealInputs(count=len(made), feed=lambda place: made[place])


def score_fidelity(teacher: Outputs, student: Outputs) -> Figures:
    """Return the mean absolute error of the score, and its correlation with the float model's."""
    t, s = (first(part).reshape(-1).astype(np.float64) for part in (teacher, student))
    found = {"MAE": float(np.abs(t - s).mean()), "spread": float(t.std())}
    if t.std() > 0 and s.std() > 0:
        found["correlation"] = float(np.corrcoef(t, s)[0, 1])
    return found


def speech_tasks() -> Sequence[Task]:
    """Return the tasks whose inputs are speech."""
    return (
        Task(
            name="DNSMOS", file="third_party/dnsmos_p808.onnx", kind="values",
            reads="espeak-ng, 100 clips to calibrate, 60 to test", judged="MAE", less=True,
            read=read_speech, fidelity=score_fidelity,
            folds=(Fold(
                tuple(range(CALIBRATION)), tuple(range(CALIBRATION, CALIBRATION + TEST))
            ),),
        ),
    )  # fmt: skip

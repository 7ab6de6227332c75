"""What the measuring of a speech-quality network feeds it."""

from __future__ import annotations

import importlib.util
import io
import os
import subprocess
import sys
import wave
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest


@pytest.fixture(scope="module")
def script(root: Path) -> ModuleType:
    path = root / "pipelines" / "benchmarks" / "speech_quality.py"
    spec = importlib.util.spec_from_file_location("speech_quality", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_a_tone_is_loudest_in_its_own_band_and_everything_else_is_cut_at_80_db(
    script: ModuleType,
) -> None:
    seconds = np.arange(script.SAMPLES) / script.RATE
    x = script.log_mel(np.sin(2 * np.pi * 2000 * seconds))
    assert x.shape == (900, 120)
    assert (x.max(), x.min()) == (1, -1)  # 0 dB and -80 dB, (dB + 40) / 40
    band = int(np.median(x.argmax(1)))
    # Slaney's mel: 15 at 1 kHz, 27 to a factor of 6.4; 120 bands from 0 to 8 kHz
    top = 15 + 27 * np.log(8) / np.log(6.4)
    at_tone = 15 + 27 * np.log(2) / np.log(6.4)
    assert abs(band + 1 - at_tone / top * 121) <= 0.5


def test_every_wide_triangle_has_area_one(script: ModuleType) -> None:
    areas = script.mel_filters().sum(1) * script.RATE / script.WINDOW
    # a sum over places h apart misses at most h^2 / 12 at every kink for each unit that the slope
    # changes by: 1, 2 and 1 / w^2 of a triangle of half width w. The last twenty have w > 145 Hz.
    np.testing.assert_allclose(areas[-20:], 1, atol=(50 / 145) ** 2 / 3)


def test_a_recording_is_resampled_and_repeated_to_nine_seconds(
    script: ModuleType, tmp_path: Path
) -> None:
    tone = np.sin(2 * np.pi * 440 * np.arange(22050) / 22050)
    held = io.BytesIO()
    with wave.open(held, "wb") as sound:
        sound.setnchannels(1)
        sound.setsampwidth(2)
        sound.setframerate(22050)
        sound.writeframes((tone * 32000).astype("<i2").tobytes())
    (tmp_path / "tone.wav").write_bytes(held.getvalue())
    (clip,) = script.read_wavs(tmp_path)
    assert clip.shape == (script.SAMPLES,)
    middle = np.abs(np.fft.rfft(clip[1000:9000]))
    assert middle.argmax() * script.RATE / 8000 == 440


def test_without_a_speaker_the_script_says_so(root: Path, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "pipelines/benchmarks/speech_quality.py", "--float", "a.onnx", "b.onnx"],
        cwd=root,
        env={**os.environ, "PATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.startswith("skipped: there is no espeak-ng")

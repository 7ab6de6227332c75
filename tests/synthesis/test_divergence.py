"""The Knowledge Within's measure, against ONNX Runtime's BatchNormalization inputs and NumPy."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from numpy.typing import NDArray
from onnx import numpy_helper
from PIL import Image

from dfqonnx.config.commands import SimilarityConfig
from dfqonnx.convert.importer import to_program
from dfqonnx.core.context import RunContext
from dfqonnx.core.input_format import PRESETS, InputFormat
from dfqonnx.graph.load import load
from dfqonnx.graph.normalize import normalize
from dfqonnx.synthesis.divergence import measure_divergence
from dfqonnx.workflows.similarity import measure_similarity
from tests.cli.conftest import Run, dfqonnx
from tests.synthesis.tiny import tiny

__all__ = ["dfqonnx"]


def noise(count: int, spread: float = 40.0) -> NDArray[np.uint8]:
    values = np.random.default_rng(0).normal(127.5, spread, (count, 16, 16, 3))
    return values.clip(0, 255).astype(np.uint8)


def before_normalization(path: Path, x: NDArray[np.float32]) -> NDArray[np.float32]:
    """What BatchNormalization reads, as ONNX Runtime computes it from the user's own file."""
    model = onnx.load(path)
    del model.graph.output[:]
    model.graph.output.append(onnx.ValueInfoProto(name="c"))
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    found: NDArray[np.float32] = session.run(None, {"x": x})[0]
    return found


def test_it_is_the_divergence_at_the_inputs_of_batchnorm_in_the_users_file(tmp_path: Path) -> None:
    model = tiny(tmp_path)
    path = tmp_path / "tiny-True-NCHW-3.onnx"
    x = np.random.default_rng(1).normal(0.2, 1.3, (24, 3, 16, 16)).astype(np.float32)
    weights = {w.name: numpy_helper.to_array(w) for w in onnx.load(path).graph.initializer}
    m, v = weights["mu"].astype(np.float64), weights["var"] + 1e-5
    value = before_normalization(path, x).astype(np.float64)
    mean, variance = value.mean((0, 2, 3)), value.var((0, 2, 3))
    kl = 0.5 * (np.log(v / variance) + (variance + (m - mean) ** 2) / v - 1)
    back = 0.5 * (np.log(variance / v) + (v + (m - mean) ** 2) / variance - 1)
    batches = torch.from_numpy(x).split(7)  # 7, 7, 7, 3: the statistics are the whole set's
    found = measure_divergence(to_program(model), model.statistics, batches, context=RunContext())
    assert found.count == 24
    assert [layer.channels for layer in found.layers] == [6]
    assert found.divergence == pytest.approx(kl.mean(), rel=1e-4)  # float32 sums over 6,144 values
    assert found.total == found.divergence
    assert found.reverse == pytest.approx(back.mean(), rel=1e-4)


def test_normalized_pixels_are_one_more_layer(tmp_path: Path) -> None:
    model = tiny(tmp_path)
    program, batches = to_program(model), torch.from_numpy(noise(12)).split(5)
    shares = {}
    for name in ("cifar10", "zero-one"):
        inputs = InputFormat(PRESETS[name], model.input_shape)
        x = [inputs.to_tensor(batch) for batch in batches]
        found = measure_divergence(
            program, model.statistics, x, context=RunContext(), inputs=inputs
        )
        shares[name] = found
    assert [layer.name for layer in shares["zero-one"].layers] == ["n"]
    assert not shares["zero-one"].counts_input
    first, second = shares["cifar10"].layers
    assert (first.name, second.name) == ("network input", "n")
    inputs = InputFormat(PRESETS["cifar10"], model.input_shape)
    pixels = inputs.to_tensor(torch.from_numpy(noise(12))).double().numpy()
    mean, variance = pixels.mean((0, 2, 3)), pixels.var((0, 2, 3))
    wanted = 0.5 * (variance + mean**2 - 1 - np.log(variance))
    assert first.divergence == pytest.approx(wanted.mean(), rel=1e-5)


def test_a_channel_that_the_images_leave_dead_counts_but_finitely(tmp_path: Path) -> None:
    model = tiny(tmp_path)
    blank = torch.zeros(4, 3, 16, 16)
    found = measure_divergence(to_program(model), model.statistics, [blank], context=RunContext())
    assert np.isfinite(found.total)
    assert found.divergence > 1.0


def test_the_report_places_the_images_between_its_references(dfqonnx: Run, tmp_path: Path) -> None:
    tiny(tmp_path)
    np.savez(tmp_path / "mine.npz", x=noise(32))
    model = tmp_path / "tiny-True-NCHW-3.onnx"
    words = ("similarity", "--model", model, "--images", tmp_path / "mine.npz")
    done = dfqonnx(*words, "--preprocess", "zero-one", "--json")
    assert done.code == 0
    found = json.loads(done.out)
    assert found["images"]["count"] == 32
    assert [layer["channels"] for layer in found["images"]["layers"]] == [6]
    names = {reference["name"] for reference in found["references"]}
    assert names == {"noise", "dead leaves", "images optimized through this model"}
    shown = dfqonnx(*words, "--preprocess", "zero-one")
    assert "mine.npz" in shown.out
    assert "divergence are: n " in shown.out
    assert "closer to the training data than" in shown.out or "further from" in shown.out
    alone = dfqonnx(*words, "--preprocess", "zero-one", "--no-references", "--quiet")
    assert float(alone.out) == pytest.approx(found["images"]["divergence"], abs=1e-4)


def test_a_folder_of_png_files_measures_like_the_npz(tmp_path: Path) -> None:
    tiny(tmp_path)
    pixels = noise(6)
    np.savez(tmp_path / "six.npz", x=pixels)
    (tmp_path / "deep" / "er").mkdir(parents=True)
    for index, image in enumerate(pixels):
        Image.fromarray(image).save(tmp_path / "deep" / "er" / f"{index}.png")
    (tmp_path / "deep" / "notes.txt").write_text("no image")
    model = tmp_path / "tiny-True-NCHW-3.onnx"
    inputs = PRESETS["zero-one"]
    figures = [
        measure_similarity(
            SimilarityConfig(
                model=model, images=tmp_path / name, preprocess=inputs, references=False
            )
        ).divergence
        for name in ("six.npz", "deep")
    ]
    assert figures[0] == figures[1]


def test_without_batchnorm_it_is_refused_with_the_reason_and_what_to_do(
    dfqonnx: Run, tmp_path: Path
) -> None:
    tiny(tmp_path, norm=False)
    np.savez(tmp_path / "mine.npz", x=noise(4))
    model = tmp_path / "tiny-False-NCHW-3.onnx"
    done = dfqonnx("similarity", "--model", model, "--images", tmp_path / "mine.npz")
    assert done.code == 3
    assert "no BatchNormalization is left in this file" in done.err
    assert "export it again" in done.err


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("nowhere", "no such file"),
        ("empty", "no image files in it"),
        ("text.txt", "expected a folder of images, an npz with x, an npy or parquet"),
        ("other.npz", "array 'x' is missing (it has pictures)"),
        ("flat.npz", "expected uint8 (N, 16, 16, 3)"),
        ("float.npz", "expected uint8 (N, 16, 16, 3)"),
    ],
)
def test_images_that_do_not_fit_say_so(name: str, words: str, dfqonnx: Run, tmp_path: Path) -> None:
    tiny(tmp_path)
    (tmp_path / "empty").mkdir()
    (tmp_path / "text.txt").write_text("hello")
    np.savez(tmp_path / "other.npz", pictures=noise(2))
    np.savez(tmp_path / "flat.npz", x=noise(2)[..., 0])
    np.savez(tmp_path / "float.npz", x=noise(2).astype(np.float32) - 128)
    model = tmp_path / "tiny-True-NCHW-3.onnx"
    done = dfqonnx("similarity", "--model", model, "--images", tmp_path / name)
    assert done.code == 2
    assert words in done.err


def test_test_images_are_closer_to_the_training_data_than_any_reference(
    shared: Path, root: Path
) -> None:
    with np.load(shared / "data" / "cifar10_test.npz") as data:
        pixels = data["x"][:512]
    model = normalize(load(root / "models" / "resnet20.onnx"))
    inputs = InputFormat(PRESETS["cifar10"], model.input_shape)
    found = [
        measure_divergence(
            to_program(model),
            model.statistics,
            inputs.to_tensor(torch.from_numpy(x)).split(128),
            context=RunContext(),
        ).divergence
        for x in (pixels, np.random.default_rng(0).permuted(pixels, axis=0))
    ]
    assert found[0] < 0.01  # 0.0007 with all 10,000; 512 of them add sampling noise
    assert found[1] > 10 * found[0]  # every pixel from another image: no edges left

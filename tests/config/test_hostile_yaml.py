"""YAML that grows, nests, or holds values that are none: refused early, with the line."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from dfqonnx.config.preprocess import read_preprocess
from dfqonnx.config.recipe import read_recipe_file
from dfqonnx.config.yaml_file import MAX_VALUES, read_mapping
from dfqonnx.core.input_format import METADATA_KEY, Preprocessing
from dfqonnx.data.guess_input_format import read_recorded_format
from dfqonnx.errors import UsageError
from dfqonnx.export.metadata import recorded_image_size, recorded_quantization

LAUGHS = "a0: &a0 [l,l,l,l,l,l,l,l,l,l]\n" + "".join(
    f"a{k}: &a{k} [{','.join([f'*a{k - 1}'] * 10)}]\n" for k in range(1, 9)
)
TEXTS = {
    "aliases of aliases": (LAUGHS, f"stands for {MAX_VALUES:,} values or more"),
    "a list in itself": ("a: &a [*a]", "values or more"),
    "lists in lists": (f"a: {'[' * 3000}{']' * 3000}", "nest over 50 deep"),
    "mappings in mappings": (f"a: {'{a: ' * 3000}1{'}' * 3000}", "nest over 50 deep"),
    "indented mappings": ("".join(f"{' ' * k}a:\n" for k in range(900)), "nest over 50 deep"),
    "many keys": ("".join(f"k{k}: 1\n" for k in range(40_000)), "values or more"),
    "a large file": ("# x" * 600_000, "too many for a recipe"),
    "a day that does not exist": ("about: 2001-99-99", "line 1 column 8: '2001-99-99' is no value"),
    "an hour that does not exist": ("a: 2001-01-01 25:00:00", "is no value"),
    "a number of 5000 digits": (f"seed: {'9' * 5000}", "is no value"),
    "a number beyond all": ("a: 1.0e+300", "line 1 column 4: '1.0e.300' is not a number"),
    "no number": ("a: .nan", "'.nan' is not a number"),
    "infinity": ("a:\n  - -.inf", "line 2 column 5: '-.inf' is not a number"),
    "a key that is a list": ("? [a, b]\n: 1", "key"),
    "a tag of Python": ("a: !!python/object/apply:os.system [id]", "tag"),
    "a zero byte": ("a: \x00", "not"),
    "an odd merge": ("<<: 3", "merg"),
}


@pytest.mark.parametrize("name", TEXTS)
def test_a_text_that_no_setting_needs_is_refused_early(tmp_path: Path, name: str) -> None:
    text, words = TEXTS[name]
    path = tmp_path / "recipe.yaml"
    path.write_text(text)
    began = time.process_time()
    with pytest.raises(UsageError, match=words) as seen:
        read_recipe_file(path)
    assert time.process_time() - began < 5
    assert str(path) in str(seen.value)
    assert len(str(seen.value)) < 1000


def test_a_few_aliases_are_welcome(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_text("a: &a {x: 1}\nb: *a\nc:\n  <<: *a\n  y: 2\n")
    assert read_mapping(path, what="recipe")["c"] == {"x": 1, "y": 2}


@pytest.mark.parametrize("number", ["nan", "'nan'", "inf", "'1e999'", ".inf"])
def test_a_recipe_has_finite_numbers_only(tmp_path: Path, number: str) -> None:
    path = tmp_path / "odd.yaml"
    path.write_text(f"distillation: {{lr_weights: {number}}}\n")
    with pytest.raises(UsageError, match=str(path)):
        read_recipe_file(path)


FORMATS = [
    {"scale": "nan"},
    {"scale": 1e308},
    {"scale": 1e-300},
    {"std": ["inf"]},
    {"std": [1e308]},
    {"std": [1e-300]},
    {"mean": ["-inf"]},
    {"mean": [1e300]},
    {"scale": 1e6, "std": [1e6], "mean": [1e6]},
    {"mean": []},
    {"scale": None},
    {"mean": {"a": 1}},
    {"layout": ["NCHW"]},
    {"channels": {"a": 1}},
    {"scale": "9" * 400},
]


@pytest.mark.parametrize("values", FORMATS, ids=str)
def test_preprocessing_that_makes_no_numbers_is_refused(values: dict[str, object]) -> None:
    with pytest.raises(UsageError, match="preprocess"):
        Preprocessing.parse(values, name="odd")


@pytest.mark.parametrize(
    "text",
    ['{"scale": NaN}', '{"std": [Infinity]}', "[1]", "7", "{", '{"scale": 1e999}', "[" * 100_000],
)
def test_recorded_preprocessing_that_makes_no_numbers_is_refused(text: str) -> None:
    with pytest.raises(UsageError):
        read_recorded_format({METADATA_KEY: text})


@pytest.mark.parametrize("number", ["", "²", "x", "-1", "9" * 30, "8.5", "1e3"])
def test_recorded_numbers_that_are_none_are_refused(number: str) -> None:
    bits = {"dfqonnx.bits": "w4a4"}
    with pytest.raises(UsageError):
        recorded_quantization({**bits, "dfqonnx.residual_bits": number})
    with pytest.raises(UsageError):
        recorded_image_size({"dfqonnx.input_shape": f"3x{number or '-'}-x8"})


def test_a_pipe_is_no_file_of_settings(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.yaml")
    with pytest.raises(UsageError, match="no plain file"):
        read_preprocess(str(tmp_path / "pipe.yaml"))
    with pytest.raises(UsageError, match="no plain file"):
        read_recipe_file(tmp_path / "pipe.yaml")

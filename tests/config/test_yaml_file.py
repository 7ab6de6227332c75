"""YAML files from users: recipes and preprocess files."""

from __future__ import annotations

from pathlib import Path

import pytest

from dfqonnx.config.preprocess import read_preprocess
from dfqonnx.config.yaml_file import read_mapping
from dfqonnx.errors import UsageError

BROKEN = {
    "two keys": ("a: 1\na: 2\n", "'a' is given twice"),
    "a list": ("- a\n", "expected `key: value` lines, found list"),
    "a number key": ("1: a\n", "expected `key: value` lines"),
    "a tab": ("a:\n\tb: 1\n", "line 2 column 1"),
    "an open bracket": ("a: [1, 2\n", "line 2 column 1"),
    "a python object": ("a: !!python/object/apply:os.system ['true']\n", "could not determine"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_a_broken_file_is_refused_with_its_name_and_the_place(case: str, tmp_path: Path) -> None:
    text, words = BROKEN[case]
    path = tmp_path / "mine.yaml"
    path.write_text(text)
    with pytest.raises(UsageError) as caught:
        read_mapping(path, what="recipe")
    assert str(path) in str(caught.value)
    assert words in str(caught.value)


def test_a_missing_or_binary_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no such file"):
        read_mapping(tmp_path / "none.yaml", what="recipe")
    (tmp_path / "binary.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UsageError, match="not a text file"):
        read_mapping(tmp_path / "binary.yaml", what="recipe")
    with pytest.raises(UsageError, match="cannot be read"):
        read_mapping(tmp_path, what="recipe")


def test_an_empty_file_is_an_empty_mapping(tmp_path: Path) -> None:
    (tmp_path / "empty.yaml").write_text("# nothing\n")
    assert read_mapping(tmp_path / "empty.yaml", what="recipe") == {}


def test_a_preset_is_found_by_name() -> None:
    assert read_preprocess("cifar10").mean == (0.4914, 0.4822, 0.4465)


def test_a_misspelt_preset_names_the_nearest() -> None:
    with pytest.raises(UsageError, match="did you mean 'imagenet'"):
        read_preprocess("imagnet")


def test_a_preprocess_file_gives_the_same_as_the_preset_it_spells(tmp_path: Path) -> None:
    path = tmp_path / "mine.yml"
    path.write_text("scale: 255\nmean: [0.5]\nstd: [0.5]\nchannels: gray\nlayout: NHWC\n")
    spec = read_preprocess(str(path))
    assert spec.range(0) == (-1.0, 1.0)
    assert (spec.name, spec.channels, spec.layout) == ("mine", "gray", "NHWC")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("scale: 0\n", "scale 0.0 must be above 0"),
        ("means: [0.5]\n", "unknown key 'means'"),
        ("mean: [a, b]\nstd: [1, 1]\n", "scale, mean and std are numbers"),
        ("mean: [0.5, 0.5]\nstd: [0.5]\n", "mean has 2 and std 1 values"),
        ("layout: CHW\n", "use NCHW or NHWC"),
    ],
)
def test_a_wrong_preprocess_file_says_what_is_wrong(text: str, words: str, tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(text)
    with pytest.raises(UsageError) as caught:
        read_preprocess(str(path))
    assert words in str(caught.value)

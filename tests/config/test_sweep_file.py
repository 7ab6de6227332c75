"""A sweep file stands for the tasks that its author means, and a mistake names file and key."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest

from dfqonnx.config.sweep_file import SweepPlan, read_sweep
from dfqonnx.config.sweep_request import task_config
from dfqonnx.core.location import find_paths
from dfqonnx.errors import UsageError


def plan_of(folder: Path, text: str) -> SweepPlan:
    file = folder / "many.yaml"
    file.write_text(text, encoding="utf-8")
    return read_sweep(file, find=find_paths)


ALL = """
models: [a.onnx, {model: "s3://bucket/nets/b.onnx", settings: {preprocess: imagenet}}]
bits: [8, w4a8]
recipes: [ptq, default]
seeds: [0, 1, 2]
"""


def test_every_combination_is_one_task_under_a_name_of_its_own(tmp_path: Path) -> None:
    tasks = plan_of(tmp_path, ALL).tasks
    expected = set(
        itertools.product(
            ("a", "b"), ("w8a8", "w4a8"), ("onnxruntime-cpu",), ("ptq", "default"), (0, 1, 2)
        )
    )
    assert {task.axes for task in tasks} == expected
    assert len({task.name for task in tasks}) == len(tasks) == len(expected)
    assert tasks[0].model == str(tmp_path / "a.onnx")
    assert tasks[-1].model == "s3://bucket/nets/b.onnx"
    assert {task.settings.preprocess for task in tasks if task.model_name == "b"} == {"imagenet"}


def test_exclude_takes_away_and_include_adds(tmp_path: Path) -> None:
    text = ALL + "exclude: [{model: 'b*', bits: w4a8}, {seed: 2}]\n"
    some = {task.axes for task in plan_of(tmp_path, text).tasks}
    every = {task.axes for task in plan_of(tmp_path, ALL).tasks}
    assert some == {a for a in every if not (a[0] == "b" and a[1] == "w4a8") and a[4] != 2}
    text += "include: [{model: b, bits: w3a3, recipe: ptq, seed: 7}, {model: a, seed: 0}]\n"
    more = {task.axes for task in plan_of(tmp_path, text).tasks}
    assert more - some == {("b", "w3a3", "onnxruntime-cpu", "ptq", 7)}


def test_patterns_of_paths_are_found_beside_the_file(tmp_path: Path) -> None:
    (tmp_path / "nets").mkdir()
    for name in ("x", "y"):
        (tmp_path / "nets" / f"{name}.onnx").touch()
    tasks = plan_of(tmp_path, "models: ['nets/*.onnx']\n").tasks
    assert [task.model_name for task in tasks] == ["x", "y"]


def test_settings_of_a_model_lie_over_those_of_all(tmp_path: Path) -> None:
    text = """
models: [a.onnx, {model: b.onnx, settings: {budget: 2m, gates: ["size<=0.5x"]}}]
settings: {budget: 10m, eval_data: test.npz, strict: true}
"""
    first, second = plan_of(tmp_path, text).tasks
    runs = [task_config(task, str(tmp_path / task.name)) for task in (first, second)]
    assert [run.budget for run in runs] == [600, 120]
    assert [run.eval_data for run in runs] == [tmp_path / "test.npz"] * 2
    assert [rule.text for rule in runs[1].gates] == ["size<=0.5x"]
    assert runs[0].strict


def test_a_sweep_says_how_much_work_its_runs_take(tmp_path: Path) -> None:
    text = (
        "models: [a.onnx, {model: b.onnx, settings: {effort: high}}]\nsettings: {effort: quick}\n"
    )
    tasks = plan_of(tmp_path, text).tasks
    runs = [task_config(task, str(tmp_path / task.name)) for task in tasks]
    assert [run.effort for run in runs] == ["quick", "high"]
    quick, high = (run.recipe.distillation.budget_scale for run in runs)
    assert quick < 1 < high


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("bits: [8]", "models is missing"),
        ("models: []", "models = []"),
        ("modles: [a.onnx]\nmodels: [a.onnx]", "unknown key 'modles'; did you mean 'models'"),
        ("models: [a.onnx]\nsettings: {evaldata: x}", "'settings.evaldata'; did you mean 'eval_da"),
        ("models: [{model: a.onnx, settings: {bugdet: 1m}}]", "did you mean 'budget'"),
        ("models: [{modle: a.onnx}]", "'models.0.modle'; did you mean 'model'"),
        ("models: [a.onnx]\nexclude: [{bit: 8}]", "'exclude.0.bit'; did you mean 'bits'"),
        ("models: [a.onnx]\nexclude: [{bits: w2a2}]", "matches no task"),
        ("models: [a.onnx]\nexclude: [{}]", "an empty entry"),
        ("models: [a.onnx]\nexclude: [{model: a}]", "leaves no task"),
        ("models: [a.onnx]\ninclude: [{model: zzz}]", "models has no 'zzz'"),
        ("models: [a.onnx]\nbits: [w9a9]", "weight width 9"),
        ("models: [a.onnx]\nbits: [8, w8a8]", "w8a8 is given twice"),
        ("models: [a.onnx]\nseeds: [-1]", "seeds.0 = -1"),
        ("models: [a.onnx]\nseeds: [x]", "seeds.0 = 'x'"),
        ("models: [a.onnx]\ntargets: [openvin]", "did you mean 'openvino'"),
        ("models: [a.onnx]\nrecipes: [defualt]", "not a shipped recipe"),
        ("models: [a.onnx]\nresources: {memory: lots}", "resources.memory = 'lots'"),
        ("models: [a.onnx]\nresources: {cores: 0}", "resources.cores = 0"),
        ("models: [a.onnx]\nretries: -1", "retries = -1"),
        ("models: [a.onnx, b/a.onnx]", "would both be 'a'"),
        ("models: ['*.onnx']", "matches no file"),
        ("models: [a.onnx]\nsettings: {budget: soon}", "cannot read 'soon'"),
        ("models: [a.onnx]\nsettings: {gates: ['fun<1']}", "unknown metric 'fun'"),
        ("models: [a.onnx]\nsettings: {device: tpu}", "settings.device = 'tpu'"),
        ("models: 7", "models = 7"),
        ("[1, 2]", "expected `key: value` lines"),
    ],
)
def test_a_mistake_names_the_file_and_the_key(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(UsageError) as caught:
        plan_of(tmp_path, text)
    assert "many.yaml" in caught.value.message
    assert words in caught.value.message

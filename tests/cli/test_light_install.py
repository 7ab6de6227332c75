"""An install without PyTorch, SciPy and matplotlib: what it does, and how it refuses the rest."""

from __future__ import annotations

import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from dfqonnx.errors import QUANTIZING_PACKAGES

ROOT = Path(__file__).parents[2]
LEFT_OUT = {*QUANTIZING_PACKAGES, "matplotlib", "sympy"}  # by the extra light
PROLOGUE = """
import sys
from importlib.machinery import PathFinder

class Light(PathFinder):
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        lacking = name.split(".")[0] in ("torch", "scipy", "matplotlib")
        return None if lacking else super().find_spec(name, path, target)

sys.meta_path[sys.meta_path.index(PathFinder)] = Light
"""


def light(script: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run a script in a Python that lacks what a light install lacks."""
    return subprocess.run(
        [sys.executable, "-c", PROLOGUE + script],
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        cwd=folder,
        capture_output=True,
        text=True,
    )


def test_measuring_works_and_quantizing_says_what_to_install(small: Path, tmp_path: Path) -> None:
    script = """
from dfqonnx.cli.app import command_line as run

for words in ("audit small.onnx", "validate --teacher small.onnx --student small.onnx --out v -q",
              "compare small.onnx --teacher small.onnx --preprocess zero-one -q --out c.html"):
    assert run(words.split()) == 0, words
assert run("inspect small.onnx".split()) == 0
for words in ("run --model small.onnx", "similarity small.onnx --images v",
              "synth --model small.onnx --out x.npz"):
    assert run(words.split()) == 4, words
"""
    done = light(script, tmp_path)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "v" / "report.html").is_file()
    assert (tmp_path / "c.html").is_file()
    refusals = [line for line in done.stderr.splitlines() if line.startswith("Error")]
    assert len(refusals) == 3
    assert all("pip install 'dfqonnx[cpu]'" in line for line in refusals)


def test_from_python_it_is_the_same(small: Path, tmp_path: Path) -> None:
    script = """
import dfqonnx
from dfqonnx.testing import assert_quantized

dfqonnx.validate, dfqonnx.Result
try:
    dfqonnx.quantize
except dfqonnx.EnvironmentProblem as problem:
    assert "dfqonnx[cpu]" in str(problem), problem
else:
    raise AssertionError("quantize needs torch")
assert_quantized("small.onnx", teacher="small.onnx", gates=["size<=1x"], preprocess="zero-one")
"""
    done = light(script, tmp_path)
    assert done.returncode == 0, done.stderr


def test_a_module_that_no_extra_has_is_not_explained_away(small: Path, tmp_path: Path) -> None:
    script = """
from dfqonnx.cli.failures import guard

def fail():
    raise ModuleNotFoundError("No module named 'numpyy'", name="numpyy")

assert guard(fail, as_json=False) == 5
"""
    done = light(script, tmp_path)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("extra", ["cpu", "gpu"])
def test_what_a_light_install_lacks_comes_with_the_others(extra: str) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    plain = " ".join(project["dependencies"])
    assert not [name for name in LEFT_OUT if name in plain]
    assert "netron" in plain
    own = " ".join(project["optional-dependencies"][extra])
    assert [name for name in (*QUANTIZING_PACKAGES, "matplotlib") if name not in own] == []

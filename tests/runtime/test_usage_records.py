"""ONNX Runtime keeps no records of its use in any process of ours."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import onnx
import pytest

from dfqonnx.workflows.doctor import examine
from tests.cli.networks import SMALL, WEIGHTS, model_from

COMMANDS = {
    "the command line": "from dfqonnx.cli.app import command_line\n"
    "assert command_line(['run', '--model', 'net.onnx', '--recipe', 'ptq', '--bits', '8',"
    " '--dry-run', '--quiet']) == 0",
    "the library": "import dfqonnx, onnxruntime\n"
    "onnxruntime.InferenceSession('net.onnx', providers=['CPUExecutionProvider'])",
}


def _written(folder: Path, script: str, environment: dict[str, str]) -> list[str]:
    """Run a script with `folder` as the home and return every file that it left there."""
    home = folder / "home"
    home.mkdir()
    onnx.save(model_from(SMALL, **WEIGHTS), folder / "net.onnx")
    root = str(Path(__file__).parents[2])
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("XDG_", "ORT_"))}
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=folder,
        env={**clean, "HOME": str(home), "PYTHONPATH": root, **environment},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return [str(p.relative_to(home)) for p in home.rglob("*") if p.is_file()]


@pytest.mark.parametrize("name", COMMANDS)
def test_no_record_is_written_even_where_the_environment_asks_for_it(
    tmp_path: Path, name: str
) -> None:
    found = _written(tmp_path, COMMANDS[name], {"ORT_DISABLE_TELEMETRY": "0"})
    assert [path for path in found if "matplotlib" not in path] == []


def test_an_import_that_comes_too_late_is_told(tmp_path: Path) -> None:
    script = (
        "import sys, types, warnings\n"
        "sys.modules['onnxruntime'] = types.ModuleType('onnxruntime')\n"
        "with warnings.catch_warnings(record=True) as seen:\n"
        "    warnings.simplefilter('always')\n"
        "    import dfqonnx\n"
        "assert 'ORT_DISABLE_TELEMETRY=1' in str(seen[0].message)\n"
    )
    assert _written(tmp_path, script, {}) == []


def test_doctor_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    def finding() -> tuple[str, bool]:
        (found,) = [f for f in examine() if f.name == "usage records"]
        return found.value, found.ok

    assert finding() == ("off (ORT_DISABLE_TELEMETRY=1)", True)
    monkeypatch.setenv("ORT_DISABLE_TELEMETRY", "0")
    assert finding() == ("on", False)

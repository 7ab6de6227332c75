"""The files that other people's builds take from this repository, run as plain shell."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import onnx
import pytest
import torch
import yaml

from dfqonnx.config.gates import parse_gate
from tests.cli.networks import SMALL, WEIGHTS, model_from

RECIPE = """
synthesis: {source: dead-leaves, images: 64}
distillation: {steps: 2, batch_size: 16, holdout_images: 8}
"""


@dataclass
class Place:
    """A working folder of a build."""

    path: Path
    root: Path
    variables: dict[str, str] = field(default_factory=dict)

    def shell(self, script: str, *, shell: str = "bash", **variables: str) -> Any:
        """Run `script` as a build server does."""
        start = ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c"]
        return subprocess.run(
            [*(start if shell == "bash" else [shell, "-ec"]), script],
            cwd=self.path,
            capture_output=True,
            text=True,
            env={**os.environ, **self.variables, **variables},
        )

    def read(self, name: str) -> dict[str, str]:
        """Return the outputs of a step."""
        lines = (self.path / name).read_text().splitlines()
        return dict(line.split("=", 1) for line in lines)


@pytest.fixture
def place(tmp_path: Path, root: Path) -> Place:
    """A folder with a model, a recipe, and `dfqonnx` and `python` on the PATH."""
    torch.set_num_threads(1)
    onnx.save(model_from(SMALL, **WEIGHTS), tmp_path / "small.onnx")
    (tmp_path / "quick.yaml").write_text(RECIPE)
    bin_ = tmp_path / "bin"
    bin_.mkdir()
    python = shlex.quote(sys.executable)
    for name, more in (("python", ""), ("dfqonnx", " -m dfqonnx")):
        (bin_ / name).write_text(f'#!/bin/sh\nexec {python}{more} "$@"\n')
        (bin_ / name).chmod(0o755)
    variables = {
        "PATH": f"{bin_}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": str(root),
        "OMP_NUM_THREADS": "1",
        "GITHUB_ACTIONS": "true",
        "GITHUB_OUTPUT": str(tmp_path / "output"),
        "GITHUB_STEP_SUMMARY": str(tmp_path / "summary"),
    }
    return Place(tmp_path, root, variables)


def run_action(place: Place, **given: str) -> list[Any]:
    """Run every step of action.yml until one fails, and return what they did."""
    action = yaml.safe_load((place.root / "action.yml").read_text())
    inputs = {name: spec.get("default", "") for name, spec in action["inputs"].items()}
    inputs |= {name.replace("_", "-"): value for name, value in given.items()}
    known = {f"inputs.{name}": value for name, value in inputs.items()}
    known["github.action_path"] = str(place.root)
    done = []
    for step in action["runs"]["steps"]:
        assert step["shell"] == "bash"
        assert "${{" not in step["run"], "inputs must reach the shell through the environment"
        variables = {
            name: re.sub(r"\$\{\{ (.*?) \}\}", lambda match: known[match[1]], value)
            for name, value in step["env"].items()
        }
        done.append(place.shell(step["run"], **variables))
        if done[-1].returncode:
            break
    return done


def test_the_action_quantizes_and_tells_the_build(place: Place) -> None:
    *_, last = run_action(
        place,
        model="small.onnx",
        recipe="quick.yaml",
        preprocess="zero-one",
        gates="\n  size<=1000x  \n\nfloat_nodes<=99\n",
        python=sys.executable,
    )
    assert last.returncode == 0, last.stderr
    found = place.read("output")
    assert found["verdict"] == "inconclusive"  # its float model has random weights
    assert found["accuracy"] == "inconclusive"
    assert "agreement-near-chance" in found["reasons"]
    assert found["student"] == "dfqonnx-out/small.w4a4.onnx"
    for name in ("student", "report", "junit"):
        assert (place.path / found[name]).is_file()
    assert "size<=1000x" in (place.path / "summary").read_text()
    assert "::notice title=dfqonnx inconclusive::" in last.stderr
    # the same action checks what it made; the gate fails, and the outputs are there all the same
    *_, check = run_action(
        place,
        model="small.onnx",
        student=found["student"],
        gates="size<=0.0001x",
        out="check",
        python=sys.executable,
    )
    assert check.returncode == 1
    assert "::error title=gate fails%3A size<=0.0001x" in check.stderr
    assert place.read("output")["verdict"] == "fail"


def test_the_action_declares_every_output_that_it_promises(place: Place) -> None:
    action = yaml.safe_load((place.root / "action.yml").read_text())
    from dfqonnx.report.ci import step_outputs
    from dfqonnx.report.report import ModelFacts, Report

    report = Report(teacher=ModelFacts("a"), student=ModelFacts("b"))
    written = dict(step_outputs(report, None))
    for name, output in action["outputs"].items():
        assert output["value"] == f"${{{{ steps.dfqonnx.outputs.{name} }}}}"
        assert name in written


@pytest.mark.parametrize(("student", "extra"), [("", "cpu"), ("small.w4a4.onnx", "light")])
def test_the_action_installs_what_the_work_needs_where_it_is_missing(
    place: Place, student: str, extra: str
) -> None:
    fake = place.path / "fake-python"
    fake.write_text('#!/bin/sh\n[ "$1" = -c ] && exit 1\necho "$@" >> installed\n')
    fake.chmod(0o755)
    first, *_ = run_action(place, model="small.onnx", student=student, python=str(fake))
    assert first.returncode == 0, first.stderr
    called = (place.path / "installed").read_text().splitlines()[0]
    assert called == f"-m pip install --quiet {place.root}[{extra}]"


def test_inputs_of_the_action_are_never_run_as_shell(place: Place) -> None:
    run_action(
        place,
        model="$(touch broken).onnx",
        gates='size<=1x\n"; touch broken; "\n$(touch broken)',
        python=sys.executable,
    )
    assert not (place.path / "broken").exists()


@pytest.mark.parametrize("shell", ["sh", "bash"])
def test_the_gitlab_template_runs_as_plain_shell(place: Place, shell: str) -> None:
    template = yaml.safe_load((place.root / "docs" / "ci" / "gitlab.yml").read_text())
    job = template[".dfqonnx"]
    given = {
        "DFQ_INSTALL": "",
        "DFQ_MODEL": "small.onnx",
        "DFQ_PREPROCESS": "zero-one",
        "DFQ_GATES": "size<=1000x float_nodes<=99",
        "DFQ_OPTIONS": "--recipe quick.yaml --quiet",
    }
    variables = {**job["variables"], **given}
    done = place.shell("\n".join(job["script"]), shell=shell, **variables)
    assert done.returncode == 0, done.stderr
    junit = job["artifacts"]["reports"]["junit"].replace("$DFQ_OUT", variables["DFQ_OUT"])
    assert "float_nodes" in (place.path / junit).read_text()


def test_the_hook_refuses_a_file_that_runs_in_float(place: Place) -> None:
    for hook in yaml.safe_load((place.root / ".pre-commit-hooks.yaml").read_text()):
        assert re.search(hook["files"], "models/net.w4a4.onnx")
        assert not re.search(hook["files"], "models/net.onnx")
        done = place.shell(f"{hook['entry']} small.onnx")
        assert done.returncode == 1
        assert "Conv" in done.stdout


def test_every_rule_that_the_documents_show_can_be_read(root: Path) -> None:
    pages = [root / "README.md", root / "action.yml", root / "docs" / "ci" / "gitlab.yml"]
    pages += sorted((root / "docs").rglob("*.md"))
    text = "\n".join(page.read_text() for page in pages)
    rules = re.findall(
        r"(?<![\w.])(?:drop|top1|agreement|size|speedup|float_nodes)[<>=]=?[\w.%]+", text
    )
    assert len(rules) > 10
    for rule in rules:
        parse_gate(rule)

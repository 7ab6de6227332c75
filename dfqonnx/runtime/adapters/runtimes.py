"""Which runtime proves which target, and whether it is at hand.

A runtime's interpreter is this one, or the one that an environment variable names: runtimes want
environments of their own, since packages exclude each other.

    DFQONNX_PYTHON_OPENVINO=/path/to/python        DFQONNX_PYTHON_QNN, _ONNXRUNTIME, _TRACT ...
    DFQONNX_NODE_MODULES=/path/to/node_modules     for ONNX Runtime Web

A target that none of them is for is known by its rules only.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Literal

from dfqonnx.core.registry import Registry

HERE = Path(__file__).parent
NODE_MODULES = "DFQONNX_NODE_MODULES"
Reports = Literal["graph", "places", "precisions", "nothing"]


@dataclass(frozen=True, kw_only=True)
class RuntimeAdapter:
    """A runtime that a file can be loaded and run in, by a program of its own.

    `reports` is how it says what it executes: as an optimized graph, as the processor of every
    node, as the precision of every layer, or not at all.
    """

    name: str  # as the worker knows it
    title: str  # for people
    package: str
    targets: frozenset[str] = frozenset()  # that it is the proof of
    extra: str = ""  # of dfqonnx, which brings the package
    program: Literal["python", "node"] = "python"
    reports: Reports = "nothing"
    emulates: bool = False  # so that its speed says nothing

    @property
    def variable(self) -> str:
        """The environment variable with the place of its environment."""
        short = self.name.removeprefix("onnxruntime-").replace("-", "_").upper()
        return NODE_MODULES if self.program == "node" else f"DFQONNX_PYTHON_{short}"

    @property
    def environment(self) -> str:
        """The place that the environment variable names; empty where it names none."""
        return os.environ.get(self.variable, "")

    @property
    def advice(self) -> str:
        """How to get it."""
        if self.program == "node":
            return f"npm install {self.package}, and {self.variable}=/path/to/node_modules"
        what = f"'dfqonnx[{self.extra}]'" if self.extra else self.package
        return f"pip install {what}, or {self.variable}=/path/to/python of another environment"


RUNTIMES: Registry[RuntimeAdapter] = Registry("runtime")


def _register(adapter: RuntimeAdapter) -> RuntimeAdapter:
    return RUNTIMES.add(adapter.name)(adapter)


ONNXRUNTIME = _register(
    RuntimeAdapter(
        name="onnxruntime",
        title="ONNX Runtime",
        package="onnxruntime",
        targets=frozenset({"onnxruntime-cpu", "onnxruntime-cpu-legacy", "portable", "size"}),
        extra="cpu",
        reports="graph",
    )
)
for _adapter in (
    RuntimeAdapter(
        name="onnxruntime-qnn",
        title="QNN HTP (emulated)",
        package="onnxruntime-qnn",
        targets=frozenset({"onnxruntime-qnn"}),
        extra="qnn",
        reports="places",
        emulates=True,
    ),
    RuntimeAdapter(
        name="onnxruntime-web",
        title="ONNX Runtime Web",
        package="onnxruntime-web",
        targets=frozenset({"onnxruntime-web"}),
        program="node",
    ),
    RuntimeAdapter(
        name="openvino",
        title="OpenVINO",
        package="openvino",
        targets=frozenset({"openvino"}),
        extra="openvino",
        reports="precisions",
    ),
    RuntimeAdapter(name="tract", title="tract", package="tract"),
    RuntimeAdapter(name="iree", title="IREE", package="iree-base-compiler"),
    RuntimeAdapter(name="tvm", title="TVM", package="apache-tvm"),
):
    _register(_adapter)


@dataclass(frozen=True)
class RuntimePlace:
    """Where a runtime was found: the start of its command line, and its version."""

    command: tuple[str, ...]
    version: str
    after: tuple[str, ...] = ()  # what follows the job's folder


def runtime_of(target: str) -> RuntimeAdapter | None:
    """Return the runtime that proves a target; None where rules are all that is known."""
    return next(
        (each for each in map(RUNTIMES.__getitem__, RUNTIMES) if target in each.targets), None
    )


def find_runtime(adapter: RuntimeAdapter, place: str | None = None) -> RuntimePlace | None:
    """Return where a runtime is, None where it is not at hand.

    `place` is an interpreter or, for node, its modules; without it the environment variable counts,
    then this interpreter or the modules of the current folder.
    """
    place = place or adapter.environment or None
    if adapter.program == "node":
        return _find_in_node(adapter, Path(place or "node_modules"))
    number = _version_here(adapter.package) if place is None else _version_there(place, adapter)
    if number is None:
        return None
    return RuntimePlace((place or sys.executable, "-s", str(HERE / "worker.py")), number)


def _version_here(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


@cache
def _version_there(python: str, adapter: RuntimeAdapter) -> str | None:
    script = f"import importlib.metadata as m; print(m.version({adapter.package!r}))"
    try:
        done = subprocess.run(
            [python, "-s", "-c", script], capture_output=True, text=True, timeout=60, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()


def _find_in_node(adapter: RuntimeAdapter, modules: Path) -> RuntimePlace | None:
    node = shutil.which("node")
    try:
        text = (modules / adapter.package / "package.json").read_text(encoding="utf-8")
        number = str(json.loads(text)["version"])
    except (OSError, ValueError, KeyError, TypeError):
        return None
    if node is None:
        return None
    return RuntimePlace((node, str(HERE / "web_worker.mjs")), number, (str(modules.resolve()),))

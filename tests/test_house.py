"""The fences of CONTRIBUTING: who may import what, how long a file may be."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "dfqonnx"
FLOORS = [
    "errors", "draft", "registry", "progress", "stopwatch", "spec", "numerics", "graph", "convert",
    "synth", "fakequant", "distill", "export", "validate", "estimate", "report", "outfolder",
    "preflight", "doctor", "settle", "estimating", "prepare", "planning", "exhibit", "replay",
    "flow", "api", "verification", "viewing", "comparing", "resembling", "outimages", "dreaming",
    "testing", "cli",
]  # fmt: skip
SIBLINGS = {"synth", "fakequant", "export", "validate"}
FENCES = {  # third party -> the only rooms that may import it
    "onnx": {"graph", "convert", "export", "validate"},
    "onnx_ir": {"graph", "convert", "export", "flow"},
    "onnxruntime": {"validate"},
    "torch": {
        "convert",
        "synth",
        "fakequant",
        "distill",
        "doctor",
        "prepare",
        "exhibit",
        "replay",
        "resembling",
        "dreaming",
    },
    "typer": {"cli"},
    "yaml": {"spec"},
    "pydantic": {"spec", "report"},
}
LATE = {"onnxruntime", "scipy", "PIL", "jinja2", "matplotlib", "netron"}  # missing, or slow to load
LEAVES = {"__init__.py", "__main__.py"}
FILES = sorted(path for path in PACKAGE.rglob("*.py") if path.name not in LEAVES)


def imported(tree: ast.AST) -> Iterator[str]:
    """Every module named by an import; those inside functions count too."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "absolute imports only"
            if node.module == "dfqonnx":
                names = (alias.name for alias in node.names if alias.name != "__version__")
                yield from (f"dfqonnx.{name}" for name in names)
            else:
                yield node.module or ""


def local_imports(tree: ast.Module) -> set[str]:
    """Packages imported inside a function."""
    functions = [n for n in ast.walk(tree) if isinstance(n, ast.FunctionDef)]
    return {name.split(".")[0] for function in functions for name in imported(function)}


def room_of(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def name_of(path: Path) -> str:
    return str(path.relative_to(PACKAGE))


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_imports_only_point_left_and_third_parties_stay_in_their_rooms(path: Path) -> None:
    here = room_of(path)
    for module in imported(ast.parse(path.read_text(encoding="utf-8"))):
        top, _, rest = module.partition(".")
        if top == "dfqonnx":
            assert rest, "import the leaf module, never the package root"
            there = rest.split(".")[0]
            assert FLOORS.index(there) <= FLOORS.index(here), f"{here} may not import {there}"
            assert here == there or not {here, there} <= SIBLINGS, "siblings exchange values"
        elif top in FENCES:
            assert here in FENCES[top], f"{top} is fenced off from {here}"


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_files_and_functions_stay_readable(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 300, "file over 300 lines"
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef):
            assert (node.end_lineno or 0) - node.lineno < 60, f"{node.name} is over 60 lines"


@pytest.mark.parametrize("path", [p for p in FILES if room_of(p) != "cli"], ids=name_of)
def test_imports_stand_on_top_everywhere_but_in_the_command_line(path: Path) -> None:
    assert local_imports(ast.parse(path.read_text(encoding="utf-8"))) <= LATE


def test_every_room_has_a_floor() -> None:
    assert {room_of(path) for path in FILES} <= set(FLOORS)


@pytest.mark.parametrize("arguments", [["--help"], ["run", "--help"], ["recipes"], ["--version"]])
def test_quick_commands_import_no_heavy_package(arguments: list[str]) -> None:
    script = (
        "import sys\n"
        "from dfqonnx.cli.app import main\n"
        "try:\n"
        f"    main({arguments!r})\n"
        "except SystemExit as end:\n"
        "    assert end.code == 0, end.code\n"
        "heavy = {'torch', 'onnx', 'onnx_ir', 'onnxruntime', 'scipy'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr

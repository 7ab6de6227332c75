"""The layout that CONTRIBUTING describes, as checks: layers, names, sizes, fences.

Every check is a function from sources to complaints, so that a planted violation can show that it
works (`test_planted_violations_are_found`).
"""

from __future__ import annotations

import ast
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import onnx
import pytest

PACKAGE = Path(__file__).parents[1] / "dfqonnx"
LAYERS = (  # a room imports from lines above; rooms on one line exchange values only
    ("errors", "version", "foreign_text"),
    ("core", "targets"),
    ("config", "graph", "storage", "jobs", "checkpoint"),
    ("convert", "runtime", "lint"),
    ("data", "placement"),
    ("synthesis", "fakequant", "export", "evaluation"),
    ("equalization", "ptq", "analysis", "rehearsal"),
    ("distill",),
    ("report", "mixed_precision"),
    ("workflows",),
    ("api", "measure", "testing", "viewer", "distributed"),
    ("cli",),
)
BESIDE = {
    ("targets", "core"),
    ("ptq", "equalization"),
    ("errors", "foreign_text"),
}  # pairs on a line: one builds on the other
LEVEL = {room: number for number, rooms in enumerate(LAYERS) for room in rooms}
FENCES = {  # third party -> the only rooms that may import it
    "onnx": {"graph", "convert", "export", "evaluation", "runtime", "viewer", "lint"},
    "onnx_ir": {"graph", "convert", "placement", "export", "viewer"},
    "onnxruntime": {"runtime"},
    "torch": {
        *("convert", "synthesis", "fakequant", "equalization", "ptq", "analysis", "distill"),
        "workflows",
        "mixed_precision",
    },
    "typer": {"cli"},
    "yaml": {"config"},
    "pydantic": {"config", "report"},
    "netron": {"viewer"},
    "pycocotools": {"evaluation"},
    "rapidfuzz": {"evaluation"},
    "pyarrow": {"data", "report"},
    "ray": {"jobs"},
    "fsspec": {"storage"},
    "mlflow": {"report"},
    "safetensors": {"checkpoint"},
    **{key: {"runtime"} for key in ("onnxruntime_qnn", "openvino", "tract", "iree", "tvm")},
}
LATE = {
    "onnxruntime",
    "scipy",
    "PIL",
    "jinja2",
    "matplotlib",
    "netron",
    "pyarrow",
    "ray",
    "fsspec",
    "mlflow",
    *(
        "onnxruntime_qnn",
        "openvino",
        "tract",
        "iree",
        "tvm",
    ),  # only in `runtime/adapters/worker.py`
}  # missing, or slow to load
SMALL = {  # under 25 lines, and why
    "version.py": "a leaf that every room may import",
    "__main__.py": "python -m dfqonnx",
    "cli/targets.py": "a command that lists one table",
    "core/context.py": "what every stage is given, for every layer above",
}
Sources = Mapping[str, str]  # path below the package -> its text


def sources() -> dict[str, str]:
    return {
        path.relative_to(PACKAGE).as_posix(): path.read_text(encoding="utf-8")
        for path in sorted(PACKAGE.rglob("*.py"))
    }


def room_of(name: str) -> str:
    return name.split("/")[0].removesuffix(".py")


def named_by_string(call: ast.Call) -> Iterator[str]:
    """The module that `import_module("x")` or `__import__("x")` loads."""
    function = call.func
    called = function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")
    if called in {"import_module", "__import__"} and call.args:
        (first, *_) = call.args
        if isinstance(first, ast.Constant) and isinstance(first.value, str):
            yield first.value


def imported(tree: ast.AST) -> Iterator[str]:
    """Every module named by an import, wherever it stands, by string too."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            if node.level:
                yield "." * node.level
            elif node.module == "dfqonnx":
                yield from (f"dfqonnx.{alias.name}" for alias in node.names)
            else:
                yield node.module or ""
        elif isinstance(node, ast.Call):
            yield from named_by_string(node)


def layers(files: Sources) -> Iterator[str]:
    for name, text in files.items():
        here = room_of(name)
        if here in {"__init__", "__main__"}:
            continue
        if here not in LEVEL:
            yield f"{name}: room {here} stands on no layer"
            continue
        for module in imported(ast.parse(text)):
            if module.startswith("."):
                yield f"{name}: relative import"
            if module == "dfqonnx":
                yield f"{name}: imports the package root, not a leaf module"
            if not module.startswith("dfqonnx."):
                continue
            there = module.split(".")[1]
            if here == there or (here, there) in BESIDE:
                continue
            if LEVEL.get(there, len(LAYERS)) >= LEVEL[here]:
                yield f"{name}: {here} may not import {there}"


def fences(files: Sources) -> Iterator[str]:
    for name, text in files.items():
        for module in imported(ast.parse(text)):
            top = module.split(".")[0]
            if top in FENCES and room_of(name) not in FENCES[top]:
                yield f"{name}: {top} is fenced off from {room_of(name)}"


def late_imports(files: Sources) -> Iterator[str]:
    """Imports stand on top, but for the command line and packages that are slow or missing."""
    for name, text in files.items():
        if room_of(name) == "cli":
            continue
        for function in ast.walk(ast.parse(text)):
            if isinstance(function, ast.FunctionDef):
                for module in imported(function):
                    if name == "runtime/adapters/worker.py" and module == "onnx":
                        continue  # not every runtime's environment has it
                    if module.split(".")[0] not in LATE | {"torch"} or (
                        module.startswith("torch") and "workflows/doctor" not in name
                    ):
                        yield f"{name}: {function.name} imports {module}"


def basenames(files: Sources) -> Iterator[str]:
    """No file name twice, but for a command's own name in `cli/` and the room that does it."""
    places: dict[str, list[str]] = {}
    for name in files:
        base = name.split("/")[-1]
        if base != "__init__.py" and room_of(name) != "cli":
            places.setdefault(base, []).append(name)
    yield from (f"{base}: {', '.join(at)}" for base, at in places.items() if len(at) > 1)


def class_names(files: Sources) -> Iterator[str]:
    places: dict[str, list[str]] = {}
    for name, text in files.items():
        for node in ast.parse(text).body:
            if isinstance(node, ast.ClassDef):
                places.setdefault(node.name, []).append(name)
    yield from (f"class {each}: {', '.join(at)}" for each, at in places.items() if len(at) > 1)


def file_sizes(files: Sources) -> Iterator[str]:
    for name, text in files.items():
        count = len(text.splitlines())
        if count > 500:
            yield f"{name}: {count} lines, over 500"
        if count < 25 and not name.endswith("__init__.py") and name not in SMALL:
            yield f"{name}: {count} lines and no reason in SMALL"


def function_sizes(files: Sources) -> Iterator[str]:
    for name, text in files.items():
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
                length = (node.end_lineno or 0) - node.lineno + 1
                if length > 60:
                    yield f"{name}: {node.name} has {length} lines, over 60"


def is_dataclass(decorator: ast.expr) -> bool:
    called = decorator.func if isinstance(decorator, ast.Call) else decorator
    return isinstance(called, ast.Name) and called.id == "dataclass"


def keyword_only(files: Sources) -> Iterator[str]:
    """Dataclasses of more than four fields are built by keywords."""
    for name, text in files.items():
        for node in ast.walk(ast.parse(text)):
            if not isinstance(node, ast.ClassDef):
                continue
            marks = [mark for mark in node.decorator_list if is_dataclass(mark)]
            if not marks or sum(isinstance(field, ast.AnnAssign) for field in node.body) <= 4:
                continue
            (mark,) = marks
            words = mark.keywords if isinstance(mark, ast.Call) else []
            if not any(word.arg == "kw_only" for word in words):
                yield f"{name}: {node.name} has more than four fields and no kw_only"


OPERATORS = {
    schema.name for schema in onnx.defs.get_all_schemas_with_history() if not schema.domain
}
TABLED = {"graph", "placement", "synthesis", "fakequant", "equalization", "ptq", "evaluation"} | {
    "export",
    "runtime",
    "core",
    "data",
    "distill",
    "analysis",
    "workflows",
    "lint",
}
TABLE = "graph/op_traits.py"


def operator_sets(files: Sources) -> Iterator[str]:
    """Collections of operator names outside the table of operators and the targets' own."""
    for name, text in files.items():
        if name == TABLE or room_of(name) not in TABLED:
            continue
        for node in ast.walk(ast.parse(text)):
            items = node.keys if isinstance(node, ast.Dict) else getattr(node, "elts", [])
            words = [i.value for i in items if isinstance(i, ast.Constant)]
            found = [word for word in words if isinstance(word, str) and word in OPERATORS]
            if len(found) > 1 and len(found) == len(items):
                yield f"{name}:{node.lineno}: {', '.join(found)}"


def root_modules(files: Sources) -> Iterator[str]:
    at_root = [name for name in files if "/" not in name]
    if len(at_root) > 8:
        yield f"{len(at_root)} modules at the package root, over 8"


def device_parameters(files: Sources) -> Iterator[str]:
    """`core/context.RunContext` carries the device; few functions take it by itself."""
    takers = [
        f"{name}:{node.name}"
        for name, text in files.items()
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.FunctionDef) and room_of(name) != "cli"
        for argument in (*node.args.args, *node.args.kwonlyargs)
        if argument.arg == "device"
    ]
    if len(takers) > 8:
        yield f"{len(takers)} functions take a device, over 8: {', '.join(takers)}"


ROUNDING = {"rint", "round_", "round", "around"}


def roundings(files: Sources) -> Iterator[str]:
    """Codes are rounded in `core/quantization.py` alone, pixels in `core/input_format.py`."""
    for name, text in files.items():
        rooms = {"convert", "report", "cli"}  # ONNX's own Round, and figures for people
        if name in {"core/quantization.py", "core/input_format.py"} or room_of(name) in rooms:
            continue
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.Attribute) and node.attr in ROUNDING:
                yield f"{name}:{node.lineno}: .{node.attr}"


CHECKS: dict[str, Callable[[Sources], Iterator[str]]] = {
    check.__name__: check
    for check in (
        layers,
        fences,
        late_imports,
        basenames,
        class_names,
        file_sizes,
        function_sizes,
        keyword_only,
        operator_sets,
        root_modules,
        device_parameters,
        roundings,
    )
}
LONG_BODY = "".join("    x = 1\n" for _ in range(61))
FILLER = "\n" * 30
PLANTED: dict[str, list[dict[str, str]]] = {
    "layers": [
        {"core/a.py": "from dfqonnx.graph.load import load"},
        {"synthesis/a.py": "import dfqonnx.export.writer"},
        {
            "core/a.py": "from importlib import import_module\n"
            "import_module('dfqonnx.distill.state')"
        },
        {"nowhere/a.py": "x = 1"},
        {"graph/a.py": "from . import load"},
        {"graph/a.py": "import dfqonnx"},
    ],
    "fences": [
        {"report/a.py": "import torch"},
        {"data/a.py": "from importlib import import_module\nx = import_module('onnxruntime')"},
    ],
    "late_imports": [{"graph/a.py": "def f():\n    import json\n"}],
    "basenames": [{"graph/a.py": "", "export/a.py": ""}],
    "class_names": [{"graph/a.py": "class A: ...", "export/b.py": "class A: ..."}],
    "file_sizes": [{"graph/a.py": "\n" * 501}, {"graph/a.py": "x = 1\n"}],
    "function_sizes": [{"graph/a.py": f"def f():\n{LONG_BODY}"}],
    "keyword_only": [
        {
            "graph/a.py": "@dataclass(frozen=True)\nclass A:\n"
            + "".join(f"    {letter}: int\n" for letter in "abcde")
        }
    ],
    "operator_sets": [  # a set, and the keys of a mapping
        {"graph/a.py": "X = {'Conv', 'Gemm'}"},
        {"export/a.py": "X = {'Conv': 1, 'Gemm': 2}"},
    ],
    "root_modules": [{f"{letter}.py": "" for letter in "abcdefghi"}],
    "device_parameters": [{"graph/a.py": "".join(f"def f{n}(device): ...\n" for n in range(9))}],
    "roundings": [{"graph/a.py": "y = np.rint(x)"}, {"distill/a.py": "y = x.round()"}],
}


@pytest.mark.parametrize("name", CHECKS)
def test_the_house_stands_as_the_plan_says(name: str) -> None:
    complaints = "\n".join(CHECKS[name](sources()))
    assert complaints == ""


@pytest.mark.parametrize("name", CHECKS)
def test_planted_violations_are_found(name: str) -> None:
    for planted in PLANTED[name]:
        clean = Counter(CHECKS[name](sources()))
        found = Counter(CHECKS[name]({**sources(), **planted}))
        assert found - clean, planted


@pytest.mark.parametrize(
    "arguments", [["--help"], ["run", "--help"], ["recipes"], ["targets"], ["--version"]]
)
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

"""Modules whose loading waits: when they load, and that nothing is different once they did."""

from __future__ import annotations

import importlib
import subprocess
import sys
from pathlib import Path

import onnx
import pytest

from dfqonnx.core.postponed_import import postpone_import
from tests.cli.networks import SMALL, WEIGHTS, model_from

PACKAGE = {
    "__init__.py": "from slowpkg import part\nloaded = 4\n",
    "part.py": "import slowpkg\nvalue = 3\n",
    "broken.py": "from slowpkg import part\nraise ValueError(part.value)\n",
}


@pytest.fixture(autouse=True)
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "slowpkg"
    folder.mkdir()
    for name, text in PACKAGE.items():
        (folder / name).write_text(text)
    monkeypatch.syspath_prepend(str(tmp_path))
    for name in ("slowpkg", "slowpkg.part", "slowpkg.broken"):
        monkeypatch.delitem(sys.modules, name, raising=False)


def test_a_module_loads_at_the_first_look_at_one_of_its_names() -> None:
    assert postpone_import("slowpkg")
    import slowpkg  # type: ignore[import-not-found]

    assert "slowpkg.part" not in sys.modules, "two imports load nothing"
    assert slowpkg.loaded == 4
    assert sys.modules["slowpkg"] is slowpkg
    assert not postpone_import("slowpkg"), "it is there already"


def test_an_import_of_a_part_loads_the_whole_first() -> None:
    assert postpone_import("slowpkg")
    import slowpkg.part

    assert slowpkg.part.value == 3
    assert slowpkg.loaded == 4


def test_a_part_waits_without_an_import_of_its_package() -> None:
    assert postpone_import("slowpkg.part")
    assert "slowpkg" not in sys.modules
    from slowpkg import loaded, part

    assert (loaded, part.value) == (4, 3)


def test_an_error_of_a_module_comes_when_it_loads_and_again_at_the_next_import() -> None:
    assert postpone_import("slowpkg.broken")
    from slowpkg import broken

    with pytest.raises(ValueError, match="3"):
        _ = broken.anything
    with pytest.raises(ValueError, match="3"):
        importlib.import_module("slowpkg.broken")


@pytest.mark.parametrize("name", ["no_such_package", "no_such_package.part", "slowpkg.missing"])
def test_what_is_missing_is_not_postponed(name: str) -> None:
    assert not postpone_import(name)
    assert name not in sys.modules


def test_an_inspection_loads_no_sympy(tmp_path: Path) -> None:
    path = tmp_path / "small.onnx"
    onnx.save(model_from(SMALL, **WEIGHTS), path)
    code = (
        "import sys\nfrom dfqonnx.cli.app import command_line\n"
        f"code = command_line(['inspect', {str(path)!r}])\n"
        "print(code, 'onnx_ir' in sys.modules, 'sympy.core' in sys.modules, 'torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "0 True False False", done.stderr

"""Modules that are loaded when something of them is first used, however early they are imported.

SymPy takes a third of a second, and onnx_ir imports it for arithmetic of symbolic sizes, which a
command that only reads a model does not do. (`importlib.util.LazyLoader` does not serve: on Python
3.11 a second import of the same module loads it.)
"""

from __future__ import annotations

import sys
from importlib.machinery import ModuleSpec, PathFinder
from importlib.util import module_from_spec
from types import ModuleType
from typing import Any


class _PostponedModule(ModuleType):
    """A module that loads itself when a name is looked up that it does not have yet."""

    def __getattr__(self, name: str) -> Any:
        spec = self.__spec__
        self.__class__ = ModuleType  # type: ignore[assignment]  # so that this happens once
        assert spec is not None
        assert spec.loader is not None
        if spec.submodule_search_locations is not None:
            self.__path__ = spec.submodule_search_locations
        try:
            spec.loader.exec_module(self)
        except BaseException:
            sys.modules.pop(spec.name, None)
            raise
        return getattr(self, name)


def postpone_import(name: str) -> bool:
    """Let the import of a module wait for its first use; return whether it does.

    It does not where the module is missing or was imported before. Packages above `name` are not
    imported either; they find a part of theirs by `from package import part` alone.
    """
    if name in sys.modules:
        return False
    spec = _find_spec(name)
    if spec is None or spec.loader is None or not hasattr(spec.loader, "exec_module"):
        return False
    module = module_from_spec(spec)
    module.__dict__.pop("__path__", None)  # an import of a part of it loads the whole first
    module.__class__ = _PostponedModule
    sys.modules[name] = module
    return True


def _find_spec(name: str) -> ModuleSpec | None:
    """Return where a module is, without an import of the packages that it is in."""
    parent, _, _ = name.rpartition(".")
    if not parent:
        return PathFinder.find_spec(name)
    package = _find_spec(parent)
    if package is None or package.submodule_search_locations is None:
        return None
    return PathFinder.find_spec(name, package.submodule_search_locations)

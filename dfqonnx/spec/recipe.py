"""Recipes: YAML files under `pipelines/`, read into frozen specs and written back.

    about: one line
    synth:   {...}      the fields of SynthSpec; those left out keep their defaults
    distill: {...}      the fields of DistillSpec

A key that no spec knows is refused, with the nearest one that exists.
"""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, get_args, get_type_hints

import yaml
from pydantic import TypeAdapter, ValidationError

from dfqonnx.errors import EnvironmentProblem, UsageError
from dfqonnx.spec.run import Recipe
from dfqonnx.spec.yamlfile import read_mapping


def recipe_folder() -> Path:
    """Return where the shipped recipes lie: in the installed package, else in the checkout.

    Raises:
        EnvironmentProblem: neither is there.
    """
    package = Path(__file__).parents[1]
    for folder in (package / "pipelines", package.parent / "pipelines"):
        if (folder / "default.yaml").is_file():
            return folder
    raise EnvironmentProblem("the shipped recipes are missing; install dfqonnx again")


def shipped_recipes() -> dict[str, Recipe]:
    """Return every shipped recipe by name, sorted."""
    paths = sorted(recipe_folder().glob("*.yaml"))
    return {path.stem: read_recipe_file(path) for path in paths}


def read_recipe(text: str) -> Recipe:
    """Return the recipe that `text` names: a shipped one, or a YAML file.

    Raises:
        UsageError: no such recipe or file, or a key or value that does not fit.
    """
    path = Path(text)
    if path.suffix.lower() in (".yaml", ".yml"):
        return read_recipe_file(path)
    names = [shipped.stem for shipped in sorted(recipe_folder().glob("*.yaml"))]
    if text not in names:
        near = difflib.get_close_matches(text, names, n=1)
        hint = f" Did you mean {near[0]!r}?" if near else ""
        raise UsageError(
            f"--recipe {text!r}: no such recipe.{hint} Shipped: {', '.join(names)}; or give a "
            "YAML file."
        )
    return read_recipe_file(recipe_folder() / f"{text}.yaml")


def read_recipe_file(path: Path) -> Recipe:
    """Return the recipe in `path`; its name is the file's stem unless the file says another.

    Raises:
        UsageError: an unknown key, or a value of the wrong kind or out of range.
    """
    values = read_mapping(path, what="recipe")
    where = f"recipe {path}"
    for trail, key, known in _strangers(Recipe, values, ()):
        near = difflib.get_close_matches(key, known, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise UsageError(
            f"{where}: unknown key {'.'.join((*trail, key))!r}{hint} Known here: {', '.join(known)}"
        )
    try:
        return TypeAdapter(Recipe).validate_python({"name": path.stem, **values})
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = ".".join(str(part) for part in first["loc"])
        raise UsageError(f"{where}: {place} = {first['input']!r}: {first['msg']}") from None


def write_recipe(recipe: Recipe, *, header: str = "") -> str:
    """Return the fully resolved YAML text, `header` above it as comment lines."""
    comments = "".join(f"# {line}\n" for line in header.splitlines())
    return comments + yaml.safe_dump(_plain(dataclasses.asdict(recipe)), sort_keys=False, width=100)


def _strangers(
    cls: type, values: Mapping[str, Any], trail: tuple[str, ...]
) -> Iterator[tuple[tuple[str, ...], str, list[str]]]:
    """Yield (trail, key, known keys) of every key that the dataclass tree does not have."""
    hints = get_type_hints(cls)
    known = [field.name for field in dataclasses.fields(cls)]
    for key, value in values.items():
        if key not in known:
            yield trail, str(key), known
        elif isinstance(value, Mapping):
            inner = next((t for t in (hints[key], *get_args(hints[key])) if _is_spec(t)), None)
            if inner is not None:
                yield from _strangers(inner, value, (*trail, key))


def _is_spec(kind: Any) -> bool:
    return isinstance(kind, type) and dataclasses.is_dataclass(kind)


def _plain(value: Any) -> Any:
    """Tuples become lists: YAML has no tuples."""
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, (list, tuple)) else value

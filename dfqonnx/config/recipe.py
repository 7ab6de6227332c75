"""Recipes: YAML files under `pipelines/recipes/`, read into a frozen `Recipe` and written back.

    about: one line
    paper: who published it
    needs: [statistics, classes, student]
    cost: one line
    synthesis: {...}       the fields of SynthesisConfig; those left out keep their defaults
    equalization: {...}    the fields of EqualizationConfig
    distillation: {...}    the fields of DistillationConfig
    placement: {...}       the fields of PlacementConfig
    scales:             what changes at a scale: laid over the keys above, mapping by mapping
      quick: {...}      taken unless another is asked for
      paper: {...}

An unknown key is refused, with the nearest one that exists. `check_needs` refuses a recipe that a
model cannot serve, with the nearest recipe that works.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_type_hints

import yaml
from pydantic import TypeAdapter, ValidationError

from dfqonnx.config.distillation import DistillationConfig, EqualizationConfig
from dfqonnx.config.loss_terms import LossTerm
from dfqonnx.config.placement import PlacementConfig
from dfqonnx.config.synthesis import SynthesisConfig
from dfqonnx.config.yaml_file import read_mapping
from dfqonnx.errors import EnvironmentProblem, UsageError, did_you_mean

Need = Literal["statistics", "classes", "student"]


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """How images are made and how the student is trained: a YAML file under `pipelines/recipes/`.

    Attributes:
        name: the file's stem.
        about: one line for `dfqonnx recipes`.
        paper: who published it, and where.
        needs: what it cannot do without: BatchNormalization `statistics` in the file, a teacher
            with `classes`, a `student` to train against.
        cost: one line: how long it takes.
        scale: which of the file's scales this is; empty where it has none.
        synthesis: how images are made.
        equalization: what is done to the network before training, without any image.
        distillation: how the student is trained; `steps: 0` trains nothing.
        placement: nodes that are treated in another way than the rest.
    """

    name: str = "default"
    about: str = ""
    paper: str = ""
    needs: tuple[Need, ...] = ()
    cost: str = ""
    scale: str = ""
    synthesis: SynthesisConfig = field(default_factory=SynthesisConfig)
    equalization: EqualizationConfig = field(default_factory=EqualizationConfig)
    distillation: DistillationConfig = field(default_factory=DistillationConfig)
    placement: PlacementConfig = field(default_factory=PlacementConfig)

    @property
    def title(self) -> str:
        """Name and scale, for reports."""
        return f"{self.name} at {self.scale} scale" if self.scale else self.name


QUICK, SCALES = "quick", "scales"


def recipe_folder() -> Path:
    """Return where the shipped recipes lie: in the installed package, else in the checkout.

    Raises:
        EnvironmentProblem: neither is there.
    """
    package = Path(__file__).parents[1]
    for folder in (package / "recipes", package.parent / "pipelines" / "recipes"):
        if (folder / "default.yaml").is_file():
            return folder
    raise EnvironmentProblem("the shipped recipes are missing; install dfqonnx again")


def shipped_recipes() -> dict[str, Recipe]:
    """Return every shipped recipe by name, sorted."""
    paths = sorted(recipe_folder().glob("*.yaml"))
    return {path.stem: read_recipe_file(path) for path in paths}


def read_recipe(text: str, *, scale: str | None = None) -> Recipe:
    """Return the recipe that `text` names: a shipped one, or a YAML file.

    `scale` None takes `quick` where the recipe has that one.

    Raises:
        UsageError: no such recipe, scale or file, or a key or value that does not fit.
    """
    path = Path(text)
    if path.suffix.lower() in (".yaml", ".yml"):
        return read_recipe_file(path, scale=scale)
    names = [shipped.stem for shipped in sorted(recipe_folder().glob("*.yaml"))]
    if text not in names:
        advice = did_you_mean(text, names, label="Shipped recipes")
        raise UsageError(
            f"--recipe {text!r} is not a shipped recipe{advice} A YAML file works as well."
        )
    return read_recipe_file(recipe_folder() / f"{text}.yaml", scale=scale)


def read_recipe_file(path: Path, *, scale: str | None = None) -> Recipe:
    """Return the recipe in `path`; its name is the file's stem unless the file says another.

    Raises:
        UsageError: an unknown key, or a value of the wrong kind or out of range.
    """
    where = f"recipe {path}"
    values = _at_scale(read_mapping(path, what="recipe"), scale, where=where)
    _check_keys(Recipe, values, (), where=where)
    try:
        recipe = TypeAdapter(Recipe).validate_python({"name": path.stem, **values})
        odd = next(_find_odd_numbers(recipe_values(recipe)), None)
        if odd is not None:
            raise UsageError(f"{odd} is no finite number")
        return recipe
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = ".".join(str(part) for part in first["loc"])
        raise UsageError(f"{where}: {place} = {first['input']!r}: {first['msg']}") from None
    except UsageError as error:
        raise UsageError(f"{where}: {error}") from None


def _find_odd_numbers(values: Any) -> Iterator[float]:
    """Yield the numbers in a recipe that no setting can be: they may be written as texts."""
    if isinstance(values, float) and not math.isfinite(values):
        yield values
    elif isinstance(values, Mapping):
        for value in values.values():
            yield from _find_odd_numbers(value)
    elif isinstance(values, list):
        for value in values:
            yield from _find_odd_numbers(value)


def recipe_scales(name: str) -> tuple[str, ...]:
    """Return the scales of a shipped recipe."""
    values = read_mapping(recipe_folder() / f"{name}.yaml", what="recipe")
    return tuple(values.get(SCALES, ()))


def _at_scale(values: dict[str, Any], scale: str | None, *, where: str) -> dict[str, Any]:
    """Return the values with those of a scale laid over them."""
    rest = {key: value for key, value in values.items() if key != SCALES}
    scales = values.get(SCALES, {})
    if not isinstance(scales, Mapping) or not all(isinstance(v, Mapping) for v in scales.values()):
        raise UsageError(f"{where}: {SCALES} = {scales!r}: expected a mapping for each scale")
    for name, overlay in scales.items():
        _check_keys(Recipe, overlay, (SCALES, str(name)), where=where)
    if scale is None:
        return _overlaid({"scale": QUICK, **rest}, scales[QUICK]) if QUICK in scales else rest
    if scale not in scales:
        has = ", ".join(map(str, scales)) or "none"
        raise UsageError(f"{where}: no scale {scale!r}; it has: {has}")
    return _overlaid({**rest, "scale": scale}, scales[scale])


def _overlaid(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """Return `below` with `above` laid over it; mappings are joined key by key."""
    joined = dict(below)
    for key, value in above.items():
        old = joined.get(key)
        if isinstance(old, Mapping) and isinstance(value, Mapping):
            joined[key] = _overlaid(old, value)
        else:
            joined[key] = value
    return joined


def _advice(key: str, known: list[str]) -> str:
    """Suggest the place in a recipe where this very key belongs, else the nearest key here."""
    places = (place for place in _places(Recipe, ()) if place.rpartition(".")[2] == key)
    return did_you_mean(key, known, label="Known here", preferred=next(places, ""))


def _places(cls: type, trail: tuple[str, ...]) -> Iterator[str]:
    """Yield every key of a recipe with all the keys above it."""
    for key, kind in get_type_hints(cls).items():
        yield ".".join((*trail, key))
        if _is_config(kind):
            yield from _places(kind, (*trail, key))


def write_recipe(recipe: Recipe, *, header: str = "") -> str:
    """Return the fully resolved YAML text, `header` above it as comment lines."""
    comments = "".join(f"# {line}\n" for line in header.splitlines())
    return comments + yaml.safe_dump(recipe_values(recipe), sort_keys=False, width=100)


def _check_keys(
    cls: type, values: Mapping[str, Any], trail: tuple[str, ...], *, where: str
) -> None:
    """Refuse a key that the dataclass tree below `cls`, itself below `trail`, does not have."""
    hints = get_type_hints(cls)
    known = [field.name for field in dataclasses.fields(cls)]
    for key, value in values.items():
        if key not in known:
            advice = _advice(str(key), known)
            raise UsageError(f"{where}: unknown key {'.'.join((*trail, str(key)))!r}{advice}")
        if isinstance(value, Mapping) and _is_config(hints[key]):
            _check_keys(hints[key], value, (*trail, key), where=where)


def _is_config(kind: Any) -> bool:
    return isinstance(kind, type) and dataclasses.is_dataclass(kind)


def recipe_values(recipe: Recipe) -> dict[str, Any]:
    """Return the recipe as YAML and JSON write it."""
    values: dict[str, Any] = _plain(recipe)
    return values


def _plain(value: Any) -> Any:
    """Configurations become mappings, tuples lists; terms a mapping from name to weight."""
    if dataclasses.is_dataclass(value):
        return {f.name: _plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        if value and all(isinstance(item, LossTerm) for item in value):
            return {term.name: term.written for term in value}
        return [_plain(item) for item in value]
    return value


LACKS: Mapping[Need, str] = {
    "statistics": "no BatchNormalization (it may have been folded away when it was exported)",
    "classes": "no scores of classes at its end",
    "student": "no student to train",
}


def check_needs(recipe: Recipe, model: Path, *, available: Collection[Need]) -> None:
    """Refuse a recipe that needs more than the model, and the command, have `available`.

    Raises:
        UsageError: something is missing; the nearest recipe that works is named.
    """
    missing = [need for need in recipe.needs if need not in available]
    if not missing:
        return
    other = nearest_recipe(recipe, available)
    raise UsageError(
        f"--recipe {recipe.name} needs {' and '.join(missing)}, and {model} has "
        f"{'; '.join(LACKS[need] for need in missing)}. The nearest that works: "
        f"--recipe {other.name} ({other.about})"
    )


def nearest_recipe(recipe: Recipe, available: Collection[Need]) -> Recipe:
    """Return the shipped recipe that works and is most like `recipe`.

    They are compared by source, whether they train, and the number of losses in common; the default
    recipe wins a tie.
    """
    fit = [r for r in shipped_recipes().values() if set(r.needs) <= set(available)]
    return max(fit, key=lambda other: (*_likeness(recipe, other), other.name == "default"))


def _likeness(one: Recipe, other: Recipe) -> tuple[bool, bool, int]:
    losses = ({t.name for t in r.synthesis.losses if t.weight} for r in (one, other))
    trains = (r.distillation.steps != 0 for r in (one, other))
    return (
        one.synthesis.source == other.synthesis.source,
        len(set(trains)) == 1,
        len(set.intersection(*losses)),
    )

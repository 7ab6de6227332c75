"""`sweep.yaml`: models x bits x targets x recipes x seeds, and what all these runs have in common.

    models:
      - nets/*.onnx                       a path, a pattern or a URL
      - model: s3://bucket/net.onnx       or a mapping, with settings of its own
        name: net
        settings: {preprocess: imagenet}
    bits: [w8a8, w4a4]
    targets: [onnxruntime-cpu]
    recipes: [default, ptq]
    seeds: [0]
    exclude: [{model: "big*", bits: w4a4}]          patterns; what all of one entry match goes
    include: [{model: net, bits: w3a3}]             joins; an axis that is left out takes all values
    settings: {eval_data: test.npz, gates: ["size<=0.3x"], budget: 10m}
    resources: {cores: 2, memory: 4GiB, gpu: 0.25}
    retries: 2
    out: results                                    a folder or a URL

Paths in the file are relative to the file.
"""

from __future__ import annotations

import itertools
import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ByteSize, ConfigDict, Field, ValidationError

from dfqonnx.config.effort import Effort
from dfqonnx.config.gates import parse_gates
from dfqonnx.config.recipe import read_recipe
from dfqonnx.config.request import parse_duration, read_image_size
from dfqonnx.config.yaml_file import read_mapping
from dfqonnx.core.location import as_location, is_url, join_location, last_name
from dfqonnx.core.quantization import BitWidths
from dfqonnx.errors import UsageError, did_you_mean
from dfqonnx.targets.profile import DEFAULT_TARGET, TARGETS

MOST_TASKS = 100_000
AXES = ("model", "bits", "target", "recipe", "seed")
_STRICT = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)
_PATTERN = re.compile(r"[*?\[]")
_UNFIT = re.compile(r"[^A-Za-z0-9._-]+")  # in the name of a folder
Text = Annotated[str, BeforeValidator(lambda value: str(value) if type(value) is int else value)]
Texts = Annotated[
    tuple[Text, ...],
    BeforeValidator(lambda value: [value] if isinstance(value, (str, int)) else value),
]
Paths = Callable[[str], list[str]]


class TaskSettings(BaseModel):
    """What the runs of a sweep, or of one model in it, have in common; None is the default."""

    model_config = _STRICT
    preprocess: str | None = None
    image_size: Text | None = None
    eval_data: str | None = None
    images: str | None = None
    calibrate_with: str | None = None
    classes: str | None = None
    head: str | None = None
    fit: str | None = None
    budget: str | None = None
    effort: Effort | None = None
    scale: str | None = None
    gates: Texts | None = None
    strict: bool | None = None
    device: Literal["auto", "cpu", "cuda"] | None = None

    def over(self, below: TaskSettings) -> TaskSettings:
        """Return these settings where they are given, else those `below`."""
        given = {k: v for k, v in self.model_dump().items() if v is not None}
        return below.model_copy(update=given)


class SweepModel(BaseModel):
    """A float model, a pattern of paths, or a URL, under a short name."""

    model_config = _STRICT
    model: str
    name: str | None = None
    settings: TaskSettings = TaskSettings()


Model = Annotated[
    SweepModel,
    BeforeValidator(lambda value: {"model": value} if isinstance(value, str) else value),
]


class TaskFilter(BaseModel):
    """Tasks of a sweep by their axes; None stands for every value."""

    model_config = _STRICT
    model: str | None = None
    bits: Text | None = None
    target: str | None = None
    recipe: str | None = None
    seed: int | None = None


class SweepResources(BaseModel):
    """What a task takes of a machine; memory None follows from the model."""

    model_config = _STRICT
    cores: Annotated[float, Field(gt=0, le=1024)] = 1
    memory: Annotated[ByteSize, Field(gt=0)] | None = None
    gpu: Annotated[float, Field(ge=0, le=64)] = 0


class SweepFile(BaseModel):
    """The content of a sweep file, in the words of its author."""

    model_config = _STRICT
    models: Annotated[tuple[Model, ...], Field(min_length=1)]
    bits: Annotated[Texts, Field(min_length=1)] = ("w8a8",)
    targets: Annotated[Texts, Field(min_length=1)] = (DEFAULT_TARGET,)
    recipes: Annotated[Texts, Field(min_length=1)] = ("default",)
    seeds: Annotated[tuple[Annotated[int, Field(ge=0)], ...], Field(min_length=1)] = (0,)
    exclude: tuple[TaskFilter, ...] = ()
    include: tuple[TaskFilter, ...] = ()
    settings: TaskSettings = TaskSettings()
    resources: SweepResources = SweepResources()
    retries: Annotated[int, Field(ge=0, le=100)] = 2
    out: str | None = None


@dataclass(frozen=True, kw_only=True)
class SweepTask:
    """One run of a sweep; its name is that of its folder.

    `model` and the paths in `settings` are locations: absolute paths or URLs.
    """

    name: str
    model: str
    model_name: str
    bits: str
    target: str
    recipe: str
    seed: int
    settings: TaskSettings

    @property
    def axes(self) -> tuple[str, str, str, str, int]:
        """What tells this task from others, in another sweep as well."""
        return self.model_name, self.bits, self.target, recipe_name(self.recipe), self.seed


@dataclass(frozen=True, kw_only=True)
class SweepPlan:
    """Every task of a sweep, in order, and where the results go (None: not said)."""

    name: str
    tasks: tuple[SweepTask, ...]
    resources: SweepResources
    retries: int
    out: str | None


def read_sweep(path: Path, *, find: Paths) -> SweepPlan:
    """Return the tasks that a sweep file stands for.

    `find` returns the locations that match a pattern of paths or URLs.

    Raises:
        UsageError: a key is unknown or a value does not fit; the message names file and key.
    """
    where = f"sweep {path}"
    content = read_mapping(path, what="sweep")
    try:
        written = SweepFile.model_validate(content)
    except ValidationError as error:
        raise UsageError(f"{where}: {_explain(error, content)}") from None
    except UsageError as error:
        raise UsageError(f"{where}: {error.message}") from None
    try:
        return _plan(written, path, find)
    except UsageError as error:
        raise UsageError(f"{where}: {error.message}") from None


def recipe_name(recipe: str) -> str:
    """Return the short name of a shipped recipe, or of a recipe's file."""
    return Path(recipe).stem if recipe.lower().endswith((".yaml", ".yml")) else recipe


def _explain(error: ValidationError, content: dict[str, Any]) -> str:
    errors = error.errors(include_url=False)
    first = next((each for each in errors if each["type"] == "extra_forbidden"), errors[0])
    trail = first["loc"]
    place = ".".join(map(str, trail))
    if first["type"] == "extra_forbidden":
        owner = SweepFile if len(trail) == 1 else _owner(str(trail[-2]), str(trail[0]))
        return f"unknown key {place!r}{did_you_mean(str(trail[-1]), owner.model_fields)}"
    if first["type"] == "missing":
        return f"{place} is missing"
    value: Any = content
    for part in trail:
        try:
            value = value[part]
        except (KeyError, IndexError, TypeError):
            break
    return f"{place} = {value!r:.200}: {first['msg'].lower()}"


def _owner(parent: str, top: str) -> type[BaseModel]:
    if "settings" in {parent, top} and parent != "models":
        return TaskSettings
    if top == "resources":
        return SweepResources
    return TaskFilter if top in {"include", "exclude"} else SweepModel


def _plan(written: SweepFile, path: Path, find: Paths) -> SweepPlan:
    folder = str(path.absolute().parent)
    bits = _unique((BitWidths.parse(text).label for text in written.bits), "bits")
    _unique(written.targets, "targets")
    for target in written.targets:
        TARGETS[target]
    recipes = _unique((_locate_recipe(each, folder) for each in written.recipes), "recipes")
    _unique(map(str, written.seeds), "seeds")
    models = _name_models(list(_find_models(written, folder, find)))
    made = {}
    axes = (models, bits, written.targets, recipes, written.seeds)
    for combination in itertools.islice(itertools.product(*axes), MOST_TASKS + 1):
        made[_key(combination)] = combination
    for entry in written.exclude:
        _check_filter(entry, "exclude")
        kept = {key: each for key, each in made.items() if not _matches(entry, each)}
        if len(kept) == len(made):
            raise UsageError(f"exclude: {_say(entry)} matches no task; correct or remove it")
        made = kept
    for entry in written.include:
        for combination in _included(entry, axes, folder):
            made.setdefault(_key(combination), combination)
    if not made:
        raise UsageError("exclude leaves no task")
    if len(made) > MOST_TASKS:
        raise UsageError(f"it stands for over {MOST_TASKS:,} tasks; split it")
    return SweepPlan(
        name=path.stem,
        tasks=tuple(_make_tasks(list(made.values()))),
        resources=written.resources,
        retries=written.retries,
        out=None if written.out is None else _locate(written.out, folder),
    )


@dataclass(frozen=True)
class _NamedModel:
    name: str
    location: str
    settings: TaskSettings


Combination = tuple[_NamedModel, str, str, str, int]


def _key(combination: Combination) -> tuple[str, str, str, str, int]:
    return (combination[0].name, *combination[1:])


def _find_models(written: SweepFile, folder: str, find: Paths) -> Iterator[_NamedModel]:
    for place, named in enumerate(written.models):
        settings = _locate_settings(named.settings.over(written.settings), folder)
        location = _locate(named.model, folder)
        found = find(location) if _PATTERN.search(location) else [location]
        if not found:
            raise UsageError(f"models.{place} = {named.model!r}: matches no file")
        if named.name is not None and len(found) > 1:
            raise UsageError(
                f"models.{place}.name = {named.name!r}: {len(found)} files match"
                f" {named.model!r}, and one name is for one model"
            )
        for each in found:
            yield _NamedModel(named.name or Path(last_name(each)).stem, each, settings)


def _name_models(models: Sequence[_NamedModel]) -> tuple[_NamedModel, ...]:
    """Refuse two models of one name, and names that differ in nothing that a folder could have."""
    places: dict[str, str] = {}
    for model in models:
        folder = _UNFIT.sub("_", model.name)
        if places.setdefault(folder, model.location) != model.location:
            raise UsageError(
                f"models: {places[folder]} and {model.location} would both be {folder!r}; give one"
                f" of them as a mapping with a name: {{model: ..., name: ...}}"
            )
    return tuple({model.location: model for model in models}.values())


def _locate_settings(settings: TaskSettings, folder: str) -> TaskSettings:
    """Return the settings with paths as locations, each text read once to see that it can be."""
    read_image_size(settings.image_size)
    if settings.budget is not None:
        parse_duration(settings.budget)
    parse_gates(settings.gates or ())
    paths = {
        name: _locate(value, folder)
        for name in ("eval_data", "images", "calibrate_with", "classes")
        if (value := getattr(settings, name)) is not None
    }
    if (settings.preprocess or "").lower().endswith((".yaml", ".yml")):
        paths["preprocess"] = _locate(str(settings.preprocess), folder)
    return settings.model_copy(update=paths)


def _locate_recipe(recipe: str, folder: str) -> str:
    located = _locate(recipe, folder) if recipe_name(recipe) != recipe else recipe
    read_recipe(located)
    return located


def _locate(text: str, folder: str) -> str:
    return as_location(text) if is_url(text) else join_location(folder, text)


def _unique(values: Any, key: str) -> tuple[str, ...]:
    found = tuple(values)
    twice = [value for value, count in Counter(found).items() if count > 1]
    if twice:
        raise UsageError(f"{key}: {twice[0]} is given twice")
    return found


def _check_filter(entry: TaskFilter, key: str) -> None:
    if entry.model_dump(exclude_none=True) == {}:
        raise UsageError(f"{key}: an empty entry stands for all tasks; name {', '.join(AXES)}")


def _say(entry: TaskFilter) -> str:
    return str(entry.model_dump(exclude_none=True))


def _matches(entry: TaskFilter, combination: Combination) -> bool:
    model, bits, target, recipe, seed = combination
    asked = (entry.bits, entry.target, entry.recipe)
    return (
        (entry.model is None or _fits_model(entry.model, model))
        and (entry.seed is None or entry.seed == seed)
        and all(
            pattern is None or fnmatchcase(value.lower(), pattern.lower())
            for pattern, value in zip(asked, (bits, target, recipe_name(recipe)), strict=True)
        )
    )


def _fits_model(pattern: str, model: _NamedModel) -> bool:
    names = (model.name, last_name(model.location), model.location)
    return any(fnmatchcase(name, pattern) for name in names)


def _included(entry: TaskFilter, axes: tuple[Any, ...], folder: str) -> Iterator[Combination]:
    """Yield the tasks of an `include` entry: values that it names may be new, models are known."""
    _check_filter(entry, "include")
    models, bits, targets, recipes, seeds = axes
    if entry.model is not None:
        models = [model for model in models if _fits_model(entry.model, model)]
        if not models:
            raise UsageError(f"include: {_say(entry)}: models has no {entry.model!r}")
    if entry.bits is not None:
        bits = (BitWidths.parse(entry.bits).label,)
    if entry.target is not None:
        TARGETS[entry.target]
        targets = (entry.target,)
    if entry.recipe is not None:
        known = [recipe for recipe in recipes if recipe_name(recipe) == entry.recipe]
        recipes = known or (_locate_recipe(entry.recipe, folder),)
    yield from itertools.product(
        models, bits, targets, recipes, seeds if entry.seed is None else (entry.seed,)
    )


def _make_tasks(made: Sequence[Combination]) -> Iterator[SweepTask]:
    for model, bits, target, recipe, seed in made:
        words = (model.name, bits, target, recipe_name(recipe), f"s{seed}")
        yield SweepTask(
            name=_UNFIT.sub("_", "-".join(words)),
            model=model.location,
            model_name=model.name,
            bits=bits,
            target=target,
            recipe=recipe,
            seed=seed,
            settings=model.settings,
        )

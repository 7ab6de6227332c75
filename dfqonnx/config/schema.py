"""The JSON Schema of recipe files, for editors: keys, types, defaults, and a line on each.

Types and defaults come from the configurations by pydantic, descriptions from their docstrings,
losses and their settings from `config/loss_terms`. `docs/recipe.schema.json` is the published copy.
"""

from __future__ import annotations

import inspect
import json
import re
from collections.abc import Mapping
from typing import Any

from pydantic import TypeAdapter

from dfqonnx.config.distillation import DistillationConfig, EqualizationConfig, OptimizerConfig
from dfqonnx.config.loss_terms import IMAGE_LOSSES, STUDENT_LOSSES, WEIGHT, LossInfo
from dfqonnx.config.placement import PlacementConfig
from dfqonnx.config.recipe import SCALES, Recipe, recipe_values
from dfqonnx.config.synthesis import (
    CoTrainingConfig,
    GeneratorConfig,
    PixelOptimizationConfig,
    SynthesisConfig,
)

TITLE = "dfqonnx recipe"
CONFIGS = (
    Recipe, SynthesisConfig, PixelOptimizationConfig, GeneratorConfig, CoTrainingConfig,
    DistillationConfig, OptimizerConfig, EqualizationConfig, PlacementConfig,
)  # fmt: skip
Schema = dict[str, Any]


def recipe_schema() -> Schema:
    """Return the JSON Schema (draft 2020-12) of a recipe file."""
    whole = TypeAdapter(Recipe).json_schema(ref_template="#/$defs/{model}")
    definitions: dict[str, Schema] = whole.pop("$defs")
    definitions["Recipe"] = whole
    for config in CONFIGS:
        _describe(definitions[config.__name__], config)
    for name, known in (("SynthesisConfig", IMAGE_LOSSES), ("DistillationConfig", STUDENT_LOSSES)):
        losses = definitions[name]["properties"]["losses"]
        about = losses.get("description", "")
        definitions[name]["properties"]["losses"] = _terms(known, about)
    definitions.pop("LossTerm", None)
    _set_defaults(definitions)
    whole["properties"][SCALES] = {
        "type": "object",
        "description": "what changes at a scale, laid over the keys above; quick is the usual one",
        "additionalProperties": {"$ref": "#/$defs/Recipe"},
    }
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": TITLE,
        "$ref": "#/$defs/Recipe",
        "$defs": dict(sorted(definitions.items())),
    }


def schema_text() -> str:
    """Return the schema as it is published."""
    return json.dumps(recipe_schema(), indent=2) + "\n"


def _describe(schema: Schema, config: type) -> None:
    """Forbid other keys, and say of every key what the docstring says."""
    schema["additionalProperties"] = False
    schema["description"] = (inspect.getdoc(config) or "").partition("\n")[0]
    schema.pop("title", None)
    notes = read_attributes(config)
    for key, value in schema["properties"].items():
        value.pop("title", None)
        if key in notes:
            value["description"] = notes[key]


def read_attributes(config: type) -> dict[str, str]:
    """Return the texts under `Attributes:` in a Google-style docstring, by name."""
    text = (inspect.getdoc(config) or "").partition("Attributes:\n")[2]
    found: dict[str, str] = {}
    name = ""
    for line in text.splitlines():
        entry = re.match(r"    (\w+): (.*)", line)
        if entry:
            name = entry[1]
            found[name] = entry[2]
        elif line.startswith("        ") and name:
            found[name] += " " + line.strip()
    return found


def _terms(known: Mapping[str, LossInfo], about: str) -> Schema:
    """Return the schema of `losses`: a weight each, or a mapping with settings."""
    number = {"type": "number", "minimum": 0}
    properties: dict[str, Schema] = {}
    for name, loss in known.items():
        settings = {
            WEIGHT: {**number, "default": 1.0},
            **{key: {**number, "default": value} for key, value in loss.settings.items()},
        }
        mapping = {"type": "object", "additionalProperties": False, "properties": settings}
        properties[name] = {"description": loss.about, "anyOf": [number, mapping]}
    return {
        "type": "object",
        "description": about,
        "additionalProperties": False,
        "properties": properties,
    }


def _set_defaults(definitions: Mapping[str, Schema]) -> None:
    """Give every key the default that `dfqonnx recipes default` prints."""

    def fill(schema: Schema, values: Mapping[str, Any]) -> None:
        for key, value in values.items():
            found = schema["properties"][key]
            if "$ref" in found:
                found.pop("default", None)
                fill(definitions[found["$ref"].rpartition("/")[2]], value)
            else:
                found["default"] = value

    fill(definitions["Recipe"], recipe_values(Recipe(name="")))

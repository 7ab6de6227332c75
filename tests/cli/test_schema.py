"""The JSON Schema of recipes: published, true, and as strict as the reader."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from dfqonnx.config.recipe import read_recipe_file, recipe_folder, recipe_values
from dfqonnx.config.schema import read_attributes, recipe_schema
from dfqonnx.config.synthesis import PixelOptimizationConfig
from tests.cli.conftest import Run

KINDS: Mapping[str, Any] = {
    "object": dict, "array": list, "string": str, "boolean": bool, "null": type(None),
    "integer": int, "number": (int, float),
}  # fmt: skip
RECIPES = sorted(recipe_folder().glob("*.yaml"))


def faults(value: Any, schema: Mapping[str, Any], root: Mapping[str, Any]) -> Iterator[str]:
    """What a validator would say: the part of JSON Schema that recipes use."""
    if "$ref" in schema:
        yield from faults(value, root["$defs"][schema["$ref"].rpartition("/")[2]], root)
    if "anyOf" in schema and all(list(faults(value, one, root)) for one in schema["anyOf"]):
        yield f"{value!r} fits none of {len(schema['anyOf'])}"
    kind = schema.get("type")
    wrong = kind and not isinstance(value, KINDS[kind])
    if wrong or (kind in {"integer", "number"} and isinstance(value, bool)):
        yield f"{value!r} is no {kind}"
        return
    if "enum" in schema and value not in schema["enum"]:
        yield f"{value!r} is none of {schema['enum']}"
    if "minimum" in schema and value < schema["minimum"]:
        yield f"{value!r} is below {schema['minimum']}"
    if isinstance(value, dict):
        known = schema.get("properties", {})
        other = schema.get("additionalProperties", True)
        for key, item in value.items():
            if key in known or isinstance(other, dict):
                yield from faults(item, known.get(key, other), root)
            elif other is False:
                yield f"{key!r} is unknown"
    if isinstance(value, list):
        for index, item in enumerate(value):
            first = schema.get("prefixItems", [])
            rule = first[index] if index < len(first) else schema.get("items", {})
            yield from faults(item, rule, root)


def test_the_published_file_is_what_the_command_prints(dfqonnx: Run, root: Path) -> None:
    published = (root / "docs" / "recipe.schema.json").read_text(encoding="utf-8")
    assert dfqonnx("recipes", "--schema").out == published, (
        "write it anew: dfqonnx recipes --schema > docs/recipe.schema.json"
    )


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_every_shipped_recipe_fits_as_written_and_in_full(path: Path) -> None:
    schema = recipe_schema()
    assert not list(faults(yaml.safe_load(path.read_text(encoding="utf-8")), schema, schema))
    in_full = json.loads(json.dumps(recipe_values(read_recipe_file(path))))
    assert not list(faults(in_full, schema, schema))


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("distil: {}", "'distil' is unknown"),
        ("synthesis: {pixels: {stat: noise}}", "'stat' is unknown"),
        ("synthesis: {pixels: {start: nose}}", "'nose' is none of"),
        ("synthesis: {losses: {labls: 1}}", "'labls' is unknown"),
        ("synthesis: {losses: {focal: {gama: 1}}}", "fits none of 2"),
        ("distillation: {batch_size: many}", "'many' is no integer"),
        ("equalization: {cross_layer: 3}", "3 is no boolean"),
        ("scales: {quick: {distillation: {stpes: 3}}}", "'stpes' is unknown"),
        ("needs: [luck]", "'luck' is none of"),
    ],
)
def test_what_the_reader_refuses_the_schema_refuses_too(text: str, fault: str) -> None:
    schema = recipe_schema()
    assert any(fault in found for found in faults(yaml.safe_load(text), schema, schema))


def test_every_key_says_what_it_is_and_what_it_is_when_left_out() -> None:
    schema = recipe_schema()
    for name, part in schema["$defs"].items():
        for key, value in part["properties"].items():
            assert value.get("description"), f"{name}.{key}"
            assert "default" in value or "$ref" in value or key in {"losses", "scales"}, key
    pixels = schema["$defs"]["PixelOptimizationConfig"]["properties"]
    assert pixels["lr"]["default"] == PixelOptimizationConfig().lr
    assert read_attributes(PixelOptimizationConfig)["betas"] == "the betas of Adam."

"""`dfqonnx recipes`: list them, or print one in full."""

from __future__ import annotations

from typing import Annotated

import typer

from dfqonnx.cli import options as o
from dfqonnx.cli.show import say_json, stdout


def recipes(
    name: Annotated[
        str | None, typer.Argument(help="Print this recipe in full, every default included.")
    ] = None,
    scale: o.Scale = None,
    schema: Annotated[
        bool, typer.Option("--schema", help="Print the JSON Schema of recipe files, for editors.")
    ] = False,
    as_json: o.AsJson = False,
) -> int:
    """List the shipped recipes, or print one to start your own from."""
    from dfqonnx.config.recipe import (
        read_recipe,
        recipe_scales,
        recipe_values,
        shipped_recipes,
        write_recipe,
    )

    if schema:
        from dfqonnx.config.schema import schema_text

        typer.echo(schema_text(), nl=False)
        return 0
    if name is not None:
        recipe = read_recipe(name, scale=scale)
        if as_json:
            say_json(recipe_values(recipe))
        else:
            typer.echo(write_recipe(recipe), nl=False)
        return 0
    shipped = shipped_recipes()
    if as_json:
        say_json([recipe_values(recipe) for recipe in shipped.values()])
        return 0
    width = max(map(len, shipped)) + 2
    console = stdout()
    for known, recipe in shipped.items():
        console.print(f"{known:<{width}}{recipe.about}", markup=False, soft_wrap=True)
        facts = {
            "paper": recipe.paper,
            "needs": ", ".join(recipe.needs),
            "cost": recipe.cost,
            "scales": ", ".join(recipe_scales(known)),
        }
        for key, value in facts.items():
            if value:
                console.print(f"{'':{width}}{key}: {value}", markup=False, soft_wrap=True)
    console.print("Use one with: dfqonnx run --recipe NAME; print one: dfqonnx recipes NAME")
    return 0

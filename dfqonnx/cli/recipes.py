"""`dfqonnx recipes`: lists the recipes, or prints one in full."""

from __future__ import annotations

from typing import Annotated

import typer

from dfqonnx.cli import options as o
from dfqonnx.cli.show import print_json, print_text


def recipes(
    name: Annotated[
        str | None, typer.Argument(help="The recipe to print in full, with every default.")
    ] = None,
    scale: o.Scale = None,
    schema: Annotated[
        bool, typer.Option("--schema", help="Print the JSON Schema of recipe files, for editors.")
    ] = False,
    as_json: o.AsJson = False,
) -> int:
    """List the shipped recipes, or print one to start your own recipe from."""
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
            print_json(recipe_values(recipe))
        else:
            typer.echo(write_recipe(recipe), nl=False)
        return 0
    shipped = shipped_recipes()
    if as_json:
        print_json([recipe_values(recipe) for recipe in shipped.values()])
        return 0
    width = max(map(len, shipped)) + 2
    for known, recipe in shipped.items():
        print_text(f"{known:<{width}}{recipe.about}")
        facts = {
            "paper": recipe.paper,
            "needs": ", ".join(recipe.needs),
            "cost": recipe.cost,
            "scales": ", ".join(recipe_scales(known)),
        }
        for key, value in facts.items():
            if value:
                print_text(f"{'':{width}}{key}: {value}")
    print_text("Use a recipe: dfqonnx run --recipe NAME. Print a recipe: dfqonnx recipes NAME.")
    return 0

"""`dfqonnx recipes`: list them, or print one in full."""

from __future__ import annotations

import dataclasses
from typing import Annotated

import typer

from dfqonnx.cli import options as o
from dfqonnx.cli.show import say_json, stdout


def recipes(
    name: Annotated[
        str | None, typer.Argument(help="Print this recipe in full, every default included.")
    ] = None,
    as_json: o.AsJson = False,
) -> int:
    """List the shipped recipes, or print one to start your own from."""
    from dfqonnx.spec.recipe import read_recipe, shipped_recipes, write_recipe

    if name is not None:
        recipe = read_recipe(name)
        if as_json:
            say_json(dataclasses.asdict(recipe))
        else:
            typer.echo(write_recipe(recipe), nl=False)
        return 0
    shipped = shipped_recipes()
    if as_json:
        say_json([dataclasses.asdict(recipe) for recipe in shipped.values()])
        return 0
    width = max(map(len, shipped))
    console = stdout()
    for known, recipe in shipped.items():
        console.print(f"{known:<{width}}  {recipe.about}", markup=False)
    console.print("Use one with: dfqonnx run --recipe NAME; print one: dfqonnx recipes NAME")
    return 0

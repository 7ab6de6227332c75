"""`dfqonnx report`: a finished run's page and table once more."""

from __future__ import annotations

import webbrowser
from pathlib import Path
from typing import Annotated

import typer

from dfqonnx.cli import options as o
from dfqonnx.cli.run import show_report
from dfqonnx.cli.show import stdout


def report(
    folder: Annotated[Path, typer.Argument(help="The output folder of a run or a validation.")],
    open_it: Annotated[bool, typer.Option("--open", help="Open the page in a browser.")] = False,
    quiet: o.Quiet = False,
    as_json: o.AsJson = False,
) -> int:
    """Show what came out of a finished run, and write its page anew from the folder alone."""
    from dfqonnx.report.files import rewrite

    found, page = rewrite(folder)
    show_report(found, quiet=quiet, as_json=as_json)
    opened = open_it and webbrowser.open(page.resolve().as_uri())
    if not (quiet or as_json):
        hint = "" if opened or not open_it else " (no browser was found: open it yourself)"
        stdout().print(f"Wrote {page}{hint}", soft_wrap=True, markup=False)
    return 0

"""`dfqonnx report`: the page and the table of a finished run, once more."""

from __future__ import annotations

import webbrowser
from pathlib import Path
from typing import Annotated

import typer

from dfqonnx.cli import options as o
from dfqonnx.cli.run import show_report
from dfqonnx.cli.show import print_text


def report(
    folder: Annotated[Path, typer.Argument(help="The output folder of a run or a validation.")],
    open_it: Annotated[bool, typer.Option("--open", help="Open the page in a browser.")] = False,
    quiet: o.Quiet = False,
    as_json: o.AsJson = False,
) -> int:
    """Show the result of a finished run, and write its page again from the folder alone."""
    from dfqonnx.report.files import rewrite_page

    found, page = rewrite_page(folder)
    show_report(found, quiet=quiet, as_json=as_json)
    is_opened = open_it and webbrowser.open(page.resolve().as_uri())
    if not (quiet or as_json):
        hint = " No browser was found, so open it yourself." if open_it and not is_opened else ""
        print_text(f"Wrote {page}.{hint}")
    return 0

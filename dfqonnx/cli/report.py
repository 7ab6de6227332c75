"""`dfqonnx report`, and how every command shows a report: to its user and to a build server."""

from __future__ import annotations

import json
import os
import sys
import webbrowser
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dfqonnx.cli import options as o
from dfqonnx.cli.show import print_json, print_layout, print_text

if TYPE_CHECKING:
    from dfqonnx.report.report import Report


def report(
    folder: Annotated[Path, typer.Argument(help="The output folder of a run or a validation.")],
    open_it: Annotated[bool, typer.Option("--open", help="Open the page in a browser.")] = False,
    quiet: o.Quiet = False,
    as_json: o.AsJson = False,
) -> int:
    """Show the result of a finished run, and write its page again from the folder alone."""
    from dfqonnx.report.files import rewrite_page

    found, page = rewrite_page(folder)
    is_opened = open_it and webbrowser.open(page.resolve().as_uri())
    hint = " No browser was found, so open it yourself." if open_it and not is_opened else ""
    show_report(found, [f"Wrote {page}.{hint}"], quiet=quiet, as_json=as_json)
    return 0


def show_report(
    report: Report, notes: Sequence[str], *, quiet: bool, as_json: bool, short: bool = False
) -> None:
    """Print the result as JSON, or as a table, perhaps a short one, with `notes` below it."""
    from dfqonnx.report.text import format_table

    if as_json:
        print_json(json.loads(report.to_json()))
    elif not quiet:
        print_layout(format_table(report, short=short))
        if short:
            print_text("--verbose shows every measurement and check, and report.html all of it.")
        for note in notes:
            print_text(note)


def report_to_ci(report: Report, folder: Path | None) -> None:
    """Write annotations to stderr, and summary and outputs to the files that the runner names.

    The result itself is written already, so a file that cannot be written gives only a warning.
    """
    from dfqonnx.report.ci import format_annotations, write_github_outputs

    if os.environ.get("GITHUB_ACTIONS") == "true":
        sys.stderr.write("".join(f"{line}\n" for line in format_annotations(report)))
    try:
        write_github_outputs(report, folder, os.environ)
    except OSError as error:
        sys.stderr.write(
            f"Warning: {error.filename}: {error.strerror}; the build server gets no result\n"
        )

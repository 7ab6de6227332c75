"""`dfqonnx view`: teacher and student side by side in Netron."""

from __future__ import annotations

import contextlib
import time
import webbrowser
from pathlib import Path
from typing import Annotated

import typer

from dfqonnx.cli.show import print_text


def view(
    target: Annotated[Path, typer.Argument(help="The output folder of a run, or an ONNX file.")],
    teacher: Annotated[
        Path | None,
        typer.Option("--teacher", "-t", help="The float file, where the report does not name it."),
    ] = None,
    browser: Annotated[
        bool, typer.Option("--browser/--no-browser", help="Open a browser, or only print the URL.")
    ] = True,
) -> int:
    """Open the quantized file in Netron beside the float file, with bits and noise on its nodes."""
    from dfqonnx.viewer.pair import choose_pair
    from dfqonnx.viewer.serve import require_netron, serve_pair
    from dfqonnx.workflows.preflight import check_file

    if teacher is not None:
        check_file(teacher, what="--teacher")
    pair = choose_pair(target, teacher)
    require_netron()
    with serve_pair(pair) as addresses:
        if pair.note:
            print_text(f"Note: {pair.note}")
        if addresses.teacher is not None:
            print_text(f"float model      {addresses.teacher}")
            print_text(f"quantized model  {addresses.student}")
        print_text(f"Open {addresses.page} in a browser; Ctrl-C stops the server.")
        if browser:
            webbrowser.open(addresses.page)
        with contextlib.suppress(KeyboardInterrupt):
            while True:
                time.sleep(0.5)
    print_text("The server has stopped.")
    return 0

"""`dfqonnx view`: teacher and student side by side in Netron."""

from __future__ import annotations

import time
import webbrowser
from pathlib import Path
from typing import Annotated

import typer

from dfqonnx.cli.show import stdout


def view(
    target: Annotated[Path, typer.Argument(help="A run's output folder, or an ONNX file.")],
    teacher: Annotated[
        Path | None,
        typer.Option("--teacher", "-t", help="The float file, where the report is not there."),
    ] = None,
    browser: Annotated[
        bool, typer.Option("--browser/--no-browser", help="Open a browser, or only say where.")
    ] = True,
) -> int:
    """Open the exported file in Netron, with bits and noise on its nodes, beside the float one."""
    from dfqonnx.viewer.pair import choose_pair
    from dfqonnx.viewer.serve import require_netron, served
    from dfqonnx.workflows.preflight import check_file

    if teacher is not None:
        check_file(teacher, what="--teacher")
    shown = choose_pair(target, teacher)
    require_netron()
    console = stdout()
    with served(shown) as at:
        if shown.note:
            console.print(f"Note: {shown.note}.", markup=False)
        if at.teacher is not None:
            console.print(
                f"float model      {at.teacher}", f"quantized model  {at.student}", sep="\n"
            )
        console.print(f"Open {at.page} (Ctrl-C ends it)")
        if browser:
            webbrowser.open(at.page)
        try:
            while True:
                time.sleep(0.5)
        except KeyboardInterrupt:
            pass
    console.print("Stopped.")
    return 0

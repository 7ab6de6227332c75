"""The command `dfqonnx`."""

from __future__ import annotations

import os
import sys
from io import TextIOWrapper
from typing import Annotated, NoReturn

import typer

from dfqonnx.cli.audit import audit
from dfqonnx.cli.commands import Command, CommandGroup
from dfqonnx.cli.compare import compare
from dfqonnx.cli.convert import convert
from dfqonnx.cli.doctor import doctor
from dfqonnx.cli.failures import INTERRUPTED, TERMINATED, guard, say_terminated
from dfqonnx.cli.freed_memory import keep_freed_memory
from dfqonnx.cli.frontier import frontier
from dfqonnx.cli.inspect import inspect
from dfqonnx.cli.recipes import recipes
from dfqonnx.cli.report import report
from dfqonnx.cli.run import run
from dfqonnx.cli.runs import runs
from dfqonnx.cli.similarity import similarity
from dfqonnx.cli.sweep import sweep
from dfqonnx.cli.synth import synth
from dfqonnx.cli.targets import targets
from dfqonnx.cli.termination import (
    Termination,
    exit_on_termination,
    ignore_signals,
    stop_repeating,
)
from dfqonnx.cli.thread_waiting import ProcessorTimes, shorten_thread_waiting
from dfqonnx.cli.validate import validate
from dfqonnx.cli.view import view
from dfqonnx.version import __version__

app = typer.Typer(
    name="dfqonnx",
    cls=CommandGroup,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Start here: [bold]dfqonnx run resnet20.onnx --bits 4[/bold]",
)
BITS = """[bold]--bits[/bold]: 8 = int8 = w8a8, weights and activations of 8 bits

4 = int4 = w4a4, both of 4 bits (what `--bits` is without a word)

w4 = w4a8, weights of 4 bits and activations of 8

w3a6 and so on, each 2 to 8

w8a16, w4a16: activations of 16 bits, on integers with `--target onnxruntime-qnn`"""
MEASURES = (validate, audit, compare, report, view)
app.command(cls=Command, epilog=BITS)(run)
app.command(cls=Command, epilog=BITS)(inspect)
for command in (
    *MEASURES,
    frontier,
    sweep,
    convert,
    synth,
    similarity,
    doctor,
    recipes,
    targets,
    runs,
):
    app.command(cls=Command)(command)


@app.callback(invoke_without_command=True)
def _main(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
) -> None:
    """Quantize an ONNX network to 8 to 2 bits without any data, and measure the result."""
    if version:
        typer.echo(f"dfqonnx {__version__}")
        raise typer.Exit
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())


def main(arguments: list[str] | None = None, *, begun: ProcessorTimes | None = None) -> NoReturn:
    """Run the command line and exit; `begun` is what processors had done as the process began."""
    exit_on_termination()
    shorten_thread_waiting(begun)
    keep_freed_memory()
    for stream in (sys.stdout, sys.stderr):
        if isinstance(
            stream, TextIOWrapper
        ):  # a terminal may lack a letter, and then shows its code
            stream.reconfigure(errors="backslashreplace")
    arguments = sys.argv[1:] if arguments is None else arguments
    try:
        code = command_line(arguments)
    except Termination as stop:  # by now, hidden folders are removed
        stop_repeating()
        code = say_terminated(stop, as_json="--json" in arguments)
    if code in {INTERRUPTED, TERMINATED}:  # CPython may still die of a signal that was handled
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    ignore_signals()
    sys.exit(code)


def command_line(arguments: list[str]) -> int:
    """Run one command and return its exit code."""
    return guard(
        lambda: app(arguments, standalone_mode=False, prog_name="dfqonnx"),
        as_json="--json" in arguments,
    )

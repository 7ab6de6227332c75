"""How commands and options are found by name, also by the names that other tools give them."""

from __future__ import annotations

import difflib
import shlex
from collections.abc import Mapping
from typing import Any

from typer.core import TyperCommand, TyperGroup

from dfqonnx.errors import UsageError
from dfqonnx.foreign_text import printable

ELSEWHERE: Mapping[str, str] = {  # what other tools call a command -> what it is called here
    **dict.fromkeys(
        ("quantize", "quantise", "compress", "optimize", "ptq", "quant", "distill"),
        "run MODEL.onnx --bits 8",
    ),
    **dict.fromkeys(("calibrate", "auto-opt"), "run MODEL.onnx --calibrate-with IMAGES"),
    **dict.fromkeys(("export", "finetune", "train"), "run MODEL.onnx"),
    **dict.fromkeys(
        ("evaluate", "eval", "val", "verify", "check", "test", "diff"),
        "validate FLOAT.onnx QUANTIZED.onnx",
    ),
    **dict.fromkeys(
        ("benchmark", "bench", "perf", "profile"), "compare QUANTIZED.onnx --teacher FLOAT.onnx"
    ),
    **dict.fromkeys(("info", "show", "summary", "analyze", "list-layers"), "inspect MODEL.onnx"),
    **dict.fromkeys(("netron", "visualize", "open", "serve"), "view QUANTIZED.onnx"),
    **dict.fromkeys(("generate", "synthesize", "images"), "synth MODEL.onnx --out images.npz"),
    **dict.fromkeys(("env", "system", "check-env", "checks"), "doctor"),
    **dict.fromkeys(("methods", "algorithms", "presets"), "recipes"),
    **dict.fromkeys(("retarget", "translate", "repack"), "convert STUDENT.onnx --target portable"),
    **dict.fromkeys(("backends", "runtimes", "formats"), "targets"),
    "version": "--version",
    "help": "--help",
}
OPTIONS_ELSEWHERE: Mapping[str, str] = {  # what other tools call an option -> its name here
    **dict.fromkeys(("--output", "--output-path", "--output-dir", "--save", "--project"), "--out"),
    **dict.fromkeys(("--model-path", "--onnx-path", "--onnx", "--input-model"), "MODEL.onnx"),
    **dict.fromkeys(
        ("--precision", "--dtype", "--weight-type", "--quant-format", "--quantize-mode", "--int8"),
        "--bits",
    ),
    **dict.fromkeys(
        (
            "--calibration-data", "--calibration-data-path", "--calib", "--calib-data",
            "--calibration", "--calibration-dataset", "--calibrate", "--calib-images",
        ),
        "--calibrate-with",
    ),
    **dict.fromkeys(
        ("--data", "--dataset", "--val", "--test-data", "--eval", "--labels"),
        "--eval-data (labeled, to measure on), --images (unlabeled, to measure on) or"
        " --calibrate-with (unlabeled, to work with)",
    ),
    **dict.fromkeys(
        ("--exclude", "--nodes-to-exclude", "--op-types-to-exclude", "--skip", "--exclude-nodes"),
        "--keep-float",
    ),
    **dict.fromkeys(
        ("--imgsz", "--size", "--input-shape", "--img-size", "--shape"), "--image-size"
    ),
    **dict.fromkeys(("--mean", "--std", "--normalize", "--preprocessing"), "--preprocess"),
    **dict.fromkeys(("--gpu", "--cuda"), "--device cuda"),
    **dict.fromkeys(("--time", "--timeout", "--max-time", "--minutes"), "--budget"),
    **dict.fromkeys(("--method", "--algorithm", "--algo", "--calibration-method"), "--recipe"),
    **dict.fromkeys(("--backend", "--runtime", "--ep", "--execution-provider"), "--target"),
    **dict.fromkeys(("--threshold", "--max-drop", "--accuracy-loss"), "--gate 'drop<=1.0'"),
    **dict.fromkeys(
        ("--block-size", "--group-size", "--block", "--group"),
        "--bits w4a8: one scale a channel, since no target has an integer kernel for blocks",
    ),
    **dict.fromkeys(("--debug", "--log-level", "-v"), "--verbose"),
    **dict.fromkeys(("--silent",), "--quiet"),
}  # fmt: skip


def name_flags_only(parameters: list[Any]) -> list[Any]:
    """Return a command's parameters; help shows a switch without the kind of value it has none."""
    for parameter in parameters:
        if getattr(parameter, "is_flag", False):
            parameter.metavar = ""
    return parameters


class Command(TyperCommand):
    """A command whose help shows switches without a value."""

    def get_params(self, ctx: Any) -> list[Any]:
        """Return the parameters of the command, `--help` among them."""
        return name_flags_only(super().get_params(ctx))


class CommandGroup(TyperGroup):
    """All commands; an unknown name is answered with the command that does what it asks for."""

    def get_params(self, ctx: Any) -> list[Any]:
        """Return the parameters in front of a command, `--help` among them."""
        return name_flags_only(super().get_params(ctx))

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Return the command that the arguments name.

        Raises:
            UsageError: there is none of this name; it says which one is meant.
        """
        name = args[0]
        if name in self.commands or name.startswith("-"):
            return super().resolve_command(ctx, args)
        raise UsageError(f"there is no command {printable(name)!r}{self._advise(name, args)}")

    def _advise(self, name: str, args: list[str]) -> str:
        if name.lower().endswith(".onnx"):
            return f"; to quantize a model: dfqonnx run {shlex.join(args)}"
        near = difflib.get_close_matches(name.lower(), self.commands, n=1, cutoff=0.6)
        meant = ELSEWHERE.get(name.lower().replace("_", "-"))
        if meant is None and near:
            return f"; did you mean 'dfqonnx {shlex.join([near[0], *args[1:]])}'?"
        if meant is not None:
            return f"; here it is: dfqonnx {name_models(meant, args[1:])}"
        return f". Commands: {', '.join(self.commands)}."


def name_models(usage: str, typed: list[str]) -> str:
    """Return how a command is used, with the ONNX files that somebody typed in their places.

    >>> name_models("run MODEL.onnx", ["-i", "a.onnx", "-o", "b.onnx"])
    'run a.onnx --out b.onnx'
    >>> name_models("validate FLOAT.onnx QUANTIZED.onnx", ["b.onnx"])
    'validate FLOAT.onnx b.onnx'
    """
    files = [shlex.quote(each) for each in typed if each.lower().endswith(".onnx")]
    if files and usage.startswith("run "):
        usage = usage.replace("MODEL.onnx", files[0])
        return usage + (f" --out {files[1]}" if len(files) > 1 else "")
    if len(files) > 1:
        usage = usage.replace("FLOAT.onnx", files[0])
    return (
        usage.replace("QUANTIZED.onnx", files[-1]).replace("MODEL.onnx", files[0])
        if files
        else usage
    )


def advise_on_option(name: str) -> str:
    """Return the end of a message about an unknown option that is known from other tools."""
    meant = OPTIONS_ELSEWHERE.get(name.lower().replace("_", "-").partition("=")[0])
    return f"; here it is {meant}" if meant is not None else ""

"""`dfqonnx targets`: the runtimes that a file can be made for."""

from __future__ import annotations

from dfqonnx.cli import options as o
from dfqonnx.cli.show import print_json, print_text
from dfqonnx.targets.profile import TARGETS


def targets(as_json: o.AsJson = False) -> int:
    """List the runtimes that a file can be made for."""
    about = {name: TARGETS[name].about for name in TARGETS}
    if as_json:
        print_json([{"name": name, "about": text} for name, text in about.items()])
        return 0
    width = max(map(len, about)) + 2
    for name, text in about.items():
        print_text(f"{name:<{width}}{text}")
    print_text("Choose one with: dfqonnx run --target NAME")
    return 0

"""`dfqonnx frontier`: what students of several sizes lose, on one page to choose from."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from dfqonnx.cli import options as o
from dfqonnx.cli.show import display, print_json, print_text

Points = Annotated[
    int,
    typer.Option("--points", help="Students of mixed widths between each two of uniform widths."),
]
Train = Annotated[
    bool,
    typer.Option(
        "--train",
        help="Train every student as a run does; else they are foretold, or made without training "
        "where there is --eval-data.",
    ),
]
Out = Annotated[
    Path | None, typer.Option("--out", "-o", help="The folder for page, JSON and students.")
]


def frontier(
    file: o.ModelFile = None, model: o.Model = None, preprocess: o.Preprocess = None,
    image_size: o.ImageSize = None, inputs: o.Inputs = None, eval_data: o.EvalData = None,
    target: o.Target = o.DEFAULT_TARGET, keep_float: o.KeepFloat = None,
    bits_for: o.BitsFor = None, points: Points = 4, train: Train = False, out: Out = None,
    seed: o.Seed = 0, device: o.Device = "auto", quiet: o.Quiet = False,
    as_json: o.AsJson = False,
) -> int:  # fmt: skip
    """Draw the drop over bytes and speed for students of uniform and of mixed widths."""
    from dfqonnx.config.frontier_points import FrontierConfig
    from dfqonnx.config.request import run_request
    from dfqonnx.config.search_limits import AUTO, read_limits

    path = o.choose_model(file, model, "frontier MODEL.onnx")
    run = run_request(
        path, AUTO, preprocess=preprocess, image_size=image_size, inputs=inputs or (),
        eval_data=eval_data, target=target, keep_float=keep_float or (), bits_for=bits_for or (),
        out=out or f"{path.stem}-frontier", seed=seed, device=device, limits=read_limits(AUTO),
        recipe="default" if train else "ptq",
    )  # fmt: skip
    spec = FrontierConfig(run, points=points, makes_students=train or eval_data is not None)
    from dfqonnx.workflows.preflight import check_paths

    check_paths(run)
    from dfqonnx.workflows.frontier import draw_frontier

    with display(quiet=quiet, as_json=as_json) as progress:
        found = draw_frontier(spec, progress=progress)
    if as_json:
        print_json(json.loads(found.to_json()))
    elif not quiet:
        for number, point in enumerate(found.points, start=1):
            told = point.forecast
            speed = "" if told.speed is None else f", {told.speed:.2f} times the speed"
            print_text(
                f"{number:>3}  {told.bytes / 1024:9.1f} KiB ({told.bytes / found.bytes:.3f}x),"
                f" loses {point.loss:.3g} ({found.unit}){speed}: {point.widths}"
            )
        print_text(f"Wrote {run.out}/frontier.html and frontier.json.")
        print_text(f"Proposed: {found.proposed.command}")
    return 0

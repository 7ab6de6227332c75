"""The frontier from the command line, and sensitivities in `inspect`."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

import pytest

from dfqonnx.config.frontier_points import FrontierConfig
from dfqonnx.config.request import run_request
from dfqonnx.config.search_limits import read_limits
from dfqonnx.errors import UsageError
from tests.cli.conftest import Run
from tests.cli.networks import balanced_classifier


def test_a_frontier_is_a_page_and_its_last_line_a_command_that_runs(
    dfqonnx: Run, tmp_path: Path
) -> None:
    network = balanced_classifier(tmp_path / "net.onnx", classes=10, width=64)
    done = dfqonnx("frontier", network, "--preprocess", "zero-one", "--points", "1")
    assert done.code == 0, done.err
    folder = tmp_path / "net-frontier"
    found = json.loads((folder / "frontier.json").read_text())
    sizes = [point["forecast"]["bytes"] for point in found["points"]]
    assert sizes == sorted(sizes)
    assert [point["is_mixed"] for point in found["points"]] == [False, True, False]
    noise = [point["forecast"]["noise"] for point in found["points"]]
    assert noise[0] > noise[1] > noise[2]
    page = (folder / "frontier.html").read_text()
    assert str(network) in page
    command = done.out.strip().splitlines()[-1].removeprefix("Proposed: ")
    dry = dfqonnx(*shlex.split(command)[1:], "--dry-run")
    assert dry.code == 0, dry.err


@pytest.mark.parametrize("points", [0, 100])
def test_points_beyond_what_can_be_drawn_are_refused(points: int) -> None:
    run = run_request("m.onnx", "auto", limits=read_limits("auto"))
    with pytest.raises(UsageError, match=f"points {points}: expected"):
        FrontierConfig(run, points=points)


def test_inspect_tells_the_cost_of_each_quantizer(dfqonnx: Run, small: Path) -> None:
    done = dfqonnx("inspect", small, "--preprocess", "zero-one", "--sensitivity")
    assert done.code == 0, done.err
    assert "rank correlation" in done.out
    (head,) = (line for line in done.out.splitlines() if line.split()[:1] == ["layer"])
    assert head.split()[1:] == [*(f"w{bits}" for bits in range(2, 9)), "a8", "a16"]

"""A real run's page in a real browser: a small network whose node names try to be HTML."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import onnx
import pytest
import torch

from dfqonnx.cli.app import command_line
from tests.cli.networks import SMALL, WEIGHTS, model_from
from tests.cli.test_run import FAST

NAMES = ("<script>document.title='owned'</script>", "<img src=x onerror=alert(1)>", "a\"'&b")


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """The output folder of a run of a few steps."""
    torch.set_num_threads(1)
    model = model_from(SMALL, **WEIGHTS)
    for node, name in zip(model.graph.node, NAMES, strict=False):
        node.name = name
    onnx.save(model, tmp_path / "small.onnx")
    (tmp_path / "quick.yaml").write_text(FAST)
    words = f"run --model {tmp_path}/small.onnx --recipe {tmp_path}/quick.yaml --quiet"
    out = tmp_path / "out"
    command_line([*words.split(), "--preprocess", "zero-one", "--out", str(out)])
    return out


def test_the_page_of_a_run_is_whole_fetches_nothing_and_lets_no_name_act(
    run: Path, browser: Any
) -> None:
    page, complaints, fetched = browser.new_page(), [], []
    page.on("console", lambda message: complaints.append(message.text))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("dialog", lambda dialog: complaints.append(dialog.message))
    page.on("request", lambda request: fetched.append(request.url))
    page.set_viewport_size({"width": 390, "height": 800})
    page.goto((run / "report.html").as_uri())
    assert complaints == []
    assert [url for url in fetched[1:] if not url.startswith("data:")] == []
    assert page.title().endswith("small.w4a4.onnx")
    widths = page.eval_on_selector_all("img", "all => all.map(i => i.naturalWidth)")
    assert widths
    assert min(widths) > 0
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    for section in (
        "verdict",
        "models",
        "layers",
        "codes",
        "audit",
        "images",
        "graph",
        "reproduce",
    ):
        assert page.locator(f"#{section}").count() == 1, section
    assert page.get_by_text(NAMES[0]).count() > 0
    page.close()


def test_the_page_can_be_made_again_from_the_folder_alone(run: Path) -> None:
    before = (run / "report.html").read_text()
    facts = (run / "report.json").read_text()
    (run / "report.html").unlink()
    assert command_line(["report", str(run), "--quiet"]) == 0
    assert (run / "report.html").read_text() == before
    assert (run / "report.json").read_text() == facts
    found = json.loads(facts)
    assert {layer["node"] for layer in found["layer_noise"]["layers"]} <= {
        place["node"] for place in found["graph"]
    }
    assert len(found["held_out_classes"]["images"]) == found["agreement"]["synthetic"]["n"]

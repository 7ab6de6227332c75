"""What is said without PyTorch about a graph is what translating it says."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from pathlib import Path

import onnx
import pytest
from onnx import helper

from dfqonnx.convert.importer import truncate_at_unsupported
from dfqonnx.core.quantization import BitWidths, QuantizationConfig
from dfqonnx.graph.normalize import open_model
from dfqonnx.graph.translatable import TABLE, is_surely_translatable
from dfqonnx.workflows.inspect import inspect
from dfqonnx.workflows.quick_inspect import inspect_quickly
from tests.cli.networks import SMALL, WEIGHTS, model_from
from tests.convert.trainable_operators import table_text

QUANT = QuantizationConfig(BitWidths(4, 8))


def test_the_table_is_what_the_registry_says() -> None:
    assert TABLE.read_text(encoding="utf-8") == table_text(), (
        "write it anew: python -m tests.convert.trainable_operators"
    )


def saved(path: Path, proto: onnx.ModelProto) -> Path:
    onnx.save(proto, path)
    return path


def variants() -> dict[str, onnx.ModelProto]:
    """The small network, and others of which something is not sure."""
    found = {"plain": model_from(SMALL, **WEIGHTS)}
    for name, change in {
        "an unknown operator": {"op_type": "Det"},
        "an unknown attribute": {"attribute": [helper.make_attribute("axis", 1)]},
        "another domain": {"op_type": "Gelu", "domain": "com.microsoft"},
    }.items():
        proto = model_from(SMALL, **WEIGHTS)
        (relu,) = [n for n in proto.graph.node if n.op_type == "Relu"]
        relu.op_type = str(change.get("op_type", relu.op_type))
        relu.domain = str(change.get("domain", ""))
        relu.attribute.extend(change.get("attribute", []))
        found[name] = proto
    fixed = model_from(SMALL, **WEIGHTS)
    fixed.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 1
    found["a fixed batch"] = fixed
    return found


def test_both_say_the_same_of_a_usual_network(tmp_path: Path, root: Path) -> None:
    for path in (saved(tmp_path / "a.onnx", variants()["plain"]), root / "models/resnet20.onnx"):
        quick = inspect_quickly(path, QUANT)
        assert quick is not None
        assert dataclasses.asdict(quick) == dataclasses.asdict(inspect(path, QUANT))


@pytest.mark.parametrize("name", [name for name in variants() if name != "plain"])
def test_in_any_doubt_nothing_is_said_quickly(tmp_path: Path, name: str) -> None:
    path = saved(tmp_path / "a.onnx", variants()[name])
    quick = inspect_quickly(path, QUANT)
    assert quick is None or quick.refusals == inspect(path, QUANT).refusals != ()


def test_real_networks_that_are_sure_are_translated_whole(shared: Path) -> None:
    sure = 0
    for path in sorted((shared / "models").glob("*.onnx")):
        model = open_model(path)
        if is_surely_translatable(model):
            sure += 1
            assert truncate_at_unsupported(model).unsupported == model.unsupported == {}
    assert sure >= 8


def test_inspect_loads_no_torch_where_it_is_sure(root: Path) -> None:
    script = (
        "import sys\nfrom dfqonnx.cli.app import command_line\n"
        "assert command_line(['inspect', 'models/resnet20.onnx']) == 0\n"
        "assert 'torch' not in sys.modules\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, cwd=root, check=False
    )
    assert done.returncode == 0, done.stderr

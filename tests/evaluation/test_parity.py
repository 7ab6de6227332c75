"""Level-exact comparison: sees what is planted, and nothing else."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnx.parser
import pytest
from numpy.typing import NDArray

from dfqonnx.core.quantization import BitWidths
from dfqonnx.errors import InternalError
from dfqonnx.evaluation.code_forcing import expose_codes, find_codes
from dfqonnx.evaluation.parity import StudentOutputs, measure_parity
from dfqonnx.runtime.session import Session
from tests.export.qnets import Exported, Net, chain, export_net, residual


def as_written(found: Exported) -> StudentOutputs:
    """What a torch student without any fault would hand over."""
    codes = find_codes(found.proto)
    session = Session(expose_codes(found.proto, codes).SerializeToString(), optimization="off")
    outputs = session.run_batched({"image": found.x})
    return StudentOutputs({c.quantizer: outputs[c.value] for c in codes}, outputs["fc_out"])


def test_every_site_of_the_decision_is_found_in_the_file(tmp_path: Path) -> None:
    found = export_net(residual().proto(), tmp_path)
    assert {c.quantizer for c in find_codes(found.proto)} == {
        s.name for s in found.plan.activations
    }


def test_codes_behind_an_instance_normalization_are_known_up_to_the_next_codes() -> None:
    """What torch and the runtime may add up in another order: `b` and, through the Add, `d`."""
    proto = onnx.parser.parse_model("""
<ir_version: 10, opset_import: ["": 21]>
net (float[1, 2, 4, 4] x) => (float[1, 2, 4, 4] y)
<float s = {0.1}, uint8 z = {0}, float[2] g = {1, 1}, float[2] h = {0, 0}>
{
    a = QuantizeLinear(x, s, z)
    a1 = DequantizeLinear(a, s, z)
    n = InstanceNormalization(a1, g, h)
    r = Relu(n)
    b = QuantizeLinear(r, s, z)
    b1 = DequantizeLinear(b, s, z)
    t = Tanh(b1)
    c = QuantizeLinear(t, s, z)
    c1 = DequantizeLinear(c, s, z)
    m = Add(c1, n)
    d = QuantizeLinear(m, s, z)
    y = DequantizeLinear(d, s, z)
}
""")
    assert [(code.quantizer, code.summed) for code in find_codes(proto)] == [
        ("a", False),
        ("b", True),
        ("c", False),
        ("d", True),
    ]


@pytest.mark.parametrize("bits", [BitWidths(4, 4), BitWidths(8, 8), BitWidths(3, 5)])
def test_a_faultless_student_file_and_runtime_agree_in_every_code(
    bits: BitWidths, tmp_path: Path
) -> None:
    found = export_net(residual().proto(), tmp_path, bits=bits)
    parity = measure_parity(found.path, found.x, torch_run=as_written(found), batch=3)
    assert parity is not None
    assert parity.off_vs_torch is not None
    # the same session computed both: equal to the last code
    assert parity.off_vs_torch.fraction == 0.0
    # The bound for fresh flips between optimization off and all: single levels, 1e-4 of
    # codes. These nets have about 5e4 codes.
    assert parity.on_vs_off.fraction <= 1e-4
    assert parity.on_vs_off.largest <= 1
    assert parity.images == len(found.x)


def test_one_wrong_code_shows_at_its_site_once_and_nowhere_before_it(tmp_path: Path) -> None:
    found = export_net(chain().proto(), tmp_path)
    run = as_written(found)
    codes: dict[str, NDArray[np.uint8]] = dict(run.codes)
    wrong = codes["relu0_out"].copy()
    wrong.flat[17] = (int(wrong.flat[17]) + 3) % 16
    codes["relu0_out"] = wrong
    parity = measure_parity(found.path, found.x, torch_run=StudentOutputs(codes, run.logits))
    assert parity is not None
    assert parity.off_vs_torch is not None
    sites = {each.quantizer: each for each in parity.off_vs_torch.quantizers}
    assert sites["relu0_out"].differing == 1
    assert sites["relu0_out"].largest in {3, 13}
    assert sites["image"].differing == 0
    assert parity.on_vs_off.fraction <= 1e-4


def test_a_runtime_that_computes_something_else_is_caught(tmp_path: Path) -> None:
    """Two pairs in a row with different scales: ONNX Runtime merges them, 16 levels become 256."""
    found = export_net(chain().proto(), tmp_path)
    proto = found.proto
    graph = proto.graph
    real = next(n for n in graph.node if n.name == "relu0")
    scale, zero = (
        onnx.numpy_helper.from_array(np.float32(0.003), "s"),
        onnx.numpy_helper.from_array(np.uint8(0), "z"),
    )
    graph.initializer.extend([scale, zero])
    quantize = next(n for n in graph.node if n.name == "Q relu0_out")
    clip = next(n for n in graph.node if n.op_type == "Clip" and n.input[0] == quantize.output[0])
    later = next(n for n in graph.node if n.input[0] == clip.output[0])
    later.input[0] = quantize.output[0]  # no Clip between the pairs
    pair = [
        onnx.helper.make_node("QuantizeLinear", [real.output[0], "s", "z"], ["p"], name="Q fine"),
        onnx.helper.make_node("DequantizeLinear", ["p", "s", "z"], ["r"]),
    ]
    quantize.input[0] = "r"
    where = list(graph.node).index(quantize)
    nodes = [*list(graph.node)[:where], *pair, *list(graph.node)[where:]]
    nodes.remove(clip)
    del graph.node[:]
    graph.node.extend(nodes)
    path = tmp_path / "merged.onnx"
    onnx.save(proto, path)
    on, off = (
        Session(path, optimization=o).run_batched({"image": found.x})["fc_out"]
        for o in ("all", "off")
    )
    parity = measure_parity(path, found.x)
    assert parity is not None
    assert np.abs(on - off).max() > 0
    assert parity.output_on_vs_off > 0.01


def test_sites_that_the_file_does_not_have_are_named(tmp_path: Path) -> None:
    found = export_net(chain().proto(), tmp_path)
    run = as_written(found)
    more = StudentOutputs({**run.codes, "ghost": run.codes["image"]}, run.logits)
    with pytest.raises(InternalError, match="quantizer 'ghost'"):
        measure_parity(found.path, found.x, torch_run=more)


def test_a_float_file_has_no_codes_to_compare(tmp_path: Path) -> None:
    found = export_net(chain().proto(), tmp_path)
    assert measure_parity(found.source, found.x) is None


def test_a_model_with_a_fixed_batch_is_compared_in_pieces(tmp_path: Path) -> None:
    net = Net((3, 3, 8, 8))
    a = net.add("Relu", net.conv("image", "stem", (8, 3, 3, 3)), name="relu0")
    net.head(net.add("Relu", net.conv(a, "c1", (8, 8, 3, 3)), name="relu1"), 8)
    found = export_net(net.proto(output_shape=(3, 5)), tmp_path)
    parity = measure_parity(found.path, found.x)
    assert parity is not None
    assert parity.images == len(found.x) == 8
    assert parity.on_vs_off.fraction <= 1e-4

"""Local functions: inlined before anything else."""

from __future__ import annotations

import onnx
import pytest

from dfqonnx.errors import UnsupportedModel
from dfqonnx.graph.passes.opset_upgrade import upgrade_opset
from tests.graph.smallnets import network


def test_local_functions_that_call_themselves_are_refused() -> None:
    proto = network("y = Conv(x, w)", {"w": (4, 3, 3, 3)}, result="float[N,4,6,6] y")
    proto.graph.node[0].op_type, proto.graph.node[0].domain = "self", "loop"
    imports = [onnx.helper.make_opsetid("", 17), onnx.helper.make_opsetid("loop", 1)]
    body = [onnx.helper.make_node("self", ["a"], ["c"], domain="loop")]
    proto.functions.append(onnx.helper.make_function("loop", "self", ["a"], ["c"], body, imports))
    proto.opset_import.append(imports[1])
    with pytest.raises(UnsupportedModel, match="local functions"):
        upgrade_opset(proto)

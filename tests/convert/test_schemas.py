"""A registered operator takes what its ONNX schema says; what it does not take is listed here."""

from __future__ import annotations

import inspect

import onnx
import pytest

import dfqonnx.convert.ops  # noqa: F401  (files the operators)
from dfqonnx.convert import op_registry as registry
from dfqonnx.convert.op_registry import OPERATORS, operator
from dfqonnx.errors import InternalError

NOT_TAKEN = {"sparse_value", "value_string", "value_strings"}  # Constant: no such tensors in torch
NAMES = sorted({OPERATORS[name].op for name in OPERATORS})
OPTIONAL = onnx.defs.OpSchema.FormalParameterOption


def versions(op: str) -> list[int]:
    """The versions of `op` that the installed onnx knows."""
    newest = onnx.defs.onnx_opset_version()
    return [since for since in registry.versions(op) if since <= newest]


@pytest.mark.parametrize("op", NAMES)
def test_operator_matches_its_schema(op: str) -> None:
    for since in versions(op):
        known = OPERATORS[registry.key("", op, since)]
        schema = onnx.defs.get_schema(known.op, known.since, known.domain)
        assert schema.since_version == since
        assert set(schema.attributes) - known.attributes <= NOT_TAKEN
        single = [i for i in schema.inputs if i.option != OPTIONAL.Variadic]
        needed = [i for i in single if i.option == OPTIONAL.Single]
        assert known.least <= len(needed)
        assert known.most is None or known.most >= len(single)
        assert {a.name for a in schema.attributes.values() if a.required} <= known.required


@pytest.mark.parametrize("op", NAMES)
def test_attribute_defaults_are_those_of_the_schema(op: str) -> None:
    for since in versions(op):
        known = OPERATORS[registry.key("", op, since)]
        schema = onnx.defs.get_schema(known.op, known.since, known.domain)
        parameters = inspect.signature(known.function).parameters
        for attribute in schema.attributes.values():
            if not attribute.default_value.name or attribute.name in NOT_TAKEN:
                continue
            default = onnx.helper.get_attribute_value(attribute.default_value)
            default = default.decode() if isinstance(default, bytes) else default
            default = tuple(default) if isinstance(default, list) else default
            ours = parameters[attribute.name].default
            # the schema keeps floats in 32 bits: 0.2 reads back as 0.20000000298
            real = isinstance(ours, float)
            assert ours == (pytest.approx(default, rel=1e-7) if real else default)


def test_an_operator_is_filed_once_per_version() -> None:
    with pytest.raises(InternalError, match="'Relu-14' is registered twice"):
        operator("Relu", 14)(lambda X: X)


def test_the_version_is_the_newest_not_above_the_opset() -> None:
    assert registry.since_version("", "Clip", 10) == 6
    assert registry.since_version("", "Clip", 12) == 12
    assert registry.since_version("ai.onnx", "Clip", 21) == 13
    assert registry.since_version("", "NoSuchOperator", 21) is None

"""Operators by (domain, name, since-version).

An operator is a function whose Python signature is its ONNX schema: tensors first and positional,
an absent optional one None, attributes keyword-only under ONNX's names and defaults. ONNX names the
version of an operator by the opset that introduced it; `since_version` reads it from the schemas.
One function may stand for several versions: attributes that a version does not have are refused
there, and a positional parameter that is an attribute in an older version is passed by its name.

Two annotations have a meaning here. A positional parameter of type `Ints` or `Numbers` (or their
optional) is handed over as a tuple of Python numbers, so that shapes, axes and bounds that are
constants cost nothing at run time. An attribute annotated with a `Literal` takes these values only:
a node with another one is refused. A keyword `outputs` receives how many outputs the node asks for:
the function then returns a tuple when there are several and a tensor when there is one.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeVar, get_args, get_origin, get_type_hints

import onnx
from torch import Tensor

from dfqonnx.core.registry import Registry
from dfqonnx.errors import InternalError

Ints = tuple[int, ...]
Numbers = tuple[int | float, ...]

F = TypeVar("F", bound=Callable[..., Any])


@dataclass(frozen=True, kw_only=True)
class Operator:
    """One implementation of an operator in one since-version."""

    domain: str  # empty for ai.onnx
    op: str
    since: int  # the opset version that introduced this form
    function: Callable[..., Any]
    least: int  # how many inputs it needs
    most: int | None  # how many inputs it takes; None without a limit
    host: frozenset[int]  # positions of the inputs that are handed over as Python numbers
    attributes: frozenset[str]  # keyword names that it takes
    required: frozenset[str]  # keyword names that a node has to give
    choices: Mapping[str, tuple[Any, ...]]  # the values of attributes annotated with a `Literal`
    counts_outputs: bool  # whether it takes the number of outputs


OPERATORS = Registry[Operator]("operator")


def key(domain: str, op: str, since: int) -> str:
    """Return the registry's name for an operator, `Clip-13` or `com.example::Clip-1`."""
    return f"{domain}::{op}-{since}" if domain else f"{op}-{since}"


def operator(op: str, *since: int, domain: str = "") -> Callable[[F], F]:
    """Register a function as `op` in each of the versions `since`."""

    def register(function: F) -> F:
        if not since:
            raise InternalError(f"operator {op} is registered under no version")
        for version in since:
            described = _describe(function, domain=domain, op=op, since=version)
            OPERATORS.add(key(domain, op, version))(described)
        return function

    return register


def elementwise(op: str, *since: int, function: Callable[..., Tensor], inputs: int = 1) -> None:
    """Register a function of one or two tensors as `op`, which takes no attributes."""

    def unary(X: Tensor) -> Tensor:
        return function(X)

    def binary(A: Tensor, B: Tensor) -> Tensor:
        return function(A, B)

    call = unary if inputs == 1 else binary
    call.__name__ = call.__qualname__ = op.lower()
    operator(op, *since)(call)


def _describe(function: Callable[..., Any], *, domain: str, op: str, since: int) -> Operator:
    hints = get_type_hints(function)
    schema = _get_schema(domain, op, since)
    known = {} if schema is None else schema.attributes
    least, most, host = 0, 0, set()
    unlimited = False
    keywords: dict[str, bool] = {}  # name -> whether a node has to give it
    for name, parameter in inspect.signature(function).parameters.items():
        needed = parameter.default is parameter.empty
        if parameter.kind is parameter.VAR_POSITIONAL:
            unlimited = True
        elif name in known or (parameter.kind is parameter.KEYWORD_ONLY and schema is None):
            keywords[name] = needed or (name in known and known[name].required)
        elif parameter.kind is not parameter.KEYWORD_ONLY:
            hint = hints.get(name)
            if any(kind in (Ints, Numbers) for kind in (hint, *get_args(hint))):
                host.add(most)
            most += 1
            least += needed
    if schema is not None:
        most = min(most, schema.max_input)
    return Operator(
        domain=domain,
        op=op,
        since=since,
        function=function,
        least=least,
        most=None if unlimited else most,
        host=frozenset(host),
        attributes=frozenset(keywords) - {"outputs"},
        required=frozenset(name for name, needed in keywords.items() if needed),
        choices={n: get_args(hints[n]) for n in keywords if get_origin(hints[n]) is Literal},
        counts_outputs="outputs" in hints,
    )


def _get_schema(domain: str, op: str, opset: int) -> onnx.defs.OpSchema | None:
    try:
        return onnx.defs.get_schema(op, opset, "" if domain == "ai.onnx" else domain)
    except onnx.defs.SchemaError:
        return None


@functools.cache
def since_version(domain: str, op: str, opset: int) -> int | None:
    """Return the since-version of `op` in `opset`; None when ONNX has no such operator."""
    schema = _get_schema(domain, op, opset)
    return None if schema is None else int(schema.since_version)


def find(domain: str, op: str, opset: int) -> Operator | None:
    """Return the implementation of `op` in `opset`, or None.

    Operators that ONNX's schemas do not know (other domains) are registered under version 1.
    """
    domain = "" if domain == "ai.onnx" else domain
    name = key(domain, op, since_version(domain, op, opset) or 1)
    if name not in OPERATORS:
        return None
    return OPERATORS[name]


def versions(op: str, *, domain: str = "") -> tuple[int, ...]:
    """Return the since-versions in which `op` is known."""
    found = (OPERATORS[name] for name in OPERATORS)
    return tuple(sorted(o.since for o in found if (o.domain, o.op) == (domain, op)))

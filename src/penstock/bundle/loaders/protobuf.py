"""A scanner of the protobuf wire format, just enough to refuse an ONNX file before ONNX Runtime sees it.

The serving install has no `onnx` package. Field numbers are those of onnx.proto3 (github.com/onnx/onnx).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from penstock.errors import BundleRefused

KNOWN_DOMAINS: Final = ("", "ai.onnx", "ai.onnx.ml")
MICROSOFT: Final = "com.microsoft"
MICROSOFT_OPERATORS: Final = """
    DequantizeLinear DynamicQuantizeMatMul MatMulIntegerToFloat QGemm QLinearAdd QLinearAveragePool QLinearConcat
    QLinearGlobalAveragePool QLinearLeakyRelu QLinearMul QLinearSigmoid QLinearSoftmax QuantizeLinear Tokenizer"""
"""The operators of ONNX Runtime's own domain that eight-bit graphs and bags of words are made of; each computes
and does nothing else.
Others of that domain load what stands outside the file (EPContext)."""

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_MOST_NESTED = 64
_TAGS = [number << 3 for number in range(1, 16)]
_SCALARS: Final = re.compile(
    b"(?:[%b][\x80-\xff]{0,9}[\x00-\x7f]|[%b].{4})++"
    % (
        b"".join(b"\\x%02x" % (tag | _VARINT) for tag in _TAGS),
        b"".join(b"\\x%02x" % (tag | _FIXED32) for tag in _TAGS),
    ),
    re.DOTALL,
)
"""Fields that are numbers, one after the other: the trees of a forest are some 100,000 of them."""

_MESSAGES: Final[dict[str, dict[int, str]]] = {
    "model": {7: "graph", 8: "opset", 20: "training", 25: "function"},
    "training": {1: "graph", 2: "graph"},
    "function": {7: "node", 9: "opset", 11: "attribute"},
    "graph": {1: "node", 5: "tensor", 15: "sparse"},
    "node": {5: "attribute"},
    "attribute": {5: "tensor", 6: "graph", 10: "tensor", 11: "graph", 22: "sparse", 23: "sparse"},
    "sparse": {1: "tensor", 2: "tensor"},
    "tensor": {},
    "opset": {},
}
"""For each kind of message the fields that hold messages which can, in the end, hold a tensor or a domain."""

_EXTERNAL_DATA, _DATA_LOCATION = 13, 14
_NODE_OPERATOR = 4
_NODE_DOMAIN, _OPSET_DOMAIN, _FUNCTION_DOMAIN = 7, 1, 10


def refuse_unsafe(model: bytes) -> None:
    """Raise BundleRefused when an ONNX model refers to data outside itself, names operators of an unknown domain,
    or is not a readable protobuf message.
    """
    _scan(memoryview(model), "model", 0)


def _scan(message: memoryview, kind: str, depth: int) -> None:
    if depth > _MOST_NESTED:
        raise BundleRefused(f"model.onnx: graphs nested deeper than {_MOST_NESTED}")
    inner = _MESSAGES[kind]
    named: dict[int, str] = {}
    # Of numbers only those of a tensor say anything here.
    for number, wire, value in wire_fields(message, without_numbers=kind != "tensor"):
        if kind == "tensor":
            _refuse_external(number, wire, value)
        elif wire == _BYTES and isinstance(value, memoryview):
            if kind == "node" and number in (_NODE_OPERATOR, _NODE_DOMAIN):
                named[number] = bytes(value).decode("utf-8", "replace")
            _refuse_domain(kind, number, value)
            if number in inner:
                _scan(value, inner[number], depth + 1)
    operator = named.get(_NODE_OPERATOR, "")
    if named.get(_NODE_DOMAIN) == MICROSOFT and operator not in MICROSOFT_OPERATORS.split():
        raise BundleRefused(f"model.onnx: the operator {operator!r} of {MICROSOFT!r} is not in the list of this loader")


def _refuse_external(number: int, wire: int, value: memoryview | int) -> None:
    if number == _EXTERNAL_DATA or (number == _DATA_LOCATION and (wire != _VARINT or value != 0)):
        raise BundleRefused("model.onnx: a tensor keeps its data in another file: save the model with its data inside")


def _refuse_domain(kind: str, number: int, value: memoryview) -> None:
    place = {"node": _NODE_DOMAIN, "opset": _OPSET_DOMAIN, "function": _FUNCTION_DOMAIN}.get(kind)
    if number != place:
        return
    domain = bytes(value).decode("utf-8", "replace")
    if domain not in KNOWN_DOMAINS and not (domain == MICROSOFT and kind != "function"):
        raise BundleRefused(f"model.onnx: operators of the domain {domain!r} are not in the list of this loader")


def wire_fields(message: memoryview, *, without_numbers: bool = False) -> Iterator[tuple[int, int, memoryview | int]]:
    """Number, wire type and value of each field, perhaps without most of those that are numbers. Raises BundleRefused
    for what is no protobuf message.
    """
    at, end = 0, len(message)
    while at < end:
        if without_numbers and (numbers := _SCALARS.match(message, at)) is not None:
            at = numbers.end()
            continue
        tag, at = _varint(message, at)
        number, wire = tag >> 3, tag & 7
        if wire == _VARINT:
            whole, at = _varint(message, at)
            yield number, wire, whole
            continue
        if wire == _BYTES:
            size, at = _varint(message, at)
        elif wire in (_FIXED64, _FIXED32):
            size = 8 if wire == _FIXED64 else 4
        else:
            raise BundleRefused(f"model.onnx: not an ONNX file (wire type {wire})")
        if at + size > end:
            raise BundleRefused("model.onnx: not an ONNX file, or cut short")
        yield number, wire, message[at : at + size]
        at += size


def _varint(message: memoryview, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        if at >= len(message) or shift > 63:
            raise BundleRefused("model.onnx: not an ONNX file, or cut short")
        byte = message[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7

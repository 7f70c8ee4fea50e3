"""Reads an ONNX model's bytes far enough to refuse what must never reach onnxruntime.

The base install has no onnx package, and onnxruntime opens files that a graph names. So this walks the protobuf wire
format (protobuf.dev/programming-guides/encoding) with the field numbers of `onnx.proto` (ONNX IR version 3 to 13).
What it does not know it refuses: a field it would skip is a field onnxruntime might follow.
"""

from __future__ import annotations

import dataclasses
import math
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from tellapart.errors import BundleError
from tellapart.runtime.onnx_sizes import Node, check_sizes

__all__ = ["DOMAINS", "MAX_MODEL_BYTES", "ModelFacts", "Value", "first_filters", "inspect_model", "with_output"]

MAX_MODEL_BYTES = 2**31 - 1
DOMAINS = frozenset({"", "ai.onnx", "ai.onnx.ml"})
_UNBOUNDED_OPS = frozenset({"Loop", "Scan"})  # a self-test that never ends is a hang
_MAX_DEPTH = 48
_MAX_FIELDS = 1_000_000  # some seconds and 150 MB to read
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
# Bytes of one element in raw_data, by TensorProto.DataType; 0.5 is two elements a byte. Strings (8) have no raw form.
_ITEM_BYTES = {1: 4, 2: 1, 3: 1, 4: 2, 5: 2, 6: 4, 7: 8, 9: 1, 10: 2, 11: 8, 12: 4, 13: 8, 14: 8, 15: 16, 16: 2,
               17: 1, 18: 1, 19: 1, 20: 1, 21: 0.5, 22: 0.5, 23: 0.5, 24: 1}  # fmt: skip


@dataclasses.dataclass(frozen=True, slots=True)
class Value:
    """An input or output of the graph: its name, ONNX element type (1 float32, 2 uint8) and shape.

    A dimension is a number, or None where it is free; `shape` is None where the graph does not say.
    """

    name: str
    element_type: int
    shape: tuple[int | None, ...] | None


@dataclasses.dataclass(frozen=True, slots=True)
class ModelFacts:
    """What a model's bytes say: opset versions by domain, inputs and outputs in the graph's order, number of nodes.

    `quantized` says that parts of it are computed in whole numbers.
    """

    opsets: dict[str, int]
    inputs: tuple[Value, ...]
    outputs: tuple[Value, ...]
    num_nodes: int
    quantized: bool = False


# A message is {field number: values in order}; a value is a number, some bytes, or a message.
_Field: TypeAlias = "int | memoryview | _Message"
_Message: TypeAlias = "dict[int, list[_Field]]"

# The fields of each message that are allowed, by number: None for a plain field, else the message it holds.
_MESSAGES: dict[str, dict[int, str | None]] = {
    "model": {1: None, 2: None, 3: None, 4: None, 5: None, 6: None, 7: "graph", 8: "opset", 14: "entry"},
    "opset": {1: None, 2: None},
    "entry": {1: None, 2: None},
    "graph": {1: "node", 2: None, 5: "tensor", 10: None, 11: "value", 12: "value", 13: "value", 14: "quantization",
              16: "entry"},
    "quantization": {1: None, 2: "entry"},
    "node": {1: None, 2: None, 3: None, 4: None, 5: "attribute", 6: None, 7: None, 8: None, 9: "entry"},
    "attribute": {1: None, 2: None, 3: None, 4: None, 5: "tensor", 6: "graph", 7: None, 8: None, 9: None,
                  10: "tensor", 11: "graph", 13: None, 14: "type", 15: "type", 20: None, 21: None},
    "tensor": {1: None, 2: None, 4: None, 5: None, 6: None, 7: None, 8: None, 9: None, 10: None, 11: None, 12: None,
               14: None, 16: "entry"},
    "value": {1: None, 2: "type", 3: None, 4: "entry"},
    "type": {1: "tensor_type", 4: "sequence_type", 5: "map_type", 6: None, 8: "tensor_type", 9: "sequence_type"},
    "tensor_type": {1: None, 2: "shape"},
    "sequence_type": {1: "type"},
    "map_type": {1: None, 2: "type"},
    "shape": {1: "dimension"},
    "dimension": {1: None, 2: None, 3: None},
}  # fmt: skip
# Fields that may appear once: protobuf would merge or overwrite, and a reader could be told two stories.
_ONCE: dict[str, frozenset[int]] = {
    "model": frozenset({7}),
    "opset": frozenset({1, 2}),
    "node": frozenset({4, 7}),
    "attribute": frozenset({5, 6, 14}),
    "tensor": frozenset({2, 9, 14}),
    "value": frozenset({1, 2}),
    "type": frozenset({1, 4, 5, 8, 9}),
    "tensor_type": frozenset({1, 2}),
    "dimension": frozenset({1, 2}),
}
_REFUSED: dict[tuple[str, int], tuple[str, str]] = {
    ("tensor", 13): ("bundle_external_data", "it keeps weights in another file"),
    ("tensor", 3): ("bundle_model", "it has a tensor in segments"),
    ("graph", 15): ("bundle_model", "it has sparse weights"),
    ("attribute", 22): ("bundle_model", "it has sparse weights"),
    ("attribute", 23): ("bundle_model", "it has sparse weights"),
    ("model", 20): ("bundle_model", "it holds training graphs"),
    ("model", 25): ("bundle_model", "it holds functions of its own"),
}


def inspect_model(model: bytes) -> ModelFacts:
    """Return facts about an ONNX model without running or importing anything.

    Raises BundleError: `bundle_external_data` when a tensor's data lies in another file, `bundle_model` for operators
    outside `DOMAINS`, loops, functions, shapes that depend on what a picture shows, tensors whose dimensions do not fit
    their bytes, unknown fields, too deep a nesting, broken bytes; `bundle_size` above `MAX_MODEL_BYTES`.
    """
    if len(model) > MAX_MODEL_BYTES:
        raise _refusal(f"it has {len(model):,} bytes, and {MAX_MODEL_BYTES:,} are allowed", "bundle_size")
    tree = _Reader(memoryview(model)).message("model", 0, len(model), 0)
    graphs = _messages(tree, 7)
    if not graphs:
        raise _refusal("it has no graph")
    nodes = _flat(graphs[0])
    check_sizes(nodes, [_text(value, 1) for value in _messages(graphs[0], 11)])
    opsets = {_text(opset, 1): _number(opset, 2) for opset in _messages(tree, 8)}
    inputs = tuple(_value(value) for value in _messages(graphs[0], 11))
    outputs = tuple(_value(value) for value in _messages(graphs[0], 12))
    quantized = any(node.operator == "QuantizeLinear" for node in nodes)
    return ModelFacts(opsets, inputs, outputs, len(_messages(graphs[0], 1)), quantized)


def first_filters(model: bytes) -> tuple[str, NDArray[np.float32]] | None:
    """Return its output's name and the filters float32 [O, C, h, w] of the first convolution over pixels (C is 1 or 3).

    None where the graph has none whose weights are stored as float32. `model` was inspected before.
    """
    graph = _messages(_Reader(memoryview(model)).message("model", 0, len(model), 0), 7)[0]
    tensors = {_text(tensor, 8): tensor for tensor in _messages(graph, 5)}
    for node in _messages(graph, 1):
        names = [_string(value) for value in node.get(1, [])]
        outputs = [_string(value) for value in node.get(2, [])]
        if _text(node, 4) == "Constant" and outputs:
            values = [tensor for attribute in _messages(node, 5) for tensor in _messages(attribute, 5)]
            tensors.update(zip(outputs[:1], values[:1], strict=False))
        if _text(node, 4) != "Conv" or len(names) < 2 or names[1] not in tensors:
            continue
        filters = _floats(tensors[names[1]])
        if filters is not None and filters.ndim == 4 and filters.shape[1] in (1, 3) and min(filters.shape[2:]) > 1:
            return outputs[0], filters
    return None


def with_output(model: bytes, name: str) -> bytes:
    """Return the model with one more output, the value `name` inside its graph.

    Messages of one field add up where they follow each other (protobuf.dev/programming-guides/encoding), so that the
    graph's further output can stand behind the whole model.
    """
    value = _field(1, name.encode())
    return model + _field(7, _field(12, value))


def _field(number: int, content: bytes) -> bytes:
    length, varint = len(content), bytearray()
    while length >= 0x80:
        varint.append(length & 0x7F | 0x80)
        length >>= 7
    return bytes([number << 3 | _BYTES, *varint, length]) + content


def _floats(tensor: _Message) -> NDArray[np.float32] | None:
    """Return a tensor of float32, None for another type or one whose numbers are not all there."""
    sizes = _dimensions(tensor.get(1, []))
    raw = [value for number in (9, 4) for value in tensor.get(number, []) if isinstance(value, memoryview)]
    content = b"".join(raw)
    if _number(tensor, 2) != 1 or len(content) != 4 * math.prod(sizes):
        return None
    return np.frombuffer(content, "<f4").reshape(sizes)


def _string(value: _Field) -> str:
    return bytes(value).decode("utf-8", errors="replace") if isinstance(value, memoryview) else ""


class _Reader:
    """Reads messages by the tables above, and checks each one as it is read, wherever in the model it stands."""

    def __init__(self, view: memoryview) -> None:
        self._view = view
        self._num_fields = 0

    def message(self, kind: str, position: int, end: int, depth: int) -> _Message:
        """Return the message in bytes [position, end)."""
        if depth > _MAX_DEPTH:
            raise _refusal("it is nested too deeply")
        allowed, once = _MESSAGES[kind], _ONCE.get(kind, frozenset())
        found: _Message = {}
        while position < end:
            self._num_fields += 1
            if self._num_fields > _MAX_FIELDS:
                raise _refusal(f"it has more than {_MAX_FIELDS:,} fields", "bundle_size")
            tag, position = self._varint(position, end)
            number, wire = tag >> 3, tag & 7
            if (kind, number) in _REFUSED:
                code, reason = _REFUSED[kind, number]
                raise _refusal(reason, code)
            if number not in allowed:
                raise _refusal(f"its {kind} has a field {number} that is not known here")
            if number in once and number in found:
                raise _refusal(f"its {kind} has field {number} twice")
            inner = allowed[number]
            value: _Field
            if wire == _BYTES:
                length, position = self._varint(position, end)
                if length > end - position:
                    raise _refusal("its bytes end too early")
                if inner is None:
                    value = self._view[position : position + length]
                else:
                    value = self.message(inner, position, position + length, depth + 1)
                position += length
            elif inner is not None:
                raise _refusal(f"its {kind} has a field {number} of a wrong type")
            elif wire == _VARINT:
                value, position = self._varint(position, end)
            elif wire in (_FIXED64, _FIXED32):
                length = 8 if wire == _FIXED64 else 4
                if length > end - position:
                    raise _refusal("its bytes end too early")
                value = self._view[position : position + length]
                position += length
            else:
                raise _refusal("it is not ONNX")
            found.setdefault(number, []).append(value)
        if kind == "tensor":
            _check_tensor(found)
        elif kind == "node":
            _check_node(found)
        elif kind == "opset":
            _check_domain(_text(found, 1))
        return found

    def _varint(self, position: int, end: int) -> tuple[int, int]:
        value = shift = 0
        while position < end and shift < 64:
            byte = self._view[position]
            position += 1
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                return value & 0xFFFF_FFFF_FFFF_FFFF, position
            shift += 7
        raise _refusal("its bytes end too early")


def _check_domain(domain: str) -> None:
    if domain not in DOMAINS:
        raise _refusal(f"it needs operators of {domain[:60]!r}, which are not among the standard ones")


def _check_node(node: _Message) -> None:
    _check_domain(_text(node, 7))
    operator = _text(node, 4)
    if operator in _UNBOUNDED_OPS:
        raise _refusal(f"its operator {operator} may never end")


def _check_tensor(tensor: _Message) -> None:
    if any(value != 0 for value in tensor.get(14, [])):
        raise _refusal("it keeps weights in another file", "bundle_external_data")
    kind = _number(tensor, 2)
    elements = 1
    for size in _dimensions(tensor.get(1, [])):
        if size >= 2**63:
            raise _refusal("a tensor has a negative dimension")
        elements *= size
    if elements > MAX_MODEL_BYTES * 2:
        raise _refusal(f"a tensor claims {elements:,} elements", "bundle_size")
    if kind in _ITEM_BYTES and 9 in tensor:
        needed, held = math.ceil(elements * _ITEM_BYTES[kind]), _length(tensor[9])
        if needed != held:
            raise _refusal(f"a tensor's dimensions need {needed:,} bytes and it holds {held:,}", "bundle_size")
        return
    # Typed fields: a packed element takes a byte at the least, except that four-bit ones share one.
    held = sum(_length(tensor.get(number, [])) for number in (4, 5, 7, 10, 11)) + len(tensor.get(6, []))
    if elements > held * 2 or (elements == 0 and held > 0) or 9 in tensor:
        raise _refusal(f"a tensor's dimensions need {elements:,} elements and it holds {held:,} bytes", "bundle_size")


def _length(values: list[_Field]) -> int:
    return sum(1 if isinstance(value, int) else len(value) for value in values)


def _dimensions(values: list[_Field]) -> list[int]:
    sizes: list[int] = []
    for value in values:
        if isinstance(value, int):
            sizes.append(value)
        elif isinstance(value, memoryview):
            reader, position = _Reader(value), 0
            while position < len(value):
                size, position = reader._varint(position, len(value))
                sizes.append(size)
    if len(sizes) > 64:
        raise _refusal("a tensor has more than 64 dimensions")
    return sizes


def _flat(graph: _Message) -> list[Node]:
    """Return the nodes of a graph and of the graphs within it."""
    nodes = []
    for node in _messages(graph, 1):
        nodes.append(Node(_text(node, 4), _texts(node, 1), _texts(node, 2)))
        for attribute in _messages(node, 5):
            for inner in (*_messages(attribute, 6), *_messages(attribute, 11)):
                # What the inner graph gives is what the node gives.
                ends = [_text(value, 1) for value in _messages(inner, 12)]
                nodes += [*_flat(inner), Node("Identity", ends, _texts(node, 2))]
    return nodes


def _texts(message: _Message, number: int) -> list[str]:
    values = [value for value in message.get(number, []) if isinstance(value, memoryview)]
    return [bytes(value).decode("utf-8", errors="replace") for value in values]


def _value(message: _Message) -> Value:
    tensors = [tensor for kind in _messages(message, 2) for tensor in _messages(kind, 1)]
    if not tensors:
        return Value(_text(message, 1), 0, None)
    shapes = _messages(tensors[0], 2)
    shape = tuple(_number(size, 1) if 1 in size else None for size in _messages(shapes[0], 1)) if shapes else None
    return Value(_text(message, 1), _number(tensors[0], 1), shape)


def _messages(message: _Message, number: int) -> list[_Message]:
    return [value for value in message.get(number, []) if isinstance(value, dict)]


def _number(message: _Message, number: int) -> int:
    values = [value for value in message.get(number, []) if isinstance(value, int)]
    return values[-1] if values else 0


def _text(message: _Message, number: int) -> str:
    values = [value for value in message.get(number, []) if isinstance(value, memoryview)]
    return bytes(values[-1]).decode("utf-8", errors="replace") if values else ""


def _refusal(reason: str, code: str = "bundle_model") -> BundleError:
    return BundleError(code, f"The model is refused: {reason}.", "Take a fresh copy from somewhere you trust.")

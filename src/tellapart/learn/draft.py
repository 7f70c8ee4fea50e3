"""An ONNX graph under construction: operators are called like functions, values are names."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import onnx

__all__ = ["Draft"]

_OPSET, _IR_VERSION = 17, 8


class Draft:
    """Nodes and constants of a graph. A value is named by its number, so that equal graphs have equal bytes.

    Needs the package onnx; what is imported at first use is loaded once.
    """

    def __init__(self) -> None:
        self._nodes: list[onnx.NodeProto] = []
        self._arrays: list[onnx.TensorProto] = []

    def op(self, kind: str, *inputs: str, **attributes: Any) -> str:
        """Append an operator with one output; return the output's name."""
        return self.split(kind, *inputs, num_outputs=1, **attributes)[0]

    def split(self, kind: str, *inputs: str, num_outputs: int, **attributes: Any) -> list[str]:
        """Append an operator with several outputs; return their names."""
        from onnx import helper

        outputs = [f"v{len(self._nodes)}_{number}" for number in range(num_outputs)]
        self._nodes.append(helper.make_node(kind, list(inputs), outputs, **attributes))
        return outputs

    def floats(self, values: Any) -> str:
        """Add a float32 array of any shape; return its name."""
        return self._constant(np.array(values, dtype=np.float32))

    def ints(self, *values: int) -> str:
        """Add an int64 vector; return its name."""
        return self._constant(np.array(values, dtype=np.int64))

    def to_floats(self, value: str) -> str:
        """Return `value` as float32: true is 1."""
        from onnx import TensorProto

        return self.op("Cast", value, to=TensorProto.FLOAT)

    def pixels(self, kernel: Any, value: str) -> str:
        """Return a 1 x 1 convolution: `kernel` [out, in] mixes the planes of each pixel of `value`."""
        weight = np.array(kernel, dtype=np.float32)
        return self.op("Conv", value, self.floats(weight[:, :, None, None]))

    def means(self, value: str, cell: int) -> str:
        """Return the means over cells of `cell` x `cell` pixels."""
        return self.op("AveragePool", value, kernel_shape=[cell, cell], strides=[cell, cell])

    def model(
        self, given: tuple[str, str, list[int | str]], made: Mapping[str, tuple[str, list[int | str]]], name: str
    ) -> bytes:
        """Return ONNX bytes: one input (name, `UINT8` or `FLOAT`, shape), outputs {name: (value, shape)}, float32."""
        from onnx import TensorProto, helper

        nodes = [*self._nodes, *(helper.make_node("Identity", [value], [end]) for end, (value, _) in made.items())]
        source, kind, shape = given
        graph = helper.make_graph(
            nodes,
            name,
            [helper.make_tensor_value_info(source, TensorProto.DataType.Value(kind), shape)],
            [helper.make_tensor_value_info(end, TensorProto.FLOAT, shape) for end, (_, shape) in made.items()],
            self._arrays,
        )
        model = helper.make_model(graph, producer_name="tellapart", opset_imports=[helper.make_opsetid("", _OPSET)])
        model.ir_version = _IR_VERSION
        text: bytes = model.SerializeToString(deterministic=True)
        return text

    def _constant(self, values: Any) -> str:
        from onnx import numpy_helper

        name = f"c{len(self._arrays)}"
        self._arrays.append(numpy_helper.from_array(values, name))
        return name

"""The one resize as part of a graph: pictures of any size in, for whoever runs the graph without this package.

A resize is two matrix products, one for each side, with weights that depend on the sizes alone. The graph computes them
the way Pillow does (a filter as wide as the reduction, its weights normalised, levels rounded after each side), so that
its squares are those of `images.resize` but for levels where rounding is a near tie.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from tellapart.images.preprocess import Preprocess

if TYPE_CHECKING:
    import onnx

__all__ = ["of_any_size", "squares_alone"]

_SUPPORT = {"bilinear": 1.0, "bicubic": 2.0}
_OPSET = 16


def of_any_size(model: bytes, preprocess: Preprocess, *, branches: bool = True) -> bytes:
    """Return `model` with `image` uint8 [n, H, W, 3] of any size, RGB and the right way up, resized within.

    `model` takes squares, uint8 [n, S, S, 3]. A JPEG is taken as decoded in full, which `Preprocess.at_least_px` spares
    this package for large ones. A product with every level costs more than Pillow's loop: 3 ms for 500 x 375 pixels,
    some 0.2 s for 12 million; twice that without `branches`, where both orders of the sides are computed and one is
    taken: OpenVINO 2026.4 gives another picture's levels for the first one behind a branch. Needs the package onnx.
    """
    import onnx

    graph = onnx.load_model_from_string(model)
    version = next(opset.version for opset in graph.opset_import if opset.domain == "")
    if version < _OPSET:
        graph = onnx.version_converter.convert_version(graph, _OPSET)
    nodes = _Nodes(preprocess)
    nodes.write(branches)
    for node in graph.graph.node:
        node.input[:] = ["resized" if name == "image" else name for name in node.input]
    kept = list(graph.graph.node)
    del graph.graph.node[:]
    graph.graph.node.extend([*nodes.made, *kept])
    graph.graph.initializer.extend(nodes.arrays)
    shape = graph.graph.input[0].type.tensor_type.shape
    del shape.dim[:]
    for size in ("n", "height", "width", 3):
        dimension = shape.dim.add()
        if isinstance(size, int):
            dimension.dim_value = size
        else:
            dimension.dim_param = size
    del graph.graph.value_info[:]
    onnx.checker.check_model(graph, full_check=True)
    content: bytes = graph.SerializeToString(deterministic=True)
    return content


def squares_alone(image_size: int) -> bytes:
    """Return a graph that gives `square`, the picture that it takes: to look at what a resize before it does."""
    from onnx import TensorProto, helper

    ends = [
        helper.make_tensor_value_info(name, TensorProto.UINT8, ["n", image_size, image_size, 3])
        for name in ("image", "square")
    ]
    graph = helper.make_graph([helper.make_node("Identity", ["image"], ["square"])], "square", ends[:1], ends[1:])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", _OPSET)], ir_version=8)
    content: bytes = model.SerializeToString()
    return content


class _Nodes:
    """Writes the operators one after the other; a value is named by what computes it."""

    def __init__(self, preprocess: Preprocess, prefix: str = "resize_") -> None:
        self._preprocess = preprocess
        self._prefix = prefix
        self.made: list[onnx.NodeProto] = []
        self.arrays: list[onnx.TensorProto] = []

    def write(self, branches: bool) -> None:
        side = float(self._preprocess.image_size)
        shape = self._do("Shape", "image")
        height, width = (
            self._do("Cast", self._do("Gather", shape, self._number(place, np.int64)), to=1) for place in (1, 2)
        )
        policy = self._preprocess.resize_policy
        spans: dict[str, tuple[str, str, str | None]]
        if policy == "crop":
            short = self._do("Min", height, width)
            spans = {name: (self._half(name, short), short, None) for name in (height, width)}
        elif policy == "squash":
            spans = {name: (self._number(0.0), name, None) for name in (height, width)}
        else:
            long = self._do("Max", height, width)
            spans = {}
            for name in (height, width):
                scaled = self._do("Div", self._do("Mul", name, self._number(side)), long)
                inner = self._do("Max", self._do("Round", scaled), self._number(1.0))
                spans[name] = (self._number(0.0), name, inner)
        levels = self._do("Cast", self._do("Transpose", "image", perm=[0, 3, 1, 2]), to=1)
        across, inside_across = self._weights(width, *spans[width])
        down, inside_down = self._weights(height, *spans[height])
        sideways = self._do("Transpose", across, perm=[1, 0])
        height_first = self._height_first(height, width, spans[height][2], spans[width][2])
        orders: list[list[tuple[str | None, str | None]]] = [
            [(down, None), (None, sideways)],
            [(None, sideways), (down, None)],
        ]
        if branches:
            first, second = (self._branch(order, levels) for order in orders)
            square = self._do("If", height_first, then_branch=first, else_branch=second)
        else:
            square = self._do("Where", height_first, *(self._products(order, levels) for order in orders))
        if inside_across is not None and inside_down is not None:
            inside = self._do("And", self._do("Unsqueeze", inside_down, self._number([1], np.int64)), inside_across)
            background = np.array(self._preprocess.decode.background, np.float32).reshape(1, 3, 1, 1)
            square = self._do("Where", inside, square, self._number(background))
        pixels = self._do("Cast", self._do("Transpose", square, perm=[0, 2, 3, 1]), to=2)
        self._do("Identity", pixels, named="resized")

    def _weights(self, size: str, left: str, span: str, inner: str | None) -> tuple[str, str | None]:
        """Return the weights [S, size] of an output's levels, and which outputs are inside, bool [S], for `pad`.

        Output i of n looks at `left` + (i + 0.5) * span / n, with a filter as wide as a step, at least a pixel.
        """
        side = self._preprocess.image_size
        places = self._number(np.arange(side, dtype=np.float32))
        inside = None
        count = inner or self._number(float(side))
        if inner is not None:
            gap = self._do("Sub", self._number(float(side)), inner)
            offset = self._do("Floor", self._do("Mul", gap, self._number(0.5)))
            places = self._do("Sub", places, offset)
            low = self._do("GreaterOrEqual", places, self._number(0.0))
            inside = self._do("And", low, self._do("Less", places, inner))
        step = self._do("Div", span, count)
        wide = self._do("Max", step, self._number(1.0))
        support = self._do("Mul", wide, self._number(_SUPPORT[self._preprocess.interpolation]))
        centre = self._do("Add", self._do("Mul", self._do("Add", places, self._number(0.5)), step), left)
        centre = self._do("Unsqueeze", centre, self._number([1], np.int64))
        first = self._do("Floor", self._do("Add", self._do("Sub", centre, support), self._number(0.5)))
        last = self._do("Floor", self._do("Add", self._do("Add", centre, support), self._number(0.5)))
        pixels = self._do("Range", self._number(0.0), size, self._number(1.0))
        seen = self._do("And", self._do("GreaterOrEqual", pixels, first), self._do("Less", pixels, last))
        away = self._do("Sub", self._do("Add", pixels, self._number(0.5)), centre)
        weight = self._filter(self._do("Abs", self._do("Div", away, wide)))
        weight = self._do("Where", seen, weight, self._number(0.0))
        total = self._do("ReduceSum", weight, self._number([1], np.int64), keepdims=1)
        # Outputs outside of a padded picture see nothing.
        some = self._do("Where", self._do("Equal", total, self._number(0.0)), self._number(1.0), total)
        return self._do("Div", weight, some), inside

    def _filter(self, x: str) -> str:
        """Return the filter at distances x >= 0: a triangle, or the cubic of Catmull and Rom (a = -0.5)."""
        zero, one = self._number(0.0), self._number(1.0)
        if self._preprocess.interpolation == "bilinear":
            return self._do("Max", self._do("Sub", one, x), zero)
        near = self._polynomial(x, (1.5, -2.5, 0.0, 1.0))
        far = self._polynomial(x, (-0.5, 2.5, -4.0, 2.0))
        outer = self._do("Where", self._do("Less", x, self._number(2.0)), far, zero)
        return self._do("Where", self._do("Less", x, one), near, outer)

    def _polynomial(self, x: str, factors: tuple[float, ...]) -> str:
        value = self._number(factors[0])
        for factor in factors[1:]:
            value = self._do("Add", self._do("Mul", value, x), self._number(factor))
        return value

    def _height_first(self, height: str, width: str, inner_height: str | None, inner_width: str | None) -> str:
        """Return whether the height is brought down first: where it shrinks by more than twice what the width does.

        Since version 13 Pillow does so to save time; levels are rounded and cut off in between, so the order tells.
        """
        side = self._number(float(self._preprocess.image_size))
        lower = self._do("Sub", height, inner_height or side)
        narrower = self._do("Max", self._do("Sub", width, inner_width or side), self._number(0.0))
        return self._do("Greater", lower, self._do("Mul", narrower, self._number(2.0)))

    def _branch(self, products: list[tuple[str | None, str | None]], levels: str) -> onnx.GraphProto:
        """Return the graph of two products, from the left or from the right, each brought to whole levels."""
        from onnx import TensorProto, helper

        nodes = _Nodes(self._preprocess, f"{levels}_{products[0][0] or 'right'}_")
        levels = nodes._products(products, levels)
        value = helper.make_tensor_value_info(levels, TensorProto.FLOAT, None)
        return helper.make_graph(nodes.made, "products", [], [value], nodes.arrays)

    def _products(self, products: list[tuple[str | None, str | None]], levels: str) -> str:
        for left, right in products:
            levels = self._whole(self._do("MatMul", left or levels, right or levels))
        return levels

    def _half(self, whole: str, part: str) -> str:
        return self._do("Mul", self._do("Sub", whole, part), self._number(0.5))

    def _whole(self, levels: str) -> str:
        """Return levels rounded, halves upwards, and held in 0 to 255."""
        rounded = self._do("Floor", self._do("Add", levels, self._number(0.5)))
        return self._do("Clip", rounded, self._number(0.0), self._number(255.0))

    def _number(self, value: Any, kind: type[np.generic] = np.float32) -> str:
        from onnx import numpy_helper

        name = f"{self._prefix}constant_{len(self.arrays)}"
        self.arrays.append(numpy_helper.from_array(np.asarray(value, kind), name))
        return name

    def _do(self, operator: str, *inputs: str, named: str | None = None, **attributes: Any) -> str:
        from onnx import helper

        name = named or f"{self._prefix}{len(self.made)}"
        self.made.append(helper.make_node(operator, list(inputs), [name], **attributes))
        return name

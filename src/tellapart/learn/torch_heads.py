"""What stands on a backbone: pooling, and a head that begins as the probe's."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from tellapart.learn.rungs import GraphHead, Head

__all__ = ["Cosine", "GeneralisedMean", "HeadKind", "Mlp", "begun_from", "shipped"]

HeadKind = Literal["linear", "mlp", "cosine"]

_OPSET = 17
_LEAST = 1e-6


class Mlp(nn.Module):
    """A linear head and, added to it, one hidden layer that begins at zero: the first logits are the linear head's."""

    def __init__(self, width: int, num_classes: int) -> None:
        super().__init__()
        self.linear = nn.Linear(width, num_classes)
        self.hidden = nn.Linear(width, max(num_classes, min(512, width // 2)))
        self.out = nn.Linear(self.hidden.out_features, num_classes, bias=False)
        nn.init.zeros_(self.out.weight)

    def forward(self, x: Tensor) -> Tensor:
        """Return logits [N, K] for embeddings [N, D]."""
        logits: Tensor = self.linear(x) + self.out(functional.relu(self.hidden(x)))
        return logits


class Cosine(nn.Module):
    """Logits are the cosine between embedding and class weight, times a learned scale, plus a bias.

    Gidaris and Komodakis, "Dynamic few-shot visual learning without forgetting" (arXiv 1804.09458).
    """

    def __init__(self, width: int, num_classes: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(num_classes, width))
        self.bias = nn.Parameter(torch.zeros(num_classes))
        self.scale = nn.Parameter(torch.tensor(10.0))

    def forward(self, x: Tensor) -> Tensor:
        """Return logits [N, K] for embeddings [N, D]."""
        return functional.linear(_unit(x), _unit(self.weight)) * self.scale + self.bias


class GeneralisedMean(nn.Module):
    """Maps [N, C, h, w] to [N, C]: the mean of p-th powers, p learned, 1 at first: the average of what is not negative.

    Radenovic, Tolias and Chum, "Fine-tuning CNN image retrieval with no human annotation" (arXiv 1711.02512).
    """

    def __init__(self) -> None:
        super().__init__()
        self.power = nn.Parameter(torch.tensor(1.0))

    def forward(self, x: Tensor) -> Tensor:
        """Return [N, C]."""
        return x.clamp(min=_LEAST).pow(self.power).mean((2, 3)).pow(1.0 / self.power)


def begun_from(head: Head, kind: HeadKind) -> nn.Module:
    """Return a head of one kind that gives, or for `cosine` nearly ranks, what a fitted linear head gives."""
    width, num_classes = head.shape
    weight, bias = torch.from_numpy(head.weight.T.copy()), torch.from_numpy(head.bias.copy())
    made: nn.Linear | Mlp | Cosine
    with torch.no_grad():
        if kind == "cosine":
            made = Cosine(width, num_classes)
            made.weight.copy_(weight)
            return made
        made = Mlp(width, num_classes) if kind == "mlp" else nn.Linear(width, num_classes)
        linear = made.linear if isinstance(made, Mlp) else made
        linear.weight.copy_(weight)
        linear.bias.copy_(bias)
    return made


@torch.no_grad()
def shipped(head: nn.Module) -> Head | GraphHead:
    """Return a trained head as it ships: linear ones as arrays, the others as an ONNX graph."""
    if isinstance(head, nn.Linear):
        return _arrays(head)
    if isinstance(head, Cosine):
        weight = (_unit(head.weight) * head.scale).T.numpy()
        return _cosine_graph(np.ascontiguousarray(weight), head.bias.numpy())
    assert isinstance(head, Mlp)
    return _mlp_graph(_arrays(head.linear), _arrays(head.hidden), head.out.weight.T.numpy())


def _unit(x: Tensor) -> Tensor:
    return x / (x.square().sum(1, keepdim=True) + _LEAST).sqrt()


def _arrays(layer: nn.Linear) -> Head:
    return Head(layer.weight.detach().T.numpy().copy(), layer.bias.detach().numpy().copy())


def _cosine_graph(weight: np.ndarray, bias: np.ndarray) -> GraphHead:
    from onnx import helper

    nodes = [
        helper.make_node("Mul", ["embedding", "embedding"], ["squares"]),
        helper.make_node("ReduceSum", ["squares", "axes"], ["length"], keepdims=1),
        helper.make_node("Add", ["length", "least"], ["longer"]),
        helper.make_node("Sqrt", ["longer"], ["norm"]),
        helper.make_node("Div", ["embedding", "norm"], ["direction"]),
        helper.make_node("Gemm", ["direction", "weight", "bias"], ["logits"]),
    ]
    arrays = {
        "axes": np.array([1], np.int64),
        "least": np.array(_LEAST, np.float32),
        "weight": weight,
        "bias": bias,
    }
    return _graph(nodes, arrays, weight.shape)


def _mlp_graph(linear: Head, hidden: Head, out: np.ndarray) -> GraphHead:
    from onnx import helper

    nodes = [
        helper.make_node("Gemm", ["embedding", "weight", "bias"], ["plain"]),
        helper.make_node("Gemm", ["embedding", "hidden_weight", "hidden_bias"], ["before"]),
        helper.make_node("Relu", ["before"], ["hidden"]),
        helper.make_node("MatMul", ["hidden", "out"], ["added"]),
        helper.make_node("Add", ["plain", "added"], ["logits"]),
    ]
    arrays = {
        "weight": linear.weight,
        "bias": linear.bias,
        "hidden_weight": hidden.weight,
        "hidden_bias": hidden.bias,
        "out": np.ascontiguousarray(out),
    }
    return _graph(nodes, arrays, linear.shape)


def _graph(nodes: Any, arrays: Mapping[str, Any], shape: tuple[int, ...]) -> GraphHead:
    from onnx import TensorProto, helper, numpy_helper

    width, num_classes = shape
    graph = helper.make_graph(
        nodes,
        "head",
        [helper.make_tensor_value_info("embedding", TensorProto.FLOAT, ["n", width])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["n", num_classes])],
        [numpy_helper.from_array(array, name) for name, array in arrays.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", _OPSET)], ir_version=9)
    return GraphHead(model.SerializeToString(deterministic=True), (width, num_classes))

"""The small convolutional network that is trained from nothing, and its folded form that ships.

After the networks of Keller Jordan's `airbench` (arXiv 2404.00498): a first layer fixed to whiten patches, groups of
3x3 convolutions that begin near the identity, pooling before normalisation, batch norm without a learned scale.
"""

from __future__ import annotations

import dataclasses
import io
import itertools
import warnings

import torch
from torch import Tensor, nn
from torch.nn import functional

from tellapart.learn.torch_export import stripped

__all__ = ["Group", "Network", "Shape", "Trunk", "export", "family_of", "shape_for"]

_BN_MOMENTUM = 0.4  # few steps and an averaged network: the running statistics have to keep up
_WHITENING_NUMBERS = 4_000_000  # of patches, at most: what the whitening is found from
_OPSET = 17
_WIDTHS = ((32, 64), (32, 128), (64, 128), (64, 256), (128, 384), (128, 512))  # of the first group, and of later ones
_FEW, _MANY = 1000, 10_000  # training pictures: with fewer no other width is tried, from so many on wider ones are
_LUMA = (0.299, 0.587, 0.114)  # ITU-R BT.601; weighs to one, so a grey picture keeps its level


@dataclasses.dataclass(frozen=True, slots=True)
class Shape:
    """All that a network's form hangs on. `channels` is 1 for grey pictures, else 3; `stride` is the first layer's."""

    image_size: int
    channels: int
    num_classes: int
    widths: tuple[int, ...]
    stride: int = 1
    depth: int = 2


def shape_for(image_size: int, channels: int, num_classes: int, num_pictures: int) -> Shape:
    """Return the network for pictures of `image_size` px: a group to each halving, down to a map of 2 to 3 px a side.

    Pictures above 48 px are halved by the first layer, above 96 px quartered; fewer pictures get narrower groups.
    """
    stride = 1 if image_size <= 48 else 2 if image_size <= 96 else 4
    side = image_size // stride
    groups = 1
    while groups < 4 and side // 2 ** (groups + 1) >= 3:
        groups += 1
    first, later = _WIDTHS[0] if num_pictures < _FEW else _WIDTHS[2]
    return Shape(image_size, channels, num_classes, (first, *[later] * (groups - 1)), stride)


def family_of(shape: Shape, num_pictures: int) -> list[tuple[int, ...]]:
    """Return the widths from narrow to wide that a network for so many pictures may have, with those of `shape`."""
    least = 1 if num_pictures >= _FEW else 0
    most = len(_WIDTHS) if num_pictures >= _MANY else 3 if least else 1
    return list(dict.fromkeys((first, *[later] * (len(shape.widths) - 1)) for first, later in _WIDTHS[least:most]))


class Group(nn.Module):
    """Convolutions of one width, the first of which halves the picture."""

    def __init__(self, before: int, width: int, depth: int) -> None:
        super().__init__()
        self.convs = nn.ModuleList()
        self.norms = nn.ModuleList()
        for i in range(depth):
            conv = nn.Conv2d(before if i == 0 else width, width, 3, padding=1, bias=False)
            nn.init.dirac_(conv.weight.data[: conv.in_channels])
            self.convs.append(conv)
            self.norms.append(_norm(width))

    def forward(self, x: Tensor) -> Tensor:
        """Return [N, width, h/2, w/2]."""
        for i, (conv, norm) in enumerate(zip(self.convs, self.norms, strict=True)):
            x = conv(x)
            if i == 0:
                x = functional.max_pool2d(x, 2)
            x = functional.gelu(norm(x))
        return x


class Network(nn.Module):
    """Pictures uint8 [N, S, S, C] to logits float [N, K]; see `Shape`.

    Where `mirrors`, and not in training, what it makes of a picture and of its mirror image is averaged.
    """

    scale: Tensor
    shift: Tensor

    def __init__(self, shape: Shape, mean: Tensor, std: Tensor) -> None:
        """Take `mean` and `std`, float [C], of the training pictures as `pixels / 255`."""
        super().__init__()
        self.shape = shape
        self.layout = torch.channels_last  # of maps in memory
        self.mirrors = False
        self.register_buffer("scale", 1.0 / (255.0 * std))
        self.register_buffer("shift", -mean / std)
        patch = 2 * shape.stride
        whitened = 2 * min(12, shape.channels * patch * patch)
        self.whiten = nn.Conv2d(shape.channels, whitened, patch, stride=shape.stride)
        self.whiten.weight.requires_grad = False
        widths = (whitened, *shape.widths)
        self.groups = nn.Sequential(*(Group(a, b, shape.depth) for a, b in itertools.pairwise(widths)))
        self.head = nn.Linear(shape.widths[-1], shape.num_classes)

    def normalised(self, pixels: Tensor) -> Tensor:
        """Return float [N, C, S, S], laid out as `layout` says, of mean 0 and deviation 1."""
        x = (pixels.float() * self.scale + self.shift).permute(0, 3, 1, 2)
        return x.contiguous(memory_format=self.layout)

    def feature_map(self, pixels: Tensor) -> Tensor:
        """Return [N, C, h, w] before the pooling that leaves an embedding."""
        x = self.normalised(pixels)
        both = self.mirrors and not self.training
        features: Tensor = self.groups(functional.gelu(self.whiten(torch.cat([x, x.flip(3)]) if both else x)))
        return _averaged(features) if both else features

    def forward(self, pixels: Tensor) -> Tensor:
        """Return logits [N, K]."""
        logits: Tensor = self.head(_pooled(self.feature_map(pixels)))
        return logits

    @torch.no_grad()
    def fit_whitening(self, pixels: Tensor) -> None:
        """Set the first layer from training pictures uint8 [N, S, S, C]: its outputs are uncorrelated, of like size."""
        conv = self.whiten
        size, stride = conv.kernel_size[0], conv.stride[0]
        numbers = (self.shape.image_size // stride) ** 2 * conv.weight[0].numel()
        patches = (
            self.normalised(pixels[: max(8, _WHITENING_NUMBERS // numbers)])
            .unfold(2, size, stride)
            .unfold(3, size, stride)
        )
        flat = patches.permute(0, 2, 3, 1, 4, 5).reshape(-1, conv.weight[0].numel()).double()
        values, vectors = torch.linalg.eigh(flat.T @ flat / len(flat))
        keep = conv.out_channels // 2
        rows = (vectors / torch.sqrt(values + 5e-4)).T.flip(0)[:keep]  # 5e-4: what is mere noise is not blown up
        rows = rows * torch.sign(rows.sum(1, keepdim=True) + 1e-12)  # eigenvectors have no sign of their own
        filters = rows.float().reshape(keep, *conv.weight.shape[1:])
        conv.weight.copy_(torch.cat([filters, -filters]))


class Trunk(nn.Module):
    """A trained `Network` as it ships: uint8 [N, S, S, 3] to (embedding [N, D], feature_map [N, D, h, w]).

    Batch norm is folded into the convolutions, and the look at the mirror image, where there is one, into the graph.
    A max pooling between convolution and norm does not hinder: the scale is positive.
    """

    scale: Tensor
    shift: Tensor

    def __init__(self, network: Network) -> None:
        super().__init__()
        self.grey, self.mirrors = network.shape.channels == 1, network.mirrors
        self.register_buffer("scale", torch.tensor(_LUMA) * network.scale if self.grey else network.scale.clone())
        self.register_buffer("shift", network.shift.clone())
        self.whiten = network.whiten
        self.convs = nn.ModuleList()
        self.halves: list[bool] = []
        for group in network.groups:
            assert isinstance(group, Group)
            for i, (conv, norm) in enumerate(zip(group.convs, group.norms, strict=True)):
                assert isinstance(conv, nn.Conv2d)
                assert isinstance(norm, nn.BatchNorm2d)
                self.convs.append(_folded(conv, norm))
                self.halves.append(i == 0)

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Return (embedding, feature_map)."""
        x = image.float() * self.scale
        x = ((x.sum(3, keepdim=True) if self.grey else x) + self.shift).permute(0, 3, 1, 2)
        x = functional.gelu(self.whiten(torch.cat([x, x.flip(3)]) if self.mirrors else x))
        for conv, halve in zip(self.convs, self.halves, strict=True):
            x = conv(x)
            x = functional.gelu(functional.max_pool2d(x, 2) if halve else x)
        x = _averaged(x) if self.mirrors else x
        return _pooled(x), x


def export(network: Network) -> bytes:
    """Return the network's `Trunk` as an ONNX graph; the bytes are a function of the weights alone."""
    side = network.shape.image_size
    file = io.BytesIO()
    names = ["embedding", "feature_map"]
    with warnings.catch_warnings():
        warnings.simplefilter(
            "ignore"
        )  # the tracing exporter is called deprecated; it takes a tenth of the other's time
        torch.onnx.export(
            Trunk(network).eval(),
            (torch.zeros(2, side, side, 3, dtype=torch.uint8),),
            file,  # type: ignore[arg-type]
            dynamo=False,
            input_names=["image"],
            output_names=names,
            dynamic_axes={name: {0: "N"} for name in ["image", *names]},
            opset_version=_OPSET,
        )
    return stripped(file.getvalue())


def _norm(width: int) -> nn.BatchNorm2d:
    norm = nn.BatchNorm2d(width, momentum=_BN_MOMENTUM)
    norm.weight.requires_grad = False
    return norm


def _averaged(features: Tensor) -> Tensor:
    """Return [N, C, h, w] from [2N, C, h, w]: the mean of pictures and, turned back, of their mirror images."""
    plain, mirrored = features.reshape(2, -1, *map(int, features.shape[1:])).unbind(0)
    return (plain + mirrored.flip(3)) / 2.0


def _pooled(features: Tensor) -> Tensor:
    return features.mean((2, 3))


def _folded(conv: nn.Conv2d, norm: nn.BatchNorm2d) -> nn.Conv2d:
    assert norm.running_mean is not None
    assert norm.running_var is not None
    scale = norm.weight / torch.sqrt(norm.running_var + norm.eps)
    folded = nn.Conv2d(conv.in_channels, conv.out_channels, 3, padding=1)
    folded.weight = nn.Parameter(conv.weight.detach() * scale[:, None, None, None])
    folded.bias = nn.Parameter((norm.bias - norm.running_mean * scale).detach())
    return folded

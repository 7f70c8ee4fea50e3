"""Objects from one process of a run to the others: pickled, with each tensor sent beside as the numbers it holds.

Only processes of one run, which meet by a group of their own, open what they send each other.
"""

from __future__ import annotations

import io
import pickle
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

__all__ = ["memory_format_of", "open_parcel", "parcel"]


def parcel(word: object, send: Callable[[Tensor], None]) -> None:
    """Send an object by `send`, which takes contiguous tensors on the processor."""
    file = io.BytesIO()
    pickler = _Pickler(file)
    pickler.dump(word)
    content = torch.frombuffer(file.getbuffer(), dtype=torch.uint8)
    send(torch.tensor([len(content)]))
    send(content)
    for tensor in pickler.tensors:
        if tensor.numel():
            send(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8))


def open_parcel(receive: Callable[[Tensor], Tensor], device: str) -> Any:
    """Return an object that was sent; `receive` fills a tensor. What was not on the processor comes to `device`."""
    (length,) = receive(torch.zeros(1, dtype=torch.int64)).tolist()
    content = receive(torch.empty(length, dtype=torch.uint8))
    return _Unpickler(io.BytesIO(content.numpy().tobytes()), receive, device).load()


def memory_format_of(tensor: Tensor) -> torch.memory_format:
    """Return how a tensor that has no gaps lies in memory."""
    by_channels = tensor.ndim == 4 and not tensor.is_contiguous()
    if by_channels and tensor.is_contiguous(memory_format=torch.channels_last):
        return torch.channels_last
    return torch.contiguous_format


class _Pickler(pickle.Pickler):
    def __init__(self, file: io.BytesIO) -> None:
        super().__init__(file, protocol=5)
        self.tensors: list[Tensor] = []
        self._places: dict[int, int] = {}

    def persistent_id(self, value: object) -> Any:
        if type(value) not in (Tensor, nn.Parameter):
            return None
        assert isinstance(value, Tensor)
        place = self._places.setdefault(id(value), len(self.tensors))
        if place == len(self.tensors):
            self.tensors.append(value)
        trained = value.requires_grad if isinstance(value, nn.Parameter) else None
        away = value.device.type != "cpu"
        return place, tuple(value.shape), value.dtype, memory_format_of(value), trained, away


class _Unpickler(pickle.Unpickler):
    def __init__(self, file: io.BytesIO, receive: Callable[[Tensor], Tensor], device: str) -> None:
        super().__init__(file)
        self._receive, self._device = receive, device
        self._tensors: dict[int, Tensor] = {}

    def persistent_load(self, told: Any) -> Tensor:
        place, shape, dtype, layout, trained, away = told
        if place not in self._tensors:
            value = torch.empty(shape, dtype=dtype)
            if value.numel():
                value = self._receive(value.reshape(-1).view(torch.uint8)).view(dtype).view(shape)
            value = value.to(self._device if away else "cpu", memory_format=layout)
            self._tensors[place] = value if trained is None else nn.Parameter(value, requires_grad=trained)
        return self._tensors[place]

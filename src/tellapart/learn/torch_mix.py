"""Two pictures made one, with the share of each class as its target: MixUp and CutMix.

Zhang and others, "mixup: Beyond empirical risk minimization" (ICLR 2018); Yun and others, "CutMix" (ICCV 2019). On
activations and embeddings MixUp is the manifold mixup of Verma and others (ICML 2019).
"""

from __future__ import annotations

import dataclasses

import numpy as np
import torch
from torch import Tensor

from tellapart.learn.draws import Bits, uniform

__all__ = ["Mix", "mixed"]

_WHICH, _SHARE, _CUT_X, _CUT_Y = range(20, 24)  # what a draw is for


@dataclasses.dataclass(frozen=True, slots=True)
class Mix:
    """Of `num_classes` classes, the share of the pictures that are blended with another (`mixup`), and of those into
    which a part of another is pasted (`cutmix`); both in [0, 1], together 1 at the most.
    """

    num_classes: int
    mixup: float = 0.0
    cutmix: float = 0.0

    @property
    def nothing(self) -> bool:
        """Whether every picture stays as it is."""
        return self.mixup <= 0.0 and self.cutmix <= 0.0


def mixed(inputs: Tensor, targets: Tensor, keys: Bits, seed: int, epoch: int, how: Mix) -> tuple[Tensor, Tensor]:
    """Return inputs, shaped and typed as they were, and targets float32 [n, K] that sum to one for each picture.

    `inputs` are pictures uint8 [n, S, S, C], maps float [n, C, h, w] or embeddings float [n, D]; `targets` int64 [n].
    A picture's partner is the one before it in the batch, and at least half of what it becomes is its own: what is
    drawn for it is a function of (seed, epoch, picture). Into an embedding nothing can be pasted: it is blended.
    """
    which = uniform(seed, epoch, keys, _WHICH)
    own = 0.5 + 0.5 * uniform(seed, epoch, keys, _SHARE)
    pastes = (which >= how.mixup) & (which < how.mixup + how.cutmix)
    blends = which < how.mixup
    if inputs.ndim == 2:
        blends, pastes = blends | pastes, np.zeros_like(pastes)
    share = np.where(blends | pastes, own, 1.0)
    other = inputs.roll(1, 0)
    if pastes.any():
        channels_first = inputs.is_floating_point()
        inside, left = _boxes(inputs.shape[2:] if channels_first else inputs.shape[1:3], keys, seed, epoch, own)
        inside &= pastes[:, None, None]
        share = np.where(pastes, left, share)
        mask = torch.from_numpy(inside).to(inputs.device)
        pasted = torch.where(mask[:, None] if channels_first else mask[..., None], other, inputs)
    else:
        pasted = inputs
    if blends.any():
        rows = torch.from_numpy(np.flatnonzero(blends)).to(inputs.device)
        weight = torch.from_numpy(own[blends].astype(np.float32)).to(inputs.device)
        weight = weight.reshape(-1, *[1] * (inputs.ndim - 1))
        between = weight * inputs[rows].float() + (1.0 - weight) * other[rows].float()
        between = between if inputs.is_floating_point() else between.round()
        pasted = pasted.clone()
        pasted[rows] = between.to(inputs.dtype)
    kept = torch.from_numpy(share.astype(np.float32)).to(targets.device)[:, None]
    soft = torch.nn.functional.one_hot(targets, how.num_classes).float()
    return pasted, kept * soft + (1.0 - kept) * soft.roll(1, 0)


def _boxes(size: torch.Size, keys: Bits, seed: int, epoch: int, own: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return where another is pasted, bool [n, h, w], and the share that is left of a picture, float64 [n]."""
    height, width = size
    side = np.sqrt(1.0 - own)
    down, across = np.floor(side * height).astype(np.int64), np.floor(side * width).astype(np.int64)
    top = np.floor(uniform(seed, epoch, keys, _CUT_Y) * (height - down + 1)).astype(np.int64)
    begin = np.floor(uniform(seed, epoch, keys, _CUT_X) * (width - across + 1)).astype(np.int64)
    y, x = np.arange(height)[None, :], np.arange(width)[None, :]
    rows = (y >= top[:, None]) & (y < (top + down)[:, None])
    columns = (x >= begin[:, None]) & (x < (begin + across)[:, None])
    return rows[:, :, None] & columns[:, None, :], 1.0 - down * across / (height * width)

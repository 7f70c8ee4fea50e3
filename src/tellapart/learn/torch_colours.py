"""Brightness, contrast, saturation and hue of a batch of pictures, as one linear map of each picture's channels."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

__all__ = ["recoloured"]

Floats = NDArray[np.float64]

_LUMA = np.array([0.299, 0.587, 0.114])
# To luma and two colour differences (YIQ, the rounded numbers of NTSC 1953), in which hue is an angle.
_TO_YIQ = np.array([[0.299, 0.587, 0.114], [0.596, -0.274, -0.322], [0.211, -0.523, 0.312]])


def recoloured(pixels: Tensor, brightness: Floats, contrast: Floats, saturation: Floats, hue: Floats) -> Tensor:
    """Return uint8 [n, S, S, C] with each picture's own factors float64 [n]; 1, 1, 1 and a hue of 0 change nothing.

    Brightness is a factor of every value; contrast one of the distance from the picture's mean grey; saturation one of
    the distance from the pixel's own grey (0 is grey, in the luma of ITU-R BT.601); `hue` turns the colours by a share
    of the circle around grey, at the same luma. Values are rounded and cut off once, at the end. Pictures of one
    channel have no hue and no saturation.
    """
    count, channels = pixels.shape[0], pixels.shape[-1]
    # Sums of whole numbers are exact, in whatever order: a picture's bits must not depend on its batch.
    sums = pixels.sum((1, 2), dtype=torch.int64).cpu().numpy().astype(np.float64)
    means = sums / (pixels.shape[1] * pixels.shape[2])
    grey = means @ _LUMA if channels == 3 else means[:, 0]
    offset = ((1.0 - contrast) * brightness * grey).astype(np.float32)
    scale = contrast * brightness
    if channels == 1:
        matrix = scale[:, None, None]
    else:
        towards_grey = np.broadcast_to(_LUMA, (3, 3))
        matrix = saturation[:, None, None] * np.eye(3) + (1.0 - saturation)[:, None, None] * towards_grey
        if hue.any():
            matrix = _turned(hue) @ matrix
        matrix = scale[:, None, None] * matrix
    weights = torch.from_numpy(matrix.astype(np.float32)).to(pixels.device)
    added = torch.from_numpy(offset).to(pixels.device)[:, None, None]
    planes = [pixels[..., channel].float() for channel in range(channels)]
    changed = []
    for row in range(channels):
        plane = added.expand(count, *pixels.shape[1:3])
        for column in range(channels):
            plane = plane + weights[:, row, column, None, None] * planes[column]
        changed.append(plane)
    return torch.stack(changed, -1).round_().clamp_(0, 255).to(torch.uint8)


def _turned(hue: Floats) -> Floats:
    """Return float64 [n, 3, 3] that turn colours around grey, luma staying as it is."""
    angle = 2.0 * np.pi * hue
    cos, sin = np.cos(angle), np.sin(angle)
    turn = np.zeros((len(hue), 3, 3))
    turn[:, 0, 0] = 1.0
    turn[:, 1, 1], turn[:, 1, 2], turn[:, 2, 1], turn[:, 2, 2] = cos, -sin, sin, cos
    matrix: Floats = np.linalg.inv(_TO_YIQ) @ turn @ _TO_YIQ
    return matrix

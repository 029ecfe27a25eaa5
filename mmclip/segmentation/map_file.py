"""The map that is written: a PNG of classes, in colour."""

from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor


def save_map(labels: Tensor, path: str | Path) -> None:
    """Write labels as a PNG whose pixel values are the classes, in colour.

    The colours are those of PASCAL VOC's masks.

    Args:
        labels (Tensor): ``(height, width)``, of at most 256 classes.
        path (str | Path): The file to write.
    """
    picture = Image.fromarray(labels.numpy().astype(np.uint8), mode='P')
    picture.putpalette([value for i in range(256) for value in colour(i)])
    picture.save(path, format='PNG')


def colour(label: int) -> tuple[int, int, int]:
    """Return the colour of a class in PASCAL VOC's masks, as RGB.

    Its bits are dealt to red, green and blue in turn, the lowest to the
    highest bit.
    """
    rgb = [0, 0, 0]
    for bit in range(8):
        for channel in range(3):
            rgb[channel] |= (label & 1) << (7 - bit)
            label >>= 1
    return rgb[0], rgb[1], rgb[2]


def shares(labels: Tensor, num_classes: int) -> list[float]:
    """Return the share of pixels of each class, in 0..1."""
    counts = torch.bincount(labels.flatten(), minlength=num_classes)
    return (counts / labels.numel()).tolist()

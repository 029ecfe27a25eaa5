from collections import Counter
from pathlib import Path

from PIL import Image


def save(path: Path, colour: int = 0, size: tuple[int, int] = (8, 8)) -> None:
    """A picture that differs from all of other colours."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = (colour % 256, colour // 256 % 256, 7)
    Image.new('RGB', size, pixels).save(path, 'PNG')


def save_all(folder: Path, *names: str) -> Path:
    """Different pictures in a folder."""
    for colour, name in enumerate(names):
        save(folder / name, colour)
    return folder


def by_class(images, split=None):
    """How many images of a split each class has."""
    return Counter(
        images.classes[label]
        for labels, s in zip(images.labels, images.splits, strict=True)
        if split in (None, s)
        for label in labels
    )

"""What a classifier is made from, and where it goes."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from mmclip.adapting.run_files.run_folder import RunFolder
from mmclip.engine.checks.duplicates import find_copies
from mmclip.few_shot.method import Encoded
from mmclip.named_model.encoder import Encoder
from mmclip.own_images.images import Images

Say = Callable[[str], None]


@dataclass(frozen=True)
class Material:
    """What a classifier is made from, and where it goes.

    Args:
        encoder (Encoder): The tower.
        seen (Encoded): All images, as the tower sees them.
        images (Images): The images.
        copies (np.ndarray): A number per image, the same for exact copies,
            ``(N,)``.
        folder (RunFolder): Where model, config and predictions go.
        seed (int): Of folds, bootstrap samples and training.
        say (Callable): Prints a line for the user.
    """

    encoder: Encoder
    seen: Encoded
    images: Images
    copies: np.ndarray
    folder: RunFolder
    seed: int
    say: Say


def copies(images: Images) -> np.ndarray:
    """Return a number per image, the same for exact copies, ``(N,)``."""
    found = np.arange(len(images))
    rows = {images.full_path(row): row for row in range(len(images))}
    for group in find_copies(list(rows)):
        found[[rows[path] for path in group]] = rows[group[0]]
    return found

"""What a user gives, refused before anything slow is imported."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mmclip.datasets.class_order import only_in
from mmclip.datasets.image_tree import class_folders
from mmclip.errors import (
    ArgumentError,
    DataError,
    did_you_mean,
)
from mmclip.own_images.images import Images

RECIPES = ('auto', 'light', 'full')


def check_recipe(recipe: str) -> None:
    """Refuse what is neither a recipe's name nor a config.

    Raises:
        ArgumentError: If it is not.
    """
    if recipe not in RECIPES and not Path(recipe).is_file():
        raise ArgumentError(
            f'--recipe {recipe} is neither {", ".join(RECIPES)} nor a config '
            f'file{did_you_mean(recipe, RECIPES)}.'
        )


def other_folders(
    folders: Sequence[str | Path], images: Images
) -> dict[str, dict[str, Any]]:
    """Return the configs of folders that are only measured, by name.

    Raises:
        ArgumentError: If two have the same name, or images have several
            labels.
        DataError: If one has other classes than the images.
    """
    if folders and images.several_labels:
        raise ArgumentError('--also-test is for images with one label each.')
    found: dict[str, dict[str, Any]] = {}
    for folder in map(Path, folders):
        if folder.name in found:
            raise ArgumentError(
                f'--also-test names two folders {folder.name}: rename one.'
            )
        classes = class_folders(str(folder))
        if differences := only_in(images=images.classes, folder=classes):
            raise DataError(
                f'{folder} must have the classes of the images '
                f'({differences}).'
            )
        found[folder.name] = dict(
            type='mmclip.ImageFolder',
            data_root=str(folder),
            metainfo=dict(classes=images.classes),
        )
    return found

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


def files_of_recipe(recipe: str) -> list[Path]:
    """Return the files of a recipe: a config, and those that it builds on.

    Raises:
        ArgumentError: If it is neither a recipe's name nor a file.
        ConfigError: If it is not a config.
    """
    if recipe in RECIPES:
        return []
    if not Path(recipe).is_file():
        raise ArgumentError(
            f'--recipe {recipe} is neither {", ".join(RECIPES)} nor a config '
            f'file{did_you_mean(recipe, RECIPES)}.'
        )
    from mmclip.engine.config.load import load_config

    # mmengine puts the path of each file before its text.
    lines = load_config(recipe).text.splitlines()
    return [Path(recipe), *(Path(s) for s in lines if s.endswith('.py'))]


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

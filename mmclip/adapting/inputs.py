"""What a user gives, refused before anything slow is imported."""

from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from mmclip.datasets.class_order import only_in
from mmclip.datasets.image_tree import class_folders
from mmclip.errors import (
    ArgumentError,
    CheckpointError,
    DataError,
    did_you_mean,
)
from mmclip.own_images.table import Images

TIMM = ('vit_', 'eva', 'naflexvit_')  # how its names begin
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


def check_model(model: str, weights: str | None) -> None:
    """Refuse what cannot be a model, by its name alone.

    Args:
        model (str): See :func:`.encoder.open_encoder`.
        weights (str | None): See there.

    Raises:
        ArgumentError: If a local model has weights already.
        CheckpointError: If it is neither a file or folder nor NAME/TAG, or
            open_clip has no such name.
        FileNotFoundError: If there is no file of weights.
    """
    exists = Path(model).expanduser().exists()
    if weights and exists:
        raise ArgumentError(
            f'--weights is for a NAME/TAG, but {model} has its own weights.'
        )
    if weights and not Path(weights).expanduser().exists():
        raise FileNotFoundError(f'There is no file {weights}.')
    if exists:
        return
    name, _, tag = model.partition('/')
    if not tag:
        raise CheckpointError(
            f'{model} is not a model: give NAME/TAG, such as '
            'ViT-B-32/openai, a folder with open_clip_config.json, or a '
            'file that mmclip converted.'
        )
    names = _open_clip_names()
    if name not in names and not name.startswith(TIMM):
        raise CheckpointError(
            f'open_clip has no model {name!r}{did_you_mean(name, names, 0.3)};'
            ' see open_clip.list_models().'
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


def _open_clip_names() -> set[str]:
    """List open_clip's models without importing it."""
    spec = find_spec('open_clip')
    assert spec and spec.origin
    configs = Path(spec.origin).parent / 'model_configs'
    return {path.stem for path in configs.glob('*.json')}

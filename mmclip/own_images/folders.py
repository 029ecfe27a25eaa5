"""Folders of images, with one folder per class."""

from pathlib import Path

from mmclip.datasets.image_tree import class_folders, read_tree
from mmclip.errors import DataError, some
from mmclip.own_images.splits import split_by_class
from mmclip.own_images.table import Images

# What users call the folders of their splits.
NAMES = dict(
    train=('train', 'training'),
    val=('val', 'valid', 'validation'),
    test=('test', 'testing'),
)


def read_folders(folder: Path, seed: int) -> Images:
    """Read class folders, below folders of splits or not.

    Args:
        folder (Path): The folder.
        seed (int): The seed of the split, where validation images are taken
            from the others.

    Raises:
        DataError: If there are no images, or fewer than two classes.
    """
    by_split = _folders_of_splits(folder)
    if by_split and 'train' not in by_split:
        raise DataError(
            f'{folder} has the folders {some(by_split.values())}, but no '
            'train/.'
        )
    paths: list[str] = []
    names: list[str] = []
    splits: list[str] = []
    for split, name in (by_split or {'train': ''}).items():
        tree = read_tree(str(folder / name))
        if loose := [path for path, label in tree.images if not label]:
            raise DataError(
                f'{folder / name} has images outside its class folders: '
                f'{some(loose)}. Move each into the folder of its class.'
            )
        for path, label in tree.images:
            paths.append(f'{name}/{path}' if name else path)
            names.append(label)
            splits.append(split)
    if not paths:
        raise DataError(f'{folder} has no images.')
    classes = tuple(
        sorted({n for n, s in zip(names, splits, strict=True) if s == 'train'})
    )
    unknown = sorted(set(names) - set(classes))
    if unknown:
        raise DataError(
            f'{folder} has classes without training images: {some(unknown)}.'
        )
    if len(classes) < 2:
        raise DataError(
            f'{folder} has images of one class only ({classes[0]}): at least '
            'two are needed, one folder per class.'
        )
    numbers = {name: i for i, name in enumerate(classes)}
    images = Images(
        str(folder),
        tuple(paths),
        tuple((numbers[name],) for name in names),
        tuple(splits),
        classes,
    )
    return images if 'val' in splits else split_by_class(images, seed)


def _folders_of_splits(folder: Path) -> dict[str, str]:
    """Return the folder of each split, by split."""
    found = class_folders(str(folder))
    return {
        split: name
        for split, names in NAMES.items()
        for name in found
        if name.lower() in names
    }

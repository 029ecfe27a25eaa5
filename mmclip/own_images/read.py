"""Reading of a user's images, in whatever form they come."""

from pathlib import Path

from mmclip.errors import DataError
from mmclip.own_images.folders import read_folders
from mmclip.own_images.table import Images


def read_images(source: str | Path, seed: int = 0) -> Images:
    """Read images, and split them if the user did not.

    Args:
        source (str | Path): A folder with ``train/``, ``val/`` and perhaps
            ``test/``, each with one folder per class; or a folder with one
            folder per class.
        seed (int): The seed of a split that is made here. Defaults to 0.

    Raises:
        DataError: If there are no images, or fewer than two classes.
        FileNotFoundError: If there is no such folder.
    """
    source = Path(source)
    if not source.exists():
        raise FileNotFoundError(f'There is no file or folder {source}.')
    if not source.is_dir():
        raise DataError(f'{source} is not a folder of images.')
    return read_folders(source, seed)

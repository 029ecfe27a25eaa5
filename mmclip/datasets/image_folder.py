"""A data set of images in one folder per class, or in a list."""

from collections import Counter
from collections.abc import Sequence
from logging import INFO
from typing import Any

from mmengine.fileio import join_path
from mmengine.logging import print_log
from mmpretrain.datasets import CustomDataset

from mmclip.datasets.class_order import check_folders
from mmclip.datasets.image_list import read_labelled_list, read_list
from mmclip.datasets.image_tree import (
    ImageTree,
    check_folder,
    count_suffixes,
    number_of,
    read_tree,
    warn_of_others,
)
from mmclip.errors import DataError, some
from mmclip.registry import DATASETS


@DATASETS.register_module()
class ImageFolder(CustomDataset):
    """mmpretrain's ``CustomDataset`` with all images that ``LoadImage`` reads.

    Labels are those of ``CustomDataset``: class folders are numbered
    alphabetically, or the list ``ann_file`` has the labels. Hidden folders,
    and those that systems create, are not classes; they are left out and
    logged, as are files that are not images.

    Args:
        *args: As in ``CustomDataset``.
        extensions (Sequence[str] | None): Suffixes of the files to use.
            Defaults to None: every image, by suffix or else by content.
        metainfo (dict | None): ``classes`` are names in the order of the
            labels. Defaults to the names of the folders.
        **kwargs: As in ``CustomDataset``.

    Raises:
        FileNotFoundError: On loading, if the folder or the list does not
            exist or has no image.
        DataError: On loading, if a line of the list is malformed, images are
            outside the class folders, or class names are in a different order
            from the folders.
    """

    images_per_folder: Counter[str] | None = None  # set on loading

    def __init__(
        self,
        *args: Any,
        extensions: Sequence[str] | None = None,
        **kwargs: Any,
    ):
        super().__init__(*args, extensions=extensions or (), **kwargs)

    def load_data_list(self) -> list[dict]:
        """List the images as dicts."""
        samples: Sequence[tuple[str, int | None]]
        if not self.ann_file:
            samples = self._find_samples()
        elif self.with_label:
            samples = read_labelled_list(self.ann_file)
        else:
            samples = [(path, None) for path in read_list(self.ann_file)]
        if not samples:
            raise FileNotFoundError(f'{self.ann_file} names no image.')
        return [
            dict(img_path=join_path(self.img_prefix, path))
            | (dict(gt_label=label) if self.with_label else {})
            for path, label in samples
        ]

    def is_valid_file(self, filename: str) -> bool:
        """Tell whether a file has one of the given suffixes, if any."""
        return not self.extensions or super().is_valid_file(filename)

    def _find_samples(self) -> list[tuple[str, int | None]]:
        check_folder(self.img_prefix, self.with_label)
        tree = read_tree(
            self.img_prefix, self.is_valid_file if self.extensions else None
        )
        if self.with_label:
            self._use_folders(tree)
        if not tree.images:
            raise FileNotFoundError(
                f'{self.img_prefix} has no image that can be read'
                f'{_found(tree)}.'
            )
        if tree.hidden:
            print_log(
                f'{self.img_prefix}: left out, because they are not images of '
                f'a class: {some(tree.hidden)}.',
                logger='current',
                level=INFO,
            )
        warn_of_others(tree)
        labels = {name: i for i, name in enumerate(tree.folders)}
        samples = [(path, labels.get(name)) for path, name in tree.images]
        self.images_per_folder = Counter(name for _, name in tree.images)
        return samples

    def _use_folders(self, tree: ImageTree) -> None:
        if loose := [path for path, folder in tree.images if not folder]:
            raise DataError(
                f'{self.img_prefix} has {number_of(len(loose), "image")} '
                f'{"outside its" if tree.folders else "and no"} class '
                f'folders: {some(loose)}. Move each into the folder '
                'of its class, or elsewhere; for images without labels, set '
                'with_label=False.'
            )
        self.folder_to_idx = {name: i for i, name in enumerate(tree.folders)}
        names = self.CLASSES
        if names is None:
            self._metainfo['classes'] = tuple(tree.folders)
        else:
            check_folders(
                names, tree.folders, 'metainfo.classes', self.img_prefix
            )


def _found(tree: ImageTree) -> str:
    if tree.others:
        return f' ({count_suffixes(tree.others)})'
    if tree.folders:
        return f'; its folders are empty: {", ".join(tree.folders[:10])}'
    return ' and no class folder'

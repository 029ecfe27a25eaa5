"""The data sets inside wrappers, and which of their images are used."""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, cast

from mmcv.transforms import LoadImageFromFile
from mmpretrain.datasets import CustomDataset, KFoldDataset

from mmclip.datasets.transforms.load_image import LoadImage

LISTED = 1000  # images of a list whose folders are compared with names
# Attributes of data sets that select some of their images.
CHOOSING = ('ann_file', 'image_set_path', '_indices')
# Attributes in which OpenMMLab's data sets and transforms hold others.
HOLDERS = ('dataset', 'datasets', 'pipeline', 'transforms', 'subroutines')


@dataclass(frozen=True)
class Part:
    """A data set that is not a wrapper.

    Args:
        dataset (Any): mmpretrain's, or another.
        is_chosen (bool): Whether some of its images were selected: by a list,
            by indices, or as a fold.
    """

    dataset: Any
    is_chosen: bool

    def root(self) -> str:
        """Return the folder of its images; empty if it has none."""
        prefix = getattr(self.dataset, 'data_prefix', None)
        found = prefix.get('img_path') if isinstance(prefix, dict) else None
        return found if isinstance(found, str) else ''

    def folders(self) -> list[str]:
        """List class folders in the order of labels; empty for lists."""
        labels: dict[str, int] = (
            getattr(self.dataset, 'folder_to_idx', None) or {}
        )
        return sorted(labels, key=labels.__getitem__)

    def listed_folders(self) -> dict[str, int]:
        """Return the folders in a list whose images share one label.

        A thousand images from all over the list are looked at.
        """
        size = len(self.dataset)
        found: dict[str, set[int]] = {}
        if getattr(self.dataset, 'ann_file', None) and self.lists_images():
            for i in range(0, size, max(1, size // LISTED)):
                info = self.dataset.get_data_info(i)
                label, path = info.get('gt_label'), info.get('img_path')
                if isinstance(label, int) and isinstance(path, str):
                    name = os.path.basename(os.path.dirname(path))
                    found.setdefault(name, set()).add(label)
        return {k: min(v) for k, v in found.items() if len(v) == 1}

    def lists_images(self) -> bool:
        """Tell whether it can list its images."""
        return hasattr(self.dataset, 'get_data_info')

    def paths(self) -> list[str]:
        """List the images' paths, as far as it knows them."""
        infos = map(self.dataset.get_data_info, range(len(self.dataset)))
        paths = (info.get('img_path') for info in infos)
        return [path for path in paths if isinstance(path, str)]


def parts_of(dataset: Any, is_chosen: bool = False) -> Iterator[Part]:
    """Yield the data sets inside ConcatDataset, RepeatDataset and others.

    Args:
        dataset (Any): A data set, perhaps a wrapper of others.
        is_chosen (bool): Whether some of its images were selected. Defaults
            to False.
    """
    inner = getattr(dataset, 'datasets', None) or [
        getattr(dataset, 'dataset', None)
    ]
    if inner == [None]:
        is_chosen |= any(getattr(dataset, name, None) for name in CHOOSING)
        yield Part(dataset, is_chosen)
    else:
        # mmpretrain's folds and torch's subsets.
        is_chosen |= isinstance(dataset, KFoldDataset)
        is_chosen |= hasattr(dataset, 'indices')
        for part in inner:
            yield from parts_of(part, is_chosen)


def image_loaders(holder: Any) -> Iterator[LoadImage | LoadImageFromFile]:
    """Yield the image loaders in a data set, pipeline or transform."""
    if isinstance(holder, LoadImage | LoadImageFromFile):
        yield holder
    elif isinstance(holder, list | tuple):
        for item in holder:
            yield from image_loaders(item)
    else:
        for name in HOLDERS:
            yield from image_loaders(getattr(holder, name, ()))


def is_like_custom_dataset(kind: Any) -> bool:
    """Tell whether a class finds images as ``CustomDataset`` does."""
    if not isinstance(kind, type) or not issubclass(kind, CustomDataset):
        return False
    kind = cast(Any, kind)
    return (
        kind._find_samples is CustomDataset._find_samples
        and kind.load_data_list is CustomDataset.load_data_list
    )

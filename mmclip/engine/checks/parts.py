"""The data sets inside others, and what was chosen of them."""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, cast

from mmcv.transforms import LoadImageFromFile
from mmpretrain.datasets import CustomDataset, KFoldDataset

from mmclip.datasets.image_folder import ImageFolder
from mmclip.datasets.load_image import LoadImage

LISTED = 1000  # images of a list whose folders are compared with names
# What data sets call a choice of some of their images.
CHOOSING = ('ann_file', 'image_set_path', '_indices')
# Where data sets and transforms of OpenMMLab hold others.
HOLDERS = ('dataset', 'datasets', 'pipeline', 'transforms', 'subroutines')


@dataclass(frozen=True)
class Part:
    """A data set that holds no other.

    Args:
        dataset (Any): As mmpretrain has them, or another.
        is_chosen (bool): Whether somebody chose some of its images: by a
            list, by indices, or as a fold.
    """

    dataset: Any
    is_chosen: bool

    def lists_folders(self) -> bool:
        """Whether the images are found in its folder, not in a list."""
        return isinstance(self.dataset, ImageFolder) and not _has_list(self)

    def lists_as_mmpretrain(self) -> bool:
        """The same of ``CustomDataset`` and those that find images alike."""
        alike = is_like_custom_dataset(type(self.dataset))
        return alike and not _has_list(self)

    def has_text_list(self) -> bool:
        """Whether a text file has a path and a label of each image."""
        kind = type(self.dataset)
        is_read_so = issubclass(kind, ImageFolder) or is_like_custom_dataset(
            kind
        )
        return is_read_so and _has_list(self)

    def root(self) -> str:
        """The folder of its images; empty where it has none or other files."""
        prefix = getattr(self.dataset, 'data_prefix', None)
        found = prefix.get('img_path') if isinstance(prefix, dict) else None
        return found if isinstance(found, str) else ''

    def folders(self) -> list[str]:
        """Class folders in the order of their labels; none of lists."""
        labels: dict[str, int] = (
            getattr(self.dataset, 'folder_to_idx', None) or {}
        )
        return sorted(labels, key=labels.__getitem__)

    def listed_folders(self) -> dict[str, int]:
        """Of a list: folders whose images have one label each, and which.

        Of a thousand images from all over the list.
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
        """Whether it can say which images it has."""
        return hasattr(self.dataset, 'get_data_info')

    def paths(self) -> list[str]:
        """The images' paths, if it lists images."""
        infos = map(self.dataset.get_data_info, range(len(self.dataset)))
        paths = (info.get('img_path') for info in infos)
        return [path for path in paths if isinstance(path, str)]


def parts_of(dataset: Any, is_chosen: bool = False) -> Iterator[Part]:
    """The data sets inside ConcatDataset, RepeatDataset and the like.

    Args:
        dataset (Any): A data set, which may hold others.
        is_chosen (bool): Whether some images were chosen of it. Defaults to
            False.
    """
    inner = getattr(dataset, 'datasets', None) or [
        getattr(dataset, 'dataset', None)
    ]
    if inner == [None]:
        is_chosen |= any(getattr(dataset, name, None) for name in CHOOSING)
        yield Part(dataset, is_chosen)
    else:
        # mmpretrain's folds, and torch's subsets.
        is_chosen |= isinstance(dataset, KFoldDataset)
        is_chosen |= hasattr(dataset, 'indices')
        for part in inner:
            yield from parts_of(part, is_chosen)


def image_loaders(holder: Any) -> Iterator[LoadImage | LoadImageFromFile]:
    """All that load images in a data set, pipeline or transform."""
    if isinstance(holder, LoadImage | LoadImageFromFile):
        yield holder
    elif isinstance(holder, list | tuple):
        for item in holder:
            yield from image_loaders(item)
    else:
        for name in HOLDERS:
            yield from image_loaders(getattr(holder, name, ()))


def is_like_custom_dataset(kind: Any) -> bool:
    """Whether a class finds images, and reads lists, as ``CustomDataset``."""
    if not isinstance(kind, type) or not issubclass(kind, CustomDataset):
        return False
    kind = cast(Any, kind)
    return (
        kind._find_samples is CustomDataset._find_samples
        and kind.load_data_list is CustomDataset.load_data_list
    )


def _has_list(part: Part) -> bool:
    return bool(part.dataset.ann_file)

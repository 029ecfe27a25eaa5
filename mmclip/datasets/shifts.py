"""ImageNet's distribution shifts, with ImageNet-1k's labels 0 to 999.

mmpretrain numbers class folders alphabetically, which is wrong for all of
these: some have 200 of the classes, ImageNet-V2 names folders by number, and
ObjectNet by object.
"""

import functools
import os
from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from typing import Any, ClassVar

from mmcv.transforms import BaseTransform
from mmengine.logging import MMLogger
from mmpretrain.datasets import CustomDataset
from mmpretrain.datasets.categories import IMAGENET_CATEGORIES
from mmpretrain.datasets.custom import get_samples

from mmclip.datasets.transforms.formats import SUFFIXES
from mmclip.errors import DataError, some
from mmclip.registry import DATASETS, TRANSFORMS
from mmclip.untrusted.rules import read_json

# Indices of the classes that a set has, in groups that count as one.
OwnClasses = tuple[tuple[int, ...], ...]


class ShiftedImageNet(CustomDataset):
    """A data set of class folders with ImageNet-1k's labels.

    Its metainfo has ``classes``, ImageNet-1k's names, and ``own_classes``:
    those that :class:`mmclip.evaluation.SubsetAccuracy` chooses between, or
    None for all thousand.

    Args:
        data_root (str): The folder that holds the class folders.
        pipeline (Sequence): The transforms. Defaults to none.
        indices (int | Sequence[int] | None): A part of the images, as in
            mmengine's ``BaseDataset``. Defaults to all.
        lazy_init (bool): Whether to list the images later. Defaults to False.

    Raises:
        FileNotFoundError: On loading, if there is no such folder or no image
            in it.
        DataError: On loading, if a folder is not one of the classes.
    """

    METAINFO: ClassVar = {'classes': IMAGENET_CATEGORIES}
    LAYOUT = 'n01440764/*.JPEG'

    def __init__(
        self,
        data_root: str,
        pipeline: Sequence[Any] = (),
        *,
        indices: int | Sequence[int] | None = None,
        lazy_init: bool = False,
    ):
        super().__init__(
            data_root=os.path.expanduser(data_root),
            pipeline=pipeline,
            metainfo=dict(own_classes=self.own_classes()),
            indices=indices,
            test_mode=True,
            extensions=sorted(SUFFIXES),
            lazy_init=lazy_init,
        )

    def own_classes(self) -> OwnClasses | None:
        """Return the classes that the set has, or None for all thousand."""
        return None

    def labels(self) -> dict[str, int]:
        """Return the label of each folder of the published set."""
        return {name: i for i, name in enumerate(imagenet_synsets())}

    def load_data_list(self) -> list[dict]:
        """List the images as dicts."""
        labels = self._labels_of_folders()
        samples, _ = get_samples(
            self.img_prefix, labels, is_valid_file=self.is_valid_file
        )
        if not samples:
            raise FileNotFoundError(self._expected('no image'))
        found = {label for _, label in samples}
        if missing := [k for k, v in self.labels().items() if v not in found]:
            MMLogger.get_current_instance().warning(
                f'{type(self).__name__} in {self.img_prefix!r} has no image '
                f'of {len(missing)} of its {len(self.labels())} classes '
                f'({some(missing)}): its accuracy cannot be compared with '
                'published ones.'
            )
        return [
            dict(img_path=os.path.join(self.img_prefix, path), gt_label=label)
            for path, label in samples
        ]

    def ignored_folders(self) -> set[str]:
        """Return the folders of the published set to leave out."""
        return set()

    def _labels_of_folders(self) -> dict[str, int]:
        root = Path(self.img_prefix)
        if not root.is_dir():
            raise FileNotFoundError(self._expected('no folder'))
        names = {
            path.name
            for path in root.iterdir()
            if path.is_dir() and not path.name.startswith('.')
        } - self.ignored_folders()
        labels = self.labels()
        if unknown := sorted(names - set(labels)):
            raise DataError(
                f'{some(unknown)} in {self.img_prefix!r}: not a class folder '
                f'of {type(self).__name__}, which has {len(labels)}, such as '
                f'{next(iter(labels))!r}; give the folder that holds these '
                'and nothing else.'
            )
        return {name: labels[name] for name in names}

    def _expected(self, what: str) -> str:
        return (
            f'{type(self).__name__}: {what} in {self.img_prefix!r}. '
            f'Expected, as published: {self.img_prefix.rstrip("/")}/'
            f'{self.LAYOUT}'
        )


@DATASETS.register_module()
class ImageNetVal(ShiftedImageNet):
    """ImageNet-1k's validation images, in folders named by synset.

    Unlike in mmpretrain's ``ImageNet``, a missing folder does not shift the
    labels.
    """


@DATASETS.register_module()
class ImageNetSketch(ShiftedImageNet):
    """ImageNet-Sketch: 50,889 drawings of the 1000 classes.

    Source: arXiv 1905.13549, https://github.com/HaohanWang/ImageNet-Sketch.
    """

    LAYOUT = 'n01440764/sketch_*.JPEG'


@DATASETS.register_module()
class ImageNetV2(ShiftedImageNet):
    """ImageNet-V2: 10,000 new photographs in folders named 0 to 999.

    For any of its variants: matched-frequency, threshold0.7, top-images.
    Source: arXiv 1902.10811, https://github.com/modestyachts/ImageNetV2.
    """

    LAYOUT = '0/*.jpeg ... 999/*.jpeg'

    def labels(self) -> dict[str, int]:
        """Return the labels: folders are named by class number."""
        return {str(i): i for i in range(len(IMAGENET_CATEGORIES))}


class _SynsetSubset(ShiftedImageNet):
    """Some of the thousand classes, in folders named by synset."""

    SYNSETS: str  # a file in timm

    def labels(self) -> dict[str, int]:
        """Return the label of each synset that the set has."""
        own = set(read_timm(self.SYNSETS).split())
        return {k: v for k, v in super().labels().items() if k in own}

    def own_classes(self) -> OwnClasses:
        """Return each class of the set as a group of its own."""
        return tuple((label,) for label in self.labels().values())


@DATASETS.register_module()
class ImageNetR(_SynsetSubset):
    """ImageNet-R: 30,000 renditions (art, toys, ...) of 200 classes.

    Source: arXiv 2006.16241, https://github.com/hendrycks/imagenet-r.
    """

    SYNSETS = 'imagenet_r_synsets.txt'
    LAYOUT = 'n01443537/*.jpg'


@DATASETS.register_module()
class ImageNetA(_SynsetSubset):
    """ImageNet-A: 7,500 photographs of 200 classes that ResNet-50 gets wrong.

    Source: arXiv 1907.07174,
    https://github.com/hendrycks/natural-adv-examples.
    """

    SYNSETS = 'imagenet_a_synsets.txt'
    LAYOUT = 'n01498041/*.jpg'


@DATASETS.register_module()
class ObjectNet(ShiftedImageNet):
    """ObjectNet: objects in unusual places and poses, named by object.

    113 of its 313 objects are one or more classes of ImageNet-1k; the images
    of the others are left out. The label is the first of these classes, and
    ``own_classes`` says which count as the same object. The red border of
    the images is cut off (2 pixels, as in WiSE-FT's ``objectnet.py``) after
    they are loaded.

    Source: https://objectnet.dev.

    Args:
        data_root (str): The folder ``objectnet-1.0/images``.
        pipeline (Sequence): The transforms. Defaults to none.
        mappings (str | None): The folder with the published
            ``folder_to_objectnet_label.json`` and
            ``objectnet_to_imagenet_1k.json``. Defaults to ``mappings`` next
            to ``data_root``.
        **kwargs: As in :class:`ShiftedImageNet`.

    Raises:
        FileNotFoundError: If a mapping file is missing.
        DataError: If the mappings name a class that ImageNet-1k does not
            have, or the pipeline does not load an image.
    """

    LAYOUT = 'alarm_clock/*.png'

    def __init__(
        self,
        data_root: str,
        pipeline: Sequence[Any] = (),
        *,
        mappings: str | None = None,
        **kwargs: Any,
    ):
        folder = Path(data_root).expanduser()
        self._objects, self._others = _read_mappings(
            Path(mappings) if mappings else folder.parent / 'mappings'
        )
        super().__init__(data_root, _cut_border(pipeline), **kwargs)

    def labels(self) -> dict[str, int]:
        """Return the first class of each object that ImageNet-1k has."""
        return {name: classes[0] for name, classes in self._objects.items()}

    def own_classes(self) -> OwnClasses:
        """Return the classes of each object."""
        return tuple(self._objects.values())

    def ignored_folders(self) -> set[str]:
        """Return the objects that ImageNet-1k does not have."""
        return self._others


@TRANSFORMS.register_module()
class CropBorder(BaseTransform):
    """A transform that cuts the border off an image.

    Args:
        width (int): Its width in pixels, on each side.
    """

    def __init__(self, width: int):
        self.width = width

    def transform(self, results: dict) -> dict:
        """Crop ``results['img']``, ``(H, W, C)``."""
        inside = slice(self.width, -self.width)
        results['img'] = results['img'][inside, inside]
        results['img_shape'] = results['img'].shape[:2]
        return results


@functools.cache
def imagenet_synsets() -> tuple[str, ...]:
    """Return ImageNet-1k's synsets (``n01440764``, ...) in label order."""
    from timm.data import ImageNetInfo

    return tuple(ImageNetInfo().label_names())


def read_timm(name: str) -> str:
    """Read a file about ImageNet that comes with timm."""
    return (resources.files('timm.data') / '_info' / name).read_text()


def _cut_border(pipeline: Sequence[Any]) -> list[Any]:
    """Add a transform that cuts off ObjectNet's border after loading."""
    pipeline = list(pipeline)
    for i, transform in enumerate(pipeline):
        if 'Load' in _name_of(transform):
            crop = dict(type='mmclip.CropBorder', width=2)
            return [*pipeline[: i + 1], crop, *pipeline[i + 1 :]]
    if pipeline:
        raise DataError(
            "ObjectNet's border is cut off after the image is loaded, but its "
            'pipeline has no transform named Load...: '
            f'{", ".join(map(_name_of, pipeline))}.'
        )
    return pipeline


def _name_of(transform: Any) -> str:
    kind = transform['type'] if isinstance(transform, dict) else transform
    if isinstance(kind, str):
        return kind
    return getattr(kind, '__name__', type(kind).__name__)


def _read_mappings(
    folder: Path,
) -> tuple[dict[str, tuple[int, ...]], set[str]]:
    """Read ObjectNet's folders with their classes, and those without."""
    names = _read_json(folder / 'folder_to_objectnet_label.json')
    path = folder / 'objectnet_to_imagenet_1k.json'
    in_imagenet = _read_json(path)
    labels = {name: i for i, name in enumerate(IMAGENET_CATEGORIES)}
    objects = {}
    for name in sorted(names):
        classes = in_imagenet.get(names[name], '')
        unknown = [c for c in classes.split('; ') if c and c not in labels]
        if unknown:
            raise DataError(
                f'{path}: {unknown[0]!r} is not the name of an ImageNet-1k '
                'class; use the file that ObjectNet publishes.'
            )
        if classes:
            objects[name] = tuple(labels[c] for c in classes.split('; '))
    return objects, set(names) - set(objects)


def _read_json(path: Path) -> dict[str, str]:
    if not path.is_file():
        raise FileNotFoundError(
            f'{path} is missing; it is in the folder mappings of ObjectNet.'
        )
    return read_json(path)

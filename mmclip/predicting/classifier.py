"""A classifier for use in a script or notebook."""

import logging
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, overload

import torch
from mmcv.transforms import Compose
from mmengine.device import get_device
from mmengine.logging import print_log
from mmengine.registry import DefaultScope
from mmpretrain.models.heads import MultiLabelClsHead
from torch import Tensor, nn
from tqdm import tqdm

from mmclip.checkpoint.meta import Clip
from mmclip.datasets.preprocessing import test_pipeline
from mmclip.datasets.transforms.load_image import LoadImageError
from mmclip.errors import some
from mmclip.predicting.inputs import find_images
from mmclip.predicting.label_sets import LabelSets
from mmclip.predicting.loading import (
    FEW,
    Picture,
    as_pictures,
    batches,
    is_one,
)
from mmclip.predicting.predictions import (
    Prediction,
    Predictions,
    printable,
)


class Classifier:
    """A model that answers for images; :func:`mmclip.load` makes one.

    An image is a path, a ``PIL.Image`` or a numpy array of RGB pixels,
    ``(H, W, 3)`` uint8.

    Args:
        model (nn.Module): An mmpretrain classifier.
        clip (dict): Its ``meta['clip']``, with classes and preprocessing.
        device (str | None): Defaults to a GPU if there is one.
    """

    def __init__(
        self, model: nn.Module, clip: Clip, device: str | None = None
    ):
        self.device = device or get_device()
        self.model: Any = model.eval().to(self.device)
        self.classes = list(clip['classes'])
        answers = clip.get('answers') or {}
        self.temperature = answers.get('temperature', 1.0)
        self.threshold = answers.get('threshold', 0.0)
        self.several_labels = isinstance(self.model.head, MultiLabelClsHead)
        self.thresholds = torch.tensor(
            answers.get('thresholds', [0.5] * len(self.classes))
        )
        with DefaultScope.overwrite_default_scope('mmpretrain'):
            self._prepare = Compose(
                test_pipeline(clip['preprocess'], clip['img_size'])
            )

    def __repr__(self) -> str:
        names = printable(some(self.classes))
        return f'Classifier of {len(self.classes)} classes: {names}'

    @overload  # a text is one path, although it is a sequence of texts
    def predict(  # type: ignore[overload-overlap]
        self, images: Picture
    ) -> Prediction: ...

    @overload
    def predict(self, images: Iterable[Picture]) -> Predictions: ...

    def predict(self, images: Any) -> Prediction | Predictions:
        """Classify an image, or several.

        Args:
            images (Picture | Iterable): An image, or several: a list, a
                column of a table, a generator, or an array ``(N, H, W, 3)``.

        Returns:
            Prediction | Predictions: One answer for one image, else a table,
            in which unreadable images have a note; they are also logged. If
            images may have several labels, :class:`.label_sets.LabelSet` and
            :class:`.label_sets.LabelSets`.

        Raises:
            ArgumentError: If something is not an image.
            LoadImageError: If a single image cannot be read.
        """
        if is_one(images):
            answer = self.answer(images)[0]
            if answer.note:
                raise LoadImageError(answer.note)
            return answer
        found = self.answer(images)
        for answer in found.unreadable:
            print_log(answer.note, logger='current', level=logging.WARNING)
        return found

    def predict_folder(self, folder: str | Path) -> Predictions:
        """Classify all images in a folder and below it."""
        return self.predict(find_images(folder))

    def features(self, images: Picture | Iterable[Picture]) -> Tensor:
        """Compute what the head sees of each image, ``(N, C)``.

        Raises:
            LoadImageError: If an image cannot be read.
        """

        def before_head(inputs: Tensor) -> Tensor:
            return self.model.extract_feat(inputs, stage='pre_logits')

        found, unreadable = self._compute(as_pictures(images), before_head)
        if unreadable:
            raise LoadImageError('\n'.join(unreadable.values()))
        return found

    def answer(self, images: Picture | Iterable[Picture]) -> Predictions:
        """Classify images into a table, without a word."""
        images = as_pictures(images)
        logits, unreadable = self._compute(images, self.model)
        paths = [_path(image, row) for row, image in enumerate(images)]
        if self.several_labels:
            return LabelSets(
                paths,
                logits.sigmoid(),
                self.classes,
                self.thresholds,
                unreadable,
            )
        return Predictions(
            paths,
            (logits / self.temperature).softmax(dim=1),
            self.classes,
            self.threshold,
            unreadable,
        )

    def _compute(
        self, images: list[Picture], function: Callable[[Tensor], Tensor]
    ) -> tuple[Tensor, dict[int, str]]:
        """Apply a function of batches to all images that can be read.

        Returns:
            tuple[Tensor, dict[int, str]]: ``(N, ...)`` with zeros for images
            that cannot be read, and what is wrong with these, by row.
        """
        parts: list[Tensor] = []
        rows: list[int] = []
        unreadable: dict[int, str] = {}
        with (
            torch.no_grad(),
            tqdm(
                total=len(images),
                unit=' images',
                disable=None if len(images) >= FEW else True,
            ) as bar,
        ):
            for inputs, read, wrong in batches(images, self._prepare):
                if read:
                    inputs = self.model.data_preprocessor(dict(inputs=inputs))
                    parts.append(function(inputs['inputs']).float().cpu())
                rows += read
                unreadable |= wrong
                bar.update(len(read) + len(wrong))
        width = parts[0].shape[1] if parts else len(self.classes)
        found = torch.zeros(len(images), width)
        if parts:
            found[rows] = torch.cat(parts)
        return found, unreadable


def _path(image: Picture, row: int) -> str:
    if isinstance(image, str | Path):
        return str(image)
    return str(getattr(image, 'filename', '') or f'image {row}')

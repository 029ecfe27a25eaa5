"""A classifier for use in a script or notebook."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from mmcv.transforms import Compose
from mmengine.device import get_device
from mmengine.registry import DefaultScope
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from tqdm import tqdm

from mmclip.checkpoint.meta import Clip
from mmclip.datasets.preprocessing import test_pipeline
from mmclip.predicting.inputs import find_images
from mmclip.predicting.predictions import Prediction, Predictions

FEW = 16  # with fewer images, processes to load them cost more than they save


class Classifier:
    """A model that answers for images; :func:`mmclip.load` makes one.

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
        with DefaultScope.overwrite_default_scope('mmpretrain'):
            self._prepare = Compose(
                test_pipeline(clip['preprocess'], clip['img_size'])
            )

    def predict(
        self, images: str | Path | Sequence[str | Path]
    ) -> Prediction | Predictions:
        """Classify an image, or several.

        Args:
            images (str | Path | Sequence): A path, or several.

        Returns:
            Prediction | Predictions: One answer for one path, else a table.
        """
        if isinstance(images, str | Path):
            return self.predict_all([images])[0]
        return self.predict_all(images)

    def predict_folder(self, folder: str | Path) -> Predictions:
        """Classify all images in a folder and below it."""
        return self.predict_all(find_images(folder))

    def features(self, images: Sequence[str | Path]) -> Tensor:
        """Compute what the head sees of each image, ``(N, C)``."""
        with torch.inference_mode():
            return torch.cat(
                [
                    self.model.extract_feat(inputs, stage='pre_logits').cpu()
                    for inputs in self._batches([str(p) for p in images])
                ]
            )

    def predict_all(self, images: Sequence[str | Path]) -> Predictions:
        """Classify several images, or one, into a table."""
        paths = [str(path) for path in images]
        with torch.inference_mode():
            logits = torch.cat(
                [
                    self.model(inputs).float().cpu()
                    for inputs in self._batches(paths)
                ]
            )
        return Predictions(
            paths,
            (logits / self.temperature).softmax(dim=1),
            self.classes,
            self.threshold,
        )

    def _batches(self, paths: list[str]) -> Iterator[Tensor]:
        loader = DataLoader(
            _Files(paths, self._prepare),
            batch_size=32,
            num_workers=2 if len(paths) > FEW else 0,
        )
        many = len(paths) > 32
        for batch in tqdm(
            loader, disable=None if many else True, unit='batch'
        ):
            batch = self.model.data_preprocessor(dict(inputs=batch))
            yield batch['inputs']


class _Files(Dataset):
    def __init__(self, paths: list[str], prepare: Any):
        self.paths, self.prepare = paths, prepare

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, row: int) -> Tensor:
        return self.prepare(dict(img_path=self.paths[row]))['inputs']

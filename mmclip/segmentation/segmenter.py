"""Segmentation of image files by a CLIP model and names."""

from collections.abc import Callable, Sequence

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from mmengine.utils import to_2tuple
from PIL import Image
from torch import Tensor

from mmclip.checkpoint.grids import tell_grid
from mmclip.datasets.preprocessing import data_preprocessor
from mmclip.errors import CheckpointError, DataError
from mmclip.models.loading import CALLER, loaded_by
from mmclip.named_model.encoder import Encoder
from mmclip.registry import MODELS
from mmclip.segmentation.checkpoint import check_tower
from mmclip.segmentation.class_names import ClassNames
from mmclip.segmentation.scores import (
    class_scores,
    enlarge_and_choose,
    name_logits,
)
from mmclip.segmentation.sliding import falling_to_the_edges, slide
from mmclip.text.class_embeddings import Template

LARGER = 1.5  # the shorter side of an image, in windows
WINDOWS = 'windows'  # of ``dense``: patches are not compared with names
LONGEST = 20  # the longer side of an image, in shorter ones


class Segmenter:
    """A CLIP model that says what is at each pixel of an image.

    Windows of the size that the model was trained with slide over the image
    by half of it, as in SCLIP (https://arxiv.org/abs/2312.01597). Where they
    overlap, scores of classes are averaged, as with :class:`ZeroShotSegHead`.
    With ``dense='windows'``, each window is named as a whole, like those of
    CLIP-DIY (https://arxiv.org/abs/2309.14289), and counts most at its centre.

    Args:
        encoder (Encoder): A CLIP model with a text tower.
        classes (ClassNames): What to choose from.
        templates (Sequence): Texts with ``{}`` for a name.
        dense (str): ``'windows'``, or see
            :class:`mmclip.models.CLIPVisionTransformer`. Defaults to
            ``'sclip'``.
        threshold (float): See :func:`.scores.class_scores`. Defaults to 0.
        short_side (int | None): To how many pixels the shorter side of an
            image is resized. Defaults to None: one and a half windows.
        device (str): Where to compute. Defaults to ``'cpu'``.
        say (Callable): Prints a line for the user. Defaults to nothing.

    Raises:
        CheckpointError: If the model has no text tower, or its image tower
            is not a plain one of CLIP's.
        ValueError: If there is a threshold, but no background.
    """

    def __init__(
        self,
        encoder: Encoder,
        classes: ClassNames,
        templates: Sequence[Template],
        *,
        dense: str = 'sclip',
        threshold: float = 0.0,
        short_side: int | None = None,
        device: str = 'cpu',
        say: Callable[[str], None] = lambda line: None,
    ):
        if threshold and classes.background is None:
            raise ValueError('threshold needs classes with a background.')
        if encoder.embed is None:
            raise CheckpointError(
                f'{encoder.called} has no text tower, which names need: give '
                "open_clip's NAME/TAG, or a folder with the whole model."
            )
        backbone = encoder.backbone(projects=True)
        check_tower(backbone, encoder.called)
        self.classes = classes
        self.window = to_2tuple(encoder.clip['img_size'])
        self.short_side = short_side or round(LARGER * min(self.window))
        self.threshold, self.device = threshold, torch.device(device)
        text = encoder.embed(classes.names, templates, say)
        self.weight = (text.logit_scale * text.embeddings).to(self.device)
        self.bias = torch.full(
            (len(classes.names),), text.logit_bias, device=self.device
        )
        self.class_of = torch.tensor(classes.class_of, device=self.device)
        self.weight_of_pixels: Tensor | None = None
        if dense == WINDOWS:
            self.weight_of_pixels = falling_to_the_edges(self.window).to(
                self.device
            )
        else:
            backbone |= dict(out_type='featmap', dense=dense)
        with loaded_by(CALLER):
            self.tower = MODELS.build(backbone).to(self.device).eval()
        weights = dict(
            state_dict=encoder.state_dict, meta=dict(clip=encoder.clip)
        )
        told = tell_grid(weights, encoder.called)
        self.tower.load_state_dict(told['state_dict'])
        preprocess = encoder.clip['preprocess']
        method = preprocess['interpolation'].upper()
        self.interpolation = Image.Resampling[method]
        pixels = data_preprocessor(preprocess)
        self.mean, self.std = (
            torch.tensor(pixels[key], device=self.device).view(3, 1, 1)
            for key in ('mean', 'std')
        )

    @torch.inference_mode()
    def __call__(self, image: np.ndarray) -> Tensor:
        """Return the class of each pixel: ``(height, width)``, int64.

        Args:
            image (np.ndarray): BGR, ``(height, width, 3)`` uint8.

        Raises:
            DataError: If it is far longer than wide, or wider than high.
        """
        size = image.shape[:2]
        scores = slide(
            self._pixels(image),
            self._scores,
            self.window,
            (self.window[0] // 2, self.window[1] // 2),
            self.weight_of_pixels,
        )
        return enlarge_and_choose(scores, size).cpu()

    def _pixels(self, image: np.ndarray) -> Tensor:
        """Resize and normalise BGR pixels: ``(1, 3, height, width)``."""
        height, width = image.shape[:2]
        if max(height, width) > LONGEST * min(height, width):
            raise DataError(
                f'An image of {width}x{height} pixels is more than {LONGEST} '
                'times as long as it is wide: cut it.'
            )
        scale = self.short_side / min(height, width)
        size = (round(scale * width), round(scale * height))
        rgb = Image.fromarray(cv2.cvtColor(image, cv2.COLOR_BGR2RGB))
        resized = np.asarray(rgb.resize(size, self.interpolation))
        x = torch.from_numpy(resized.copy()).to(self.device)
        return ((x.permute(2, 0, 1).float() - self.mean) / self.std)[None]

    def _scores(self, window: Tensor) -> Tensor:
        x = self.tower(window)[-1]
        if x.ndim == 2:  # one for the whole window
            x = x[..., None, None]
        logits = name_logits(x, self.weight, self.bias)
        return class_scores(
            F.interpolate(
                logits, self.window, mode='bilinear', align_corners=False
            ),
            self.class_of,
            len(self.classes.classes),
            self.classes.background,
            self.threshold,
        )

"""A classifier that is fine-tuned the way CLIP was pretrained."""

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from mmengine.dist import get_rank, get_world_size
from mmpretrain.models.classifiers import ImageClassifier
from torch import Tensor

from mmclip.errors import ConfigError
from mmclip.registry import MODELS
from mmclip.text.class_embeddings import (
    Template,
    class_names,
    embed_with,
    make_texts,
    named_templates,
)


@MODELS.register_module()
class ContrastiveClassifier(ImageClassifier):
    """FLYP: fine-tune like you pretrain (https://arxiv.org/abs/2212.00638).

    Both towers are trained with CLIP's loss on images and captions of their
    classes, each from a random template. Images are classified by the class
    embeddings, which are computed again whenever the model leaves training
    or is loaded. The loss is open_clip's, over the batches of all processes;
    images of the same class are each other's negatives, as in FLYP's own
    ``src/models/flyp_loss.py``. Data-parallel training works; torch's
    ``fully_shard`` refuses the text tower's scalar ``logit_scale``.

    Args:
        backbone (dict): The image tower, which must return the projected
            feature.
        text (dict): The text tower, of type ``mmclip.OpenCLIPTextTower``.
        classes (str | Sequence[str]): ``'imagenet'``, a file with one name
            per line, or the names, in the order of the labels.
        templates (str | Sequence[str]): ``'openai'``, ``'simple'``, a file
            with one template per line, or the templates.
        data_preprocessor (dict | None): As in mmpretrain's classifiers.
        init_cfg (dict | None): As in mmpretrain's classifiers.

    Raises:
        FileNotFoundError: If a file of names is missing.
        ConfigError: If there are no classes or templates.
    """

    def __init__(
        self,
        backbone: dict[str, Any],
        text: dict[str, Any],
        classes: str | Sequence[str] = 'imagenet',
        templates: str | Sequence[Template] = 'openai',
        data_preprocessor: dict[str, Any] | None = None,
        init_cfg: dict[str, Any] | None = None,
    ):
        from open_clip import ClipLoss

        self.classes = class_names(classes)
        self.templates = named_templates(templates)
        texts = make_texts(self.classes, self.templates)
        tower = MODELS.build(text)
        super().__init__(
            backbone,
            head=dict(
                type='mmclip.ZeroShotClsHead',
                num_classes=len(self.classes),
                in_channels=tower(['']).shape[1],
            ),
            data_preprocessor=data_preprocessor,
            init_cfg=init_cfg,
        )
        self.text = tower
        self.captions = texts
        self.head.requires_grad_(False)  # computed by the text tower
        self._head_is_current = False
        self.register_load_state_dict_post_hook(_head_is_out_of_date)
        self.contrast = ClipLoss(
            local_loss=True,
            gather_with_grad=True,
            rank=get_rank(),
            world_size=get_world_size(),
        )

    def loss(
        self, inputs: Tensor, data_samples: list[Any]
    ) -> dict[str, Tensor]:
        """Compute CLIP's loss of a batch.

        Raises:
            ConfigError: If a label has no class, or the features of image and
                text differ in width.
        """
        labels = [int(sample.gt_label) for sample in data_samples]
        if max(labels) >= len(self.classes):
            raise ConfigError(
                f'An image has the label {max(labels)}, but there are only '
                f'{len(self.classes)} classes: set model.classes to those of '
                'the data set, in its order.'
            )
        drawn = torch.randint(len(self.templates), (len(labels),)).tolist()
        texts = [
            self.captions[label][i]
            for label, i in zip(labels, drawn, strict=True)
        ]
        images = F.normalize(self.extract_feat(inputs)[-1], dim=-1)  # (B, D)
        if images.shape[1] != self.head.in_channels:
            raise ConfigError(
                f'The image feature has {images.shape[1]} numbers, but the '
                f'text feature has {self.head.in_channels}: set '
                f'model.backbone.proj_dim={self.head.in_channels}.'
            )
        loss = self.contrast(images, self.text(texts), self.text.logit_scale)
        return dict(loss=loss)

    def predict(
        self, inputs: Tensor, data_samples: list[Any] | None = None, **_: Any
    ) -> list[Any]:
        """Classify by the current class embeddings."""
        self._update_head_if_needed()
        return super().predict(inputs, data_samples)

    def train(self, mode: bool = True) -> 'ContrastiveClassifier':
        """Set the mode and mark the head as out of date."""
        super().train(mode)
        self._head_is_current = False
        return self

    def forward(
        self,
        inputs: Tensor,
        data_samples: list[Any] | None = None,
        mode: str = 'tensor',
    ) -> Any:
        """Run the model like any other mmpretrain classifier."""
        if mode == 'tensor':
            self._update_head_if_needed()
        return super().forward(inputs, data_samples, mode)

    def update_head(self, progress: bool = False) -> None:
        """Embed the classes with the current text tower, in float32."""
        device = self.head.fc.weight.device.type
        with torch.no_grad(), torch.autocast(device, enabled=False):
            found = embed_with(
                self.text.clip,
                self.text.tokenizer,
                self.classes,
                self.templates,
                progress=progress,
            )
        self.head.load_state_dict(found.head())
        self._head_is_current = not self.training

    def _update_head_if_needed(self) -> None:
        if not self._head_is_current:
            self.update_head()


def _head_is_out_of_date(model: ContrastiveClassifier, _: Any) -> None:
    model._head_is_current = False

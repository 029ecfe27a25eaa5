"""A decode head of mmsegmentation whose weights are embeddings of names."""

from typing import Any

import torch
from mmseg.models.decode_heads.decode_head import BaseDecodeHead
from torch import Tensor, nn

from mmclip.errors import CheckpointError
from mmclip.registry import MODELS
from mmclip.segmentation.scores import class_scores, name_logits


@MODELS.register_module()
class ZeroShotSegHead(BaseDecodeHead):
    """CLIP's zero-shot classifier at each pixel, for testing.

    The backbone is a :class:`mmclip.CLIPVisionTransformer` with ``proj_dim``,
    ``out_type='featmap'`` and ``dense``. ``mmclip zero-shot --segmenter``
    makes the checkpoint of both. Scores are probabilities: those of a class
    are the highest of its names', and the segmentor averages them over its
    windows.

    Args:
        in_channels (int): The width D of the joint space.
        num_classes (int): The number of classes K.
        num_names (int | None): The number of names M of all classes. Defaults
            to None: one per class.
        background (int | None): The class of pixels that are none of the
            others. Defaults to None: there is none.
        threshold (float): What is less likely, in 0..1, is background.
            Defaults to 0.
        **kwargs: As in mmseg's ``BaseDecodeHead``.
    """

    def __init__(
        self,
        in_channels: int,
        num_classes: int,
        num_names: int | None = None,
        background: int | None = None,
        threshold: float = 0.0,
        **kwargs: Any,
    ):
        if threshold and background is None:
            raise ValueError('threshold needs background, the class below it.')
        if background is not None and not 0 <= background < num_classes:
            raise ValueError(
                f'background must be one of the {num_classes} classes, got '
                f'{background}.'
            )
        if kwargs.setdefault('out_channels', num_classes) != num_classes:
            raise ValueError(
                'out_channels must be num_classes, as scores are not logits '
                f'of one class; got {kwargs["out_channels"]}.'
            )
        if not 0 <= threshold <= 1:
            raise ValueError(f'threshold must be in 0..1, got {threshold}.')
        super().__init__(
            in_channels=in_channels,
            channels=in_channels,
            num_classes=num_classes,
            **(dict(init_cfg=None) | kwargs),
        )
        del self.conv_seg
        self.background, self.background_threshold = background, threshold
        self.fc = nn.Linear(in_channels, num_names or num_classes)
        class_of = torch.arange(num_classes)
        if num_names is not None:  # which the checkpoint has to deal out
            class_of = torch.full((num_names,), -1)
        self.register_buffer('class_of', class_of)
        self.register_load_state_dict_pre_hook(_refuse_other_classes)

    def forward(self, inputs: Any) -> Tensor:
        """Compare the last map ``(B, D, H, W)`` with the M names."""
        x = self._transform_inputs(inputs)
        return name_logits(x, self.fc.weight, self.fc.bias)

    def predict_by_feat(
        self, seg_logits: Tensor, batch_img_metas: list[dict]
    ) -> Tensor:
        """Enlarge to the image or window, and score the K classes."""
        logits = super().predict_by_feat(seg_logits, batch_img_metas)
        return class_scores(
            logits,
            self.class_of,
            self.num_classes,
            self.background,
            self.background_threshold,
        )

    def loss_by_feat(self, seg_logits: Tensor, batch_data_samples: Any) -> Any:
        """Refuse to train.

        Raises:
            NotImplementedError: Always.
        """
        raise NotImplementedError(
            'ZeroShotSegHead is for testing. To train on masks, use another '
            'head, as in configs/mmseg.'
        )


def _refuse_other_classes(
    module: ZeroShotSegHead, state_dict: dict, prefix: str, *_: Any
) -> None:
    class_of = state_dict.get(f'{prefix}class_of')
    if class_of is None or not class_of.numel():
        return  # the caller's strict check reports it
    if len(class_of) != len(module.class_of):
        raise CheckpointError(
            f'The checkpoint has {len(class_of)} names of classes, the head '
            f'{len(module.class_of)}: set num_names={len(class_of)}.'
        )
    if class_of.min() < 0 or class_of.max() + 1 != module.num_classes:
        raise CheckpointError(
            f'{prefix}class_of has classes {int(class_of.min())} to '
            f'{int(class_of.max())}, but num_classes of the head is '
            f'{module.num_classes}.'
        )

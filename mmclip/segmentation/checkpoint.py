"""Checkpoints of zero-shot segmenters, for mmsegmentation."""

from collections.abc import Sequence
from typing import Any

import torch
from mmengine.utils import to_2tuple

from mmclip.checkpoint.towers.sources import find_source
from mmclip.checkpoint.towers.tower import CLIP
from mmclip.datasets.preprocessing import data_preprocessor
from mmclip.errors import CheckpointError
from mmclip.segmentation.class_names import ClassNames
from mmclip.segmentation.map_file import colour
from mmclip.text.class_embeddings import Template
from mmclip.text.zero_shot import zero_shot_checkpoint


def check_tower(backbone: dict[str, Any], called: str) -> None:
    """Refuse towers whose patches cannot be compared with names.

    Raises:
        CheckpointError: If it is not a plain tower of CLIP's.
    """
    if backbone['type'] != CLIP or backbone.get('pool') == 'attention':
        raise CheckpointError(
            f'{called} cannot segment: its image tower is not a plain vision '
            'transformer of CLIP, such as ViT-B-16/openai.'
        )


def segmenter_lines(checkpoint: dict[str, Any]) -> str:
    """Return the lines that are the ``model`` of a config of mmseg."""
    state_dict, clip = checkpoint['state_dict'], checkpoint['meta']['clip']
    num_names, width = state_dict['decode_head.fc.weight'].shape
    num_classes = int(state_dict['decode_head.class_of'].max()) + 1
    backbone = clip['backbone'] | dict(out_type='featmap', dense='sclip')
    head = dict(
        type='mmclip.ZeroShotSegHead',
        in_channels=width,
        num_classes=num_classes,
        num_names=num_names,
    )
    pixels = data_preprocessor(clip['preprocess'])
    pixels['bgr_to_rgb'] = pixels.pop('to_rgb')
    height, width = to_2tuple(clip['img_size'])
    parts = dict(
        data_preprocessor=dict(type='SegDataPreProcessor') | pixels,
        backbone=backbone,
        decode_head=head,
        test_cfg=dict(
            mode='slide',
            crop_size=(height, width),
            stride=(height // 2, width // 2),
        ),
    )
    return "  type='EncoderDecoder',\n" + '\n'.join(
        f'  {name}=dict({", ".join(f"{k}={v!r}" for k, v in part.items())}),'
        for name, part in parts.items()
    )


def segmenter_checkpoint(
    name: str,
    pretrained: str,
    classes: ClassNames,
    templates: Sequence[Template],
    tag: str | None = None,
    device: str = 'cpu',
) -> dict[str, Any]:
    """Convert an image tower, and give it a :class:`ZeroShotSegHead`.

    Args:
        name (str): This and the others are as in
            :func:`mmclip.text.zero_shot.zero_shot_checkpoint`.
        pretrained (str): See there.
        classes (ClassNames): What to choose from.
        templates (Sequence): See there.
        tag (str | None): See there.
        device (str): See there.

    Returns:
        dict: A checkpoint with ``backbone.*`` and ``decode_head.*``.

    Raises:
        CheckpointError: See there, and :func:`check_tower`.
    """
    tower, _ = find_source(name, pretrained, tag)
    check_tower(tower.backbone, name)  # before the text tower's work
    checkpoint = zero_shot_checkpoint(
        name, pretrained, classes.names, templates, tag, device
    )
    state_dict = {
        key.replace('head.', 'decode_head.', 1)
        if key.startswith('head.')
        else key: tensor
        for key, tensor in checkpoint['state_dict'].items()
    }
    state_dict['decode_head.class_of'] = torch.tensor(classes.class_of)
    clip = checkpoint['meta']['clip']
    del clip['head'], clip['classes']
    return dict(
        meta=dict(
            clip=clip,
            dataset_meta=dict(
                classes=classes.classes,
                palette=[list(colour(i)) for i in range(len(classes.classes))],
            ),
        ),
        state_dict=state_dict,
    )

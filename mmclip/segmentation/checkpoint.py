"""Whole zero-shot segmentors for mmsegmentation."""

from collections.abc import Sequence
from typing import Any

import torch

from mmclip.segmentation.class_names import ClassNames
from mmclip.text.class_embeddings import Template
from mmclip.text.zero_shot import zero_shot_checkpoint


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
    """
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
        meta=dict(clip=clip, dataset_meta=dict(classes=classes.classes)),
        state_dict=state_dict,
    )

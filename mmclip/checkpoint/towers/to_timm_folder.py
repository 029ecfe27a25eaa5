"""Folders of timm on the Hugging Face hub, which transformers loads, too.

For towers that transformers' own CLIP and SigLIP models cannot be: its
``TimmWrapperModel`` and ``TimmWrapperForImageClassification`` call timm.
"""

from collections.abc import Sequence
from typing import Any

from mmengine.utils import to_2tuple

from mmclip.errors import CheckpointError

# A config names a model that timm has, and changes its arguments, which JSON
# can write but for the norm: timm/models/vision_transformer.py.
# The first is 768 wide.
_NAMES = {
    1e-5: ('vit_base_patch16_clip_224', 'vit_large_patch14_clip_224'),
    1e-6: ('vit_base_patch16_224', 'vit_large_patch16_224'),
}
_CROP_MODES = {'squash': 'squash', 'shortest': 'center'}


def timm_config(
    arguments: dict[str, Any],
    norm_eps: float,
    preprocess: dict[str, Any] | None,
    classes: Sequence[str] | None,
) -> dict[str, Any]:
    """The ``config.json`` of such a folder.

    Args:
        arguments (dict): Of timm's ``VisionTransformer``.
        norm_eps (float): Its norms' epsilon.
        preprocess (dict | None): As in the metadata of our checkpoints; None
            if it is not known.
        classes (Sequence[str] | None): Their names, None if they are not
            known.

    Raises:
        CheckpointError: If no model of timm has such norms.
    """
    if norm_eps not in _NAMES:
        raise CheckpointError(
            f'Its norms have an epsilon of {norm_eps}, and those of timm '
            f'{" or ".join(map(str, _NAMES))}.'
        )
    model_args = {
        key: value
        for key, value in arguments.items()
        if key not in ('norm_layer', 'num_classes')
    }
    pretrained: dict[str, Any] = dict(
        input_size=[3, *to_2tuple(arguments['img_size'])],
        fixed_input_size=True,
        first_conv='patch_embed.proj',
        classifier='head',
    )
    known = preprocess or {}
    for key in ('mean', 'std', 'interpolation'):
        if key in known:
            pretrained[key] = known[key]
    if known.get('resize_mode') in _CROP_MODES:
        pretrained |= dict(
            crop_pct=known.get('crop_pct', 1.0),
            crop_mode=_CROP_MODES[known['resize_mode']],
        )
    config = dict(
        # Of another width: transformers before 4.53 ignores model_args, and
        # must fail then rather than pool by the class token.
        architecture=_NAMES[norm_eps][arguments['embed_dim'] == 768],
        num_classes=arguments['num_classes'],
        num_features=arguments['embed_dim'],
        global_pool=arguments['global_pool'],
        model_args=model_args,
        pretrained_cfg=pretrained,
    )
    names = list(map(str, classes or ()))
    if len(names) == arguments['num_classes'] > 0:
        config['label_names'] = names
    return config

"""CLIP, SigLIP and other image towers from timm, and back."""

import re
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch
from mmengine.utils import to_2tuple
from torch import Tensor, nn

from mmclip.checkpoint.files.downloads import (
    only_cached_files_if_offline,
    refuse_damaged,
)
from mmclip.checkpoint.files.paths import NO_TAG, is_local
from mmclip.checkpoint.files.reading import read_state_dict
from mmclip.checkpoint.meta import Clip
from mmclip.checkpoint.towers.convert import export
from mmclip.checkpoint.towers.dialects import (
    TIMM,
    TIMM_CLASSIFIER,
    TIMM_MODEL,
    TIMM_MODEL_CLASSIFIER,
)
from mmclip.checkpoint.towers.tower import (
    CLIP,
    SIGLIP,
    TIMM_TOWER,
    ZERO_SHOT,
    Export,
    HubError,
    Source,
    Tower,
    load_call,
    refuse_missing,
)
from mmclip.errors import CheckpointError
from mmclip.models.library_towers.timm_tower import (
    create_timm_vit,
    timm_img_size,
)

# The preprocessing settings in timm's tags.
PIXELS = ('mean', 'std', 'interpolation', 'crop_pct', 'crop_mode')
# Our names for ways to resize, and timm's.
_CROP_MODES = {'squash': 'squash', 'shortest': 'center'}
_TIMM_ACTS = {
    'GELU': 'gelu',
    'GELUTanh': 'gelu_tanh',
    'QuickGELU': 'quick_gelu',
}
# Models whose `head` is CLIP's projection, unless they were fine-tuned.
_PROJECTS = re.compile('clip|_pe_core_|_mci_')
# A folder's config names one of timm's models and overrides its arguments. The
# norm cannot be written in JSON, so there are models for each epsilon; the
# first is 768 wide. From timm/models/vision_transformer.py.
_NAMES = {
    1e-5: ('vit_base_patch16_clip_224', 'vit_large_patch14_clip_224'),
    1e-6: ('vit_base_patch16_224', 'vit_large_patch16_224'),
}


def timm_source(name: str, pretrained: str, tag: str | None = None) -> Source:
    """Find a tower from timm and its weights.

    Args:
        name (str): A model name from timm, such as
            ``'vit_large_patch14_clip_336'`` or
            ``'vit_pe_spatial_base_patch16_512'``.
        pretrained (str): A pretrained tag, or a local checkpoint file.
        tag (str | None): For a local file: the tag whose preprocessing and
            head it has; ``'none'`` to use the model's defaults.

    Raises:
        CheckpointError: If a name or tag is unknown, the model is not a
            vision transformer, or the weights need another activation.
        FileNotFoundError: If a local file is missing.
    """
    if is_local(pretrained):
        if tag is None:
            _refuse_ambiguity(name)
        tower = find_timm_tower(name, None if tag == NO_TAG else tag)
        return tower, lambda: read_state_dict(pretrained)
    refuse_missing(pretrained, tag)
    tower = find_timm_tower(name, pretrained)
    return tower, lambda: _download(f'{name}.{pretrained}')


def find_timm_tower(name: str, tag: str | None) -> Tower:
    """Look up the properties of an image tower from timm."""
    import timm

    tags = [full.partition('.')[2] for full in timm.list_pretrained(name)]
    if tag is not None and tag not in tags:
        raise CheckpointError(
            f'timm has no weights {name}.{tag}; its tags: '
            f'{", ".join(tags) or "none"}.'
        )
    _refuse_wrong_activation(name, tag)
    full_name = name if tag is None else f'{name}.{tag}'
    with torch.device('meta'):
        model = timm.create_model(full_name)
    backbone = backbone_from_timm(model)
    # Tags of weights that were fine-tuned on labels contain '_ft_in'.
    has_classifier = None if tag is None else '_ft_in' in f'_{tag}'
    if backbone is None:
        backbone = _module(name)
        if not has_classifier:
            has_classifier = _PROJECTS.search(name) is None
        if tag is not None and not has_classifier and model.num_classes:
            backbone |= dict(proj_dim=model.num_classes)
    elif has_classifier is False and backbone['type'] == CLIP:
        # timm adds a bias to projections that CLIP trains without one.
        backbone |= dict(proj_dim=model.num_classes)
        if tag is not None and tag.startswith('apple_mclip2'):
            backbone |= dict(proj_bias=True)
    return Tower(
        library='timm',
        name=name,
        tag=tag,
        backbone=backbone,
        img_size=backbone['img_size'],
        preprocess=_preprocess(model),
        has_classifier=has_classifier,
    )


def _module(name: str) -> dict[str, Any]:
    """Return the config of a backbone that holds timm's own module."""
    try:
        with torch.device('meta'):
            vit = create_timm_vit(name)
    except ValueError as error:
        raise CheckpointError(str(error)) from None
    return dict(type=TIMM_TOWER, model=name, img_size=timm_img_size(vit))


def backbone_from_timm(vit: Any) -> dict[str, Any] | None:
    """Return our backbone's config for a vision transformer from timm.

    Returns:
        dict | None: ``type`` and arguments; None if it is not like CLIP's or
        SigLIP's.
    """
    from timm.layers import PatchEmbed
    from timm.models.vision_transformer import Block, VisionTransformer

    if type(vit) is not VisionTransformer:
        return None
    block: Any = vit.blocks[0]
    patch_embed = vit.patch_embed
    if type(block) is not Block or type(patch_embed) is not PatchEmbed:
        return None
    mlp: Any = block.mlp
    common = dict(
        arch=dict(
            width=vit.embed_dim,
            depth=len(vit.blocks),
            num_heads=block.attn.num_heads,
            mlp_width=mlp.fc1.out_features,
        ),
        act=_TIMM_ACTS.get(type(mlp.act).__name__),
        img_size=_one_or_two(patch_embed.img_size),
        patch_size=patch_embed.patch_size[0],
        norm_eps=getattr(vit.norm, 'eps', None),
    )
    plain = (
        common['act'] is not None
        and common['norm_eps'] is not None
        and vit.pos_embed is not None
        and not vit.no_embed_class
        and vit.num_reg_tokens == 0
        and isinstance(vit.fc_norm, nn.Identity)
        and isinstance(block.attn.q_norm, nn.Identity)
        and isinstance(block.ls1, nn.Identity)
        and patch_embed.patch_size[0] == patch_embed.patch_size[1]
    )
    has_bias = patch_embed.proj.bias is not None
    has_pre_norm = isinstance(vit.norm_pre, nn.LayerNorm)
    pool = {'map': 'attention', 'avg': 'avg'}.get(vit.global_pool)
    if not plain:
        return None
    if vit.cls_token is not None and vit.global_pool == 'token':
        if has_bias:
            return None
        return dict(
            type=CLIP, **common, pre_norm=has_pre_norm, pool='cls_token'
        )
    if vit.cls_token is None and has_bias and not has_pre_norm and pool:
        return dict(type=SIGLIP, **common, pool=pool)
    return None


def to_timm(
    tower: Mapping[str, Tensor], head: Mapping[str, Tensor], clip: Clip
) -> Export:
    """Rename a tower for timm, with its classifier if there is one."""
    backbone, notes = clip['backbone'], []
    kind = clip.get('head', {}).get('type')
    is_linear = all(key.startswith('head.fc.') for key in head)
    if head and (kind == ZERO_SHOT or not is_linear):
        raise CheckpointError(
            "timm's classifier is a linear layer on the feature as it is, but "
            f"the checkpoint's {kind or 'head'} is not. Export the encoder "
            'alone with --to hf, or make a linear classifier with: mmclip '
            'adapt IMAGES --method linear_probe'
        )
    if head and ('proj' in tower or 'tower.head.weight' in tower):
        raise CheckpointError(
            'timm has a single head, but the checkpoint has both a projection '
            'and a classifier.'
        )
    if backbone['type'] == TIMM_TOWER:
        return _to_model(tower, head, backbone)
    if backbone['out_type'] == 'avg_featmap':
        pool = [key for key in tower if key.startswith('attn_pool.')]
        tower = {key: tower[key] for key in tower if key not in pool}
        notes += [f'left out as unused: {", ".join(pool)}'] if pool else []
    if 'proj' in tower and 'proj_bias' not in tower:
        zeros = torch.zeros(tower['proj'].shape[1])
        tower = {**tower, 'proj_bias': zeros}
        notes.append('added: a zero bias of the projection, which timm needs')
    dialect = TIMM_CLASSIFIER if head else TIMM
    tensors = export({**tower, **head}, dialect)
    arguments = timm_arguments(backbone, len(tensors.get('head.bias', ())))
    norm = f'partial(torch.nn.LayerNorm, eps={backbone["norm_eps"]})'
    text = '\n'.join(
        f'    {key}={norm if key == "norm_layer" else repr(value)},'
        for key, value in arguments.items()
    )

    def usage(out: Path) -> str:
        line, weights = load_call(out)
        torch_too = '' if line == 'import torch' else 'import torch\n'
        return (
            f'from functools import partial\n\nimport timm\n{torch_too}{line}'
            f'\n\nmodel = timm.models.VisionTransformer(\n{text}\n)\n'
            f'model.load_state_dict({weights})'
        )

    return Export(tensors, usage, notes)


def _to_model(
    tower: Mapping[str, Tensor],
    head: Mapping[str, Tensor],
    backbone: Mapping[str, Any],
) -> Export:
    """Rename a tower that is timm's own, with its linear classifier."""
    dialect = TIMM_MODEL_CLASSIFIER if head else TIMM_MODEL
    tensors = export({**tower, **head}, dialect)
    num_classes = len(tensors.get('head.bias', ()))
    name, size = backbone['model'], tuple(to_2tuple(backbone['img_size']))
    resized = ''
    is_fixed = not name.startswith('naflexvit')  # which takes every size
    if is_fixed and size != tuple(to_2tuple(_module(name)['img_size'])):
        resized = f'\nmodel.set_input_size({size})'

    def usage(out: Path) -> str:
        line, weights = load_call(out)
        return (
            f'import timm\n{line}\n\nmodel = timm.create_model('
            f'{name!r}, num_classes={num_classes})\n'
            f'model.load_state_dict({weights}){resized}'
        )

    return Export(tensors, usage)


def to_timm_folder(
    tower: Mapping[str, Tensor],
    head: Mapping[str, Tensor],
    clip: Clip,
    reason: str,
) -> Export:
    """Rename a tower for a folder in timm's format for the Hugging Face hub.

    transformers loads such a folder too: its ``TimmWrapperModel`` and
    ``TimmWrapperForImageClassification`` call timm.
    """
    exported = to_timm(tower, head, clip)
    num_classes = len(exported.state_dict.get('head.bias', ()))
    exported.notes.append(
        'transformers (4.53 or newer) loads it with timm, which must be '
        f'installed: its own models cannot hold this tower, as {reason}'
    )
    wanted = ('mean', 'std', 'interpolation', 'resize_mode')
    unsaid = [key for key in wanted if key not in (clip['preprocess'] or {})]
    if unsaid:
        exported.notes.append(
            f'images may DIFFER: the checkpoint does not say their '
            f"{', '.join(unsaid)}, so timm uses ImageNet's mean and std and "
            'its own way to resize; add the values used in training to '
            'pretrained_cfg in config.json'
        )
    kind = 'AutoModelForImageClassification' if num_classes else 'AutoModel'
    exported.usage = lambda out: (
        f'from transformers import {kind}\n\n'
        f'model = {kind}.from_pretrained({str(out)!r})\n\n'
        '# or, with timm alone\nimport timm\n\n'
        f'model = timm.create_model({f"local-dir:{out}"!r}, pretrained=True)'
    )
    exported.files = {'config.json': _folder_config(clip, num_classes)}
    return exported


def timm_arguments(backbone: dict[str, Any], num_classes: int) -> dict:
    """Return the arguments of timm's ``VisionTransformer`` for a backbone."""
    arch = backbone['arch']
    width, mlp_width = arch['width'], arch['mlp_width']
    is_clip = backbone['type'] == CLIP
    exact = int(mlp_width / width * width) == mlp_width
    pools = {'cls_token': 'token', 'attention': 'map', 'avg': 'avg'}
    by_mean = backbone.get('out_type') == 'avg_featmap'
    arguments = dict(
        img_size=backbone.get('img_size', 224),
        patch_size=backbone['patch_size'],
        embed_dim=width,
        depth=arch['depth'],
        num_heads=arch['num_heads'],
        mlp_ratio=(mlp_width if exact else mlp_width + 0.5) / width,
        num_classes=num_classes,
        class_token=is_clip,
        pre_norm=is_clip,
        global_pool='avg' if by_mean else pools[backbone['pool']],
        fc_norm=False,
        norm_layer=partial(torch.nn.LayerNorm, eps=backbone['norm_eps']),
        act_layer=backbone['act'],  # timm uses the same names
    )
    if (init := backbone.get('layer_scale_init')) is not None:
        arguments['init_values'] = init
    return arguments


def _refuse_ambiguity(name: str) -> None:
    """Refuse a local file without a tag if settings depend on the tag."""
    import timm

    twin = name.replace('_clip_', '_clip_quickgelu_')
    settings = {
        tuple(timm.models.get_pretrained_cfg_value(full, k) for k in PIXELS)
        for full in timm.list_pretrained(name)
    }
    problem = ''
    if twin != name and timm.is_model(twin):
        problem = f'{name} uses GELU, {twin} QuickGELU'
    elif len(settings) > 1:
        problem = f"timm's weights of {name} differ in preprocessing"
    if problem:
        raise CheckpointError(
            f'{problem}, and the file does not say which it needs. Pass --tag '
            f"with its tag ('{NO_TAG}' for the settings of {name})."
        )


def _refuse_wrong_activation(name: str, tag: str | None) -> None:
    """Refuse the GELU name of weights that also have a QuickGELU name."""
    import timm

    twin = name.replace('_clip_', '_clip_quickgelu_')
    if 'quickgelu' in name or tag is None or twin == name:
        return
    if f'{twin}.{tag}' in timm.list_pretrained(f'{twin}*'):
        raise CheckpointError(
            f'The weights {tag} were trained with QuickGELU, but {name} uses '
            f'GELU. Use {twin}.{tag}, the same file.'
        )


def _preprocess(model: nn.Module) -> dict[str, Any]:
    from timm.data import resolve_model_data_config

    data = resolve_model_data_config(model)
    modes = {theirs: ours for ours, theirs in _CROP_MODES.items()}
    preprocess = dict(
        mean=list(data['mean']),
        std=list(data['std']),
        interpolation=data['interpolation'],
        resize_mode=modes[data['crop_mode']],
    )
    if data['crop_pct'] != 1.0:
        preprocess['crop_pct'] = data['crop_pct']
    return preprocess


def _download(full_name: str) -> Mapping[str, Tensor]:
    """Read weights through timm, whose files have several formats."""
    import timm

    try:
        with only_cached_files_if_offline():
            return timm.create_model(full_name, pretrained=True).state_dict()
    except Exception as error:
        cfg = timm.get_pretrained_cfg(full_name)
        repository = (cfg and cfg.hf_hub_id) or full_name
        file = (cfg and cfg.hf_hub_filename) or 'model.safetensors'
        name, _, tag = full_name.partition('.')
        refuse_damaged(repository)
        raise HubError(name, tag, repository, file, has_text=False) from error


def _one_or_two(size: tuple[int, int]) -> int | tuple[int, int]:
    height, width = size
    return height if height == width else (height, width)


def _folder_config(clip: Clip, num_classes: int) -> dict[str, Any]:
    """Return the ``config.json`` of a folder."""
    norm_eps, known = clip['backbone']['norm_eps'], clip['preprocess'] or {}
    if norm_eps not in _NAMES:
        raise CheckpointError(
            f'Its norms have an epsilon of {norm_eps}; timm supports '
            f'{" or ".join(map(str, _NAMES))}.'
        )
    arguments = timm_arguments(clip['backbone'], num_classes)
    del arguments['norm_layer'], arguments['num_classes']
    pretrained: dict[str, Any] = dict(
        input_size=[3, *to_2tuple(arguments['img_size'])],
        fixed_input_size=True,
        first_conv='patch_embed.proj',
        classifier='head',
    )
    for key in ('mean', 'std', 'interpolation'):
        if key in known:
            pretrained[key] = known[key]
    if known.get('resize_mode') in _CROP_MODES:
        pretrained |= dict(
            crop_pct=known.get('crop_pct', 1.0),
            crop_mode=_CROP_MODES[known['resize_mode']],
        )
    config = dict(
        # A model of another width: transformers before 4.53 ignores
        # model_args, and must fail rather than pool by the class token.
        architecture=_NAMES[norm_eps][arguments['embed_dim'] == 768],
        num_classes=num_classes,
        num_features=arguments['embed_dim'],
        global_pool=arguments['global_pool'],
        model_args=arguments,
        pretrained_cfg=pretrained,
    )
    names = clip.get('classes') or []
    if len(names) == num_classes > 0:
        config['label_names'] = names
    return config

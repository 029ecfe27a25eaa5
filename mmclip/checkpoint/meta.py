"""``meta['clip']``: the description that weights carry with them.

Converted, trained, averaged and exported weights all have one. Files come
from strangers, so only this module reads descriptions, and takes only known
names with values of the right type. :func:`facts` makes them comparable.
"""

import inspect
import json
from collections.abc import Iterable, Mapping
from importlib.metadata import version
from typing import Any

import numpy as np
from mmengine.utils import to_2tuple

from mmclip.checkpoint.towers.tower import BACKBONES, MODULES, OTHER
from mmclip.errors import CheckpointError
from mmclip.registry import MODELS
from mmclip.untrusted.model_configs import BACKBONE
from mmclip.untrusted.rules import (
    MOST_CHANNELS,
    MOST_WORDS,
    NAME,
    OBJECT,
    PIXELS,
    SIZE,
    SPREADS,
    Check,
    choice,
    number,
    optional,
    shown,
    take,
    whole,
)
from mmclip.version import __version__

Clip = dict[str, Any]
MOST_IMAGES = 2**24  # that a head may hold
# Arguments of the backbone that do not change what a tower computes.
TRAINING = (
    'drop_path_rate',
    'patch_dropout',
    'frozen_stages',
    'freeze_patch_embed',
    'with_cp',
    'frozen',
    'norm_eval',
)


def _are_shares(values: Any) -> bool:
    is_share, _ = number(0, 1)
    return isinstance(values, list) and all(map(is_share, values))


# The contents, by part and key, with the check of each value.
PARTS: dict[str, dict[str, Check]] = {
    'backbone': {k: BACKBONE[k] for k in BACKBONE if k not in TRAINING}
    | dict(type=choice(*BACKBONES)),
    'preprocess': dict(
        mean=PIXELS,
        std=SPREADS,
        interpolation=NAME,
        resize_mode=NAME,
        crop_pct=number(0.01, 1),
        channels=choice('RGB', 'BGR'),
    ),
    'source': dict.fromkeys(
        ('library', 'name', 'tag', 'file'), optional(NAME)
    ),
    'head': dict(
        type=NAME,
        num_classes=whole(MOST_WORDS),
        in_channels=whole(MOST_CHANNELS),
        num_images=whole(MOST_IMAGES),
        k=whole(MOST_IMAGES),
        alpha=number(0, 1e6),
        beta=number(0, 1e6),
    ),
    'answers': dict(
        temperature=number(1e-3, 1e3),
        threshold=number(0, 1),
        thresholds=(_are_shares, 'a list of numbers from 0 to 1'),
    ),
    'versions': dict.fromkeys(('mmclip', 'open_clip', 'timm', 'torch'), NAME),
}
_META = dict(meta=optional(OBJECT))
# Keys that are not in a part.
ALONE: dict[str, Check] = dict(
    img_size=SIZE,
    classes=optional(
        (
            lambda v: isinstance(v, list | tuple) and all(map(NAME[0], v)),
            'a list of names',
        )
    ),
)

# Names of facts. What determines a tower's outputs besides its tensors:
TOWER = (
    'type',
    'model',
    'width',
    'depth',
    'num_heads',
    'mlp_width',
    'act',
    'patch_size',
    'norm_eps',
    'pre_norm',
    'pool',
)
# Which outputs are used, and how:
OUTPUTS = (
    'out_type',
    'out_indices',
    'output_cls_token',
    'norm_outputs',
    'window_size',
    'global_blocks',
    'head',
)
GRID = ('patch_grid',)
# How images are prepared:
PREPROCESS = tuple(PARTS['preprocess'])
PREPROCESS_TOLERANCE = 1e-4  # of mean and std: a fortieth of a grey level
# Follows the name of a file that mmclip did not write:
UNSAID = (
    "has no meta['clip']: only keys and shapes are compared, not activation, "
    'heads, epsilon and pooling.'
)


def make_clip(
    backbone: Mapping[str, Any],
    img_size: Any,
    preprocess: Mapping[str, Any] | None,
    source: Mapping[str, Any] | None = None,
    head: Mapping[str, Any] | None = None,
    classes: Iterable[str] | None = None,
    answers: Mapping[str, Any] | None = None,
) -> Clip:
    """Make the ``meta['clip']`` of a tower.

    Args:
        backbone (Mapping): ``type`` and arguments of one of our backbones.
        img_size (int | tuple[int, int]): Image height and width in pixels
            that the weights are for.
        preprocess (Mapping | None): ``mean`` and ``std`` of pixels in 0..1,
            in the order red, green, blue; ``interpolation``, ``resize_mode``
            and ``crop_pct`` as far as they are known; ``channels='BGR'`` if
            the tower takes BGR images. None if nothing is known.
        source (Mapping | None): ``library``, ``name``, ``tag`` and ``file``
            of the original weights.
        head (Mapping | None): ``type``, ``num_classes``, ``in_channels``.
        classes (Iterable[str] | None): Class names in the order of the labels.
        answers (Mapping | None): ``temperature``, by which logits are divided
            before the softmax, and ``threshold``, the probability below which
            a classifier is not sure; or ``thresholds``, one per class, if
            images may have several labels.
    """
    height, width = to_2tuple(img_size)
    clip = dict(
        backbone=dict(backbone),
        img_size=height if height == width else (height, width),
        preprocess=None if preprocess is None else dict(preprocess),
        source=None if source is None else dict(source),
        versions=dict(
            mmclip=__version__,
            open_clip=version('open_clip_torch'),
            timm=version('timm'),
            torch=version('torch'),
        ),
    )
    if head is not None:
        clip['head'] = dict(head)
    if answers is not None:
        clip['answers'] = dict(answers)
    if classes is not None:
        clip['classes'] = [str(name) for name in classes]
    # Tuples become lists: a .pth file and a JSON header give the same.
    return _checked(json.loads(json.dumps(clip)), 'the description')


def read_clip(
    checkpoint: Mapping[str, Any], where: str = 'the checkpoint'
) -> Clip | None:
    """Return the known keys of a checkpoint's ``meta['clip']``.

    Returns:
        dict | None: Always with ``backbone``, ``img_size`` (None if unknown)
        and ``preprocess`` (None if unknown); other keys if they are there.
        None if the checkpoint has no ``meta['clip']``.

    Raises:
        CheckpointError: If a value has the wrong type or is out of bounds.
    """
    clip = _meta(checkpoint, where).get('clip')
    return None if clip is None else _checked(clip, where)


def _checked(clip: Any, where: str) -> Clip:
    where = f"{where}: meta['clip']"
    known = take(clip, ALONE, where)
    for part, fields in PARTS.items():
        if clip.get(part) is not None:
            known[part] = take(clip[part], fields, f'{where}[{part!r}]')
    backbone = known.get('backbone', {})
    is_module = backbone.get('type') in MODULES
    for key in ('type', *(('model',) if is_module else ('arch', 'act'))):
        if key not in backbone:
            raise CheckpointError(f"{where}['backbone'] lacks {key!r}.")
    size = known.setdefault('img_size', backbone.get('img_size'))
    own = backbone.get('img_size', size)
    if size is not None and [*to_2tuple(own)] != [*to_2tuple(size)]:
        raise CheckpointError(
            f'{where} gives two image sizes: {size}, and {own} in backbone.'
        )
    known.setdefault('preprocess', None)
    return known


def classes_of(
    checkpoint: Mapping[str, Any], where: str = 'the checkpoint'
) -> list[str] | None:
    """Return the class names in a checkpoint, None if it has none."""
    clip = read_clip(checkpoint, where)
    if clip and clip.get('classes'):
        return list(clip['classes'])
    data = _meta(checkpoint, where).get('dataset_meta')
    names = data.get('classes') if isinstance(data, dict) else None
    if not isinstance(names, list | tuple | None):
        raise CheckpointError(
            f"{where}: meta['dataset_meta']['classes'] must be a list of "
            f'names, got {shown(names)}.'
        )
    return None if names is None else [str(name) for name in names]


def facts(clip: Mapping[str, Any]) -> dict[str, Any]:
    """Return a description as comparable facts, with one value per name.

    Presets are expanded to numbers, and arguments that a tower's description
    leaves out have the defaults of its backbone. Nothing is built, so numbers
    in a file cannot allocate layers.

    Returns:
        dict: By the names in ``TOWER``, ``OUTPUTS``, ``GRID`` and
        ``PREPROCESS``. Facts in ``TOWER`` are complete; others are there if
        the description has them.

    Raises:
        CheckpointError: If no backbone has such arguments.
    """
    said = _facts_of_backbone(clip) if 'backbone' in clip else {}
    if head := (clip.get('head') or {}).get('type'):
        said['head'] = head
    preprocess = clip.get('preprocess') or {}
    if preprocess:
        said['channels'] = 'RGB'
    if 'resize_mode' in preprocess:
        said['crop_pct'] = 1.0
    return _listed(said | preprocess)


def differences(
    one: Mapping[str, Any],
    other: Mapping[str, Any],
    names: Iterable[str],
    called: tuple[str, str] = ('checkpoint', 'here'),
) -> list[str]:
    """List the facts on which two descriptions disagree.

    Facts that only one of them has are not compared.
    """
    first, second = facts(one), facts(other)
    return [
        f'{name}: {called[0]} {first[name]!r}, {called[1]} {second[name]!r}'
        for name in names
        if name in first
        and name in second
        and not _same(name, first[name], second[name])
    ]


def patch_grid(clip: Clip | None) -> tuple[int, int] | None:
    """Return the rows and columns of patches of weights, None if unknown."""
    grid = facts(clip).get('patch_grid') if clip else None
    return None if grid is None else (grid[0], grid[1])


def _facts_of_backbone(clip: Mapping[str, Any]) -> dict[str, Any]:
    from mmclip.models.architecture import ARCH_KEYS, parse_arch
    from mmclip.models.library_towers.open_clip_tower import tower_config

    backbone = clip['backbone']
    parameters = inspect.signature(MODELS.get(backbone['type'])).parameters
    said = dict(type=backbone['type'])
    indices = backbone.get('out_indices')
    if backbone['type'] == OTHER:
        try:
            said['model'] = tower_config(backbone['model'])
        except ValueError as error:
            raise CheckpointError(str(error)) from error
    elif backbone['type'] in MODULES:
        said['model'] = backbone['model']
    else:
        numbers = parse_arch(backbone['arch'])
        said |= dict(zip(ARCH_KEYS, numbers, strict=True))
        for name in TOWER:
            if name in parameters:
                said[name] = backbone.get(name, parameters[name].default)
        if clip.get('img_size') is not None:
            size = to_2tuple(clip['img_size'])
            said['patch_grid'] = [side // said['patch_size'] for side in size]
        indices = [-1] if indices is None else indices
        indices = [indices] if isinstance(indices, int) else indices
        indices = [index % said['depth'] for index in indices]
    if 'out_type' in backbone:
        for name in OUTPUTS:
            if name in parameters:
                said[name] = backbone.get(name, parameters[name].default)
        said |= dict(out_indices=indices)
    return said


def _same(name: str, one: Any, other: Any) -> bool:
    if name == 'head':  # in any scope
        return one.rpartition('.')[2] == other.rpartition('.')[2]
    if name in ('mean', 'std', 'crop_pct'):
        return np.allclose(one, other, rtol=0, atol=PREPROCESS_TOLERANCE)
    return one == other


def _listed(value: Any) -> Any:
    """Turn tuples into lists, as a description has them."""
    if isinstance(value, dict):
        return {key: _listed(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [_listed(part) for part in value]
    return value


def _meta(checkpoint: Mapping[str, Any], where: str) -> Mapping[str, Any]:
    return take(checkpoint, _META, where).get('meta') or {}

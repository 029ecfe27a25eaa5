"""``meta['clip']``: what weights say of themselves.

Whatever is written has it: converted, trained, averaged and exported weights.
Files come from strangers, so that what they say is taken by name and type, and
from here alone.
"""

import inspect
import json
import reprlib
from collections.abc import Iterable, Mapping
from importlib.metadata import version
from typing import Any

from mmclip.checkpoint.meta_fields import ALONE, PARTS
from mmclip.checkpoint.towers.model_configs import take_backbone
from mmclip.checkpoint.towers.tower import BACKBONES, OTHER
from mmclip.checkpoint.untrusted import PIXELS, is_finite, take
from mmclip.errors import CheckpointError
from mmclip.registry import MODELS
from mmclip.version import __version__

Clip = dict[str, Any]
PREPROCESS_TOLERANCE = 1e-4  # of mean and std: a fortieth of a grey level
PREPROCESS = tuple(PARTS['preprocess'])
# What decides the outputs of a tower besides its tensors.
PROPERTIES = ('act', 'patch_size', 'norm_eps', 'pre_norm', 'pool')


def make_clip(
    backbone: Mapping[str, Any],
    img_size: Any,
    preprocess: Mapping[str, Any] | None,
    source: Mapping[str, Any] | None = None,
    head: Mapping[str, Any] | None = None,
    classes: Iterable[str] | None = None,
    libraries: Mapping[str, str] | None = None,
) -> Clip:
    """Make ``meta['clip']`` of a tower.

    Args:
        backbone (Mapping): ``type`` and arguments of one of our backbones.
        img_size (int | tuple[int, int]): Image height and width in pixels
            that the weights are for.
        preprocess (Mapping | None): ``mean`` and ``std`` of pixels in 0..1,
            in the order red, green, blue; ``interpolation``, ``resize_mode``
            and ``crop_pct`` as far as they are known; ``channels='BGR'`` if
            the tower is given blue first. None if nothing is known.
        source (Mapping | None): ``library``, ``name``, ``tag`` and ``file``
            of the weights that these come from.
        head (Mapping | None): ``type``, ``num_classes``, ``in_channels``.
        classes (Iterable[str] | None): Names, in the order of the labels.
        libraries (Mapping | None): Distributions whose versions count, by
            their names here.
    """
    if not isinstance(img_size, int):
        height, width = img_size
        img_size = height if height == width else (height, width)
    versions = {k: version(v) for k, v in (libraries or {}).items()}
    clip = dict(
        backbone=dict(backbone),
        img_size=img_size,
        preprocess=None if preprocess is None else dict(preprocess),
        source=None if source is None else dict(source),
        versions=dict(mmclip=__version__) | versions,
    )
    if head is not None:
        clip['head'] = dict(head)
    if classes is not None:
        clip['classes'] = [str(name) for name in classes]
    # Lists for tuples: the same from a .pth and from a JSON header.
    return check_clip(json.loads(json.dumps(clip)), 'the description')


def read_clip(
    checkpoint: Mapping[str, Any], where: str = 'the checkpoint'
) -> Clip | None:
    """``meta['clip']`` of a checkpoint, as far as its keys are known.

    Args:
        checkpoint (Mapping): As it was read.
        where (str): What errors call it, such as its path.

    Returns:
        dict | None: With ``backbone``, ``img_size`` (None if it is not said)
        and ``preprocess`` (or None); of the others what there is. None if
        the checkpoint does not describe itself.

    Raises:
        CheckpointError: If a value is not what its name says.
    """
    clip = _meta(checkpoint, where).get('clip')
    return None if clip is None else check_clip(clip, where)


def check_clip(clip: Any, where: str) -> Clip:
    """A description as :func:`read_clip` gives it.

    Args:
        clip (Any): What stands at ``meta['clip']``.
        where (str): What errors call the file.

    Raises:
        CheckpointError: If a value is not what its name says.
    """
    where = f"{where}: meta['clip']"
    _check_dict(clip, where)
    known: Clip = {}
    for part, fields in PARTS.items():
        if clip.get(part) is not None:
            _check_dict(clip[part], f'{where}[{part!r}]')
            known[part] = take(clip[part], fields, f'{where}[{part!r}]')
    known |= take(clip, ALONE, where)
    backbone = known.get('backbone', {})
    take_backbone(backbone, f"{where}['backbone']")  # what is in its arch
    is_other = backbone.get('type') == OTHER
    for key in ('type', *(('model',) if is_other else ('arch', 'act'))):
        if key not in backbone:
            raise CheckpointError(f"{where}['backbone'] does not say {key!r}.")
    size = known.setdefault('img_size', backbone.get('img_size'))
    if _pair(backbone.get('img_size', size)) != _pair(size):
        raise CheckpointError(
            f'{where} says two image sizes: {size}, and of the backbone '
            f'{backbone["img_size"]}.'
        )
    known.setdefault('preprocess', None)
    return known


def classes_of(
    checkpoint: Mapping[str, Any], where: str = 'the checkpoint'
) -> list[str] | None:
    """The names of a checkpoint's classes, None if it names none.

    Raises:
        CheckpointError: If they are not a list.
    """
    clip = read_clip(checkpoint, where)
    if clip and clip.get('classes'):
        return list(clip['classes'])
    data = _meta(checkpoint, where).get('dataset_meta')
    names = data.get('classes') if isinstance(data, dict) else None
    if names is None:
        return None
    if not isinstance(names, list | tuple):
        raise CheckpointError(
            f"{where}: meta['dataset_meta']['classes'] must be a list of "
            f'names, got {_short(names)}.'
        )
    return [str(name) for name in names]


def properties(backbone: Mapping[str, Any]) -> dict[str, Any]:
    """What weights must share with a backbone of a config, of :mod:`towers`.

    Nothing is built: numbers of a file make no layers.

    Args:
        backbone (Mapping): ``type`` and arguments.

    Returns:
        dict: ``type``, the numbers of ``arch`` one by one and the others of
        ``describe()``.

    Raises:
        CheckpointError: If no backbone has such arguments.
    """
    from mmclip.models.base_vit import ARCH_KEYS, parse_arch
    from mmclip.models.open_clip_tower import tower_config

    kind: Any = MODELS.get(backbone['type'])
    try:
        if backbone['type'] == OTHER:
            model = _listed(tower_config(backbone['model']))
            return dict(type=OTHER, model=model)
        numbers = parse_arch(backbone['arch'])
    except (KeyError, TypeError, ValueError) as error:
        raise CheckpointError(
            f'{backbone["type"]} cannot be described by {reprlib.repr(error)}.'
        ) from error
    parameters = inspect.signature(kind).parameters
    return dict(
        type=backbone['type'],
        **dict(zip(ARCH_KEYS, numbers, strict=True)),
        **{
            key: backbone.get(key, parameters[key].default)
            for key in PROPERTIES
            if key in parameters
        },
    )


def outputs(backbone: Mapping[str, Any]) -> dict[str, Any]:
    """What a backbone of a config returns; empty if ``out_type`` is unsaid.

    Args:
        backbone (Mapping): ``type`` and arguments.
    """
    if 'out_type' not in backbone:
        return {}
    said = dict(out_type=backbone['out_type'])
    if backbone['type'] == OTHER:
        return said | dict(out_indices=backbone.get('out_indices'))
    depth = properties(backbone)['depth']
    indices = backbone.get('out_indices')
    indices = -1 if indices is None else indices
    indices = [indices] if isinstance(indices, int) else indices
    return said | dict(out_indices=[i % depth for i in indices])


def properties_of(module: Any) -> dict[str, Any]:
    """The same of a module that is one of our backbones."""
    own = module.describe()
    others = {key: value for key, value in own.items() if key != 'arch'}
    return dict(type=kind_of(module)) | own.get('arch', {}) | _listed(others)


def kind_of(module: Any) -> str | None:
    """``type`` of a backbone of ours, or of what is derived from one.

    None for other modules.
    """
    for cls in type(module).__mro__:
        name = f'mmclip.{cls.__name__}'
        if name in BACKBONES and cls.__module__.startswith('mmclip.'):
            return name
    return None


def differences_from(clip: Clip, module: Any) -> list[str]:
    """What weights say of their tower that is not so of a backbone.

    Args:
        clip (dict): Of :func:`read_clip`.
        module (nn.Module): A backbone of ours.
    """
    theirs, ours = properties(clip['backbone']), properties_of(module)
    return [
        f'{key}: checkpoint {theirs.get(key)!r}, backbone {ours[key]!r}'
        for key in ours
        if theirs.get(key) != ours[key]
    ]


def patch_grid(clip: Clip | None) -> tuple[int, int] | None:
    """Rows and columns of patches that weights were made for, if they say."""
    if clip is None or clip['img_size'] is None:
        return None
    backbone = clip['backbone']
    if backbone['type'] == OTHER:
        return None
    parameters = inspect.signature(MODELS.get(backbone['type'])).parameters
    size = backbone.get('patch_size', parameters['patch_size'].default)
    height, width = _pair(clip['img_size']) or (0, 0)
    return height // size, width // size


def preprocess_differences(
    theirs: Mapping[str, Any] | None,
    ours: Mapping[str, Any] | None,
    keys: Iterable[str] = PREPROCESS,
) -> list[str]:
    """What two ways to prepare images have in common, and do not do alike.

    Args:
        theirs (Mapping | None): Of a checkpoint.
        ours (Mapping | None): Of a run.
        keys (Iterable[str]): What to compare. Defaults to all.
    """
    if theirs is None or ours is None:
        return []
    unsaid: dict[str, Any] = dict(channels='RGB')
    if 'resize_mode' in theirs and 'resize_mode' in ours:
        unsaid |= dict(crop_pct=1.0)
    one, other = unsaid | dict(theirs), unsaid | dict(ours)
    return [
        f'{key}: checkpoint {one[key]}, here {other[key]}'
        for key in keys
        if key in one and key in other and not _close(one[key], other[key])
    ]


def _close(one: Any, other: Any) -> bool:
    if is_finite(one) and is_finite(other):
        return abs(one - other) < PREPROCESS_TOLERANCE
    if PIXELS[0](one) and PIXELS[0](other):
        return all(map(_close, one, other))
    return one == other


def _listed(value: Any) -> Any:
    """Lists for tuples, as a description has them."""
    if isinstance(value, dict):
        return {key: _listed(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [_listed(part) for part in value]
    return value


def _meta(checkpoint: Mapping[str, Any], where: str) -> Mapping[str, Any]:
    meta = checkpoint.get('meta')
    if meta is None:
        return {}
    _check_dict(meta, f'{where}: meta')
    return meta


def _check_dict(value: Any, where: str) -> None:
    if not isinstance(value, dict):
        raise CheckpointError(f'{where} must be a dict, got {_short(value)}.')


def _short(value: Any) -> str:
    return f'{reprlib.repr(value)} ({type(value).__name__})'


def _pair(size: Any) -> tuple[int, int] | None:
    if size is None:
        return None
    return (size, size) if isinstance(size, int) else (size[0], size[1])

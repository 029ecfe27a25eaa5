"""Whether the weights of two checkpoints mean the same."""

import ast
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from mmengine.config import ConfigDict

from mmclip.checkpoint.files.weights import read_checkpoint, read_state_dict
from mmclip.checkpoint.finite import check_finite
from mmclip.checkpoint.grids import tell_grid
from mmclip.checkpoint.meta import (
    Clip,
    check_clip,
    classes_of,
    outputs,
    patch_grid,
    preprocess_differences,
    properties,
    read_clip,
)
from mmclip.checkpoint.towers.convert import differences
from mmclip.errors import CheckpointError

Checkpoint = Mapping[str, Any]


def read_weights(path: str | Path) -> dict[str, Any]:
    """Read ``state_dict`` and ``meta`` of a checkpoint, not the optimizer's.

    Of a training with ``EMAHook`` these are the averaged weights: mmengine
    saves the others as ``ema_state_dict``.

    Raises:
        FileNotFoundError: If there is no such file.
        CheckpointError: If it holds no state dict, or NaN in it.
    """
    meta = read_checkpoint(path, mmap=True).get('meta')
    state_dict = read_state_dict(path)
    check_finite(state_dict, path)
    checkpoint = dict(
        meta=meta if isinstance(meta, dict) else {}, state_dict=state_dict
    )
    return tell_grid(checkpoint, str(path))


def check_compatible(
    one: Checkpoint, other: Checkpoint, *, same_classes: bool = False
) -> list[str]:
    """Refuse two checkpoints whose average would mean nothing.

    Compared are keys and shapes; what the checkpoints say of activation,
    heads, epsilon, pooling, patch grid and the kind of the head, in
    ``meta['clip']`` or, of older trainings, in the config that they wrote into
    them; and the names of the classes.

    Args:
        one (Mapping): A checkpoint with ``state_dict`` and ``meta``.
        other (Mapping): The one to compare with it.
        same_classes (bool): Whether class names that differ are known to
            mean the same classes in the same order. Defaults to False.

    Returns:
        list[str]: What could not be compared, and why.

    Raises:
        CheckpointError: If anything differs, with all the differences, or one
            holds updates of LoRA.
    """
    _refuse_lora(one, 'first')
    _refuse_lora(other, 'second')
    problems = differences(other['state_dict'], one['state_dict'])
    grids = [_grid(one), _grid(other)]
    problems += _compare(
        describe(one) | dict(patch_grid=grids[0]),
        describe(other) | dict(patch_grid=grids[1]),
    )
    if not same_classes:
        problems += _compare_classes(classes_of(one), classes_of(other))
    if problems:
        raise CheckpointError(
            'The second does not fit the first:\n  ' + '\n  '.join(problems)
        )
    notes = []
    for name, checkpoint in (('first', one), ('second', other)):
        said = [key for key in describe(checkpoint) if key != 'head']
        if said in ([], ['backbone.type']):
            notes.append(
                f'The {name} does not say its activation, heads, epsilon or '
                'pooling: only keys and shapes could be compared.'
            )
        if classes_of(checkpoint) is None:
            notes.append(
                f'The {name} does not name its classes: only their number '
                'could be compared.'
            )
    one_clip, other_clip = read_clip(one) or {}, read_clip(other) or {}
    unlike = preprocess_differences(
        one_clip.get('preprocess'), other_clip.get('preprocess')
    )
    if unlike:
        notes.append(
            'Images were prepared differently for the two: '
            f'{"; ".join(unlike)} (checkpoint the first, here the second).'
        )
    return notes


def check_fits_model(checkpoint: Checkpoint, model: Mapping[str, Any]) -> None:
    """Refuse a checkpoint that says to be of another model than a config's.

    Args:
        checkpoint (Mapping): With ``meta``.
        model (Mapping): The ``model`` of a config.

    Raises:
        CheckpointError: If anything differs, with all the differences.
    """
    if problems := _compare(_describe_model(model), describe(checkpoint)):
        raise CheckpointError(
            'It does not fit the model of the config:\n  '
            + '\n  '.join(problems)
        )


def describe(checkpoint: Checkpoint) -> dict[str, Any]:
    """What a checkpoint says of its model beyond keys and shapes.

    Returns:
        dict: By name, such as ``backbone.act`` and ``head``; empty if it says
        nothing.
    """
    clip = read_clip(checkpoint)
    return (
        _describe_model(_model_of_config(checkpoint))
        if clip is None
        else _describe(clip)
    )


def clip_of_config(checkpoint: Checkpoint) -> Clip | None:
    """A description by the config that a training wrote into its checkpoint.

    Of those that were made before trainings wrote ``meta['clip']``.
    """
    return _clip_of_model(_model_of_config(checkpoint))


def _refuse_lora(checkpoint: Checkpoint, name: str) -> None:
    """An update is a product, and the mean of factors gives another."""
    keys = [
        key
        for key in checkpoint['state_dict']
        if any(part.startswith('lora_') for part in key.split('.'))
    ]
    if keys:
        raise CheckpointError(
            f'The {name} holds {len(keys)} tensors of LoRA ({keys[0]}, ...), '
            "whose average is not the models': merge each checkpoint first, "
            'with tools/model_converters/merge_lora.py.'
        )


def _describe(clip: Clip) -> dict[str, Any]:
    backbone = clip['backbone']
    said = properties(backbone) | outputs(backbone)
    return {f'backbone.{k}': v for k, v in said.items()} | _names(clip)


def _describe_model(model: Mapping[str, Any]) -> dict[str, Any]:
    clip = _clip_of_model(model)
    return _names(model) | (_describe(clip) if clip else {})


def _clip_of_model(model: Mapping[str, Any]) -> Clip | None:
    """A description of what a config builds; None if it is not ours."""
    model = model.to_dict() if isinstance(model, ConfigDict) else model
    backbone = model.get('backbone')
    with suppress(CheckpointError):  # not one of our backbones
        if isinstance(backbone, dict):
            backbone = dict(out_type='pooled') | backbone
            return check_clip(dict(backbone=backbone), 'the config')
    return None


def _names(model: Mapping[str, Any]) -> dict[str, str]:
    said = {}
    for part, name in (('head', 'head'), ('backbone', 'backbone.type')):
        config = model.get(part)
        kind = config.get('type') if isinstance(config, dict) else None
        if isinstance(kind, str):
            said[name] = kind
    return said


def _grid(checkpoint: Checkpoint) -> tuple[int, int] | None:
    return patch_grid(read_clip(checkpoint) or clip_of_config(checkpoint))


def _compare(first: dict[str, Any], second: dict[str, Any]) -> list[str]:
    return [
        f'{key}: {second[key]!r}, wanted {first[key]!r}'
        for key in first
        if None not in (first[key], second.get(key))
        and not _same(first[key], second[key])
    ]


def _same(one: Any, other: Any) -> bool:
    """Whether properties are equal; of types, whatever scope names them."""
    if isinstance(one, str) and isinstance(other, str):
        return one.rpartition('.')[2] == other.rpartition('.')[2]
    return one == other


def _compare_classes(
    first: list[str] | None, second: list[str] | None
) -> list[str]:
    if first is None or second is None or are_same_classes(first, second):
        return []
    if len(first) != len(second):
        return [f'classes: {len(second)}, wanted {len(first)}']
    different = [
        f'class {i}: {theirs!r}, wanted {ours!r}'
        for i, (ours, theirs) in enumerate(zip(first, second, strict=True))
        if ours != theirs
    ]
    if sorted(first) == sorted(second):
        different.append('(the same names in another order)')
    return different


def are_same_classes(first: list[str], second: list[str]) -> bool:
    """Whether lists are the same, or both of ImageNet, by names or synsets."""
    return first == second or (_is_imagenet(first) and _is_imagenet(second))


def misplaced_classes(
    first: Sequence[str], second: Sequence[str]
) -> list[tuple[str, int, int]]:
    """Names that two lists of classes have in different places.

    Lists with other names may mean the same classes; where they share a name,
    it has to have the same number in both.

    Args:
        first (Sequence[str]): Names in the order of the labels.
        second (Sequence[str]): The same, of somebody else.

    Returns:
        list[tuple[str, int, int]]: Each name, and its number in the first and
        in the second. Names that stand twice in a list are left out, and all
        lists of ImageNet's names that are in use agree.
    """
    one, other = ([str(name) for name in names] for names in (first, second))
    if are_same_classes(one, other):
        return []
    counts, place = Counter(one + other), {n: i for i, n in enumerate(other)}
    return [
        (name, i, place[name])
        for i, name in enumerate(one)
        if place.get(name, i) != i and counts[name] == 2
    ]


def _is_imagenet(classes: list[str]) -> bool:
    """Whether these are ImageNet-1k's names or synsets, in their order."""
    if len(classes) != 1000:
        return False
    import open_clip
    from mmpretrain.datasets.categories import IMAGENET_CATEGORIES
    from timm.data import ImageNetInfo

    lists = (
        IMAGENET_CATEGORIES,
        open_clip.IMAGENET_CLASSNAMES,
        ImageNetInfo().label_names(),
    )
    return any(classes == list(names) for names in lists)


def _model_of_config(checkpoint: Checkpoint) -> dict[str, Any]:
    """``model`` of the config that mmengine wrote into a checkpoint.

    The text is Python; it is parsed and not executed.
    """
    meta = checkpoint.get('meta')
    text = meta.get('cfg') if isinstance(meta, dict) else None
    if not isinstance(text, str):
        return {}
    try:
        for statement in ast.parse(text).body:
            if isinstance(statement, ast.Assign) and any(
                isinstance(target, ast.Name) and target.id == 'model'
                for target in statement.targets
            ):
                model = _literal(statement.value)
                return model if isinstance(model, dict) else {}
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return {}  # check_compatible says that nothing is known
    return {}


def _literal(node: ast.expr) -> Any:
    """The value of a literal in which dicts may be written ``dict(...)``."""
    if isinstance(node, ast.Call):
        if not isinstance(node.func, ast.Name) or node.func.id != 'dict':
            raise ValueError('A call of something else than dict.')
        return {str(k.arg): _literal(k.value) for k in node.keywords}
    if isinstance(node, ast.Dict):
        keys = [_literal(key) for key in node.keys if key is not None]
        return dict(zip(keys, map(_literal, node.values), strict=True))
    if isinstance(node, ast.List | ast.Tuple):
        return [_literal(element) for element in node.elts]
    return ast.literal_eval(node)

"""Averaging of weights: WiSE-FT's interpolation and model soups."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mmclip.checkpoint.files.reading import open_weights
from mmclip.checkpoint.finite import check_finite
from mmclip.checkpoint.meta import (
    GRID,
    OUTPUTS,
    PREPROCESS,
    TOWER,
    UNSAID,
    classes_of,
    differences,
    read_clip,
)
from mmclip.checkpoint.state_dict import refuse_lora, without_prefix
from mmclip.checkpoint.towers.convert import check_complete, unlike_tensors
from mmclip.datasets.class_order import are_same_classes
from mmclip.errors import ArgumentError, CheckpointError
from mmclip.version import __version__

Checkpoint = Mapping[str, Any]
StateDict = Mapping[str, Tensor]
# BatchNorm's count of batches, which is not used in eval mode.
COUNTER = 'num_batches_tracked'
MOST_LINES = 10  # of differences that are listed
_SAME_CLASSES = (
    '\nIf these names mean the same classes in the same order, pass '
    '--same-classes.'
)


@dataclass(frozen=True)
class Trial:
    """The result of adding one set of weights to a greedy soup.

    Args:
        name (str): Name of the weights.
        alone (float): Their own score.
        together (float): The soup's score with them.
        before (float | None): The soup's score without them; None for the
            first.
        kept (bool): Whether they stayed in the soup.
    """

    name: str
    alone: float
    together: float
    before: float | None
    kept: bool


def read_weights(path: str | Path) -> dict[str, Any]:
    """Read ``state_dict`` and ``meta`` of a checkpoint.

    After training with ``EMAHook`` these are the averaged weights: mmengine
    saves the others as ``ema_state_dict``.

    Raises:
        FileNotFoundError: If there is no such file.
        CheckpointError: If it has no state dict, or NaN in it.
    """
    weights = open_weights(path)
    check_finite(weights, path)
    return dict(meta=weights.meta, state_dict=weights)


def check_compatible(
    checkpoints: Mapping[str, Checkpoint], *, same_classes: bool = False
) -> list[str]:
    """Refuse checkpoints whose average would be meaningless.

    Each is compared with the first: keys and shapes, ``meta['clip']``, and
    the names of the classes.

    Args:
        checkpoints (Mapping[str, Mapping]): Checkpoints with ``state_dict``
            and ``meta``, by path.
        same_classes (bool): Whether different class names are known to mean
            the same classes in the same order. Defaults to False.

    Returns:
        list[str]: Notes on what could not be compared, and on different
        preprocessing of images.

    Raises:
        CheckpointError: If two differ (the message lists the differences), or
            one holds LoRA updates.
    """
    for path, checkpoint in checkpoints.items():
        refuse_lora(checkpoint['state_dict'], path)
    clips = {path: read_clip(c, path) for path, c in checkpoints.items()}
    classes = {path: classes_of(c, path) for path, c in checkpoints.items()}
    notes = [f'{path} {UNSAID}' for path in clips if clips[path] is None]
    notes += [
        f'{path} does not name its classes, so only their number is compared.'
        for path in classes
        if classes[path] is None
    ]
    first, *others = checkpoints
    for path in others:
        unlike = unlike_tensors(
            checkpoints[path]['state_dict'], checkpoints[first]['state_dict']
        )
        one, other = clips[first], clips[path]
        if one and other:
            called = ('first', 'second')
            names = (*TOWER, *OUTPUTS, *GRID)
            unlike += differences(one, other, names, called)
            if images := differences(one, other, PREPROCESS, called):
                notes.append(
                    f'{first} and {path}: images were prepared differently: '
                    f'{"; ".join(images)}.'
                )
        advice = '' if unlike else _SAME_CLASSES
        if not same_classes:
            unlike += _unlike_classes(classes[first], classes[path])
        if unlike:
            more = len(unlike) - MOST_LINES
            lines = unlike[:MOST_LINES] + [f'and {more} more'] * (more > 0)
            raise CheckpointError(
                f'{first} and {path} cannot be averaged:\n  '
                + '\n  '.join(lines)
                + advice
            )
    return notes


def interpolate(
    zero_shot: StateDict, fine_tuned: StateDict, alpha: float
) -> dict[str, Tensor]:
    """Interpolate between two models, as WiSE-FT does (arXiv 2109.01903).

    ``(1 - alpha) * zero_shot + alpha * fine_tuned`` for every floating-point
    tensor, computed in float32 or better and rounded to the tensor's dtype.
    Integer tensors must be equal, except for BatchNorm's count of batches,
    which is taken from ``fine_tuned``.

    Args:
        zero_shot (Mapping[str, Tensor]): A state dict.
        fine_tuned (Mapping[str, Tensor]): Another with the same keys.
        alpha (float): From 0 (``zero_shot``) to 1 (``fine_tuned``).

    Raises:
        CheckpointError: If keys, shapes or integers differ; the message lists
            them.
        ArgumentError: If ``alpha`` is not between 0 and 1.
    """
    if not 0 <= alpha <= 1:
        raise ArgumentError(f'alpha must be between 0 and 1, got {alpha}.')

    def between(tensors: Sequence[Tensor]) -> Tensor:
        first, second = tensors
        return (1 - alpha) * first + alpha * second

    return _combine([zero_shot, fine_tuned], between)


def average(state_dicts: Sequence[StateDict]) -> dict[str, Tensor]:
    """Average several models: a uniform soup (arXiv 2203.05482).

    Rounding and integers are as in :func:`interpolate`.

    Args:
        state_dicts (Sequence[Mapping[str, Tensor]]): One or more state dicts.

    Raises:
        CheckpointError: If keys, shapes or integers differ; the message lists
            them.
        ArgumentError: If there are none.
    """
    if not state_dicts:
        raise ArgumentError('There are no weights to average.')

    def mean(tensors: Sequence[Tensor]) -> Tensor:
        total = tensors[0].clone()
        for tensor in tensors[1:]:
            total += tensor
        return total / len(tensors)

    return _combine(state_dicts, mean)


def greedy_soup(
    state_dicts: Mapping[str, StateDict], score: Callable[[StateDict], float]
) -> tuple[dict[str, Tensor], list[Trial]]:
    """Average the models that improve the average (arXiv 2203.05482).

    Recipe 1 of the paper: from the best score down, each set of weights stays
    in the soup if it does not lower the soup's score.

    Args:
        state_dicts (Mapping[str, Mapping[str, Tensor]]): State dicts by name.
        score (Callable): Returns the score of weights, on data that no
            reported number is measured on; higher is better.

    Returns:
        tuple[dict[str, Tensor], list[Trial]]: The soup, and the trials in
        order.

    Raises:
        CheckpointError: If keys, shapes or integers differ; the message lists
            them.
        ArgumentError: If there are no weights.
    """
    if not state_dicts:
        raise ArgumentError('There are no weights to average.')
    alone = {name: score(weights) for name, weights in state_dicts.items()}
    first, *others = sorted(alone, key=alone.__getitem__, reverse=True)
    best = alone[first]
    kept, trials = [first], [Trial(first, best, best, None, True)]
    for name in others:
        soup = average([state_dicts[k] for k in [*kept, name]])
        together = score(soup)
        trials.append(
            Trial(name, alone[name], together, best, together >= best)
        )
        if together >= best:
            kept.append(name)
            best = together
    return average([state_dicts[name] for name in kept]), trials


def averaged_checkpoint(
    state_dict: dict[str, Tensor],
    checkpoints: Mapping[str, Mapping[str, Any]],
    shares: Mapping[str, float],
) -> dict[str, Any]:
    """Make a checkpoint of averaged weights that records their origin.

    Args:
        state_dict (dict[str, Tensor]): The averaged weights.
        checkpoints (Mapping[str, Mapping]): The averaged checkpoints by name;
            ``meta['clip']``, the classes and the config come from the last
            that has them.
        shares (Mapping[str, float]): The share of each in the average.
    """
    meta: dict[str, Any] = dict(
        averaged=dict(shares), mmclip_version=__version__
    )
    for name in shares:
        theirs = checkpoints[name].get('meta') or {}
        for key in ('dataset_meta', 'cfg'):
            if key in theirs:
                meta[key] = theirs[key]
        if clip := read_clip(checkpoints[name], name):
            meta['clip'] = clip
    return dict(meta=meta, state_dict=state_dict)


def _unlike_classes(
    first: list[str] | None, second: list[str] | None
) -> list[str]:
    if first is None or second is None or are_same_classes(first, second):
        return []
    if len(first) != len(second):
        return [f'classes: first {len(first)}, second {len(second)}']
    different = [
        f'class {i}: first {one!r}, second {other!r}'
        for i, (one, other) in enumerate(zip(first, second, strict=True))
        if one != other
    ]
    if sorted(first) == sorted(second):
        different.insert(0, 'classes: the same names in another order')
    return different


def _combine(
    state_dicts: Sequence[StateDict],
    formula: Callable[[Sequence[Tensor]], Tensor],
) -> dict[str, Tensor]:
    """Apply a formula to floating-point tensors, in float32 or better."""
    first, *others = state_dicts
    for other in others:
        check_complete(other, first)
    different: list[str] = []
    combined = without_prefix(first, '')  # keeps the patch grid
    for key in first:
        tensors = [state_dict[key] for state_dict in state_dicts]
        if all(tensor.is_floating_point() for tensor in tensors):
            combined[key] = _in_float32(tensors, formula)
            continue
        combined[key] = tensors[-1].clone()
        if not key.endswith(COUNTER) and not all(
            torch.equal(tensor, tensors[0]) for tensor in tensors
        ):
            different.append(key)
    if different:
        raise CheckpointError(
            'Integers cannot be averaged, and these integer tensors differ: '
            f'{", ".join(different)}.'
        )
    return combined


def _in_float32(
    tensors: Sequence[Tensor], formula: Callable[[Sequence[Tensor]], Tensor]
) -> Tensor:
    stored = tensors[0].dtype
    for tensor in tensors[1:]:
        stored = torch.promote_types(stored, tensor.dtype)
    dtype = torch.promote_types(stored, torch.float32)
    return formula([tensor.to(dtype) for tensor in tensors]).to(stored)

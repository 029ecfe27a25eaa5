"""Strict conversion of state dicts with a dialect's table of names."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor

from mmclip.checkpoint.towers.dialects import (
    PLAIN_DIALECTS,
    Dialect,
    Rule,
    find_behind_prefix,
    pattern,
)
from mmclip.errors import CheckpointError, some

_COUNTER = 'num_batches_tracked'  # of batch norms; the only integers

# A rule and the values of its placeholders: one tensor of one block, or a few
# that belong together.
Place = tuple[Rule, tuple[tuple[str, str], ...]]


@dataclass(frozen=True)
class Conversion:
    """A converted state dict, and what became of every source key.

    Args:
        dialect (Dialect): The source's names.
        state_dict (dict[str, Tensor]): The tensors by our names.
        mapped (dict[str, str]): Our key, or keys, for each source key.
        left_out (dict[str, list[str]]): The source keys of other parts of
            the model, by description.
    """

    dialect: Dialect
    state_dict: dict[str, Tensor]
    mapped: dict[str, str]
    left_out: dict[str, list[str]]


def recognise(keys: Iterable[str]) -> Dialect:
    """Recognise the dialect of a checkpoint from its keys.

    Raises:
        CheckpointError: If no plain vision transformer has such keys.
    """
    keys = list(keys)
    for dialect in PLAIN_DIALECTS:
        if dialect.prefix_in(keys) is not None:
            return dialect
    if found := find_behind_prefix(keys):
        raise CheckpointError(
            f"The keys are {found[1].name}'s names with the prefix "
            f'{found[0]!r}. Save the weights without it.'
        )
    raise CheckpointError(
        'The keys are not those of a CLIP or SigLIP vision transformer from '
        f'{", ".join(d.name for d in PLAIN_DIALECTS)}: {some(keys)}.'
    )


def convert(
    source: Mapping[str, Tensor],
    dialect: Dialect,
    dtype: torch.dtype = torch.float32,
) -> Conversion:
    """Rename the image tower's tensors to our names.

    Tensors of other parts are not read from ``source``.

    Raises:
        CheckpointError: If a key is neither in the table nor known to belong
            to another part, two keys are for the same tensor, a part of a
            tensor is missing, or a value is an integer or not finite.
    """
    prefix = dialect.prefix_in(source)
    if prefix is None:
        raise CheckpointError(f'The keys are not {dialect.name} names.')
    places, others = _sort(source, dialect, prefix)
    left_out = _other_parts(others, dialect, prefix)
    state_dict: dict[str, Tensor] = {}
    mapped: dict[str, str] = {}
    not_floating: list[str] = []
    not_finite: list[str] = []
    for place, keys in places.items():
        ours = _our_names(place)
        mapped |= dict.fromkeys(keys, ' + '.join(ours))
        for name, tensor in zip(
            ours, _to_ours(place[0], source, keys), strict=True
        ):
            if name in state_dict:
                raise CheckpointError(f'Two keys are for {name}: {keys}.')
            if tensor.is_floating_point():
                tensor = tensor.to(dtype)
            elif not name.endswith(_COUNTER):
                not_floating += keys
            if not tensor.isfinite().all():
                not_finite += keys
            state_dict[name] = tensor
    if not_floating:
        raise CheckpointError(
            f'{len(not_floating)} tensors are not floating point but '
            f'{source[not_floating[0]].dtype}: {some(not_floating)}. '
            'Dequantise the weights first.'
        )
    if not_finite:
        raise CheckpointError(
            f'{len(not_finite)} tensors have NaN or infinite values, or '
            f'values too large for {dtype}: {some(not_finite)}.'
        )
    return Conversion(dialect, state_dict, mapped, left_out)


def export(
    state_dict: Mapping[str, Tensor], dialect: Dialect, prefix: str = ''
) -> dict[str, Tensor]:
    """Rename tensors from our names to another library's.

    Raises:
        CheckpointError: If the dialect has no name for a tensor.
    """
    found: dict[Place, dict[int, str]] = {}
    homeless = []
    for key in state_dict:
        place = _find(key, dialect, '', theirs=False)
        if place is None:
            homeless.append(key)
        else:
            found.setdefault(place[0], {})[place[1]] = key
    if homeless:
        raise CheckpointError(
            f'{dialect.name} has no place for {len(homeless)} tensors: '
            f'{some(homeless)}.'
        )
    exported: dict[str, Tensor] = {}
    for (rule, groups), keys in found.items():
        tensor = _join([state_dict[keys[i]] for i in sorted(keys)])
        if rule.transposed:
            tensor = tensor.T.contiguous()
        tensor = tensor.reshape(tensor.shape[rule.new_dims :])
        start = '' if rule.outside else prefix
        names = [start + n.format(**dict(groups)) for n in rule.their_names]
        # Clones: safetensors refuses tensors that share memory.
        parts = tensor.chunk(len(names)) if len(names) > 1 else [tensor]
        exported |= {
            name: part.clone() if len(names) > 1 else part
            for name, part in zip(names, parts, strict=True)
        }
    return exported


def check_complete(
    state_dict: Mapping[str, Tensor], wanted: Mapping[str, Tensor]
) -> None:
    """Check that keys and shapes are those of a module."""
    if problems := unlike_tensors(state_dict, wanted):
        raise CheckpointError(
            f'{len(problems)} keys do not fit the model: {some(problems)}.'
        )


def unlike_tensors(
    state_dict: Mapping[str, Tensor], wanted: Mapping[str, Tensor]
) -> list[str]:
    """List the tensors that would not load, with one line per key."""
    problems = [f'missing: {key}' for key in wanted if key not in state_dict]
    for key, tensor in state_dict.items():
        if key not in wanted:
            problems.append(f'unexpected: {key} {tuple(tensor.shape)}')
        elif tensor.shape != wanted[key].shape:
            problems.append(
                f'shape: {key} is {tuple(tensor.shape)}, wanted '
                f'{tuple(wanted[key].shape)}'
            )
    return problems


def _sort(
    keys: Iterable[str], dialect: Dialect, prefix: str
) -> tuple[dict[Place, list[str]], list[str]]:
    """Group keys by the tensor that they make up; others match no rule."""
    found: dict[Place, dict[int, str]] = {}
    others = []
    for key in keys:
        place = _find(key, dialect, prefix, theirs=True)
        if place is None:
            others.append(key)
            continue
        parts = found.setdefault(place[0], {})
        if place[1] in parts:
            raise CheckpointError(
                f'Two keys are for one tensor: {parts[place[1]]} and {key}.'
            )
        parts[place[1]] = key
    for (rule, groups), parts in found.items():
        missing = [
            name.format(**dict(groups))
            for i, name in enumerate(rule.their_names)
            if i not in parts
        ]
        if missing:
            raise CheckpointError(f'missing: {", ".join(missing)}')
    places = {
        place: [parts[i] for i in sorted(parts)]
        for place, parts in found.items()
    }
    return places, others


def _find(
    key: str, dialect: Dialect, prefix: str, *, theirs: bool
) -> tuple[Place, int] | None:
    """Find the rule for a key, and which of the rule's names it is."""
    for rule in dialect.rules:
        start = '' if rule.outside else prefix
        if not key.startswith(start):
            continue
        names = rule.their_names if theirs else rule.our_names
        for index, name in enumerate(names):
            if match := _pattern(name).fullmatch(key, len(start)):
                return (rule, tuple(match.groupdict().items())), index
    return None


_pattern = cache(pattern)
_compile = cache(re.compile)


def _other_parts(
    keys: list[str], dialect: Dialect, prefix: str
) -> dict[str, list[str]]:
    left_out: dict[str, list[str]] = {}
    unknown = []
    for key in keys:
        for part, expression in dialect.left_out.items():
            # Without a prefix there is no text tower; open_clip's text blocks
            # have the same names as its image blocks.
            if part == 'text tower' and not prefix:
                continue
            if _compile(expression).fullmatch(key):
                left_out.setdefault(part, []).append(key)
                break
        else:
            unknown.append(key)
    if unknown:
        raise CheckpointError(
            f'{len(unknown)} keys are not {dialect.name} names of a CLIP or '
            f'SigLIP vision transformer: {some(unknown)}.'
        )
    return left_out


def _our_names(place: Place) -> list[str]:
    rule, groups = place
    return [name.format(**dict(groups)) for name in rule.our_names]


def _to_ours(
    rule: Rule, source: Mapping[str, Tensor], keys: list[str]
) -> list[Tensor]:
    try:
        tensor = _join([source[key] for key in keys])
        if rule.transposed:
            tensor = tensor.T.contiguous()
        tensor = tensor.reshape((1,) * rule.new_dims + tuple(tensor.shape))
        if len(rule.our_names) == 1:
            return [tensor]
        unit = len(tensor) // sum(rule.shares)
        sizes = [unit * share for share in rule.shares]
        return [part.clone() for part in tensor.split(sizes)]
    except (RuntimeError, TypeError) as error:
        shapes = [tuple(source[key].shape) for key in keys]
        raise CheckpointError(
            f'{some(keys)} have shapes {shapes}, which do not match their '
            'names.'
        ) from error


def _join(tensors: list[Tensor]) -> Tensor:
    return tensors[0] if len(tensors) == 1 else torch.cat(tensors)

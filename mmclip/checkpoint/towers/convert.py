"""Strict conversion of state dicts with a dialect's table of names."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from mmclip.checkpoint.finite import is_finite
from mmclip.checkpoint.state_dict import refuse_lora
from mmclip.checkpoint.towers.dialects import (
    PLAIN_DIALECTS,
    Dialect,
    Rule,
    advise_on_prefix,
    pattern,
)
from mmclip.errors import CheckpointError, some

_COUNTER = 'num_batches_tracked'  # of batch norms; the only integers

# A rule and the values of its placeholders: one tensor of one block, or a few
# that belong together.
Groups = tuple[tuple[str, str], ...]
Place = tuple[Rule, Groups]


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
    if advice := advise_on_prefix(keys):
        raise CheckpointError(advice)
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
    places: dict[Place, dict[int, str]] = {}
    left_out: dict[str, list[str]] = {}
    unknown = []
    for key in source:
        if found := _find(key, dialect, prefix, theirs=True):
            places.setdefault(found[0], {})[found[1]] = key
        elif part := _other_part(key, dialect, prefix):
            left_out.setdefault(part, []).append(key)
        else:
            unknown.append(key)
    if unknown:
        raise CheckpointError(
            f'{len(unknown)} keys are not {dialect.name} names of a CLIP or '
            f'SigLIP vision transformer: {some(unknown)}.'
        )
    state_dict: dict[str, Tensor] = {}
    mapped: dict[str, str] = {}
    not_floating: list[str] = []
    not_finite: list[str] = []
    for (rule, groups), parts in places.items():
        theirs = _filled(rule.their_names, groups)
        if missing := [n for i, n in enumerate(theirs) if i not in parts]:
            raise CheckpointError(f'missing: {", ".join(missing)}')
        keys = [parts[i] for i in sorted(parts)]
        ours = _filled(rule.our_names, groups)
        mapped |= dict.fromkeys(keys, ' + '.join(ours))
        for name, tensor in zip(
            ours, _to_ours(rule, source, keys), strict=True
        ):
            if name in state_dict:
                raise CheckpointError(f'Two keys are for {name}: {keys}.')
            if tensor.is_floating_point():
                tensor = tensor.to(dtype)
            elif not name.endswith(_COUNTER):
                not_floating += keys
            if not is_finite(tensor):
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
        names = [start + n for n in _filled(rule.their_names, groups)]
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
        refuse_lora(state_dict, 'The checkpoint')
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
            if match := pattern(name).fullmatch(key, len(start)):
                return (rule, tuple(match.groupdict().items())), index
    return None


def _other_part(key: str, dialect: Dialect, prefix: str) -> str | None:
    """Return which other part of a model a key belongs to, if known."""
    for part, expression in dialect.left_out.items():
        # Without a prefix there is no text tower; open_clip's text blocks
        # have the same names as its image blocks.
        is_possible = prefix or part != 'text tower'
        if is_possible and re.fullmatch(expression, key):
            return part
    return None


def _filled(names: tuple[str, ...], groups: Groups) -> list[str]:
    return [name.format(**dict(groups)) for name in names]


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

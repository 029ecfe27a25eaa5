"""The conversion core: apply a dialect's table to a state dict, strictly."""

import re
from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

from mmclip.checkpoint.dialects import Dialect, Rule
from mmclip.checkpoint.errors import CheckpointError


@dataclass(frozen=True)
class Conversion:
    """A converted state dict and the account of every source key.

    Args:
        state_dict (dict[str, Tensor]): In our names, float32.
        mapped (dict[str, str]): Source key to our key.
        left_out (dict[str, list[str]]): Source keys that belong to other
            parts of the model, by description.
    """

    state_dict: dict[str, Tensor]
    mapped: dict[str, str]
    left_out: dict[str, list[str]]


def convert(source: Mapping[str, Tensor], dialect: Dialect) -> Conversion:
    """Rename the image tower's tensors into our names, as float32.

    Args:
        source (Mapping[str, Tensor]): A state dict in the dialect's names.
        dialect (Dialect): The table of names.

    Raises:
        CheckpointError: If a key is neither in the table nor known to belong
            to another part, or two keys mean the same tensor.
    """
    state_dict: dict[str, Tensor] = {}
    mapped: dict[str, str] = {}
    left_out: dict[str, list[str]] = {}
    unknown: list[str] = []
    for key, tensor in source.items():
        found = _rename(key, dialect)
        if found is not None:
            rule, ours = found
            if ours in state_dict:
                raise CheckpointError(f'Two source keys mean {ours}: {key}.')
            shape = (1,) * rule.new_dims + tuple(tensor.shape)
            state_dict[ours] = tensor.reshape(shape).float()
            mapped[key] = ours
        elif (part := _other_part(key, dialect)) is not None:
            left_out.setdefault(part, []).append(key)
        else:
            unknown.append(key)
    if unknown:
        raise CheckpointError(
            f'Keys that are not in the {dialect.name} names of a plain CLIP '
            f'vision transformer: {", ".join(unknown)}.'
        )
    return Conversion(state_dict, mapped, left_out)


def check_complete(
    state_dict: Mapping[str, Tensor], wanted: Mapping[str, Tensor]
) -> None:
    """Compare keys and shapes with those of a module.

    Args:
        state_dict (Mapping[str, Tensor]): What there is.
        wanted (Mapping[str, Tensor]): The module's own state dict.

    Raises:
        CheckpointError: If they differ, with all the differences.
    """
    problems = [f'missing: {key}' for key in wanted if key not in state_dict]
    for key, tensor in state_dict.items():
        if key not in wanted:
            problems.append(f'unexpected: {key} {tuple(tensor.shape)}')
        elif tensor.shape != wanted[key].shape:
            problems.append(
                f'shape: {key} is {tuple(tensor.shape)}, wanted '
                f'{tuple(wanted[key].shape)}'
            )
    if problems:
        raise CheckpointError(
            f'{len(problems)} keys do not fit the model:\n  '
            + '\n  '.join(problems)
        )


def _rename(key: str, dialect: Dialect) -> tuple[Rule, str] | None:
    for rule in dialect.rules:
        if match := re.fullmatch(_pattern(rule.theirs), key):
            return rule, rule.ours.format(**match.groupdict())
    return None


def _pattern(name: str) -> str:
    return (
        re.escape(name)
        .replace(r'\{i\}', r'(?P<i>\d+)')
        .replace(r'\{p\}', r'(?P<p>weight|bias)')
    )


def _other_part(key: str, dialect: Dialect) -> str | None:
    for part, pattern in dialect.left_out.items():
        if re.fullmatch(pattern, key):
            return part
    return None

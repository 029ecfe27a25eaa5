"""Safe copies of tokenizers, which cannot choose code, paths or addresses.

transformers uses the keys of these JSON files as arguments. So open_clip gets
a copy of the folder with only the vocabularies and known keys.
"""

import json
import re
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from mmclip.errors import CheckpointError
from mmclip.untrusted.rules import (
    FLAG,
    MOST_WORDS,
    NAME,
    Check,
    choice,
    is_whole,
    optional,
    read_json,
    take,
    whole,
)

MOST_BYTES_OF_VOCABULARY = 2**27
VOCABULARIES = (
    'tokenizer.json',
    'vocab.json',
    'merges.txt',
    'vocab.txt',
    'spiece.model',
    'sentencepiece.bpe.model',
    'tokenizer.model',
)
CONFIGS = (
    'tokenizer_config.json',
    'special_tokens_map.json',
    'added_tokens.json',
)


def _is_token(value: Any) -> bool:
    """Tell whether a value is a token or transformers' description of one."""
    if isinstance(value, Mapping):
        return isinstance(value.get('content'), str) and all(
            isinstance(part, str | bool) for part in value.values()
        )
    return isinstance(value, str)


def _are_tokens(value: Any) -> bool:
    if isinstance(value, Mapping):
        value = list(value.values())
    return isinstance(value, list) and all(map(_is_token, value))


TOKEN: Check = (lambda v: v is None or _is_token(v), 'a token')
TOKENS: Check = optional((_are_tokens, 'tokens'))
SPECIAL_TOKENS = dict.fromkeys(
    [
        f'{name}_token'
        for name in ('bos', 'eos', 'unk', 'sep', 'pad', 'cls', 'mask')
    ],
    TOKEN,
) | dict(additional_special_tokens=TOKENS, extra_special_tokens=TOKENS)
CONFIG: dict[str, Check] = SPECIAL_TOKENS | dict(
    tokenizer_class=(
        lambda v: (
            isinstance(v, str)
            and re.fullmatch(r'\w+Tokenizer(Fast)?|TokenizersBackend', v)
            is not None
        ),
        'the name of a transformers tokenizer',
    ),
    added_tokens_decoder=TOKENS,
    padding_side=choice('left', 'right'),
    truncation_side=choice('left', 'right'),
    model_max_length=whole(10**31),  # transformers writes 10**30 for none
    extra_ids=whole(MOST_WORDS, 0),
    src_lang=optional(NAME),
    tgt_lang=optional(NAME),
    **dict.fromkeys(
        (
            'add_bos_token',
            'add_eos_token',
            'add_prefix_space',
            'clean_up_tokenization_spaces',
            'do_basic_tokenize',
            'do_lower_case',
            'legacy',
            'legacy_behaviour',
            'spaces_between_special_tokens',
            'split_special_tokens',
            'strip_accents',
            'tokenize_chinese_chars',
            'trim_offsets',
        ),
        optional(FLAG),
    ),
)


def tokenizer_files(folder: Path) -> list[Path]:
    """List the files of a folder that define its tokenizer."""
    names = (*VOCABULARIES, *CONFIGS)
    return [folder / name for name in names if (folder / name).is_file()]


def check_tokens(
    tokenizer: Callable[[Any], Tensor], size: int, name: str, texts: Any
) -> Tensor:
    """Tokenize texts with an untrusted tokenizer."""
    try:
        tokens = tokenizer(texts)
    except Exception as error:  # transformers can raise anything
        raise CheckpointError(
            f'The tokenizer of {name} fails: {error}'
        ) from error
    if size and tokens.numel() and int(tokens.max()) >= size:
        raise CheckpointError(
            f'The tokenizer of {name} gives token {int(tokens.max())}, but '
            f'the text tower has only {size} (vocab_size): it belongs to '
            'another model.'
        )
    return tokens


def copy_tokenizer(source: Path, target: Path) -> None:
    """Copy the known parts of a tokenizer into another folder."""
    for name in VOCABULARIES:
        if (source / name).is_file():
            shutil.copyfile(source / name, target / name)
    if (source / 'tokenizer.json').is_file():
        _refuse_growth(source / 'tokenizer.json')
    config, special_tokens, added_tokens = CONFIGS
    _copy_known(source, target, config, CONFIG)
    _copy_known(source, target, special_tokens, SPECIAL_TOKENS)
    path = source / added_tokens
    if path.is_file():
        tokens = read_json(path)
        if not all(is_whole(v, 0, MOST_WORDS) for v in tokens.values()):
            raise CheckpointError(f'{path} must have a number for each token.')
        (target / path.name).write_text(json.dumps(tokens), 'utf-8')


def _refuse_growth(path: Path) -> None:
    """Refuse steps that together make a text a thousand times longer.

    Forty steps that double a text would exhaust memory.
    """
    growth = 1.0
    config = read_json(path, most=MOST_BYTES_OF_VOCABULARY)
    left = [config.get('normalizer'), config.get('pre_tokenizer')]
    while left:
        step = left.pop()
        if isinstance(step, list):
            left += step
        if not isinstance(step, Mapping):
            continue
        left += [step.get('normalizers'), step.get('pretokenizers')]
        if step.get('type') == 'Replace':
            pattern, content = step.get('pattern'), step.get('content')
            text = pattern.get('String') if isinstance(pattern, Mapping) else 0
            length = len(text) if isinstance(text, str) and text else 1
            growth *= max(1.0, len(str(content)) / length)
        elif step.get('type') == 'ByteLevel':
            growth *= 4  # bytes per character
        if growth > 1000:
            raise CheckpointError(
                f'{path} makes texts more than a thousand times longer.'
            )


def _copy_known(
    source: Path, target: Path, name: str, checks: Mapping[str, Check]
) -> None:
    path = source / name
    if not path.is_file():
        return
    config = read_json(path)
    if 'auto_map' in config:
        raise CheckpointError(
            f'{path} asks for its own Python code (auto_map), which is never '
            'executed: use a model whose tokenizer transformers knows.'
        )
    taken = take(config, checks, str(path))
    (target / name).write_text(json.dumps(taken), 'utf-8')

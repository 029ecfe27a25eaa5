"""CLIP models with both encoders (towers), built by open_clip."""

import json
import logging
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mmclip.checkpoint.files.downloads import only_cached_files_if_offline
from mmclip.checkpoint.files.paths import is_local
from mmclip.checkpoint.towers.open_clip import find_model, open_clip_source
from mmclip.errors import CheckpointError
from mmclip.text.tokenizer_files import check_tokens, copy_tokenizer
from mmclip.untrusted.model_configs import take_whole_model
from mmclip.untrusted.rules import read_json

POSITION_IDS = 'text.transformer.embeddings.position_ids'
# Numbers that buffers may have even if the file has fewer.
MOST_IN_BUFFERS = 2**22
# Entries of OpenAI's archives that are not weights.
_NOT_WEIGHTS = ('input_resolution', 'context_length', 'vocab_size')


class TokenizerError(CheckpointError):
    """The files of a tokenizer cannot be downloaded here."""


def load_whole_model(
    name: str,
    pretrained: str,
    tag: str | None = None,
    weights: Mapping[str, Tensor] | None = None,
) -> tuple[Any, Any]:
    """Load both towers of an open_clip model, and its tokenizer.

    Unlike ``open_clip.create_model``, this takes the activation from the tag
    and reads OpenAI's archives.

    Args:
        name (str): An open_clip model name, or a JSON config of open_clip.
        pretrained (str): A pretrained tag, or a local file.
        tag (str | None): For a local file: the tag whose activation it uses,
            ``'none'`` for the model config's own.
        weights (Mapping | None): The weights, if they are open already.

    Returns:
        tuple: The model, open_clip's ``CLIP`` or ``CustomTextCLIP``, and the
        tokenizer.

    Raises:
        CheckpointError: If a name or tag is unknown, or the weights are not
            those of the whole model.
        FileNotFoundError: If a local file is missing.
    """
    if weights is None:
        weights = open_clip_source(name, pretrained, tag)[1]()
    tensors = {k: t for k, t in weights.items() if k not in _NOT_WEIGHTS}
    model, tokenizer = build_whole_model(
        name,
        tag if is_local(pretrained) else pretrained,
        most=sum(tensor.numel() for tensor in tensors.values()),
    )
    try:
        model.load_state_dict(_as_open_clip_has_it(tensors, model))
    except RuntimeError as error:
        raise CheckpointError(
            f'{pretrained} does not have both towers of {name}: {error}'
        ) from None
    return model, tokenizer


def build_whole_model(
    name: str, tag: str | None = None, most: int | None = None
) -> tuple[Any, Any]:
    """Build both towers with random weights, and the tokenizer.

    Args:
        name (str): As in :func:`load_whole_model`.
        tag (str | None): The pretrained tag whose activation it uses; None or
            ``'none'`` for the model config's own.
        most (int | None): How many numbers the weights file has: a larger
            model is refused before memory is allocated. None for no limit.

    Raises:
        CheckpointError: If a name or tag is unknown, open_clip cannot build
            the config, or the config asks for code or addresses.
        TokenizerError: If the tokenizer is on a hub that is out of reach.
    """
    import open_clip

    _, _, quick_gelu = find_model(name, tag)
    with _as_open_clip_may_read_it(name) as identifier, _quiet():

        def create(device: str) -> Any:
            with torch.device(device):
                return open_clip.create_model(
                    identifier,
                    load_weights=False,
                    force_quick_gelu=quick_gelu,
                    pretrained_text=False,
                    device=device,
                )

        if identifier == name:
            with _small_files_of_hub(name):
                tokenizer = open_clip.get_tokenizer(identifier)
                return create('cpu'), tokenizer
        try:
            if most is not None:
                _refuse_larger(create('meta'), most, name)
            model = create('cpu')
            tokenizer = open_clip.get_tokenizer(identifier)
        except CheckpointError:
            raise
        except Exception as error:  # open_clip's, transformers' or torch's
            raise CheckpointError(
                f'open_clip cannot build the model of {name}: {error}'
            ) from error
        size = getattr(getattr(model, 'text', model), 'vocab_size', 0)
        return model, partial(check_tokens, tokenizer, size, name)


@contextmanager
def _as_open_clip_may_read_it(name: str) -> Iterator[str]:
    """Give a model a name for which open_clip reads no untrusted file.

    A config file is read here, key by key, and open_clip gets a folder with
    only the known keys.
    """
    path = Path(name)
    if not path.is_file():
        yield name
        return
    config = read_json(path)
    config = config.get('model_cfg', config)
    if not config.get('text_cfg'):
        raise CheckpointError(
            f'{name} does not describe a text tower. Give an open_clip model '
            "name, or a model config of open_clip with 'text_cfg'."
        )
    taken = take_whole_model(config, name)
    with tempfile.TemporaryDirectory() as folder:
        if taken['text_cfg'].get('hf_tokenizer_name'):
            copy_tokenizer(path.parent, Path(folder))
        file = Path(folder) / 'open_clip_config.json'
        file.write_text(json.dumps({'model_cfg': taken}))
        yield f'local-dir:{folder}'


@contextmanager
def _small_files_of_hub(name: str) -> Iterator[None]:
    """Say which files to fetch if a tokenizer cannot be downloaded."""
    import open_clip
    from huggingface_hub.constants import HF_HUB_CACHE

    text = (open_clip.get_model_config(name) or {}).get('text_cfg', {})
    names = (text.get(f'hf_{kind}_name') for kind in ('tokenizer', 'model'))
    repositories = sorted({found for found in names if found})
    if not repositories:  # open_clip has the vocabulary
        yield
        return
    try:
        with only_cached_files_if_offline():
            yield
    except OSError as error:
        if error.errno is not None:  # such as a full disk
            raise
        folders = ' and '.join(
            f'models--{found.replace("/", "--")}' for found in repositories
        )
        # Downloaded so, the cache also says which files a repository lacks,
        # without which transformers does not start here.
        raise TokenizerError(
            f'The tokenizer of {name} could not be downloaded: the hub is out '
            'of reach. Type elsewhere: python -c "import open_clip; '
            f'open_clip.get_tokenizer({name!r})", and copy {folders} from '
            f'~/.cache/huggingface/hub there to {HF_HUB_CACHE} here.'
        ) from error


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence open_clip's warning about random weights."""
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(logging.NOTSET)


def _refuse_larger(model: Any, most: int, name: str) -> None:
    size = sum(p.numel() for p in model.parameters())
    if size > most:
        raise CheckpointError(
            f'The file does not have both towers of {name}: they have '
            f'{size:,} numbers, but it has {most:,}.'
        )
    masks = sum(buffer.numel() for buffer in model.buffers())
    if masks > max(most, MOST_IN_BUFFERS):
        raise CheckpointError(
            f'{name} asks for {masks:,} numbers in masks, but its file has '
            f'only {most:,} in all: context_length is too large.'
        )


def _as_open_clip_has_it(
    tensors: dict[str, Tensor], model: Any
) -> dict[str, Tensor]:
    """Rename tensors as ``open_clip.load_checkpoint`` does."""
    from open_clip.convert import convert_state_dict
    from open_clip.model import convert_to_custom_text_state_dict

    tensors = convert_state_dict(model, tensors)
    if 'positional_embedding' in tensors and not hasattr(
        model, 'positional_embedding'
    ):
        tensors = convert_to_custom_text_state_dict(tensors)
    own = model.state_dict()
    if POSITION_IDS not in own:  # newer transformers do not save it
        tensors.pop(POSITION_IDS, None)
    return {
        key: tensor.reshape(own[key].shape)
        if key in ('logit_scale', 'logit_bias') and key in own
        else tensor
        for key, tensor in tensors.items()
    }

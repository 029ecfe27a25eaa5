"""CLIP models with both towers, built by open_clip."""

import logging
from pathlib import Path
from typing import Any

from torch import Tensor

from mmclip.checkpoint.errors import CheckpointError
from mmclip.checkpoint.files import is_local
from mmclip.checkpoint.from_open_clip import find_model, open_clip_source

# What OpenAI's archives hold beside weights.
POSITION_IDS = 'text.transformer.embeddings.position_ids'
_NOT_WEIGHTS = ('input_resolution', 'context_length', 'vocab_size')


def load_whole_model(
    name: str, pretrained: str, tag: str | None = None
) -> tuple[Any, Any]:
    """Both towers of an open_clip model, and its tokenizer.

    Unlike ``open_clip.create_model`` it takes the activation from the tag,
    and reads OpenAI's archives.

    Args:
        name (str): A model name of open_clip, or an
            ``open_clip_config.json``.
        pretrained (str): A pretrained tag, or a local file.
        tag (str | None): For a local file: the tag whose activation it
            follows, ``'none'`` for the model config's own.

    Returns:
        tuple: The model, of open_clip's ``CLIP`` or ``CustomTextCLIP``, and
        the tokenizer.

    Raises:
        CheckpointError: If a name or tag is unknown, or the weights are not
            those of the whole model.
        FileNotFoundError: If a local file is missing.
    """
    _, read = open_clip_source(name, pretrained, tag)
    model, tokenizer = build_whole_model(
        name, tag if is_local(pretrained) else pretrained
    )
    tensors = {k: t for k, t in read().items() if k not in _NOT_WEIGHTS}
    try:
        model.load_state_dict(_as_open_clip_has_it(tensors, model))
    except RuntimeError as error:
        raise CheckpointError(
            f'{pretrained} does not hold both towers of {name}: {error}'
        ) from None
    return model, tokenizer


def build_whole_model(name: str, tag: str | None = None) -> tuple[Any, Any]:
    """The same with random weights.

    Args:
        name (str): As in :func:`load_whole_model`.
        tag (str | None): The pretrained tag whose activation it has; None or
            ``'none'`` for the model config's own.

    Raises:
        CheckpointError: If a name or tag is unknown.
    """
    import open_clip

    is_file = Path(name).is_file()
    if is_file and Path(name).name != 'open_clip_config.json':
        raise CheckpointError(
            f'{name} must be a model name of open_clip or an '
            'open_clip_config.json, which says what the text tower is.'
        )
    _, _, quick_gelu = find_model(name, tag)
    identifier = f'local-dir:{Path(name).parent}' if is_file else name
    # open_clip warns of the random weights, which are wanted here.
    logging.disable(logging.WARNING)
    try:
        model = open_clip.create_model(
            identifier,
            load_weights=False,
            force_quick_gelu=quick_gelu,
            pretrained_text=False,
        )
    finally:
        logging.disable(logging.NOTSET)
    return model, open_clip.get_tokenizer(identifier)


def _as_open_clip_has_it(
    tensors: dict[str, Tensor], model: Any
) -> dict[str, Tensor]:
    """The renaming of ``open_clip.load_checkpoint``, of tensors."""
    from open_clip.convert import convert_state_dict
    from open_clip.model import convert_to_custom_text_state_dict

    tensors = convert_state_dict(model, tensors)
    if 'positional_embedding' in tensors and not hasattr(
        model, 'positional_embedding'
    ):
        tensors = convert_to_custom_text_state_dict(tensors)
    own = model.state_dict()
    if POSITION_IDS not in own:  # which transformers made of late
        tensors.pop(POSITION_IDS, None)
    return {
        key: tensor.reshape(own[key].shape)
        if key in ('logit_scale', 'logit_bias') and key in own
        else tensor
        for key, tensor in tensors.items()
    }

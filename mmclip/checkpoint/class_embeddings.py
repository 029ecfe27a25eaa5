"""What CLIP's text tower says of the names of classes.

The text tower, its tokenizer, the names of ImageNet's classes and the
templates are open_clip's. Embeddings are kept in torch's hub folder, under a
hash of all that they depend on, because a thousand classes with eighty
templates are 80,000 texts.
"""

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from mmclip.checkpoint.atomic import atomic_file
from mmclip.checkpoint.errors import CheckpointError
from mmclip.checkpoint.files import SafetensorsFiles, is_local, sha256
from mmclip.checkpoint.from_open_clip import find_model, open_clip_source

Template = str | Callable[[str], str]
# What OpenAI's archives hold beside weights.
_NOT_WEIGHTS = ('input_resolution', 'context_length', 'vocab_size')


@dataclass(frozen=True)
class ClassEmbeddings:
    """A zero-shot classifier.

    Args:
        embeddings (Tensor): ``(classes, D)``, each of length one.
        logit_scale (float): What cosines are multiplied by.
        logit_bias (float): What is added then; zero but for SigLIP.
    """

    embeddings: Tensor
    logit_scale: float
    logit_bias: float


def embed_classes(
    name: str,
    pretrained: str,
    classes: Sequence[str],
    templates: Sequence[Template],
    tag: str | None = None,
    device: str = 'cpu',
) -> ClassEmbeddings:
    """Embed classes with the text tower of an open_clip model.

    The mean of the normalised embeddings of a class's texts, normalised again,
    by ``build_zero_shot_classifier`` of open_clip. Taken from the cache if
    the same was asked before.

    Args:
        name (str): A model name of open_clip, or an
            ``open_clip_config.json``.
        pretrained (str): A pretrained tag, or a local file of the whole model.
        classes (Sequence[str]): Their names, in the order of the labels.
        templates (Sequence[str | Callable]): Texts with ``{}`` for the name,
            or functions of it.
        tag (str | None): For a local file: the tag whose activation it
            follows, ``'none'`` for the model config's own.
        device (str): Where the text tower runs. Defaults to ``'cpu'``.

    Raises:
        CheckpointError: If a name or tag is unknown, or the file is none of
            the whole model.
        FileNotFoundError: If a local file is missing.
        ValueError: If there are no classes or templates, or a class is named
            twice.
    """
    texts = make_texts(classes, templates)
    key = _hash(name, pretrained, tag, texts)
    path = cache_folder() / f'{key}.safetensors'
    if path.is_file():
        return _read(path)
    model, tokenizer = load_whole_model(name, pretrained, tag)
    found = _embed(model.to(device).eval(), tokenizer, classes, templates)
    with atomic_file(path) as temporary:
        save_file(
            {
                'embeddings': found.embeddings,
                'logit_scale': torch.tensor(found.logit_scale).double(),
                'logit_bias': torch.tensor(found.logit_bias).double(),
            },
            temporary,
        )
    return found


def make_texts(
    classes: Sequence[str], templates: Sequence[Template]
) -> list[list[str]]:
    """Every template of every class.

    Raises:
        ValueError: If there is nothing to embed, a template has no place for
            the name, or classes would be embedded alike.
    """
    if not classes or not templates:
        raise ValueError(
            f'{len(classes)} classes and {len(templates)} templates: at '
            'least one of each is needed.'
        )
    for template in templates:
        if isinstance(template, str) and '{}' not in template:
            raise ValueError(
                f'The template {template!r} has no {{}} for the class.'
            )
    return [
        [t.format(name) if isinstance(t, str) else t(name) for t in templates]
        for name in classes
    ]


def load_whole_model(
    name: str, pretrained: str, tag: str | None = None
) -> tuple[nn.Module, Any]:
    """Both towers of an open_clip model, and its tokenizer.

    Unlike ``open_clip.create_model`` it takes the activation from the tag,
    and reads OpenAI's archives. Arguments and errors as in
    :func:`embed_classes`.
    """
    import open_clip

    is_file = Path(name).is_file()
    if is_file and Path(name).name != 'open_clip_config.json':
        raise CheckpointError(
            f'{name} must be a model name of open_clip or an '
            'open_clip_config.json, which says what the text tower is.'
        )
    _, read = open_clip_source(name, pretrained, tag)
    _, _, quick_gelu = find_model(
        name, tag if is_local(pretrained) else pretrained
    )
    identifier = f'local-dir:{Path(name).parent}' if is_file else name
    model = open_clip.create_model(
        identifier,
        load_weights=False,
        force_quick_gelu=quick_gelu,
        pretrained_text=False,
    )
    tensors = {k: t for k, t in read().items() if k not in _NOT_WEIGHTS}
    try:
        model.load_state_dict(_as_open_clip_has_it(tensors, model))
    except RuntimeError as error:
        raise CheckpointError(
            f'{pretrained} does not hold both towers of {name}: {error}'
        ) from None
    return model, open_clip.get_tokenizer(identifier)


def cache_folder() -> Path:
    """Where embeddings are kept: below ``torch.hub.get_dir()``."""
    return Path(torch.hub.get_dir()) / 'mmclip' / 'class_embeddings'


def _embed(
    model: Any,
    tokenizer: Any,
    classes: Sequence[str],
    templates: Sequence[Template],
) -> ClassEmbeddings:
    from open_clip import build_zero_shot_classifier

    device = next(model.parameters()).device
    embeddings = build_zero_shot_classifier(
        model, tokenizer, classes, templates, device=device, use_tqdm=True
    )
    bias = getattr(model, 'logit_bias', None)
    return ClassEmbeddings(
        embeddings=embeddings.T.contiguous().cpu(),
        logit_scale=model.logit_scale.exp().item(),
        logit_bias=0.0 if bias is None else bias.item(),
    )


def _as_open_clip_has_it(
    tensors: dict[str, Tensor], model: Any
) -> dict[str, Tensor]:
    """The renaming of ``open_clip.load_checkpoint``, of read tensors."""
    from open_clip.convert import convert_state_dict
    from open_clip.model import convert_to_custom_text_state_dict

    tensors = convert_state_dict(model, tensors)
    if 'positional_embedding' in tensors and not hasattr(
        model, 'positional_embedding'
    ):
        tensors = convert_to_custom_text_state_dict(tensors)
    own = model.state_dict()
    return {
        key: tensor.reshape(own[key].shape)
        if key in ('logit_scale', 'logit_bias') and key in own
        else tensor
        for key, tensor in tensors.items()
    }


def _hash(
    name: str, pretrained: str, tag: str | None, texts: list[list[str]]
) -> str:
    """Of all that the embeddings depend on."""
    files = [p for p in (name, pretrained) if Path(p).is_file()]
    inputs = dict(
        name=name,
        pretrained=pretrained,
        tag=tag,
        files=[sha256(path) for path in files],
        texts=texts,
        open_clip=version('open_clip_torch'),
    )
    return hashlib.sha256(json.dumps(inputs).encode()).hexdigest()


def _read(path: Path) -> ClassEmbeddings:
    tensors = SafetensorsFiles([path])
    return ClassEmbeddings(
        embeddings=tensors['embeddings'],
        logit_scale=tensors['logit_scale'].item(),
        logit_bias=tensors['logit_bias'].item(),
    )

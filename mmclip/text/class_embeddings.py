"""Embeddings of class names by CLIP's text tower.

The text tower, its tokenizer, ImageNet's class names and the templates are
open_clip's. Embeddings are cached in torch's hub folder, because a thousand
classes with eighty templates are 80,000 texts. The key is a hash of the texts,
the names of model and tag, open_clip's version and the contents of local
weights and tokenizer files. Cached embeddings are checked when they are read,
and damaged ones are made again.
"""

import hashlib
import json
import logging
import math
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from mmengine.logging import print_log
from torch import Tensor
from tqdm import tqdm

from mmclip.checkpoint.files.paths import files_of, is_file, is_local, sha256
from mmclip.checkpoint.files.reading import open_weights
from mmclip.checkpoint.files.writing import write_checkpoint
from mmclip.checkpoint.towers.open_clip import find_model
from mmclip.errors import (
    ArgumentError,
    CheckpointError,
    DataError,
    did_you_mean,
    some,
)
from mmclip.text.tokenizer_files import tokenizer_files
from mmclip.text.whole_model import load_whole_model

# Allows rounding in float32, but not a flipped bit of an exponent.
LENGTH_TOLERANCE = 1e-4
# As many as keep a processor busy, so that a bar moves.
TEXTS_PER_BATCH = 64
LEAST_SECONDS = 2.0  # that are timed
Template = str | Callable[[str], str]


@dataclass(frozen=True)
class ClassEmbeddings:
    """A zero-shot classifier.

    Args:
        embeddings (Tensor): ``(classes, D)``, each of length one.
        logit_scale (float): The factor of the cosines.
        logit_bias (float): Added afterwards; zero except for SigLIP.
    """

    embeddings: Tensor
    logit_scale: float
    logit_bias: float

    def head(self) -> dict[str, Tensor]:
        """Return weights for a :class:`mmclip.text.ZeroShotClsHead`."""
        return {
            'fc.weight': self.logit_scale * self.embeddings,
            'fc.bias': self.embeddings.new_full(
                (len(self.embeddings),), self.logit_bias
            ),
        }


def embed_classes(
    name: str,
    pretrained: str,
    classes: Sequence[str],
    templates: Sequence[Template],
    tag: str | None = None,
    device: str = 'cpu',
    weights: Mapping[str, Tensor] | None = None,
    announce: Callable[[int, float], None] | None = None,
) -> ClassEmbeddings:
    """Embed classes with the text tower of an open_clip model.

    open_clip's ``build_zero_shot_classifier`` averages the normalised
    embeddings of a class's texts and normalises the mean. Earlier results
    come from the cache.

    Args:
        name (str): An open_clip model name, or a JSON config of open_clip.
        pretrained (str): A pretrained tag, or a local file of the whole model.
        classes (Sequence[str]): Their names, in the order of the labels.
        templates (Sequence[str | Callable]): Texts with ``{}`` for the name,
            or functions of it.
        tag (str | None): For a local file: the tag whose activation it uses,
            ``'none'`` for the model config's own.
        device (str): Where the text tower runs. Defaults to ``'cpu'``.
        weights (Mapping | None): The weights, if they are open already.
        announce (Callable | None): As in :func:`embed_with`.

    Raises:
        CheckpointError: If a name or tag is unknown, or the file does not
            have the whole model.
        FileNotFoundError: If a local file is missing.
        ArgumentError: If there are no classes or templates, or a template has
            no ``{}``.
    """
    texts = make_texts(classes, templates)
    key = _hash(name, pretrained, tag, texts)
    path = cache_folder() / f'{key}.safetensors'
    shape = (len(classes), find_model(name, tag)[0]['embed_dim'])
    if path.is_file():
        try:
            return _check(_read(path), shape)
        except CheckpointError as error:
            _log(f'{path} is damaged and will be made again: {error}')
    model, tokenizer = load_whole_model(name, pretrained, tag, weights)
    found = embed_with(
        model.to(device).eval(),
        tokenizer,
        classes,
        templates,
        announce=announce,
    )
    found = replace(found, embeddings=found.embeddings.cpu())
    try:
        _check(found, shape)
    except CheckpointError as error:
        raise CheckpointError(
            f'The text tower of {pretrained} cannot be used: {error}'
        ) from error
    try:
        _write(found, path)
    except OSError as error:
        _log(f'Cannot cache the class embeddings: {error}.')
    return found


def class_names(classes: str | Sequence[str]) -> list[str]:
    """Return class names.

    Args:
        classes (str | Sequence[str]): ``'imagenet'`` for open_clip's names of
            ImageNet-1k, a text file with one name per line, names with commas
            between them, or a list of names.

    Raises:
        ArgumentError: If a name is given twice.
        DataError: If the file is not UTF-8.
        FileNotFoundError: If the file is missing.
    """
    if classes == 'imagenet':
        import open_clip

        return list(open_clip.IMAGENET_CLASSNAMES)
    if not isinstance(classes, str):
        return list(classes)
    if ',' in classes and not (classes.endswith('.txt') or is_file(classes)):
        names = [name.strip() for name in classes.split(',') if name.strip()]
        if twice := [n for n, count in Counter(names).items() if count > 1]:
            raise ArgumentError(f'Classes are named twice: {some(twice)}.')
        return names
    return _lines(classes, ['imagenet'])


def named_templates(templates: str | Sequence[Template]) -> list[Template]:
    """Return templates.

    Args:
        templates (str | Sequence): ``'openai'`` for OpenAI's 80, ``'simple'``
            for its best 7, a file with one template per line, or the
            templates.

    Raises:
        FileNotFoundError: If there is no such file.
    """
    import open_clip

    known = dict(
        openai=open_clip.OPENAI_IMAGENET_TEMPLATES,
        simple=open_clip.SIMPLE_IMAGENET_TEMPLATES,
    )
    if not isinstance(templates, str):
        return list(templates)
    if templates in known:
        return list(known[templates])
    lines = _lines(templates, known)
    for line in lines:
        _check_template(line, f'{templates}: ')
    return list(lines)


def make_texts(
    classes: Sequence[str], templates: Sequence[Template]
) -> list[list[str]]:
    """Fill every template with every class name."""
    if not classes or not templates:
        raise ArgumentError(
            f'At least one class and one template are needed; got '
            f'{len(classes)} and {len(templates)}.'
        )
    for template in templates:
        if isinstance(template, str):
            _check_template(template)
    return [
        [t.format(name) if isinstance(t, str) else t(name) for t in templates]
        for name in classes
    ]


def _check_template(template: str, where: str = '') -> None:
    try:
        template.format('')
        is_right = '{}' in template
    except (LookupError, ValueError):
        is_right = False
    if not is_right:
        raise ArgumentError(
            f'{where}The template {template!r} must have one {{}} for the '
            'class and no other braces.'
        )


def cache_folder() -> Path:
    """Return the cache's folder, below ``torch.hub.get_dir()``."""
    return Path(torch.hub.get_dir()) / 'mmclip' / 'class_embeddings'


def embed_with(
    model: Any,
    tokenizer: Any,
    classes: Sequence[str],
    templates: Sequence[Template],
    *,
    progress: bool = True,
    announce: Callable[[int, float], None] | None = None,
) -> ClassEmbeddings:
    """Embed classes with a given model, on its device, without the cache.

    Args:
        model (Any): An open_clip model in eval mode.
        tokenizer (Any): Its tokenizer.
        classes (Sequence[str]): Their names.
        templates (Sequence[str | Callable]): As in :func:`embed_classes`.
        progress (bool): Whether a terminal shows a bar. Defaults to True.
        announce (Callable | None): Called with the number of texts and the
            seconds that they take, if it is more than a few. Defaults to
            None.
    """
    from open_clip import build_zero_shot_classifier

    number, size = len(templates), max(1, TEXTS_PER_BATCH // len(templates))
    parts = []
    start = time.perf_counter()
    with tqdm(
        total=len(classes) * number,
        unit='text',
        disable=None if progress else True,  # None: unless in a terminal
        leave=False,
    ) as bar:
        for first in range(0, len(classes), size):
            part = classes[first : first + size]
            parts.append(
                build_zero_shot_classifier(
                    model,
                    tokenizer,
                    part,
                    templates,
                    num_classes_per_batch=None,
                    device=next(model.parameters()).device,
                )
            )
            bar.update(len(part) * number)
            passed = time.perf_counter() - start
            if announce and passed > LEAST_SECONDS:
                done = first + len(part)
                announce(len(classes) * number, passed * len(classes) / done)
                announce = None
    embeddings = torch.cat(parts, dim=1)
    bias = getattr(model, 'logit_bias', None)
    return ClassEmbeddings(
        embeddings=embeddings.T.contiguous(),
        logit_scale=model.logit_scale.exp().item(),
        logit_bias=0.0 if bias is None else bias.item(),
    )


def _hash(
    name: str, pretrained: str, tag: str | None, texts: list[list[str]]
) -> str:
    """Hash everything that the embeddings depend on."""
    files = files_of(pretrained) if is_local(pretrained) else []
    if Path(name).is_file():
        files += [Path(name), *tokenizer_files(Path(name).parent)]
    inputs = dict(
        name=name,
        pretrained=pretrained,
        tag=tag,
        files=[sha256(path) for path in files],
        texts=texts,
        open_clip=version('open_clip_torch'),
    )
    return hashlib.sha256(json.dumps(inputs).encode()).hexdigest()


def _write(found: ClassEmbeddings, path: Path) -> None:
    tensors = dict(
        embeddings=found.embeddings,
        logit_scale=torch.tensor(found.logit_scale).double(),
        logit_bias=torch.tensor(found.logit_bias).double(),
    )
    write_checkpoint(dict(state_dict=tensors), path)


def _read(path: Path) -> ClassEmbeddings:
    tensors = open_weights(path)
    try:
        return ClassEmbeddings(
            embeddings=tensors['embeddings'],
            logit_scale=tensors['logit_scale'].item(),
            logit_bias=tensors['logit_bias'].item(),
        )
    except (KeyError, RuntimeError) as error:  # RuntimeError: not a scalar
        raise CheckpointError(f'It has other contents ({error}).') from error


def _check(found: ClassEmbeddings, shape: tuple[int, int]) -> ClassEmbeddings:
    """Refuse embeddings of another shape, type or length."""
    embeddings = found.embeddings
    if embeddings.shape != shape or embeddings.dtype != torch.float32:
        raise CheckpointError(
            f'The embeddings are {tuple(embeddings.shape)} of '
            f'{embeddings.dtype}, but must be {shape} of torch.float32.'
        )
    lengths = embeddings.norm(dim=1)
    if not torch.allclose(lengths, torch.ones(()), atol=LENGTH_TOLERANCE):
        raise CheckpointError(
            'The embeddings must have length one, but have '
            f'{lengths.min():.3g} to {lengths.max():.3g}.'
        )
    if not math.isfinite(found.logit_scale + found.logit_bias):
        raise CheckpointError(
            f'The logit scale ({found.logit_scale}) and bias '
            f'({found.logit_bias}) must be finite.'
        )
    return found


def _log(message: str) -> None:
    print_log(message, logger='current', level=logging.WARNING)


def _lines(path: str, known: Iterable[str]) -> list[str]:
    """Read the non-blank lines of a text file, given instead of a name."""
    file = Path(path).expanduser()
    if file.is_dir():
        raise DataError(f'{path} is a folder. Give a text file.')
    if not file.is_file():
        near = did_you_mean(path, known)
        raise FileNotFoundError(f'There is no text file {path}{near}.')
    try:
        lines = file.read_text(encoding='utf-8-sig').splitlines()
    except UnicodeDecodeError as error:
        raise DataError(f'{path} is not UTF-8 text ({error}).') from error
    return [line.strip() for line in lines if line.strip()]

"""A classifier as one file that knows itself."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from mmengine.registry import MODELS, DefaultScope
from mmengine.utils import to_2tuple
from torch import Tensor, nn

from mmclip.adapting.calibration import Calibration
from mmclip.adapting.run_files.config_file import head_config
from mmclip.checkpoint.files.reading import open_weights
from mmclip.checkpoint.files.writing import write_checkpoint
from mmclip.checkpoint.finite import check_finite
from mmclip.checkpoint.meta import Clip, classes_of, make_clip
from mmclip.checkpoint.towers.convert import check_complete
from mmclip.checkpoint.towers.tower import OTHER, build_backbone
from mmclip.checkpoint.unconverted import advise
from mmclip.datasets.preprocessing import data_preprocessor, test_pipeline
from mmclip.errors import CheckpointError
from mmclip.few_shot.method import Classifier
from mmclip.named_model.encoder import Encoder

# The heads that are built, and their arguments besides the sizes.
HEADS: dict[str, tuple[str, ...]] = {
    'mmpretrain.LinearClsHead': (),
    'mmclip.ZeroShotClsHead': (),
    'mmclip.NearestNeighboursClsHead': ('num_images', 'k'),
    'mmclip.TipAdapterClsHead': ('num_images', 'alpha', 'beta'),
    'mmpretrain.MultiLabelLinearClsHead': (),
    'mmclip.MultiLabelZeroShotClsHead': (),
    'mmclip.MultiLabelNearestNeighboursClsHead': ('num_images', 'k'),
}
SIZES = ('num_classes', 'in_channels')
MOST_PIXELS = 2048  # of a side; no tensor tells the size of every tower


def write_model(
    path: Path,
    encoder: Encoder,
    classifier: Classifier,
    classes: tuple[str, ...],
    calibration: Calibration | None = None,
    thresholds: Sequence[float] | None = None,
) -> None:
    """Write the tower and the head, with all that is needed to use them.

    Args:
        path (Path): Where it goes.
        encoder (Encoder): The tower.
        classifier (Classifier): The head, and the projection below it.
        classes (tuple[str, ...]): The names of the classes.
        calibration (Calibration | None): Defaults to None: not calibrated.
        thresholds (Sequence[float] | None): From which probability on an
            image gets each class, if it may have several. Defaults to None.
    """
    projection = classifier.projection
    tower = dict(encoder.state_dict)
    if encoder.projection is not None:
        tower.pop('proj')
        tower.pop('proj_bias', None)
        if projection is not None:
            tower['proj'] = projection.weight
            if projection.bias is not None:
                tower['proj_bias'] = projection.bias
    clip = encoder.clip
    answers: dict[str, Any] | None = None
    if calibration is not None:
        answers = dict(
            temperature=calibration.temperature,
            threshold=calibration.threshold,
        )
    elif thresholds is not None:
        answers = dict(thresholds=list(thresholds))
    described = make_clip(
        encoder.backbone(projects=projection is not None),
        clip['img_size'],
        clip['preprocess'],
        clip.get('source'),
        head_config(classifier.head),
        classes,
        answers,
    )
    state_dict = {f'backbone.{k}': v for k, v in tower.items()}
    state_dict |= {
        f'head.{k}': v for k, v in classifier.head.state_dict().items()
    }
    write_checkpoint(
        dict(meta=dict(clip=described), state_dict=state_dict), path
    )


def read_model(path: str | Path) -> tuple[nn.Module, Clip]:
    """Build the classifier that a file describes, and load it.

    No config is executed: the file says which of our backbones and heads it
    is for, and what it says is compared with its tensors.

    Args:
        path (str | Path): ``model.safetensors`` of a run, or a classifier
            that mmclip trained or made.

    Returns:
        tuple[nn.Module, dict]: An mmpretrain classifier in eval mode, and its
        ``meta['clip']``.

    Raises:
        CheckpointError: If it is not a classifier, or does not describe
            itself.
        FileNotFoundError: If there is no such file.
    """
    weights = open_weights(path)
    if weights.clip is None:
        advice = advise(str(path), weights) or 'it does not describe itself.'
        raise CheckpointError(
            f'{path} is not a classifier that mmclip trained or made: {advice}'
        )
    clip = weights.clip | dict(classes=classes_of(weights.content, str(path)))
    return build_model(weights, clip, str(path)), clip


def build_model(
    state_dict: Mapping[str, Tensor], clip: Clip, where: str
) -> nn.Module:
    """Build the classifier that a description is for, and load it.

    It is built without memory first, and compared with the tensors.

    Args:
        state_dict (Mapping): ``backbone.*`` and ``head.*``.
        clip (dict): The description, with a head and preprocessing.
        where (str): Its name in errors.

    Raises:
        CheckpointError: If it lacks something, or the tensors are not those
            of the description.
    """
    try:
        return _build(state_dict, clip)
    except CheckpointError as error:
        raise CheckpointError(
            f'{where} cannot be used as a classifier: {error}'
        ) from error


def _build(state_dict: Mapping[str, Tensor], clip: Clip) -> nn.Module:
    _check_description(clip)
    model = _assemble(clip, 'meta', len(state_dict))
    wanted = model.state_dict()
    check_complete(state_dict, wanted)
    check_finite(state_dict, 'it', model)
    _check_shapes(model, clip)
    if any(buffer.is_meta for _, buffer in model.named_buffers()):
        # Such as the angles of rotary embeddings, which no file holds.
        model = _assemble(clip, 'cpu', len(state_dict))
    copies = {
        key: state_dict[key].to(wanted[key].dtype, copy=True) for key in wanted
    }
    model.load_state_dict(copies, assign=True)
    _check_labels(model.head)
    return model


def _check_description(clip: Clip) -> None:
    """Refuse a description that lacks what images and answers need."""
    needed = ('backbone', 'img_size', 'preprocess', 'head', 'classes')
    if lacking := [key for key in needed if not clip.get(key)]:
        raise CheckpointError(
            f"its meta['clip'] lacks {', '.join(lacking)}. Make a classifier "
            'with: mmclip adapt IMAGES'
        )
    number = clip['head'].get('num_classes')
    if len(clip['classes']) != number:
        raise CheckpointError(
            f'it names {len(clip["classes"])} classes, but its head has '
            f'{number}.'
        )
    thresholds = (clip.get('answers') or {}).get('thresholds')
    if thresholds is not None and len(thresholds) != number:
        raise CheckpointError(
            f'it has {len(thresholds)} thresholds for {number} classes.'
        )
    preprocess = clip['preprocess']
    try:
        if preprocess.get('channels') == 'BGR':
            raise ValueError('its images are BGR')
        data_preprocessor(preprocess)
        test_pipeline(preprocess, clip['img_size'])
    except KeyError as error:
        raise CheckpointError(
            f'it does not say how images are resized ({error}). The test '
            'pipeline of its training must resize them with backend="pillow", '
            'by Resize, or by ResizeEdge and CenterCrop.'
        ) from error
    except ValueError as error:
        raise CheckpointError(
            f'images cannot be prepared for it: {error}.'
        ) from error
    side = max(to_2tuple(clip['img_size'])) / preprocess.get('crop_pct', 1)
    if side > MOST_PIXELS:
        raise CheckpointError(
            f'its images are resized to {side:.0f} pixels; at most '
            f'{MOST_PIXELS} are allowed.'
        )


def _assemble(clip: Clip, device: str, num_tensors: int) -> Any:
    """Build the model, with random weights or (on 'meta') without any."""
    backbone = dict(clip['backbone'])
    if backbone['type'] != OTHER:
        backbone['img_size'] = clip['img_size']
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        tower = build_backbone(backbone, device, num_tensors)
        if [*to_2tuple(tower.img_size)] != [*to_2tuple(clip['img_size'])]:
            raise CheckpointError(
                f'its images have {clip["img_size"]} pixels, but those of its '
                f'tower {tower.img_size}.'
            )
        with torch.device(device):
            head = MODELS.build(_head(clip['head']))
        return MODELS.build(
            dict(
                type='mmpretrain.ImageClassifier',
                data_preprocessor=data_preprocessor(clip['preprocess']),
                backbone=tower,
                head=head,
            )
        ).eval()


def _head(head: dict[str, Any]) -> dict[str, Any]:
    """Return the config of a head, with the arguments that it takes."""
    kind = head.get('type', '').rpartition('.')[2]
    known = {name.rpartition('.')[2]: name for name in HEADS}
    if kind not in known:
        raise CheckpointError(
            f'its head is a {kind[:50]!r}; known ones are {", ".join(known)}.'
        )
    names = (*SIZES, *HEADS[known[kind]])
    if lacking := [name for name in names if name not in head]:
        raise CheckpointError(
            f'it does not say {", ".join(lacking)} of its head.'
        )
    return dict(type=known[kind]) | {name: head[name] for name in names}


def _check_shapes(model: Any, clip: Clip) -> None:
    """Refuse a model whose parts do not fit, by a pass without memory."""
    image = torch.empty(1, 3, *to_2tuple(clip['img_size']), device='meta')
    try:
        shape = tuple(model(image).shape)
    except Exception as error:  # of any layer
        raise CheckpointError(
            f'its head does not fit its backbone ({error}).'
        ) from error
    if shape != (1, len(clip['classes'])):
        raise CheckpointError(
            f'its outputs are {shape} for {len(clip["classes"])} classes.'
        )


def _check_labels(head: Any) -> None:
    """Refuse labels of a head's images that are not of its classes."""
    labels = getattr(head, 'labels', None)
    if labels is None:
        return
    if labels.min() < 0 or labels.max() >= head.num_classes:
        raise CheckpointError(
            f'its head has labels from {labels.min()} to {labels.max()}, but '
            f'{head.num_classes} classes.'
        )

"""A classifier as one file that knows itself."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mmengine.registry import MODELS, init_default_scope
from torch import Tensor, nn

from mmclip.adapting.calibration import Calibration
from mmclip.adapting.config_file import head_config
from mmclip.adapting.encoder import Encoder
from mmclip.checkpoint.files.reading import open_weights
from mmclip.checkpoint.files.writing import write_checkpoint
from mmclip.checkpoint.meta import Clip, make_clip
from mmclip.checkpoint.towers.convert import check_complete
from mmclip.datasets.preprocessing import data_preprocessor
from mmclip.errors import CheckpointError
from mmclip.few_shot.method import Classifier
from mmclip.untrusted.model_configs import take_backbone

HEADS = (
    'mmpretrain.LinearClsHead',
    'mmclip.ZeroShotClsHead',
    'mmclip.NearestNeighboursClsHead',
    'mmclip.TipAdapterClsHead',
)


def write_model(
    path: Path,
    encoder: Encoder,
    classifier: Classifier,
    classes: tuple[str, ...],
    calibration: Calibration,
) -> None:
    """Write the tower and the head, with all that is needed to use them."""
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
    described = make_clip(
        encoder.backbone(projects=projection is not None),
        clip['img_size'],
        clip['preprocess'],
        clip.get('source'),
        head_config(classifier.head),
        classes,
        dict(
            temperature=calibration.temperature,
            threshold=calibration.threshold,
        ),
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
    clip = weights.clip
    needed = ('head', 'classes', 'preprocess')
    lacking = [key for key in needed if not (clip or {}).get(key)]
    if clip is None or lacking:
        raise CheckpointError(
            f'{path} is not a classifier that says how it is used: it lacks '
            f'{", ".join(lacking)}.'
        )
    return build_model(weights, clip, str(path)), clip


def build_model(
    state_dict: Mapping[str, Tensor], clip: Clip, where: str
) -> nn.Module:
    """Build the classifier that a description is for, and load it.

    Args:
        state_dict (Mapping): ``backbone.*`` and ``head.*``.
        clip (dict): The description, with a head and preprocessing.
        where (str): Its name in errors.

    Raises:
        CheckpointError: If the tensors are not those of the description.
    """
    init_default_scope('mmpretrain')
    backbone = clip['backbone'] | dict(img_size=clip['img_size'])
    model = MODELS.build(
        dict(
            type='mmpretrain.ImageClassifier',
            data_preprocessor=data_preprocessor(clip['preprocess']),
            backbone=take_backbone(backbone, where),
            head=_checked_head(clip['head'], state_dict, where),
        )
    )
    check_complete(state_dict, model.state_dict())
    model.load_state_dict(dict(state_dict))
    return model.eval()


def _checked_head(head: Any, weights: Any, path: Any) -> dict[str, Any]:
    """Return the config of a head, none of it larger than the tensors."""
    kind = str(head['type'])
    scoped = next((h for h in HEADS if h.endswith(kind.split('.')[-1])), None)
    if scoped is None:
        raise CheckpointError(
            f'{path} has a {kind[:50]}; known heads are {", ".join(HEADS)}.'
        )
    shapes = {
        tuple(weights[key].shape) for key in weights if key.startswith('head.')
    }
    rows = head.get('num_images', head.get('num_classes'))
    if (rows, head.get('in_channels')) not in shapes:
        raise CheckpointError(
            f'{path} describes a head of {rows} x {head.get("in_channels")}, '
            'which its tensors do not have.'
        )
    return dict(head, type=scoped)

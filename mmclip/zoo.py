"""open_clip's image towers, available in mmpretrain by name."""

from typing import Any

from mmengine.config import Config
from mmpretrain.apis.model import ModelHub

from mmclip.shipped import shipped

SCHEME = 'open_clip://'


def register_models() -> None:
    """Register our models for ``mmpretrain.list_models`` and ``get_model``.

    Pretrained towers have no config files: their configs are built from
    open_clip's on request.
    """
    index = shipped('model-index.yml')
    ModelHub.register_model_index(index, index.parent)
    for model in ModelHub._models_dict.values():
        weights = model.weights or ''
        if model.config is None and weights.startswith(SCHEME):
            name, tag = weights.removeprefix(SCHEME).split('/')
            model.config = _LazyConfig(name, tag)


def zoo_name(name: str, tag: str) -> str:
    """Return mmpretrain's name of a pair: ``clip-vit-l-14-336_openai``."""
    return f'clip-{name}_{tag}'.lower()


def zoo_config(name: str, tag: str) -> Config:
    """Build a config for a pretrained image tower, without a head.

    Its ``test_dataloader`` holds the pipeline that mmpretrain's inferencers
    look for.

    Args:
        name (str): An open_clip model name.
        tag (str): One of its pretrained tags.

    Raises:
        CheckpointError: If open_clip has no such pair.
    """
    from mmclip.checkpoint.towers.open_clip import find_tower
    from mmclip.datasets.preprocessing import data_preprocessor, test_pipeline
    from mmclip.errors import CheckpointError

    tower = find_tower(name, tag)
    if tower.preprocess is None:
        raise CheckpointError(
            f'open_clip does not state how to prepare images for {name} {tag}.'
        )
    pipeline = test_pipeline(tower.preprocess, tower.img_size)
    return Config(
        dict(
            default_scope='mmpretrain',
            model=dict(
                type='ImageClassifier',
                data_preprocessor=data_preprocessor(tower.preprocess),
                backbone=tower.backbone,
            ),
            test_dataloader=dict(
                batch_size=1,
                dataset=dict(type='CustomDataset', pipeline=pipeline),
            ),
            load_from=f'{SCHEME}{name}/{tag}',
        )
    )


class _LazyConfig:
    """A placeholder for a config in mmpretrain's hub, which deep-copies it."""

    def __init__(self, name: str, tag: str):
        self.name, self.tag = name, tag

    def __deepcopy__(self, memo: dict[int, Any]) -> Config:
        return zoo_config(self.name, self.tag)


def _register_first() -> None:
    """Register our models, then mmpretrain's, when a name is looked up."""
    ModelHub._register_mmpretrain_models = _register_theirs
    register_models()
    _register_theirs()


# mmpretrain reads its own index then, too. Ours would cost each import 90 ms.
_register_theirs = ModelHub._register_mmpretrain_models
ModelHub._register_mmpretrain_models = _register_first

"""Random weights for the classifier in ``project/config.py``."""

from pathlib import Path

import torch
from mmengine.config import Config
from mmengine.registry import MODELS, init_default_scope
from torch import Tensor

from mmclip.checkpoint.describe import describe_model

CLASSES = ('blue', 'green', 'red')


def write_random(
    project: Path,
    name: str,
    seed: int,
    *,
    classes: tuple[str, ...] = CLASSES,
    act: str = 'quick_gelu',
    **more: object,
) -> dict[str, Tensor]:
    """Random weights, with the description that training writes."""
    cfg = Config.fromfile(project / 'config.py')
    cfg.model.backbone.act = act
    init_default_scope(cfg.default_scope)
    torch.manual_seed(seed)
    model = MODELS.build(cfg.model)
    weights = model.state_dict()
    # Larger than they are drawn, so that models differ in what they say.
    weights['head.fc.weight'] = torch.randn(3, 32)
    clip = describe_model(model, None, classes)
    meta = dict(clip=clip, dataset_meta=dict(classes=classes))
    torch.save(dict(meta=meta, state_dict=weights, **more), project / name)
    return weights


def load_in_this_process(project: Path) -> None:
    """Let the config's data sets be read without starting workers."""
    config = project / 'config.py'
    text = config.read_text()
    assert 'num_workers=1' in text
    config.write_text(text.replace('num_workers=1', 'num_workers=0'))

"""The config of a run, for ``tools/train.py`` and ``tools/test.py``."""

from pathlib import Path
from typing import Any

from mmengine.config import Config

from mmclip.adapting.encoder import Encoder
from mmclip.adapting.run_folder import RunFolder, write_text
from mmclip.datasets.preprocessing import data_preprocessor, test_pipeline
from mmclip.few_shot.method import Classifier
from mmclip.own_images.table import Images

RUNTIME = Path(__file__).parents[1]  # see `default_runtime`


def dataset(images: Images, folder: RunFolder, split: str | None) -> dict:
    """Return the config of a split's data set, without a pipeline."""
    return dict(
        type='mmclip.ImageTable',
        ann_file=str(folder.split),
        data_root=images.root,
        split=split,
        classes=str(folder.classes),
    )


def head_config(head: Any) -> dict[str, Any]:
    """Return the config of a head that :mod:`mmclip.few_shot` made."""
    package = type(head).__module__.split('.')[0]
    config: dict[str, Any] = dict(type=f'{package}.{type(head).__name__}')
    for key in (
        'num_classes',
        'in_channels',
        'num_images',
        'k',
        'alpha',
        'beta',
    ):
        if hasattr(head, key):
            config[key] = getattr(head, key)
    return config


def model_config(encoder: Encoder, classifier: Classifier) -> dict[str, Any]:
    """Return the config of the whole model."""
    projects = classifier.projection is not None
    return dict(
        type='ImageClassifier',
        data_preprocessor=dict(
            num_classes=classifier.head.num_classes,
            **data_preprocessor(encoder.clip['preprocess']),
        ),
        backbone=encoder.backbone(projects=projects),
        head=head_config(classifier.head),
    )


def write_config(
    images: Images, encoder: Encoder, classifier: Classifier, folder: RunFolder
) -> None:
    """Write the config of a run.

    Args:
        images (Images): The images.
        encoder (Encoder): The tower.
        classifier (Classifier): The head to begin with.
        folder (RunFolder): Where it goes.
    """
    clip = encoder.clip
    pipeline = test_pipeline(clip['preprocess'], clip['img_size'])
    loaders = {
        split: dict(
            batch_size=32,
            num_workers=2,
            persistent_workers=False,
            dataset=dict(dataset(images, folder, split), pipeline=pipeline),
            sampler=dict(type='DefaultSampler', shuffle=False),
        )
        for split in ('train', 'val', 'test')
    }
    if not len(images.rows('test')):
        loaders['test'] = loaders['val']
    cfg = Config(
        dict(
            default_scope='mmpretrain',
            model=model_config(encoder, classifier),
            val_dataloader=loaders['val'],
            test_dataloader=loaders['test'],
            val_evaluator=dict(type='Accuracy', topk=(1,)),
            test_evaluator=dict(type='Accuracy', topk=(1,)),
            val_cfg=dict(),
            test_cfg=dict(),
            work_dir=str(folder.path / 'training'),
        )
    )
    write_text(folder.config, cfg.pretty_text + '\n')

"""What a CLIP model sees in images: features, which are kept."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from mmengine.config import Config
from mmengine.device import get_device
from mmengine.registry import MODELS, init_default_scope

from mmclip.checkpoint.pretrained import PretrainedCLIP
from mmclip.datasets.preprocessing import data_preprocessor, test_pipeline
from mmclip.datasets.transforms.load_image import LoadImageError
from mmclip.duration import duration
from mmclip.engine.checks.damage import find_damaged
from mmclip.models.loading import CALLER, loaded_by
from mmclip.named_model.encoder import Encoder
from mmclip.own_images.survey import refuse_unreadable
from mmclip.probing.features import Features, extract_features
from mmclip.registry import DATASETS


def encode(
    encoder: Encoder,
    dataset: dict[str, Any],
    cache: Path,
    *,
    say: Callable[[str], None] | None = None,
) -> Features:
    """Compute the features before the projection, ``(N, C)``, or read them.

    Args:
        encoder (Encoder): The tower.
        dataset (dict): The config of the data set, without a pipeline.
        cache (Path): The folder of cached features.
        say (Callable | None): Prints a line for the user, if it takes long.
            Defaults to None.
    """
    init_default_scope('mmpretrain')
    clip = encoder.clip
    pipeline = test_pipeline(clip['preprocess'], clip['img_size'])
    cfg = Config(
        dict(
            model=dict(
                type='ImageClassifier',
                data_preprocessor=data_preprocessor(clip['preprocess']),
                backbone=encoder.backbone(projects=False),
                head=dict(
                    type='LinearClsHead',
                    num_classes=2,
                    in_channels=encoder.width(),
                ),
            ),
            test_dataloader=dict(
                batch_size=32,
                num_workers=2,
                collate_fn=dict(type='default_collate'),
                dataset=dict(dataset, pipeline=pipeline),
            ),
        )
    )
    with loaded_by(CALLER):
        model = MODELS.build(cfg.model)
    PretrainedCLIP(encoder.called).load(
        dict(state_dict=dict(encoder.state_dict), meta=dict(clip=clip)),
        model.backbone,
    )
    built = DATASETS.build(cfg.test_dataloader.dataset)

    def announce(images: int, seconds: float) -> None:
        if say:
            say(
                f'features of {images:,} images on {get_device()}: about '
                f'{duration(seconds)}'
            )

    try:
        return extract_features(
            model, cfg, 'all', cache, dataset=built, announce=announce
        )
    except LoadImageError:  # from inside a file, which the survey did not see
        paths = [built.get_data_info(i)['img_path'] for i in range(len(built))]
        refuse_unreadable(find_damaged(paths))
        raise

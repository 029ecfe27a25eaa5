"""Testing on several views of each image."""

from mmengine.config import Config, ConfigDict
from mmengine.hooks import EMAHook
from mmengine.runner import Runner

from mmclip.engine.config.scopes import CLASSIFYING, scope_of
from mmclip.errors import ConfigError


def use_test_time_augmentation(cfg: Config) -> None:
    """Wrap the model so that it averages over several views of an image.

    Raises:
        ConfigError: If a config of another package than mmpretrain does not
            say which views, or how they are averaged.
    """
    dataset = cfg.test_dataloader.dataset
    missing = [key for key in ('tta_model', 'tta_pipeline') if key not in cfg]
    if missing and scope_of(cfg, dataset) not in CLASSIFYING:
        raise ConfigError(
            f'--tta needs {" and ".join(missing)} in {cfg.filename}: set '
            f'{"them" if missing[1:] else "it"} as {scope_of(cfg, dataset)} '
            'documents it.'
        )
    while 'dataset' in dataset:
        dataset = dataset.dataset
    *prepare, pack = dataset.pipeline
    views = [dict(type='RandomFlip', prob=prob) for prob in (0.0, 1.0)]
    cfg.setdefault(
        'tta_pipeline',
        [*prepare, dict(type='TestTimeAug', transforms=[views, [pack]])],
    )
    cfg.setdefault('tta_model', dict(type='mmpretrain.AverageClsScoreTTA'))
    dataset.pipeline = cfg.tta_pipeline
    cfg.model = ConfigDict(**cfg.tta_model, module=cfg.model)


def leave_out_averaging(runner: Runner) -> None:
    """Remove ``EMAHook``, which does not find its averages in a TTA model.

    It would test random weights. A checkpoint's ``state_dict`` has the
    averages already.
    """
    runner._hooks = [h for h in runner._hooks if not isinstance(h, EMAHook)]

"""Misspelt keys of a config stop a run before it starts."""

from pathlib import Path

import mmpretrain
import pytest
from mmengine.config import Config

from mmclip.engine.config.check import RUNNER_KEYS, check_keys
from mmclip.engine.config.load import load_config
from mmclip.errors import ConfigError
from tests.conftest import REPOSITORY

OURS = REPOSITORY / 'configs' / 'clip'
DEFAULT = "constructor='DefaultOptimWrapperConstructor'"


@pytest.fixture
def load(tmp_path):
    """Load a config that changes one thing of the demo's."""

    def _load(text: str, options: dict | None = None) -> Config:
        path = tmp_path / 'config.py'
        base = OURS / 'clip-demo-digits.py'
        path.write_text(f"_base_ = ['{base}']\n{text}\n")
        return load_config(path, options)

    return _load


MISSPELT = [
    ('optim_wraper = dict()', "key 'optim_wraper'", 'optim_wrapper'),
    ("load_form = 'x.pth'", "key 'load_form'", 'load_from'),
    ('modle = dict()', "key 'modle'", 'model'),
    # mmengine would go on without a word.
    (
        f'optim_wrapper = dict({DEFAULT}, '
        'paramwise_cfg=dict(_delete_=True, norm_decay_mul=0.0))',
        "optim_wrapper.paramwise_cfg has no 'norm_decay_mul'",
        'norm_decay_mult',
    ),
    (
        f'optim_wrapper = dict({DEFAULT}, paramwise_cfg=dict('
        "_delete_=True, custom_keys={'head': dict(lr_mul=0.1)}))",
        "optim_wrapper.paramwise_cfg.custom_keys.head has no 'lr_mul'",
        'lr_mult',
    ),
    (
        'auto_scale_lr = dict(base_batch_size=4, enabl=True)',
        "auto_scale_lr has no 'enabl'",
        'enable',
    ),
    (
        'env_cfg = dict(cudnn_benchmar=True)',
        "env_cfg has no 'cudnn_benchmar'",
        'cudnn_benchmark',
    ),
    # After the first epoch, only with several processes, or when testing.
    (
        'default_hooks = dict(checkpoint=dict(intervl=1))',
        "default_hooks.checkpoint (ReliableCheckpointHook) has no 'intervl'",
        'interval',
    ),
    (
        "model_wrapper_cfg = dict(type='MMDistributedDataParallel', "
        'find_unused_parameter=True)',
        'model_wrapper_cfg (MMDistributedDataParallel) has no '
        "'find_unused_parameter'",
        'find_unused_parameters',
    ),
    ('test_cfg = dict(fp6=True)', "test_cfg has no 'fp6'", 'fp16'),
    # As an error of Python.
    (
        'train_dataloader = dict(batch_siz=3)',
        "train_dataloader has no 'batch_siz'",
        'batch_size',
    ),
    (
        'model = dict(backbone=dict(drop_pth_rate=0.1))',
        "model.backbone (CLIPVisionTransformer) has no 'drop_pth_rate'",
        'drop_path_rate',
    ),
    (
        'default_hooks = dict(checkpointt=dict(interval=1))',
        'default_hooks.checkpointt has no type',
        'checkpoint',
    ),
    # mmengine asserts without a word.
    (
        'default_hooks = dict(chek_classes=None)',
        'default_hooks.chek_classes is None',
        'check_classes',
    ),
]


@pytest.mark.parametrize(('text', 'place', 'nearest'), MISSPELT)
def test_a_misspelling_is_named_with_its_place(load, text, place, nearest):
    with pytest.raises(ConfigError) as error:
        load(text)
    assert place in str(error.value)
    assert f'did you mean {nearest!r}?' in str(error.value)


@pytest.mark.parametrize(
    ('option', 'message'),
    [
        ('optim_wraper.optimizer.lr', r"'optim_wraper' .* 'optim_wrapper'\?"),
        ('optim_wrapper.optimiser.lr', r"'optimiser' .* 'optimizer'\?"),
        ('optim_wrapper.optimizer.weigth_decay', r"mean 'weight_decay'\?"),
        ('model.backbone.drop_pth_rate', r"mean 'drop_path_rate'\?"),
        ('train_dataloader.dataset.data_rot', r"mean 'data_root'\?"),
        # The config has computed its schedule from it.
        ('epochs', "'epochs'; if it is a variable"),
    ],
)
def test_misspelt_options_are_errors(load, option, message):
    with pytest.raises(ConfigError, match=message):
        load('epochs = 3\ntrain_cfg = dict(max_epochs=epochs)', {option: 1})


def test_all_misspellings_are_named_at_once(load):
    with pytest.raises(ConfigError) as error:
        load('val_cfg = dict(fp6=1)\ntest_cfg = dict(fp6=1)')
    assert "val_cfg has no 'fp6'" in str(error.value)
    assert "test_cfg has no 'fp6'" in str(error.value)


@pytest.mark.parametrize(
    'text',
    [
        "vis_backend = dict(type='LocalVisBackend')\n"
        'visualizer = dict(vis_backends=[vis_backend])',
        'train_dataloader2 = dict(batch_size=3)\n'
        'train_dataloader = train_dataloader2',
        "dataloader = dict(batch_size=3)\nevaluator = dict(type='Accuracy')",
        'left_over = 3',
    ],
)
def test_variables_of_the_config_are_no_misspellings(load, text):
    load(text)


@pytest.mark.parametrize(
    'config',
    [
        # Settings of parameter groups, which an optimizer or a hook reads.
        dict(
            optim_wrapper=dict(
                optimizer=dict(type='LARS', lr=1.0),
                paramwise_cfg=dict(
                    custom_keys=dict(
                        bn=dict(decay_mult=0, lars_exclude=True),
                        predictor=dict(fix_lr=True),
                    )
                ),
            )
        ),
        # Arguments that a class passes on to others.
        dict(custom_hooks=[dict(type='EMAHook', momentum=0.1, gamma=1)]),
        # Near what another model takes, and right.
        dict(
            model=dict(
                type='StackedLinearClsHead', in_channels=3, mid_channels=[3]
            )
        ),
        # Several optimizers, in the hands of a constructor.
        dict(
            optim_wrapper=dict(
                constructor='Mine',
                image=dict(optimizer=dict(type='SGD', lr=1)),
            )
        ),
        # Of a package that is not installed.
        dict(model=dict(type='mmnothing.Model', anything=1)),
        # As mmpose's own configs of ViTPose have it.
        dict(
            default_scope='mmpose',
            optim_wrapper=dict(
                paramwise_cfg=dict(custom_keys=dict(bias=dict(decay_multi=0)))
            ),
        ),
    ],
)
def test_what_may_be_right_passes(config):
    check_keys(Config(dict(default_scope='mmpretrain') | config))


def test_activation_checkpointing_that_loses_gradients_is_refused(load):
    with pytest.raises(ConfigError, match=r'set model\.backbone\.with_cp=Tr'):
        load("activation_checkpointing = ['backbone.layers.0']")
    lora = OURS / 'clip-l-336_lora_in1k.py'
    blocks = ['backbone.module.layers.0']
    with pytest.raises(ConfigError, match=r'backbone\.module\.with_cp=True'):
        load_config(lora, dict(activation_checkpointing=blocks))
    # Without with_cp there is no better way.
    load(
        "activation_checkpointing = ['backbone']\n"
        "model = dict(backbone=dict(_delete_=True, type='VisionTransformer'))"
    )


@pytest.mark.parametrize('suffix', ['.py', '.json'])
def test_what_mmengine_wrote_of_a_config_is_checked_too(tmp_path, suffix):
    cfg = load_config(OURS / 'clip-l-224.py')
    cfg.dump(tmp_path / f'x{suffix}')
    again = load_config(tmp_path / f'x{suffix}')
    assert again.model.backbone.img_size == 224
    cfg.optim_wraper = cfg.pop('optim_wrapper')
    cfg.dump(tmp_path / f'y{suffix}')
    with pytest.raises(ConfigError, match=r"'optim_wraper' \(did you mean"):
        load_config(tmp_path / f'y{suffix}')


MMPRETRAINS = sorted(
    path
    for path in (Path(mmpretrain.__file__).parent / '.mim' / 'configs').glob(
        '*/**/*.py'
    )
    if '_base_' not in path.parts
)


def check_mmpretrains(paths: list[Path]) -> int:
    """Check all that can be loaded, right and misspelt, and count them."""
    number = 0
    for path in paths:
        try:
            cfg = Config.fromfile(path)
        except Exception:  # of those that need other packages, or are broken
            continue
        check_keys(cfg)
        for key in RUNNER_KEYS.intersection(cfg) - {'model'}:
            wrong = Config({f'{key[:-2]}{key[-1]}': cfg[key]})
            with pytest.raises(ConfigError, match=f"did you mean '{key}'"):
                check_keys(wrong)
        number += 1
    return number


def test_a_sample_of_mmpretrains_configs_passes():
    assert check_mmpretrains(MMPRETRAINS[::45]) > 8


@pytest.mark.exhaustive
def test_all_of_mmpretrains_configs_pass():
    assert check_mmpretrains(MMPRETRAINS) > 500

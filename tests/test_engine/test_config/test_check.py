"""Misspelt names inside a config stop a run before it starts."""

from pathlib import Path

import mmpretrain
import pytest
from mmengine.config import Config

from mmclip.engine.config.check import check_arguments
from mmclip.engine.config.load import load_config
from tests.conftest import REPOSITORY

BASE = REPOSITORY / 'configs' / 'clip' / 'clip-demo-digits.py'
DECAY = "constructor='LearningRateDecayOptimWrapperConstructor'"
DEFAULT = "constructor='DefaultOptimWrapperConstructor'"


@pytest.fixture
def load(tmp_path):
    """Load a config that changes one thing of the demo's."""

    def _load(text: str) -> Config:
        path = tmp_path / 'config.py'
        path.write_text(f"_base_ = ['{BASE}']\n{text}\n")
        return load_config(path)

    return _load


@pytest.mark.parametrize(
    ('text', 'place', 'nearest'),
    [
        # These four pass mmengine silently.
        (
            f'optim_wrapper = dict({DECAY}, '
            'paramwise_cfg=dict(layer_decay_rat=0.5))',
            "optim_wrapper.paramwise_cfg has no 'layer_decay_rat'",
            'layer_decay_rate',
        ),
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
        (
            'optim_wrapper = dict(_delete_=True, acumulative_counts=3)',
            "optim_wrapper (OptimWrapper) has no 'acumulative_counts'",
            'accumulative_counts',
        ),
        # Seen only with several processes, or only when testing.
        (
            "env_cfg = dict(dist_cfg=dict(backnd='gloo'))",
            "env_cfg.dist_cfg has no 'backnd'",
            'backend',
        ),
        (
            "model_wrapper_cfg = dict(type='MMDistributedDataParallel', "
            'find_unused_parameter=True)',
            'model_wrapper_cfg (MMDistributedDataParallel) has no '
            "'find_unused_parameter'",
            'find_unused_parameters',
        ),
        (
            'test_cfg = dict(fp6=True)',
            "test_cfg (TestLoop) has no 'fp6'",
            'fp16',
        ),
        # mmengine says so at the first checkpoint, of save_checkpoint().
        (
            'default_hooks = dict(checkpoint=dict(intervl=1))',
            'default_hooks.checkpoint (ReliableCheckpointHook) has no '
            "'intervl'",
            'interval',
        ),
        # mmengine names the class alone.
        (
            'default_hooks = dict(logger=dict(intervl=1))',
            "default_hooks.logger (LoggerHook) has no 'intervl'",
            'interval',
        ),
        (
            'default_hooks = dict(interrupt=dict(priorityy=1))',
            "default_hooks.interrupt (InterruptHook) has no 'priorityy'",
            'priority',
        ),
        (
            'train_cfg = dict(val_intervl=3)',
            " has no 'val_intervl'",
            'val_interval',
        ),
        (
            'train_dataloader = dict(batch_siz=3)',
            "train_dataloader has no 'batch_siz'",
            'batch_size',
        ),
        (
            'optim_wrapper = dict(clip_gradd=dict(max_norm=1.0))',
            "optim_wrapper (OptimWrapper) has no 'clip_gradd'",
            'clip_grad',
        ),
        (
            'optim_wrapper = dict(optimizer=dict(weight_decy=1.0))',
            "optim_wrapper.optimizer (AdamW) has no 'weight_decy'",
            'weight_decay',
        ),
        (
            'model = dict(backbone=dict(drop_pth_rate=0.1))',
            "model.backbone (CLIPVisionTransformer) has no 'drop_pth_rate'",
            'drop_path_rate',
        ),
        (
            'model = dict(head=dict(num_class=3))',
            "model.head (LinearClsHead) has no 'num_class'",
            'num_classes',
        ),
        # Known only to what these hand on to.
        (
            "custom_hooks = [dict(type='EMAHook', momentun=0.1)]",
            "custom_hooks.0 (EMAHook) has no 'momentun'",
            'momentum',
        ),
        (
            'optim_wrapper = dict(clip_grad=dict(max_nrom=1.0))',
            "optim_wrapper.clip_grad has no 'max_nrom'",
            'max_norm',
        ),
        (
            'randomness = dict(sed=1)',
            "randomness has no 'sed'",
            'seed',
        ),
        (
            "env_cfg = dict(mp_cfg=dict(mp_start_methd='fork'))",
            "env_cfg.mp_cfg has no 'mp_start_methd'",
            'mp_start_method',
        ),
        (
            "custom_hooks = [dict(type='EMAHok')]",
            "custom_hooks.0: there is no hook 'EMAHok'",
            'EMAHook',
        ),
        (
            "default_hooks = dict(extra=dict(type='mmclip.CompilHook'))",
            "default_hooks.extra: there is no hook 'mmclip.CompilHook'",
            'CompileHook',
        ),
        # "None is not a callable object", says mmengine.
        (
            "optim_wrapper = dict(optimizer=dict(type='AdamWW'))",
            "optim_wrapper.optimizer: there is no optimizer 'AdamWW'",
            'AdamW',
        ),
        (
            "train_dataloader = dict(sampler=dict(type='DefaltSampler'))",
            "train_dataloader.sampler: there is no data sampler 'DefaltSampl",
            'DefaultSampler',
        ),
        (
            "model = dict(head=dict(type='LinearClasHead'))",
            "model.head: there is no model 'LinearClasHead'",
            'LinearClsHead',
        ),
        # mmengine says that a key "type" is missing somewhere.
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
    ],
)
def test_a_misspelling_is_named_with_its_place(load, text, place, nearest):
    with pytest.raises(KeyError) as error:
        load(text)
    assert place in str(error.value)
    assert f'did you mean {nearest!r}?' in str(error.value)


def test_all_misspellings_are_named_at_once(load):
    with pytest.raises(KeyError) as error:
        load('val_cfg = dict(fp6=1)\ntest_cfg = dict(fp6=1)')
    assert 'val_cfg (ValLoop)' in str(error.value)
    assert 'test_cfg (TestLoop)' in str(error.value)


def test_default_hooks_are_removed_by_none(load):
    hooks = load('default_hooks = dict(check_classes=None, timer=None)')
    assert 'check_classes' not in hooks.default_hooks
    assert hooks.default_hooks.timer is None  # mmengine removes its own


@pytest.mark.parametrize(
    'config',
    [
        # Extra settings of parameter groups, which an optimizer or a hook
        # reads; arguments that a class takes and passes on to others.
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
        dict(custom_hooks=[dict(type='EMAHook', momentum=0.1, gamma=1)]),
        dict(
            default_hooks=dict(
                checkpoint=dict(type='CheckpointHook', save_optimizer=False)
            )
        ),
        dict(
            model=dict(
                type='ImageClassifier',
                backbone=dict(type='TIMMBackbone', model_name='x', rate=0.1),
            )
        ),
        # Several optimizers, in the hands of a constructor.
        dict(
            optim_wrapper=dict(
                constructor='Mine',
                image=dict(optimizer=dict(type='SGD', lr=1)),
            )
        ),
        # Of a library that is not installed, and of no class at all.
        dict(model=dict(type='mmnothing.Model', anything=1)),
        dict(
            param_scheduler=dict(
                type='CosineAnnealingLR', convert_to_iter_based=True, T_max=3
            ),
            train_cfg=dict(type='IterBasedTrainLoop', max_iters=3),
        ),
    ],
)
def test_what_may_be_right_passes(config):
    check_arguments(Config(dict(default_scope='mmpretrain') | config))


def test_activation_checkpointing_that_loses_gradients_is_refused(load):
    with pytest.raises(KeyError, match=r'set model\.backbone\.with_cp=True'):
        load("activation_checkpointing = ['backbone.layers.0']")
    lora = REPOSITORY / 'configs' / 'clip' / 'clip-l-336_lora_in1k.py'
    blocks = ['backbone.module.layers.0']
    with pytest.raises(KeyError, match=r'backbone\.module\.with_cp=True'):
        load_config(lora, dict(activation_checkpointing=blocks))
    # Without with_cp there is no better way.
    load(
        "activation_checkpointing = ['backbone']\n"
        "model = dict(backbone=dict(_delete_=True, type='VisionTransformer'))"
    )


# Settings that change nothing: of mmcls's old keys, set too late, without use.
MISTAKES = {
    'efficientnet_v2/*_in21k.py': "'dataset_type', from which imagenet_bs32",
    'hornet/*.py': "top-level key 'data'",
    'lenet/lenet5_mnist.py': "'resume_from'",
    'resnest/resnest200_64xb32_in1k.py': "'test_pipeline', from which imag",
    'twins/*.py': "paramwise_cfg has no '_delete'",
    'vision_transformer/*-ipu_in1k.py': "top-level key 'data', 'fp16', 'opt",
}


@pytest.mark.slow
def test_mmpretrains_configs_pass():
    """All that can be loaded, but for real mistakes in them."""
    folder = Path(mmpretrain.__file__).parent / '.mim' / 'configs'
    num_passed, seen = 0, set()
    for path in sorted(folder.glob('*/**/*.py')):
        if '_base_' in path.parts:
            continue
        try:
            Config.fromfile(path)
        except Exception:  # of those that need other packages, or are broken
            continue
        try:
            load_config(path)
            num_passed += 1
        except KeyError as error:
            (pattern,) = [p for p in MISTAKES if path.match(p)]
            assert MISTAKES[pattern] in str(error)
            seen.add(pattern)
    assert num_passed > 500
    assert seen == set(MISTAKES)

"""Configs: loaded, checked, completed."""

import re

import pytest
from mmengine.config import Config

from mmclip.datasets import ResumableSampler
from mmclip.engine.config.check import RUNNER_HOOKS
from mmclip.engine.config.load import complete_dataloaders, load_config
from mmclip.errors import ConfigError
from tests.conftest import REPOSITORY


def write(tmp_path, text, name='config.py'):
    path = tmp_path / name
    path.write_text(text)
    return path


def test_the_configs_of_the_docs_are_read(tmp_path):
    """Those that extend one of ours; deepspeed need not be there for it."""
    docs = (REPOSITORY / 'docs' / 'distributed.md').read_text()
    configs = re.findall(r'```python\n(_base_ = .*?)```', docs, re.DOTALL)
    assert len(configs) == 2
    for text in configs:
        text = text.replace("'./", f"'{REPOSITORY}/configs/clip/")
        text = text.replace("'../", f"'{REPOSITORY}/configs/")
        load_config(write(tmp_path, text))


def test_a_missing_config_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r'nowhere\.py does not'):
        load_config(tmp_path / 'nowhere.py')


def test_an_option_that_has_no_place_is_an_error(tmp_path):
    path = write(tmp_path, 'custom_hooks = []')
    with pytest.raises(ConfigError, match=r'config\.py: Index 3 exceeds'):
        load_config(path, {'custom_hooks.3.type': 'EMAHook'})


def test_default_hooks_are_removed_by_none(tmp_path):
    """mmengine removes its own, and stops at others without a word."""
    path = REPOSITORY / 'configs' / '_base_' / 'default_runtime.py'
    for name in load_config(path).default_hooks:
        hooks = load_config(path, {f'default_hooks.{name}': None})
        kept = hooks.default_hooks.get(name, 'removed')
        assert kept is None if name in RUNNER_HOOKS else kept == 'removed'


@pytest.mark.parametrize(
    ('text', 'given', 'wanted'),
    [
        ('model = dict()', None, 'work_dirs/config'),
        ("work_dir = 'mine'", None, 'mine'),
        ("work_dir = 'mine'", 'yours', 'yours'),
    ],
)
def test_work_dir(tmp_path, text, given, wanted):
    assert load_config(write(tmp_path, text), None, given).work_dir == wanted


def test_dataloaders_are_completed():
    cfg = Config(
        dict(
            train_dataloader=dict(num_workers=2),
            val_dataloader=dict(num_workers=0, pin_memory=False),
            test_dataloader=None,
        )
    )
    complete_dataloaders(cfg, pin_memory=True)
    assert cfg.train_dataloader.persistent_workers
    assert cfg.train_dataloader.pin_memory
    assert not cfg.val_dataloader.persistent_workers
    assert not cfg.val_dataloader.pin_memory
    complete_dataloaders(cfg, pin_memory=False, persistent_workers=False)
    assert not cfg.train_dataloader.persistent_workers
    assert not cfg.train_dataloader.pin_memory


@pytest.mark.parametrize(
    ('sampler', 'counts', 'images'),
    [
        (dict(type='mmclip.ResumableSampler'), 3, 12),
        (dict(type=ResumableSampler), 3, 12),
        (dict(type='mmclip.ResumableSampler', images_per_step=12), 2, 8),
        (dict(type='mmclip.ResumableSampler', images_per_step=12), 1, None),
        (dict(type='DefaultSampler'), 3, 'not an argument'),
    ],
)
def test_the_sampler_learns_how_many_images_a_step_takes(
    sampler, counts, images
):
    loader = dict(batch_size=4, sampler=sampler)
    optim_wrapper = dict(accumulative_counts=counts)
    cfg = Config(dict(train_dataloader=loader, optim_wrapper=optim_wrapper))
    complete_dataloaders(cfg, pin_memory=True)
    found = cfg.train_dataloader.sampler
    assert found.get('images_per_step', 'not an argument') == images


@pytest.mark.parametrize(
    ('scope', 'dataset', 'stacked'),
    [
        (None, dict(type='Mine'), True),
        ('mmpretrain', dict(type='ImageNet'), True),
        ('mmpretrain', dict(type='mmdet.CocoDataset'), False),
        ('mmseg', dict(type='ADE20KDataset'), False),
        ('mmseg', dict(type='mmclip.ImageNetR'), True),
        (None, dict(type=type('X', (), dict(__module__='mmseg.x'))), False),
        (None, dict(type=type('X', (), dict(__module__='mmclip.x'))), True),
        ('mmdet', dict(type='RepeatDataset', dataset=dict(type='X')), False),
        (
            'mmpretrain',
            dict(
                type='ConcatDataset',
                datasets=[dict(type='mmpose.CocoDataset')],
            ),
            False,
        ),
    ],
)
def test_images_of_other_packages_are_not_stacked(scope, dataset, stacked):
    """They may differ in size; mmengine's own default gives lists."""
    loader = dict(num_workers=0, dataset=dataset)
    cfg = Config(dict(default_scope=scope, train_dataloader=loader))
    complete_dataloaders(cfg, pin_memory=True)
    collate = dict(type='default_collate') if stacked else None
    assert cfg.train_dataloader.get('collate_fn') == collate

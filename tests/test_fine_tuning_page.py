"""What the page on fine-tuning says of GPUs is what the configs have."""

import re

import pytest
from mmengine.config import DictAction

from mmclip.engine.config import load_config
from tests.conftest import REPOSITORY

CONFIGS = REPOSITORY / 'configs' / 'clip'
PAGE = (REPOSITORY / 'docs' / 'fine_tuning.md').read_text()
SECTION = PAGE.split('## By how many GPUs')[1].split('\n## ')[0]
ROW = re.compile(r'\| (\S+\.py) \| (\d+) x (\d+) x (\d+) \| (\d+) \| (.*) \|')
ROWS = {name: rest for name, *rest in ROW.findall(SECTION)}


def test_every_recipe_has_a_row():
    named = {
        path.name
        for path in CONFIGS.glob('*.py')
        if 'demo' not in path.name and load_config(path).train_dataloader
    }
    assert set(ROWS) == named


@pytest.mark.parametrize('name', ROWS)
def test_a_row_is_what_its_config_has(name):
    *numbers, on_one = ROWS[name]
    gpus, batch, accumulated, images = map(int, numbers)
    cfg = load_config(CONFIGS / name)
    assert cfg.train_dataloader.batch_size == batch
    assert cfg.optim_wrapper.get('accumulative_counts', 1) == accumulated
    assert cfg.auto_scale_lr.base_batch_size == gpus * batch
    assert gpus * batch * accumulated == images

    (key, value) = re.search(r'(\w+)=(\d+)`', on_one).groups()
    if key == 'batch_size':
        assert int(value) == images and accumulated == 1
    else:
        assert key == 'accumulative_counts'
        assert batch * int(value) == images
        by_iteration = any(
            scheduler.get('by_epoch') is False
            for scheduler in _list(cfg.param_scheduler)
        )
        assert by_iteration == (', iterations' in on_one)
    hooks = [hook.type for hook in cfg.get('custom_hooks', [])]
    assert ('EMAHook' in hooks) == (', EMA' in on_one)


def test_the_command_sets_accumulation_and_averages():
    words = SECTION.split('```shell')[1].split('```')[0].split()
    options = dict(w.split('=') for w in words if '=' in w)
    options = {k: DictAction._parse_iterable(v) for k, v in options.items()}
    cfg = load_config(REPOSITORY / words[2], options)
    (hook,) = cfg.custom_hooks
    assert hook.type == 'EMAHook'
    assert hook.interval == hook.begin_iter == 8
    assert cfg.optim_wrapper.accumulative_counts == 8


def _list(value):
    return value if isinstance(value, list) else [value]

"""What the page on fine-tuning says of GPUs is what the configs have."""

import math
import re

import pytest
from mmengine.config import DictAction
from mmengine.registry import init_default_scope

from mmclip.engine.config.load import load_config
from tests.conftest import REPOSITORY
from tests.test_recipes import our_schedule

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
    cfg = commanded('clip-b16-224.py')
    (hook,) = cfg.custom_hooks
    assert hook.type == 'EMAHook'
    assert hook.interval == hook.begin_iter == 8
    assert cfg.optim_wrapper.accumulative_counts == 8


@pytest.mark.slow
def test_the_command_for_iterations_gives_each_step_the_rate_of_its_recipe():
    """A step is taken in the last of the eight passes that it accumulates."""
    name = 'clip-l-336_wise-ft_in1k.py'
    init_default_scope('mmpretrain')
    cfg, recipe = commanded(name), load_config(CONFIGS / name)
    assert cfg.optim_wrapper.accumulative_counts == 8
    passes = our_schedule(cfg, 8 * 25030, epochs=1)[:, 0]
    steps = our_schedule(recipe, 25030, epochs=1)[:, 0]
    # What a half cosine of 24,530 steps changes in one at the most.
    change = 3e-5 * math.pi / 2 / 24530
    assert passes[7::8] == pytest.approx(steps, abs=change)


@pytest.mark.parametrize(
    'name', ['clip-l-336_wise-ft_in1k.py', 'clip-b16-224_flyp_in1k.py']
)
def test_the_header_says_how_long_the_schedule_is(name):
    header = (CONFIGS / 'clip-l-336_wise-ft_in1k.py').read_text()
    command = re.search(r'--cfg-options (\S+)=E (\S+)=T\n', header)
    epochs, length = command.groups()
    cfg = load_config(CONFIGS / name, {epochs: 4, length: 77})
    assert cfg.train_cfg.max_epochs == 4
    warmup, cosine = cfg.param_scheduler
    assert cosine.begin == warmup.end == 500
    assert cosine.T_max == 77
    images_a_step = 8 * cfg.train_dataloader.batch_size
    whole = load_config(CONFIGS / name).param_scheduler[1].T_max
    assert whole == math.ceil(1_281_167 / images_a_step) * 10 - 500


def commanded(name):
    """The config that the page's command for a recipe trains."""
    (command,) = re.findall(rf'configs/clip/{name}( [^`]*?)\n(?! )', SECTION)
    options = dict(word.split('=') for word in command.split() if '=' in word)
    options = {k: DictAction._parse_iterable(v) for k, v in options.items()}
    return load_config(CONFIGS / name, options)


def _list(value):
    return value if isinstance(value, list) else [value]

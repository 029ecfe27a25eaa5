import re
from pathlib import Path

import pytest
from mmengine.config import Config

from mmclip.adapting.run_files.config_file import Name, as_python
from mmclip.adapting.run_files.run_folder import RunFolder
from tests.processes import finish, start
from tests.test_commands.conftest import TOOL_SETS


def train_on(run: RunFolder, tools: Path, folder: Path) -> str:
    """Train a run's config for two steps, and return the log."""
    finish(
        start(
            str(tools / 'train.py'),
            str(run.config),
            f'--work-dir={folder}',
            '--cfg-options',
            'train_cfg.max_iters=2',
            'train_cfg.val_interval=2',
            'default_hooks.checkpoint.interval=2',
            'train_dataloader.num_workers=0',
            'train_dataloader.persistent_workers=False',
            cwd=folder,
        )
    )
    return next(folder.glob('*/*.log')).read_text()


@TOOL_SETS
def test_it_trains_on_from_the_runs_model(run, tools, tmp_path):
    log = train_on(run, tools, tmp_path)
    assert f'Load checkpoint from {run.model}' in log
    assert re.search(r'Iter\(val\) .* accuracy/top1: ', log)
    assert (tmp_path / 'iter_2.pth').is_file()


@pytest.mark.parametrize(
    'value',
    [
        'it\'s "quoted" \\ and\nbroken',
        ('one',),
        [],
        {'.cls_token': dict(decay_mult=0.0), 'a' * 70: None},
        dict(lambda_=1, **{'class': ['a' * 50, 'b' * 50]}),
        [dict(type='A', numbers=[0.1234567890123] * 9)],
    ],
)
def test_values_are_read_as_they_were_written(value, tmp_path):
    path = tmp_path / 'config.py'
    path.write_text(as_python('About """it\\.', [('x', dict(key=value))]))
    assert Config.fromfile(path).to_dict() == dict(key=value)


def test_long_values_are_wrapped():
    text = as_python('About.', [('x', dict(key=[dict(a=list(range(40)))]))])
    assert max(map(len, text.splitlines())) <= 79


def test_a_name_is_a_variable(tmp_path):
    path = tmp_path / 'config.py'
    values = dict(one=[1], two=dict(three=Name('one')))
    path.write_text(as_python('About.', [('', values)]))
    assert Config.fromfile(path).two.three == [1]

"""The demo's commands one after the other, with a few steps each."""

import json
import sys

import pytest
import run as demo
from PIL import Image

from tests.conftest import REPOSITORY
from tests.processes import finish, start

DEMO = REPOSITORY / 'tools' / 'demo' / 'run.py'
WAYS = {
    'zero-shot',
    'linear probe',
    'trained from scratch',
    'fine-tuned from CLIP',
    'fine-tuned from zero-shot',
    'WiSE-FT, alpha 0.5',
    'FLYP',
}


def fork(command, cwd, env):
    """Run a command of Python, without an interpreter that starts.

    Of the images to test on, it leaves one in twenty.
    """
    process = start(*command[1:], cwd=cwd, env=env)
    log, _ = process.communicate()
    print(log)
    if command[1].endswith('prepare_data.py'):
        for path in cwd.glob('data/demo_digits/val*/*/*.png'):
            if int(path.stem) % 20:
                path.unlink()
    return process


@pytest.mark.slow
def test_the_demo_ends_with_a_table_and_pictures(
    tmp_path, monkeypatch, capsys
):
    monkeypatch.setattr(demo.subprocess, 'run', fork)
    monkeypatch.setattr(
        sys, 'argv', ['run.py', '--ways', '--quick', f'--folder={tmp_path}']
    )
    demo.main()
    report = capsys.readouterr().out
    demo_alone, _ = report.split('# 4/8')
    lines = [x for x in demo_alone.split('\n') if x and '%|' not in x]
    assert len(lines) <= 30  # without bars of progress
    folder = tmp_path / 'work_dirs' / 'demo'
    table = json.loads((folder / 'table.json').read_text())
    assert set(table) > WAYS
    # Two ways to the same classifier.
    assert table['adapt: zero-shot'] == pytest.approx(table['zero-shot'])
    for row in table.values():
        assert set(row) == {'val', 'val_shifted'}
        assert all(0 <= accuracy <= 100 for accuracy in row.values())
    assert f'{table["fine-tuned from CLIP"]["val"]:.1f}' in report
    for name in ('table.png', 'curves.png', 'predictions.png'):
        with Image.open(folder / name) as picture:
            assert min(picture.size) > 300
    # The curve's own measurement of the zero-shot and averaged weights.
    curve = json.loads((folder / 'interpolation' / 'curve.json').read_text())
    for alpha, way in ((0.5, 'WiSE-FT, alpha 0.5'), (0.0, 'zero-shot')):
        assert curve_at(curve, alpha) == pytest.approx(table[way]['val'], 0.01)


def curve_at(curve, alpha):
    (point,) = [p for p in curve['curve'] if p['alpha'] == alpha]
    return point['scores']['clean']


def test_it_can_be_typed_by_hand(tmp_path):
    data, pretrain, adapt, *ways = [
        line.removeprefix('$ ')
        for line in finish(
            start(DEMO, '--ways', '--dry-run', cwd=tmp_path)
        ).split('\n')
        if line.startswith('$ ')
    ]
    assert data.startswith('python tools/demo/prepare_data.py --seed=0  # 1/8')
    assert pretrain.startswith('python tools/demo/pretrain.py --seed=0  # 2/8')
    assert adapt.startswith('mmclip adapt data/demo_digits --model=')
    assert ways[-1].startswith('python tools/demo/report.py')
    assert len(ways) > 20


def test_a_command_that_fails_ends_it(tmp_path):
    (tmp_path / 'data' / 'demo_digits').mkdir(parents=True)
    (tmp_path / 'data' / 'demo_digits' / 'mine.txt').write_text('')
    run = start(DEMO, cwd=tmp_path)
    log, _ = run.communicate()
    assert run.returncode == 1
    assert 'error: data/demo_digits is not empty' in log
    assert 'error: exit code 1' in log
    assert 'Traceback' not in log
    assert '2/3' not in log


def test_seeds_have_mean_and_spread():
    from tools.demo.seeds import to_markdown

    tables = [
        {row: dict(val=value, val_shifted=50.0) for row in WAYS}
        for value in (10.0, 20.0, 30.0)
    ]
    line = '| zero-shot                 | 20.0 ± 10.0 | 50.0 ± 0.0 |'
    assert line in to_markdown(tables)

"""tools/linear_probe.py, and what tools/test.py makes of its classifier."""

import json

import pytest

from mmclip.checkpoint import read_checkpoint
from mmclip.commands.probe import main
from mmclip.probing import logistic
from tests.test_commands.conftest import TOOLS
from tests.test_probing.conftest import project

TOOL = TOOLS / 'linear_probe.py'


__all__ = ['project']  # a fixture


@pytest.mark.slow
def test_its_classifier_tests_with_the_accuracy_it_printed(project, run):
    log = run(TOOL, 'config.py', 'tower.pth', '--work-dir', 'work').stdout
    numbers = json.loads((project / 'work' / 'linear_probe.json').read_text())
    assert f'linear probe: top-1 {numbers["linear_top1"]:.1f} %' in log
    assert f'nearest neighbours: top-1 {numbers["knn_top1"]:.1f} %' in log
    assert log.count('validation top-1') == len(numbers['trials'])
    metrics = ('--out', 'metrics.json', '--out-item', 'metrics')
    run(TOOLS / 'test.py', 'config.py', 'work/linear_probe.pth', *metrics)
    tested = json.loads((project / 'metrics.json').read_text())
    wanted = pytest.approx(numbers['linear_top1'], abs=1e-4)
    assert tested['accuracy/top1'] == wanted
    meta = read_checkpoint(project / 'work' / 'linear_probe.pth')['meta']
    classes = tuple(f'class{label}' for label in range(4))
    assert tuple(meta['dataset_meta']['classes']) == classes


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (['config.py', 'missing.pth'], 'missing.pth does not exist'),
        (['missing.py', 'tower.pth'], 'missing.py does not exist'),
        (
            ['config.py', 'tower.pth', '--work-dir', 'tower.pth/x'],
            'tower.pth/x cannot be written to',
        ),
        (
            ['config.py', 'tower.pth', '--work-dir', 'old'],
            'old/linear_probe.pth exists; pass --force to overwrite it.',
        ),
        (
            ['config.py', 'tower.pth', '--cfg-options', 'test_dataloder.a=1'],
            "option 'test_dataloder' (did you mean 'test_dataloader'?)",
        ),
    ],
)
def test_errors_are_one_sentence(project, exit_message, arguments, message):
    (project / 'old').mkdir()
    (project / 'old' / 'linear_probe.pth').write_text('mine')
    assert message in exit_message(main, *arguments)


def test_what_makes_its_numbers_too_good_is_said(project, call, monkeypatch):
    monkeypatch.setattr(logistic, 'MAX_ITERATIONS', 3)  # whatever they are
    options = ('test_dataloader.dataset.data_prefix=train', 'log_level=ERROR')
    result = call(main, 'config.py', 'tower.pth', '--cfg-options', *options)
    assert 'INFO' not in result.out
    assert '\nnote: the test set is the train set, ' in result.out


@pytest.mark.slow
def test_two_processes_find_the_same(project, run):
    line = (TOOL, 'config.py', 'tower.pth', '--work-dir')
    run(*line, 'one')
    run(*line, 'two', '--launcher', 'pytorch', ranks=2)
    one, two = (
        json.loads((project / name / 'linear_probe.json').read_text())
        for name in ('one', 'two')
    )
    for key in ('linear_top1', 'knn_top1', 'c'):
        assert two[key] == one[key]

"""tools/linear_probe.py, and what tools/test.py makes of its classifier."""

import json
import sys

import pytest

from mmclip.checkpoint import read_checkpoint
from mmclip.commands.probe import main
from tests.test_commands.conftest import TOOLS
from tests.test_probing.conftest import make_project

TOOL = TOOLS / 'linear_probe.py'


@pytest.fixture
def probed(tmp_path, run):
    """A folder where the tool has run, and what it printed."""
    make_project(tmp_path)
    log = run(TOOL, 'config.py', 'tower.pth', '--work-dir', 'work').stdout
    return tmp_path, log


@pytest.mark.slow
def test_its_classifier_tests_with_the_accuracy_it_printed(probed, run):
    folder, log = probed
    numbers = json.loads((folder / 'work' / 'linear_probe.json').read_text())
    assert f'linear probe: top-1 {numbers["linear_top1"]:.1f} %' in log
    assert f'nearest neighbours: top-1 {numbers["knn_top1"]:.1f} %' in log
    assert log.count('validation top-1') == len(numbers['trials'])
    metrics = ('--out', 'metrics.json', '--out-item', 'metrics')
    run(TOOLS / 'test.py', 'config.py', 'work/linear_probe.pth', *metrics)
    tested = json.loads((folder / 'metrics.json').read_text())
    wanted = pytest.approx(numbers['linear_top1'], abs=1e-4)
    assert tested['accuracy/top1'] == wanted
    meta = read_checkpoint(folder / 'work' / 'linear_probe.pth')['meta']
    assert tuple(meta['dataset_meta']['classes']) == (
        'class0',
        'class1',
        'class2',
        'class3',
    )


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (['config.py', 'missing.pth'], 'missing.pth does not exist'),
        (['missing.py', 'tower.pth'], 'missing.py does not exist'),
        (
            ['config.py', 'no.pth', '--work-dir', 'tower.pth/x'],
            'tower.pth/x cannot be written to',
        ),
        (
            ['config.py', 'tower.pth', '--cfg-options', 'test_dataloder.a=1'],
            "option 'test_dataloder' (did you mean 'test_dataloader'?)",
        ),
    ],
)
def test_errors_are_one_sentence(tmp_path, exit_message, arguments, message):
    make_project(tmp_path)
    assert message in exit_message(main, *arguments)


def test_what_makes_its_numbers_too_good_is_said(tmp_path, call):
    make_project(tmp_path)
    option = 'test_dataloader.dataset.data_prefix=train'
    result = call(main, 'config.py', 'tower.pth', '--cfg-options', option)
    assert '\nnote: the test set is the train set, ' in result.out


def test_a_classifier_that_exists_is_kept_without_force(
    tmp_path, exit_message
):
    make_project(tmp_path)
    (tmp_path / 'work').mkdir()
    (tmp_path / 'work' / 'linear_probe.pth').write_text('mine')
    said = exit_message(main, 'config.py', 'no.pth', '--work-dir', 'work')
    assert said == (
        'error: work/linear_probe.pth exists; pass --force to overwrite it.'
    )


def test_an_output_is_refused_before_the_inputs_are_read(
    tmp_path, exit_message
):
    make_project(tmp_path)
    (tmp_path / 'work' / 'linear_probe.pth').mkdir(parents=True)
    line = ('config.py', 'no.pth', '--work-dir', 'work')
    assert exit_message(main, *line) == (
        'error: work/linear_probe.pth is a folder. Give a file.'
    )


@pytest.mark.slow
def test_two_processes_find_the_same(probed, run, tmp_path):
    folder, _ = probed
    script = tmp_path / 'torchrun.sh'
    script.write_text(
        f'{sys.executable} -m torch.distributed.run --nproc_per_node 2 '
        '--master_port 29655 "$@"\n'
    )
    run(
        script,
        TOOL,
        'config.py',
        'tower.pth',
        '--work-dir',
        'two',
        '--launcher',
        'pytorch',
    )
    one, two = (
        json.loads((folder / name / 'linear_probe.json').read_text())
        for name in ('work', 'two')
    )
    assert two['linear_top1'] == one['linear_top1']
    assert two['knn_top1'] == one['knn_top1']
    assert two['c'] == one['c']

"""Memory and open files do not grow with a run."""

import json

import pytest

from mmclip.commands.long_run import main
from tests.conftest import REPOSITORY
from tests.processes import finish, start

TOOL = REPOSITORY / 'tools' / 'benchmark' / 'long_run.py'
# From the third of ten measurements on, in MiB: what an allocator may keep.
MOST_GROWTH = 3.0


def measure(tmp_path, *options: str) -> list[dict]:
    finish(
        start(TOOL, '--out', 'rows.json', *options, cwd=tmp_path), timeout=1800
    )
    return json.loads((tmp_path / 'rows.json').read_text())


@pytest.mark.parametrize(
    ('options', 'said'),
    [
        ('--iterations 0', '0 is not above 0'),
        ('--rows 0', '0 is not above 0'),
        ('--iterations 9', '10 rows need as many iterations'),
        ('--workers -1', '--workers must be 0 or more'),
    ],
)
def test_wrong_usage_is_one_sentence(capsys, options, said):
    assert main(options.split()) == 2
    assert said in capsys.readouterr().err.splitlines()[0]


def test_a_short_run_is_measured_as_often_as_asked(tmp_path):
    rows = measure(tmp_path, '--iterations', '4', '--rows', '2')
    assert [row['iteration'] for row in rows] == [2, 4]


@pytest.mark.slow
@pytest.mark.parametrize(
    'workers', [pytest.param('0', marks=pytest.mark.exhaustive), '2']
)
def test_two_thousand_iterations_take_no_more_than_six_hundred(
    tmp_path, workers
):
    rows = measure(tmp_path, '--workers', workers)
    assert rows[-1]['iteration'] == 2000
    settled = rows[2:]
    for key in ('memory', 'memory_of_workers'):
        values = [row[key] for row in settled]
        assert max(values) - values[0] < MOST_GROWTH, values
    for key in ('open_files', 'open_files_of_workers'):
        # A log or a queue may be open at that moment; what leaks adds up.
        values = [row[key] for row in settled]
        assert max(values) - values[0] <= 2, (key, values)

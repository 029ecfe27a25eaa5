import re

import pytest

from mmclip.adapting.run_files.run_folder import RunFolder
from mmclip.errors import DataError
from mmclip.report.page import write_report
from tests.test_report.pages import numbers_of
from tests.test_report.runs import change, write_run


@pytest.mark.parametrize(
    ('changes', 'said'),
    [
        (dict(methods=[]), "the chosen method 'linear_probe' is not"),
        (dict(methods=3), 'methods must be a list'),
        (dict(methods=[dict(name='x')]), 'methods[0] lacks title'),
        (dict(chosen='x'), "the chosen method 'x' is not among"),
        (dict(data=None), 'data must be an object'),
        (dict(map=[[1, 2]]), 'has 1 places on the map for the 36 images'),
        (
            dict(map=[[1]] * 36),
            'map must be a list, each a list of 2, each',
        ),
        (dict(calibration=dict(temperature='x')), 'calibration: temp'),
        (dict(training=dict(steps=[3])), 'training: steps must be a list'),
        (dict(duplicates=[dict(paths=['a'], splits=[])]), 'list of 2'),
        (dict(seconds=float('inf')), 'seconds must be a number from 0'),
        (dict(model='x' * 10_001), 'model must be a string of at most'),
        (dict(methods=[{}] * 201), 'methods must be a list of at most'),
    ],
)
def test_wrong_numbers(run, changes, said):
    with pytest.raises(DataError) as error:
        write_report(change(run, **changes))
    assert said in str(error.value)
    assert str(error.value).endswith('run again with: mmclip adapt')
    assert not run.report.exists()


@pytest.mark.parametrize(
    ('where', 'value', 'said'),
    [
        (('methods', 0, 'val', 'accuracy'), 101, 'a number from 0 to 100'),
        (('methods', 0, 'test'), None, 'some methods lack test'),
        (('data', 'images', 'train'), 'x', 'an integer from 0 to'),
        (('data', 'findings', 0, 'paths'), [1], 'a list, each a string'),
        (('calibration', 'bins', 1, 'images'), -1, 'an integer from 0'),
        (('training', 'steps', 3, 'loss'), None, 'steps[3]: loss must be'),
        (('training', 'plan', 'x'), ['y'], 'plan must be an object of at'),
        (('methods', 0, 'settings', 'x' * 501), 1, 'settings must be an'),
        (('methods', 0, 'also'), dict(a=dict(accuracy=5)), 'lacks images'),
    ],
)
def test_wrong_numbers_inside(tmp_path, where, value, said):
    folder = write_run(tmp_path / 'run', test=True)
    numbers = inner = numbers_of(folder)
    for key in where[:-1]:
        inner = inner[key]
    inner[where[-1]] = value
    folder.write_metrics(numbers)
    with pytest.raises(DataError, match=re.escape(said)):
        write_report(folder)


@pytest.mark.parametrize('missing', ['data', 'methods', 'chosen', 'mmclip'])
def test_an_older_file(run, missing):
    numbers = numbers_of(run)
    del numbers[missing]
    run.write_metrics(numbers)
    with pytest.raises(DataError, match=f'lacks {missing}.'):
        write_report(run)


@pytest.mark.parametrize('content', ['', '[]', '{"methods":', 'null'])
def test_not_an_object(run, content):
    run.metrics.write_text(content)
    with pytest.raises(DataError, match=r'metrics\.json'):
        write_report(run)


@pytest.mark.parametrize('name', ['predictions', 'split', 'classes'])
def test_a_missing_table(run, name):
    path = getattr(run, name)
    path.unlink()
    with pytest.raises(DataError, match=f'{path.name} is missing'):
        write_report(run)


@pytest.mark.parametrize(
    ('old', 'new', 'said'),
    [
        ('probability,', 'p,', 'lacks the column probability'),
        ('val,cat', 'val,cow', 'line 2 is not an answer with classes'),
        (',0.', ',x0.', 'line 2 is not an answer'),
    ],
)
def test_damaged_predictions(run, old, new, said):
    text = run.predictions.read_text()
    run.predictions.write_text(text.replace(old, new, 1))
    with pytest.raises(DataError, match=said):
        write_report(run)


def test_predictions_of_another_run(run, tmp_path):
    other = write_run(tmp_path / 'other', per_class=4)
    run.predictions.write_bytes(other.predictions.read_bytes())
    with pytest.raises(DataError, match='12 val images for the 18 of'):
        write_report(run)


@pytest.mark.parametrize('name', ['predictions', 'split', 'classes'])
def test_a_table_that_is_not_text(run, name):
    getattr(run, name).write_bytes(b'path,label,split\n\xff\xfe,a,b\n')
    with pytest.raises(DataError, match='is damaged'):
        write_report(run)


def test_not_a_run(tmp_path):
    with pytest.raises(DataError, match='not the folder of a finished'):
        write_report(RunFolder(tmp_path))

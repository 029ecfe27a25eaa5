"""The page of a run whose images may have several labels."""

import csv

import pytest

from mmclip.adapting.run_files.run_folder import RunFolder
from mmclip.errors import DataError
from tests.test_report.pages import numbers_of, read
from tests.test_report.runs import change, write_run, write_table

DASH = '\N{EN DASH}'
# Labels and answers of the first images; all others have neither.
IMAGES = [
    ('cat|dog', {'cat': 0.91, 'dog': 0.42}),
    ('cat', {}),
    ('', {'owl': 0.88}),
    ('owl', {'owl': 0.7, 'cat': 0.6}),
]
RESULTS = [
    dict(images=2, average_precision=61.5, precision=50, recall=51, f1=52.5),
    dict(images=1, average_precision=83.5, precision=None, recall=0, f1=0),
    dict(images=0, average_precision=None, precision=0, recall=None, f1=None),
]


def write_label_run(path, **settings) -> RunFolder:
    folder = write_run(path, calibration=None, suspects=[], **settings)
    with open(folder.predictions, newline='') as file:
        paths = [row['path'] for row in csv.DictReader(file)]
    rows = []
    for i, name in enumerate(paths):
        label, given = IMAGES[i] if i < len(IMAGES) else ('', {})
        values = '|'.join(map(str, given.values()))
        row = [name, 'val', label, '|'.join(given), values]
        rows.append([*row, *('cat', '0.5') * 3])
    header = ['path', 'split', 'label', 'prediction', 'probability']
    for i in (1, 2, 3):
        header += [f'most_probable_{i}', f'probability_{i}']
    write_table(folder.predictions, header, rows)
    with open(folder.split, newline='') as file:
        _, *table = csv.reader(file)
    labels = {row[0]: row[2] for row in rows}
    table = [(p, labels.get(p, label), split) for p, label, split in table]
    write_table(folder.split, ['path', 'label', 'split'], table)
    numbers = numbers_of(folder)
    for method in numbers['methods']:
        accuracy = method['val'].pop('accuracy')
        method['val'] |= dict(mean_average_precision=accuracy, chance=16.7)
    return change(
        folder,
        several_labels=True,
        methods=numbers['methods'],
        thresholds=[
            dict(threshold=0.31, images=6, own=True),
            dict(threshold=0.42, images=6, own=True),
            dict(threshold=0.55, images=2, own=False),
        ],
        per_class=dict(val=RESULTS),
        mistakes=[
            dict(path=paths[1], label='cat', given=False, probability=0.03),
            dict(path=paths[2], label='owl', given=True, probability=0.88),
            dict(path=paths[1], label='dog', given=False, probability=0.2),
        ],
    )


@pytest.fixture
def run(tmp_path) -> RunFolder:
    return write_label_run(tmp_path / 'runs' / 'photos')


def test_the_page_has_every_number(run):
    chosen = numbers_of(run)['methods'][1]['val']
    found = read(run)
    for said in (
        f'{chosen["mean_average_precision"]:.1f} % mean average precision',
        'chance16.7 %',
        'by its mean average precision on the validation images',
        '1,000 bootstrap samples',
        'its mean is 26.2 %',
        '15 of 18 images get exactly their labels',
        'since no validation image has them: owl.',
        'cat 6 2 61.5 0.31 50.0 51.0 52.5',
        f'dog 6 1 83.5 0.42 {DASH} 0.0 0.0',
        f'owl 6 0 {DASH} 0.55shared 0.0 {DASH} {DASH}',
    ):
        assert said in found.words, said


def test_there_is_no_matrix_and_nothing_is_unsure(run):
    found = read(run)
    assert found.section('classes')
    for name in ('confusion', 'least-sure', 'calibration', 'labels'):
        assert not found.section(name)
        assert ('a', {'href': f'#{name}'}) not in found.tags


def test_the_worst_mistakes_come_first(run):
    words = read(run).words
    places = [
        words.index(said)
        for said in (
            'missed cat, 3.0 %',
            'missed dog, 20.0 %',  # of the same image
            'wrongly owl, 88.0 %',
        )
    ]
    assert places == sorted(places)
    assert 'no class' in words  # of an image without a label


def test_the_map_names_sets_of_labels(run):
    words = read(run).words
    assert 'cat, dog' in words and 'none' in words


def test_two_runs_are_compared_by_exact_sets(run, tmp_path):
    images = tmp_path / 'runs' / 'images'
    other = write_label_run(tmp_path / 'other', images=images)
    with open(other.predictions, newline='') as file:
        header, *rows = csv.reader(file)
    rows[1][3:5] = 'cat', '0.5'
    write_table(other.predictions, header, rows)
    words = read(run, other).words
    assert 'is right if it has got exactly those' in words
    assert '0 are right only by photos, 1 only by other' in words


@pytest.mark.parametrize(
    ('changes', 'said'),
    [
        (dict(per_class=dict(val=RESULTS[:2])), 'per_class of the 3 classes'),
        (dict(thresholds=[]), 'must have thresholds'),
        (dict(thresholds=[dict(threshold=2)] * 3), 'threshold must be'),
        (dict(mistakes=[dict(path=3)]), 'mistakes[0]: path must be a string'),
    ],
)
def test_wrong_numbers_are_refused(run, changes, said):
    with pytest.raises(DataError) as error:
        read(change(run, **changes))
    assert said in str(error.value)


@pytest.mark.parametrize('cells', [('cat', ''), ('cat', 'x'), ('elk', '0.5')])
def test_a_damaged_answer_is_refused(run, cells):
    with open(run.predictions, newline='') as file:
        header, *rows = csv.reader(file)
    rows[0][3:5] = cells
    write_table(run.predictions, header, rows)
    with pytest.raises(DataError, match='line 2 is not an answer'):
        read(run)

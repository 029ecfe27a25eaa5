import csv
import re

import pytest
import torch

import mmclip
from mmclip.checkpoint.files.writing import write_checkpoint
from mmclip.predicting.label_sets import LabelSets
from tests.test_predicting.conftest import CLASSES, checkpoint

ORDER = ('most_probable', 'probability')
PROBABILITIES = torch.tensor(
    [[0.9, 0.3, 0.45], [0.1, 0.2, 0.49], [0.6, 0.25, 0.8]]
)
THRESHOLDS = torch.tensor([0.5, 0.25, 0.5])


def table(paths=('a.png', 'b.png', 'c.png'), unreadable=None, cat='cat'):
    classes = [cat, 'dog', 'owl']
    return LabelSets(paths, PROBABILITIES, classes, THRESHOLDS, unreadable)


def written(predictions, tmp_path):
    predictions.to_csv(tmp_path / 'out.csv')
    with open(tmp_path / 'out.csv', encoding='utf-8', newline='') as file:
        return list(csv.DictReader(file))


def test_an_image_gets_the_classes_at_their_thresholds():
    found = table()
    assert [list(answer.labels) for answer in found] == [
        ['cat', 'dog'],  # owl is more probable, but not for an owl
        [],
        ['owl', 'cat', 'dog'],
    ]
    assert found[2].labels['owl'] == pytest.approx(0.8)
    assert found[0].names == ('cat', 'owl', 'dog')


def test_no_label_is_said():
    lines = repr(table()).splitlines()
    assert lines[:2] == ['a.png: cat 90.0 %, dog 30.0 %', 'b.png: none']
    assert table().summary().splitlines() == [
        '3 images, 1 with none of the classes',
        '  cat 2',
        '  dog 2',
        '  owl 1',
    ]


def test_a_table_has_labels_as_an_image_table_has_them(tmp_path):
    first, second, _ = written(table(), tmp_path)
    assert list(first) == [
        'path',
        'prediction',
        'probability',
        *[f'{what}_{i}' for i in (1, 2, 3) for what in ORDER],
        'note',
    ]
    assert first['prediction'] == 'cat|dog'
    assert first['probability'] == '0.9000|0.3000'
    assert (first['most_probable_2'], first['probability_2']) == (
        'owl',
        '0.4500',
    )
    assert second['prediction'] == second['probability'] == ''
    assert second['most_probable_1'] == 'owl'


def test_unreadable_images_are_not_images_without_a_label(tmp_path):
    found = table(unreadable={1: 'it is empty'})
    row = written(found, tmp_path)[1]
    assert {*row.values()} == {'b.png', 'it is empty', ''}
    assert str(found[1]) == 'unreadable'
    assert found.summary().startswith('3 images, 1 unreadable')


def test_no_cell_of_a_table_is_a_formula(tmp_path):
    row = written(table(cat='=1+1'), tmp_path)[0]
    assert row['prediction'] == "'=1+1|dog"


def test_a_page_shows_each_class_and_none(photos, tmp_path):
    paths = sorted(map(str, photos.rglob('*.png')))[:3]
    found = table(paths, cat='<b>cat')
    found.to_html(tmp_path / 'out.html')
    text = (tmp_path / 'out.html').read_text('utf-8')
    sections = re.split('<h2', text)[1:]
    titles = [re.search('>(.*?)</h2>', part)[1] for part in sections]
    assert titles == ['&lt;b&gt;cat', 'dog', 'none', 'owl']
    assert [part.count('<img') for part in sections] == [2, 2, 1, 1]
    assert '<b>cat' not in text
    # The least probable first.
    assert sections[0].index('a/4.png"') < sections[0].index('a/0.png"')
    assert '<b>none</b>' in found._repr_html_()


@pytest.fixture
def model_of(tmp_path):
    """Load a classifier of several labels, with these thresholds."""

    def load(thresholds):
        content = checkpoint()
        clip = content['meta']['clip']
        clip['head'] = dict(
            clip['head'], type='mmpretrain.MultiLabelLinearClsHead'
        )
        clip['answers'] = thresholds
        write_checkpoint(content, tmp_path / 'model.pth')
        return mmclip.load(tmp_path / 'model.pth', device='cpu')

    return load


def test_a_classifier_has_sigmoids_and_thresholds(model_of, photos):
    thresholds = [0.2, 0.9, 0.5, 0.1, 0.5, 0.5]
    model = model_of(dict(thresholds=thresholds))
    paths = sorted(map(str, photos.rglob('*.png')))
    found = model.predict(paths)
    features = model.features(paths)
    expected = model.model.head.fc(features).sigmoid()
    torch.testing.assert_close(found.probabilities, expected)
    for answer, row in zip(found, expected, strict=True):
        given = row >= torch.tensor(thresholds)
        names = {c for c, g in zip(CLASSES, given, strict=True) if g}
        assert set(answer.labels) == names
    # Alone, its numbers are rounded otherwise.
    assert model.predict(paths[0]).labels == pytest.approx(found[0].labels)


def test_without_thresholds_they_are_a_half(model_of):
    assert model_of(None).thresholds.tolist() == [0.5] * len(CLASSES)

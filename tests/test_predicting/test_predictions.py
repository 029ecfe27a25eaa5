import csv
import re

import pytest
import torch

from mmclip.predicting import page
from mmclip.predicting.predictions import Predictions, printable

EVIL = '<script>alert(1)</script>'
ORDER = ('prediction', 'probability')


def table(paths, classes=('cat', 'dog'), threshold=0.6, unreadable=None):
    """The first class is the more probable the earlier an image is."""
    first = torch.linspace(0.9, 0.5, len(paths))
    rest = (1 - first) / (len(classes) - 1)
    columns = [first, *[rest] * (len(classes) - 1)]
    probabilities = torch.stack(columns, 1)
    return Predictions(paths, probabilities, classes, threshold, unreadable)


def written(predictions, tmp_path):
    predictions.to_csv(tmp_path / 'out.csv')
    with open(
        tmp_path / 'out.csv',
        encoding='utf-8',
        errors='surrogateescape',
        newline='',
    ) as file:
        return list(csv.DictReader(file))


def html(predictions, tmp_path):
    predictions.to_html(tmp_path / 'out.html', 'some & more')
    return (tmp_path / 'out.html').read_text('utf-8')


def test_a_table_has_five_names_and_says_what_is_sure(tmp_path):
    first, second = written(table(['a.png', 'b.png'], 'uvwxyz'), tmp_path)
    assert list(first) == [
        'path',
        'prediction',
        'probability',
        *[f'{what}_{i}' for i in (2, 3, 4, 5) for what in ORDER],
        'sure',
        'note',
    ]
    assert first['prediction'] == 'u'
    assert (first['probability'], first['probability_2']) == (
        '0.9000',
        '0.0200',
    )
    assert (first['sure'], second['sure']) == ('yes', 'no')


def test_unreadable_images_have_a_row_without_a_prediction(tmp_path):
    found = table(['a.png', 'b.png'], unreadable={1: 'it is empty'})
    row = written(found, tmp_path)[1]
    assert (row['path'], row['note']) == ('b.png', 'it is empty')
    assert {*row.values()} == {'b.png', 'it is empty', ''}
    assert found.summary().startswith('2 images, 1 unreadable')
    assert 'b.png: unreadable' in repr(found)
    assert 'it is empty' in html(found, tmp_path)


def test_all_names_of_files_come_back_from_a_table(tmp_path):
    paths = ['a,"b".png', 'new\nline.png', 'caf\udce9.png', '猫.png']
    rows = written(table(paths), tmp_path)
    assert [row['path'] for row in rows] == paths


@pytest.mark.parametrize('name', ['=1+1', '+a', '-a', '@SUM(A1)', '\tx'])
def test_no_cell_of_a_table_is_a_formula(tmp_path, name):
    (row,) = written(table([f'{name}.png'], [name, 'b']), tmp_path)
    assert row['path'] == f'./{name}.png'  # the same file
    assert row['prediction'] == f"'{name}"


def test_numbers_are_no_formulas(tmp_path):
    (row,) = written(table(['a.png'], ['-1', '+1']), tmp_path)
    assert (row['prediction'], row['prediction_2']) == ('-1', '+1')


def test_a_screen_gets_no_control_characters():
    assert (
        printable('a\x1b[2J\n\udce9猫\u200c') == 'a\\x1b[2J\\n\\udce9猫\u200c'
    )
    found = table(['\x1b.png'], ['\x1b]0;x', 'b'])
    assert '\x1b' not in repr(found) + found.summary()


def test_many_images_are_counted_and_few_are_listed():
    found = table([f'{i}.png' for i in range(100)])
    assert repr(found).count('\n') == 20
    assert repr(found).endswith('\n80 more')
    assert found.summary() == '100 images, 25 not sure\n  cat 100'


def test_a_page_shows_the_least_sure_first(photos, tmp_path):
    paths = sorted(map(str, photos.rglob('*.png')))
    text = html(table(paths), tmp_path)
    shown = re.findall(r'href="(photos/.*?)"><img src="data:image/jpeg', text)
    order = ['b/3', 'b/1', 'a/4', 'a/2', 'a/0']
    assert shown == [f'photos/{name}.png' for name in order]
    assert 'http' not in text.replace('http-equiv', '')


def test_a_page_has_no_more_pictures_than_it_may(
    photos, tmp_path, monkeypatch
):
    monkeypatch.setattr(page, 'MOST_PICTURES', 4)
    paths = sorted(map(str, photos.rglob('*.png'))) * 2
    text = html(table(paths), tmp_path)
    assert text.count('<img') == 4
    assert 'of which 2 are shown' in text


def test_names_are_only_text_on_a_page_and_in_a_notebook(photos, tmp_path):
    path = photos / 'javascript:alert(1) "><b>.png'
    (photos / 'a' / '0.png').rename(path)
    found = table([str(path)], [EVIL, 'dog'])
    for text in (html(found, tmp_path), found._repr_html_()):
        assert EVIL not in text
        assert '"><b>' not in text
        assert 'javascript:' not in re.findall(r'href="(.*?)"', text)[-1]


def test_bytes_that_are_no_characters_do_not_stop_a_page(tmp_path):
    assert 'caf\\udce9' in html(table(['caf\udce9.png']), tmp_path)


def test_a_notebook_shows_the_first_images(photos):
    paths = sorted(map(str, photos.rglob('*.png'))) * 5
    text = table(paths)._repr_html_()
    assert text.count('<img') == 20
    assert '5 more images' in text

"""Alphas, tables, pictures, and which weights are tested."""

import json

import pytest
from PIL import Image

from mmclip.averaging.weight_space import (
    best_alpha,
    curve_to_markdown,
    parse_alphas,
    write_curve,
)

CURVE = {
    1.0: dict(clean=90.0, shifted=40.0),
    0.0: dict(clean=70.0, shifted=60.0),
    0.5: dict(clean=90.0, shifted=65.0),
}


@pytest.mark.parametrize(
    ('text', 'alphas'),
    [
        ('0:1:0.5', [0, 0.5, 1]),
        ('0.2:0.6:0.2', [0.2, 0.4, 0.6]),
        ('1,0', [0, 1]),
        ('0.3', [0.3]),
        ('0:1:0.3', [0, 0.3, 0.6, 0.9, 1]),
        ('0.2:0.5:0.2', [0.2, 0.4, 0.5]),
    ],
)
def test_alphas(text, alphas):
    assert parse_alphas(text) == alphas


def test_steps_of_a_tenth_have_no_rounding_in_them():
    assert parse_alphas('0:1:0.1') == [i / 10 for i in range(11)]


@pytest.mark.parametrize(
    'text',
    ['', 'half', '0:1', '0:1:0', '0:2:1', '-1,0', 'nan', '0:inf:1'],
)
def test_no_alphas(text):
    with pytest.raises(ValueError, match='Alphas'):
        parse_alphas(text)


@pytest.mark.parametrize('text', ['1:0:0.1', '0:1:-0.1'])
def test_a_step_away_from_the_last(text):
    with pytest.raises(ValueError, match=f'must go up from .*; got {text!r}'):
        parse_alphas(text)


def test_the_best_is_the_smallest_of_equals():
    assert best_alpha(CURVE, 'clean') == 0.5
    assert best_alpha(CURVE, 'shifted') == 0.5
    assert best_alpha({0.0: dict(x=2.0), 1.0: dict(x=1.0)}, 'x') == 0


def test_the_table_has_a_row_for_each_alpha():
    assert curve_to_markdown(CURVE, 0.5) == (
        '|   alpha |    clean |  shifted |\n'
        '| ------: | -------: | -------: |\n'
        '|       0 |     70.0 |     60.0 |\n'
        '| **0.5** | **90.0** | **65.0** |\n'
        '|       1 |     90.0 |     40.0 |\n'
    )


@pytest.mark.parametrize('names', [['clean'], ['clean', 'shifted', 'third']])
def test_files(tmp_path, names):
    curve = {a: {n: s.get(n, 1.0) for n in names} for a, s in CURVE.items()}
    write_curve(curve, 0.5, tmp_path / 'new', dict(metric='top1'))
    content = json.loads((tmp_path / 'new' / 'curve.json').read_text())
    assert content['metric'] == 'top1'
    assert content['chosen'] == 0.5
    assert content['curve'] == [
        dict(alpha=alpha, scores=curve[alpha]) for alpha in (0.0, 0.5, 1.0)
    ]
    table = (tmp_path / 'new' / 'table.md').read_text()
    assert table == curve_to_markdown(curve, 0.5)
    with Image.open(tmp_path / 'new' / 'curve.png') as picture:
        assert min(picture.size) > 300
        assert len(picture.getcolors(2**24)) > 10

import csv

import pytest

from mmclip.errors import DataError
from mmclip.report.page import write_report
from tests.test_report.pages import Page, numbers_of, read
from tests.test_report.runs import write_run
from tests.test_report.test_several_labels import write_label_run


def test_both_headlines_and_where_they_differ(run, tmp_path):
    other = write_run(tmp_path / 'runs' / 'other', seed=1, accuracy=0.9)
    out = write_report(run, other)
    assert out == run.path / 'comparison.html'
    words = Page(out.read_text()).words
    for folder in (run, other):
        val = numbers_of(folder)['methods'][1]['val']
        assert f'{val["accuracy"]:.1f} % accuracy' in words
        assert f'95 % interval {val["low"]:.1f} to' in words
        assert f'{val["low"]:.1f} to {val["high"]:.1f}' in words
    answers = []
    for folder in (run, other):
        with open(folder.predictions, newline='') as file:
            answers.append(
                [r['label'] == r['prediction'] for r in csv.DictReader(file)]
            )
    only = [
        sum(a and not b for a, b in zip(*pair, strict=True))
        for pair in (answers, answers[::-1])
    ]
    assert min(only) > 0
    assert f'{only[0]} are right only by photos' in words
    assert f'{only[1]} only by other' in words
    assert 'Right only by photos' in words


def test_classes_are_compared_on_the_same_images(run, tmp_path):
    """As far as both runs measured them."""
    other = write_run(tmp_path / 'runs' / 'other', accuracy=1.0)
    text = other.predictions.read_text()
    other.predictions.write_text(  # of another folder
        text.replace('val/0/0.png', '../more/0.png')
    )
    with open(run.predictions, newline='') as file:
        right = [r['label'] == r['prediction'] for r in csv.DictReader(file)]
    assert not all(right[1:6])
    recall = 100 * sum(right[1:6]) / 5
    words = read(run, other).words
    assert f'cat 5 {recall:.1f} 100.0 +{100 - recall:.1f}' in words
    assert 'On the 17 images that both were measured on' in words


def test_the_line_to_make_it_again_has_both(run, tmp_path):
    other = write_run(tmp_path / 'other', seed=1)
    line = f'mmclip report {run.path} {other.path} --root DIR'
    assert line in read(run, other).words


def test_a_clear_difference_is_told_from_chance(run, tmp_path):
    bad = write_run(tmp_path / 'runs' / 'bad', seed=1, accuracy=0.0)
    near = write_run(tmp_path / 'runs' / 'near', seed=4)
    assert 'hardly do that' in read(run, bad).words
    assert 'could do that' in read(run, near).words


def test_other_images_cannot_be_compared(run, tmp_path):
    other = write_run(tmp_path / 'other', images=tmp_path / 'images')
    words = read(run, other).words
    assert 'measured on different images' in words
    assert 'Right only by' not in words


def test_runs_of_one_name_are_told_apart(run, tmp_path):
    other = write_run(tmp_path / 'more' / 'photos', ('cat', 'cow'))
    words = read(run, other, tmp_path / 'both.html').words
    assert str(run.path) in words and str(other.path) in words


def test_runs_with_different_questions_cannot_be_compared(run, tmp_path):
    other = write_run(tmp_path / 'other', ('bus', 'tram'))
    with pytest.raises(DataError, match='no class in common'):
        write_report(run, other)
    labels = write_label_run(tmp_path / 'labels')
    with pytest.raises(DataError, match='several labels'):
        write_report(run, labels)

import base64
import csv
import html
import io
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mmclip.adapting.run_files.run_folder import RunFolder
from mmclip.report import page, thumbnails
from mmclip.report.page import write_report
from tests.test_report.pages import Page, numbers_of, read
from tests.test_report.runs import change, result, write_run

NASTY = (
    '<script>alert(1)</script>',
    '"quoted" \'name\' & more',
    '日本 $x^2$ {{ 7 * 7 }}',
)


@pytest.fixture
def nasty(tmp_path) -> RunFolder:
    return write_run(tmp_path / 'runs' / 'photos', NASTY)


def test_the_page_has_every_number(run):
    words = read(run).words
    numbers = numbers_of(run)
    for method in numbers['methods']:
        val = method['val']
        for value in (val['accuracy'], val['low'], val['high']):
            assert f'{value:.1f}' in words
        assert method['title'] in words
    assert f'95 % interval {val["low"]:.1f}' not in words  # of another
    assert 'has not learned' not in words
    assert 'no pictures' in words
    for said in (
        '18 validation images. The method was chosen on these same images',
        'mmclip adapt photos/ --out runs/photos',
        '2026-11-30 12:00',
        'error was 9.4 % and is 3.1 % after',
        'temperature of 1.37',
        'probability of 0.62',
        'answers 88.8 % of the images, and 95.5 % of these',
        'took 1 min',
        'labelled cat',
        'nearly the same, similarity 0.991',
        '2 images are smaller than what the model sees.',
        'a fifth of each class for validation, seed 0',
        f'mmclip predict {run.path} new/',
        f'mmclip.load({str(run.path)!r})',
        f'tools/test.py {run.config} {run.model}',
    ):
        assert said in words, said


def test_the_test_set_gives_the_headline_if_there_is_one(tmp_path):
    folder = write_run(tmp_path / 'run', test=True, seed=3)
    chosen = numbers_of(folder)['methods'][1]
    words = read(folder).words
    assert chosen['test']['accuracy'] != chosen['val']['accuracy']
    assert f'{chosen["test"]["accuracy"]:.1f} % accuracy' in words
    assert '18 test images. They had no part in any choice.' in words


def test_other_folders_have_a_column_and_a_headline(run, tmp_path):
    methods = numbers_of(run)['methods']
    for i, method in enumerate(methods):
        method['also'] = {'<b>': result(5 + i, 18), 'night': result(2, 7)}
    change(run, methods=methods)
    page = read(run)
    low, high = (
        f'{methods[1]["also"]["<b>"][k]:.1f}' for k in ('low', 'high')
    )
    said = f'<b> 33.3 % ({low} to {high}) of 18 images, night 28.6 %'
    assert said in page.words
    for method in methods:
        found = method['also']['<b>']
        cell = f'{found["accuracy"]:.1f}{found["low"]:.1f} to '
        assert cell in page.words
    assert said in read(run, write_run(tmp_path / 'other', seed=1)).words


def test_precision_recall_and_f1_are_those_of_the_predictions(run):
    with open(run.predictions, newline='') as file:
        rows = list(csv.DictReader(file))
    words = read(run).words
    for name in ('cat', 'dog', 'owl'):
        right = sum(r['label'] == r['prediction'] == name for r in rows)
        images = sum(r['label'] == name for r in rows)
        answers = sum(r['prediction'] == name for r in rows)
        values = (
            100 * right / answers,
            100 * right / images,
            200 * right / (images + answers),
        )
        row = ' '.join([name, '6', '6', *(f'{v:.1f}' for v in values)])
        assert row in re.sub(r'\s+', ' ', words)


def test_each_cell_of_the_matrix_opens_its_images(run):
    with open(run.predictions, newline='') as file:
        pairs = [(r['label'], r['prediction']) for r in csv.DictReader(file)]
    found = read(run)
    cells = [
        attributes
        for tag, attributes in found.tags
        if attributes.get('class', '').startswith('cell ')
    ]
    assert {c['title'] for c in cells} == {f'{a} → {b}' for a, b in pairs}
    for cell in cells:
        target = dict(popover=None, id=cell['popovertarget'])
        assert ('div', target) in found.tags


def test_of_many_classes_the_most_confused_pairs_are_listed(tmp_path):
    names = [f'class{i}' for i in range(40)]
    found = read(write_run(tmp_path / 'run', names, 4))
    assert 'The pairs that are confused the most, of 40 classes.' in (
        found.words
    )
    assert not any(a.get('class') == 'matrix' for _, a in found.tags)
    assert sum('popover' in a for _, a in found.tags) == page.PAIRS
    assert '25 more classes' in found.words


@pytest.mark.parametrize('with_other', [False, True])
def test_no_request_leaves_the_machine(run, tmp_path, with_other):
    runs = tmp_path / 'runs'
    others = [write_run(runs / 'other', seed=1)] if with_other else []
    text = write_report(run, *others).read_text()
    found = Page(text)
    ids = [a['id'] for _, a in found.tags if 'id' in a]
    assert len(ids) == len(set(ids)) > 3
    for tag, attributes in found.tags:
        assert tag not in ('script', 'iframe', 'object', 'embed', 'base')
        assert not any(name.startswith('on') for name in attributes)
        for name in ('src', 'href', 'xlink:href', 'action', 'data'):
            value = attributes.get(name, '#')
            assert value.startswith('#') or value.startswith('data:'), tag
            if value.startswith('#'):
                assert value == '#' or value[1:] in ids
    (policy,) = (a for t, a in found.tags if 'http-equiv' in a)
    assert policy['content'].startswith("default-src 'none'; img-src data:;")
    assert '@import' not in text
    assert not re.findall(r'url\((?!#)', text)
    assert 'http' not in text.replace('http-equiv', '')


@pytest.mark.parametrize('with_other', [False, True])
def test_names_of_classes_stay_text(nasty, tmp_path, with_other):
    others = (
        [write_run(tmp_path / 'runs' / 'other', NASTY, seed=1)]
        if with_other
        else []
    )
    text = write_report(nasty, *others).read_text('utf-8')
    found = Page(text)
    assert '<script' not in text
    for name in NASTY:
        assert name in found.words
        assert html.escape(name).split('&')[0] in text
    titles = [a['title'] for _, a in found.tags if 'title' in a]
    assert any(NASTY[1] in title for title in titles)


def test_drawings_take_on_the_colours_of_the_page(run):
    text = write_report(run).read_text()
    drawings = re.findall(r'<svg class="plot".*?</svg>', text, re.S)
    assert len(drawings) == 4  # two curves, reliability, map
    for drawing in drawings:
        assert 'currentColor' in drawing and 'var(--c1)' in drawing
        assert not re.search(r'#[0-9a-f]{6}\b', drawing)


def test_what_is_missing_is_left_out(run):
    missing = dict(training=None, map=None, calibration=None)
    missing |= dict(suspects=[], duplicates=[])
    names = ['training', 'map', 'calibration', 'labels', 'duplicates']
    found = read(run)
    assert all(map(found.section, names))
    found = read(change(run, **missing))
    assert not any(map(found.section, names))
    links = {a.get('href') for _, a in found.tags}
    assert not links & {f'#{name}' for name in names}


def test_a_training_that_has_not_learned_is_told(run):
    training = numbers_of(run)['training']
    changed = change(run, training=training | dict(learned=False))
    assert 'This training has not learned' in read(changed).words


def test_without_mistakes_it_says_so(tmp_path):
    folder = write_run(tmp_path / 'run', accuracy=1.0)
    assert 'No validation image has a wrong first answer.' in (
        read(folder).words
    )


def test_missing_and_damaged_images_are_counted(run, tmp_path):
    with open(run.predictions, newline='') as file:
        rows = list(csv.DictReader(file))
    wrong = [r['path'] for r in rows if r['label'] != r['prediction']]
    images = tmp_path / 'runs' / 'images'
    (images / wrong[0]).unlink()
    (images / wrong[1]).write_bytes(b'\x89PNG\r\n\x1a\n')
    words = read(run, root=images).words
    assert '2 images could not be found or read' in words
    assert f'not found {wrong[0]}' in words
    assert 'no pictures' not in words


def test_the_size_stays_in_bounds(tmp_path, monkeypatch):
    names = [f'class number {i}' for i in range(8)]
    folder = write_run(tmp_path / 'run', names, 20, accuracy=0.3)
    monkeypatch.setattr(thumbnails, 'MOST_BYTES', 50_000)
    text = write_report(folder, root=tmp_path).read_text()
    assert text.count('data:image/jpeg') > 10
    assert sum(map(len, re.findall('base64,([^"]*)', text))) < 55_000
    assert len(text) < 1_500_000
    monkeypatch.undo()
    assert 'not shown' in Page(text).words
    assert thumbnails.MOST_BYTES < 3_000_000


def test_the_map_of_many_images_is_a_sample(run, monkeypatch):
    monkeypatch.setattr(page, 'MOST_POINTS', 10)
    assert '10 of the 36 images, placed' in read(run).words


@pytest.fixture
def images(run) -> Path:
    return run.path.parent / 'images'


def pictures(page: Page) -> list[Image.Image]:
    found = [
        attributes['href'].partition('base64,')[2]
        for tag, attributes in page.tags
        if tag == 'image'
    ]
    return [Image.open(io.BytesIO(base64.b64decode(data))) for data in found]


class TestPictures:
    def test_without_the_folder_of_the_images_there_are_none(self, run):
        page = read(run)
        assert not pictures(page)
        assert f'mmclip report {run.path} --root DIR' in page.words

    def test_the_images_may_have_moved(self, run, images, tmp_path):
        here = read(run, root=images)
        number = len(pictures(here))
        assert number > 10
        assert 'no pictures' not in here.words
        assert len(pictures(read(run, root=images.parent))) == number
        moved = images.rename(tmp_path / 'moved')
        assert len(pictures(read(run, root=moved))) == number

    @pytest.mark.parametrize(
        'how', ['absolute', 'dots', 'link', 'link_to_folder', 'root']
    )
    def test_no_other_files_are_shown(self, run, images, tmp_path, how):
        """Whatever a stranger's run calls its images."""
        secret = tmp_path / 'secret' / 'train' / '0' / '0.png'
        secret.parent.mkdir(parents=True)
        Image.new('RGB', (24, 32), 'white').save(secret)
        path = dict(absolute=str(secret), dots='../../secret/train/0/0.png')
        if how == 'link':
            (images / 'link.png').symlink_to(secret)
        elif how == 'link_to_folder':
            (images / 'link').symlink_to(secret.parent)
        elif how == 'root':
            data = numbers_of(run)['data']
            change(run, data=data | dict(root=str(tmp_path / 'secret')))
        path |= dict(link='link.png', link_to_folder='link/0.png')
        name = path.get(how, 'train/0/0.png')
        text = run.predictions.read_text()
        first = text.splitlines()[1].partition(',')[0]
        run.predictions.write_text(text.replace(first, name))
        numbers = numbers_of(run)
        for suspect in numbers['suspects']:
            suspect['path'] = name
        for pair in numbers['duplicates']:
            pair['paths'][0] = name
        drawings = dict(training=None, map=None, calibration=None)
        run.write_metrics(numbers | drawings)
        page = read(run, root=images)
        assert pictures(page)
        for picture in pictures(page):
            assert np.asarray(picture).min() < 200
        if how != 'root':
            assert '1 image is not in the folder of the images' in page.words
        # It would be seen where it may be.
        shown = pictures(read(run, root=tmp_path))
        assert any(np.asarray(picture).min() > 250 for picture in shown)

    def test_files_are_told_apart_by_their_folders(self, tmp_path):
        names = ('cat', 'dog' * 20)
        folder = write_run(tmp_path / 'run', names, accuracy=0.0)
        assert 'val/0/0.png' in read(folder).words
        text = folder.predictions.read_text()
        long = f'val/{"very" * 20}/0.png'
        folder.predictions.write_text(text.replace('val/0/0.png', long))
        page = read(folder)
        assert 'val/veryveryve\N{HORIZONTAL ELLIPSIS}' in page.words
        assert 'veryvery/0.png' in page.words
        assert any(a.get('title') == long for _, a in page.tags)


def test_an_interval_may_be_missing(run):
    methods = numbers_of(run)['methods']
    for method in methods:
        method['val'] = result(9, 18) | dict(low=None, high=None)
    words = read(change(run, methods=methods)).words
    assert '95 % interval 5' not in words
    assert 'On 18 validation images' in words

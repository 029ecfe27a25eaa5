"""Images with several labels, from a table to a classifier."""

import csv
import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.metrics import (
    average_precision_score,
    precision_recall_fscore_support,
)

import mmclip
from mmclip.adapting.run_files.run_folder import RunFolder
from mmclip.adapting.several_labels import Entrant, compare, measure
from mmclip.adapting.thresholds import find_thresholds
from mmclip.commands import test as test_command
from mmclip.errors import ArgumentError, DataError
from mmclip.few_shot.method import Encoded
from mmclip.few_shot.several_labels import LinearProbe, out_of_fold
from tests.conftest import save_whole_model
from tests.test_adapting.conftest import COLOURS
from tests.test_adapting.test_run_files.test_config_file import train_on
from tests.test_commands.conftest import TOOL_SETS

CLASSES = tuple(COLOURS)


def save_table(folder: Path, number: int = 90) -> Path:
    """Pictures with a square of some colours, of one, or of none."""
    random = np.random.default_rng(0)
    rows = []
    for i in range(number):
        split = ('train', 'train', 'val', 'test')[i % 4]
        present = random.random(3) < (0.5, 0.4, 0.3)
        present[2] &= split != 'test'
        pixels = random.normal(128, 40, (48, 48, 3))
        for place, name in enumerate(CLASSES):
            if present[place]:
                rows_ = slice(16 * place, 16 * place + 16)
                pixels[rows_, 16:] += 0.15 * np.array(COLOURS[name]) - 15
        pixels = np.clip(pixels, 0, 255).astype(np.uint8)
        Image.fromarray(pixels).save(folder / f'{i}.png')
        names = [n for n, p in zip(CLASSES, present, strict=True) if p]
        rows.append((f'{i}.png', '|'.join(names), split))
    return write(folder / 'table.csv', rows)


def write(path: Path, rows: list[tuple[str, str, str]]) -> Path:
    with open(path, 'w', newline='') as file:
        csv.writer(file).writerows([('path', 'labels', 'split'), *rows])
    return path


def make(folder: Path, table: Path, out: str, **settings) -> RunFolder:
    return mmclip.adapt(
        table,
        folder / out,
        model=str(folder / 'clip'),
        templates=['a photo of {}'],
        **settings,
    )


@pytest.fixture(scope='module')
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp('several')
    (folder / 'clip').mkdir()
    save_whole_model(folder / 'clip')
    save_table(folder)
    return folder


@pytest.fixture(scope='module')
def run(place) -> RunFolder:
    """A run without a red test image."""
    return make(place, place / 'table.csv', 'run')


def numbers_of(run: RunFolder) -> dict:
    return json.loads(run.metrics.read_text())


def chosen(run: RunFolder) -> dict:
    numbers = numbers_of(run)
    return next(
        m for m in numbers['methods'] if m['name'] == numbers['chosen']
    )


def answers(run: RunFolder, split: str) -> list[dict]:
    with open(run.predictions) as file:
        return [row for row in csv.DictReader(file) if row['split'] == split]


def columns(rows: list[dict]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Labels, probabilities and answers, ``(N, 3)``, as written."""
    labels, given = (
        np.array([[n in row[key].split('|') for n in CLASSES] for row in rows])
        for key in ('label', 'prediction')
    )
    found = [
        {row[f'most_probable_{i}']: row[f'probability_{i}'] for i in (1, 2, 3)}
        for row in rows
    ]
    values = [[float(row[name]) for name in CLASSES] for row in found]
    return labels, np.array(values), given


@pytest.mark.parametrize('split', ['val', 'test'])
def test_the_numbers_are_those_of_the_written_answers(run, split):
    labels, values, given = columns(answers(run, split))
    results = numbers_of(run)['per_class'][split]
    known = [k for k in range(3) if labels[:, k].any()]
    assert len(known) == (3 if split == 'val' else 2)
    for k in known:
        expected = average_precision_score(labels[:, k], values[:, k])
        found = results[k]['average_precision']
        assert found == pytest.approx(100 * expected, abs=0.5)
        precision, recall, f1, _ = precision_recall_fscore_support(
            labels[:, k], given[:, k], average='binary'
        )
        assert results[k]['precision'] == pytest.approx(100 * precision)
        assert results[k]['recall'] == pytest.approx(100 * recall)
        assert results[k]['f1'] == pytest.approx(100 * f1)
    mean = np.mean([results[k]['average_precision'] for k in known])
    result = chosen(run)[split]
    assert result['mean_average_precision'] == pytest.approx(mean)
    assert result['low'] <= mean <= result['high']


def test_a_class_that_the_test_images_lack_is_named(run):
    red = numbers_of(run)['per_class']['test'][2]
    assert red['images'] == 0
    assert red['average_precision'] is red['recall'] is red['f1'] is None
    assert 'since no test image has them: red' in run.log.read_text()


def test_colours_are_learned(run):
    result = chosen(run)['test']
    assert result['low'] > result['chance'] + 10


def test_the_ordinary_runner_finds_the_same_precision(run, capsys, tmp_path):
    code = test_command.main(
        [str(run.config), str(run.model), f'--work-dir={tmp_path}']
    )
    assert code == 0
    found = re.search(r'multi-label/mAP: ([\d.]+)', capsys.readouterr().out)
    expected = chosen(run)['test']['mean_average_precision']
    assert float(found[1]) == pytest.approx(expected, abs=1e-3)


@TOOL_SETS
def test_its_config_trains_on(run, tools, tmp_path):
    log = train_on(run, tools, tmp_path)
    assert f'Load checkpoint from {run.model}' in log
    assert re.search(r'Iter\(val\) .* multi-label/mAP: ', log)


def test_loaded_again_it_gives_the_written_answers(run, place):
    model = mmclip.load(run.path)
    rows = answers(run, 'test')
    found = model.predict([place / row['path'] for row in rows])
    given = ['|'.join(answer.labels) for answer in found]
    assert given == [row['prediction'] for row in rows]
    assert '' in given and any('|' in labels for labels in given)
    written = [t['threshold'] for t in numbers_of(run)['thresholds']]
    assert model.thresholds.tolist() == pytest.approx(written)


def test_thresholds_are_those_of_training_images_held_out(run, place):
    lines = (place / 'table.csv').read_text().splitlines()
    rows = [row for row in csv.DictReader(lines) if row['split'] == 'train']
    labels = [[n in row['labels'].split('|') for n in CLASSES] for row in rows]
    model = mmclip.load(run.path)
    paths = [place / row['path'] for row in rows]
    train = Encoded(model.features(paths), torch.tensor(labels), 3)
    assert chosen(run)['name'] == 'linear_probe'
    held_out = out_of_fold(LinearProbe(), chosen(run)['settings'], train)
    expected, learned = (
        torch.tensor([t.threshold for t in find_thresholds(found, targets)])
        for found, targets in (
            held_out,
            (model.predict(paths).probabilities, train.labels),
        )
    )
    torch.testing.assert_close(model.thresholds, expected, rtol=0, atol=1e-3)
    assert (learned - expected).abs().max() > 0.02


def test_the_worst_mistakes_come_first(run):
    rows = {row['path']: row for row in answers(run, 'test')}
    listed = numbers_of(run)['mistakes']
    surprises = []
    for mistake in listed:
        row = rows[mistake['path']]
        assert (mistake['label'] in row['prediction']) == mistake['given']
        assert (mistake['label'] in row['label']) != mistake['given']
        surprises.append(abs(mistake['probability'] - (not mistake['given'])))
    assert surprises == sorted(surprises, reverse=True)
    labels, _, given = columns(list(rows.values()))
    assert len(listed) == (labels != given).sum()


def test_the_card_has_the_precision(run):
    text = run.card.read_text()
    assert '- mean_average_precision' in text
    result = chosen(run)['test']['mean_average_precision']
    assert f'on 22 test images: **{result:.1f} %**' in text


def test_few_shots_are_enough_for_an_answer(place):
    run = make(place, place / 'table.csv', 'few', shots=1)
    found = numbers_of(run)
    assert found['data']['images']['train'] < 4
    assert mmclip.load(run.path).predict(place / '0.png').names


def test_an_interval_holds_what_many_images_give():
    """Of guesses, whose precision bootstrap samples overestimate."""
    held = []
    for seed in range(40):
        random = torch.Generator().manual_seed(seed)
        targets = torch.rand(60, 4, generator=random) < 0.2
        scores = torch.rand(60, 4, generator=random)
        found, _ = measure(scores, targets, seed)
        held.append(found['low'] <= 20 <= found['high'])
    assert np.mean(held) > 0.7


def test_without_mistakes_there_is_no_interval(place):
    """Bootstrap samples are then all alike, be there a thousand images."""
    rows = [(f'{i}.png', 'red|blue', 'train') for i in range(4)]
    rows += [('4.png', 'blue', 'train'), ('5.png', 'red|blue', 'val')]
    run = make(place, write(place / 'one.csv', rows), 'one')
    result = chosen(run)['val']
    assert result['mean_average_precision'] == 100
    assert result['low'] is result['high'] is None
    assert 'on 1 val images: **100.0 %**. The' in run.card.read_text()
    assert '<p class="lead">On 1 validation images' in run.report.read_text()


def entrant(noise: float) -> Entrant:
    """A classifier whose probabilities are labels with some noise."""
    random = torch.Generator().manual_seed(0)
    targets = torch.rand(60, 4, generator=random) < 0.3
    off = torch.randn(60, 4, generator=random)
    numbers, resampled = measure(targets + noise * off, targets, seed=0)
    return Entrant(None, {}, None, resampled, dict(val=numbers))


def test_methods_are_compared_on_the_same_samples():
    good, alike, bad = entrant(0.5), entrant(0.51), entrant(1.5)
    assert good.precision > alike.precision > bad.precision
    assert compare(good, alike) > 0.05
    assert compare(good, bad) == compare(bad, good) < 0.05
    assert compare(good, good) == 1
    # Each alone is too uncertain for that.
    middle = entrant(0.62)
    assert compare(good, middle) < 0.05
    assert good.numbers['val']['low'] < middle.numbers['val']['high']


@pytest.mark.parametrize(
    'settings, message',
    [
        (dict(recipe='full'), '--recipe full is for images with one label'),
        (dict(method='prolip'), '--method must be one of zero_shot, nearest'),
        (dict(also_test=['x']), '--also-test is for images with one label'),
    ],
)
def test_what_is_for_one_label_is_refused(place, settings, message):
    with pytest.raises(ArgumentError, match=message):
        make(place, place / 'table.csv', 'refused', **settings)
    assert not (place / 'refused').exists()


def test_validation_images_without_a_label_measure_nothing(place):
    rows = [('0.png', 'red|blue', 'train'), ('1.png', '', 'val')]
    table = write(place / 'none.csv', rows)
    with pytest.raises(DataError, match='No val image has a label'):
        make(place, table, 'refused')

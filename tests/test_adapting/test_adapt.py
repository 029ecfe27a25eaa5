import csv
import re
from unittest.mock import Mock

import pytest
import torch
import yaml

import mmclip
from mmclip.adapting.run_files.run_folder import RunFolder
from mmclip.commands import test as test_command
from mmclip.errors import DataError


def chosen(run: RunFolder) -> dict:
    numbers = run.read_metrics()
    return next(
        m for m in numbers['methods'] if m['name'] == numbers['chosen']
    )


def test_every_method_takes_part(run):
    names = [method['name'] for method in run.read_metrics()['methods']]
    assert names == [
        'zero_shot',
        'nearest_neighbours',
        'linear_probe',
        'text_probe',
        'tip_adapter',
        'tip_adapter_f',
        'lp_plus_plus',
        'prolip',
    ]


def test_colours_are_learned(run):
    assert chosen(run)['val']['accuracy'] == 100


def test_the_ordinary_runner_finds_the_same_accuracy(run, capsys, tmp_path):
    code = test_command.main(
        [str(run.config), str(run.model), f'--work-dir={tmp_path}']
    )
    assert code == 0
    found = re.search(r'accuracy/top1: ([\d.]+)', capsys.readouterr().out)
    assert float(found[1]) == chosen(run)['val']['accuracy']


def test_loaded_again_it_gives_the_written_predictions(run):
    model = mmclip.load(run.path)
    with open(run.predictions) as file:
        rows = list(csv.DictReader(file))
    root = run.read_metrics()['data']['root']
    answers = model.predict([f'{root}/{row["path"]}' for row in rows])
    assert [a.name for a in answers] == [row['prediction'] for row in rows]
    written = torch.tensor([float(row['probability']) for row in rows])
    found = torch.tensor([answer.probability for answer in answers])
    torch.testing.assert_close(found, written, rtol=0, atol=6e-5)


@pytest.mark.parametrize(
    'name', ['model', 'config', 'classes', 'split', 'report']
)
def test_what_stays(run, name):
    assert getattr(run, name).is_file()


def test_the_card_has_the_call_that_makes_the_run_again(run):
    call = run.card.read_text().split('```python')[-1].split('```')[0]
    mmclip = Mock()
    eval(call.strip(), dict(mmclip=mmclip))
    assert mmclip.adapt.call_args.args == (run.read_metrics()['data']['root'],)
    assert mmclip.adapt.call_args.kwargs == dict(
        out=str(run.path),
        model=str(run.path.parent / 'clip'),
        templates=['a photo of {}'],
        also_test=[str(run.path.parent / 'swapped')],
    )


def test_another_folder_is_measured_and_chooses_nothing(run):
    """Red and blue are swapped there, so what has learned them is wrong."""
    measured = chosen(run)['also']['swapped']
    assert measured['accuracy'] == pytest.approx(100 / 3)
    assert measured['images'] == 24


def test_the_card_has_the_other_folder(run):
    text = run.card.read_text()
    head, *rows = [li for li in text.splitlines() if li.startswith('|')]
    assert head.split('|')[-2].strip() == 'swapped'
    titles = [row.split('|')[1].strip() for row in rows]
    row = rows[titles.index(chosen(run)['title'])]
    assert row.split('|')[-2].strip().startswith('33.3 (')
    assert 'On swapped, 24 images that had no part in any choice: 33.3 (' in (
        text
    )
    about = yaml.safe_load(text.split('---')[1])
    results = about['model-index'][0]['results']
    assert [r['dataset']['name'] for r in results] == ['run', 'swapped']
    assert results[1]['metrics'][0]['value'] == pytest.approx(1 / 3, abs=1e-4)


def test_another_folder_has_the_same_classes(run, tmp_path):
    (tmp_path / 'other' / 'yellow').mkdir(parents=True)
    with pytest.raises(DataError, match=r'only in folder: .*yellow'):
        mmclip.adapt(
            run.path.parent / 'photos',
            tmp_path / 'run',
            also_test=tmp_path / 'other',
        )

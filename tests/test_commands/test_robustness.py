"""tools/evaluate_robustness.py, on tiny trees in the published layouts."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.registry import MODELS, init_default_scope
from mmpretrain.datasets.categories import IMAGENET_CATEGORIES

from mmclip.commands.robustness import main
from tests.shift_trees import write_images, write_objectnet
from tests.test_commands.conftest import TOOLS
from tests.test_commands.weights import write_random

TOOL = TOOLS / 'evaluate_robustness.py'
PLACES = {
    'imagenet/val': [
        'n01440764/ILSVRC2012_val_00000293.JPEG',
        'n01443537/ILSVRC2012_val_00000236.JPEG',
        'n02129604/ILSVRC2012_val_00000002.JPEG',
        'n07749582/ILSVRC2012_val_00000003.JPEG',
    ],
    'imagenetv2-matched-frequency-format-val': ['2/a.jpeg', '10/b.jpeg'],
    'imagenet-r': ['n01443537/art_0.jpg', 'n01443537/art_1.jpg'],
    'imagenet-a': ['n01498041/0.01_x.jpg', 'n07749582/0.02_y.jpg'],
    'sketch': ['n01440764/sketch_0.JPEG'],
}


@pytest.fixture
def model(project: Path) -> Path:
    """``config.py`` with a head of 1000 classes, and ``model.pth``."""
    with open(project / 'config.py', 'a') as config:
        config.write(
            "resize = dict(type='Resize', scale=(32, 32))\n"
            'loader.update(batch_size=2, num_workers=0)\n'
            "loader['dataset'].update(\n"
            "    type='mmclip.ImageNet', data_root='nowhere', split='val',\n"
            '    pipeline=[pipeline[0], resize, pipeline[1]])\n'
            "model['head'].update(num_classes=1000)\n"
            "model['data_preprocessor'].update(num_classes=1000)\n"
        )
    write_checkpoint(project)
    return project


@pytest.fixture
def evaluate(model, call):
    """Call the command in this process, with all data sets there."""
    write_data(model / 'data')

    def _evaluate(*arguments):
        return call(main, 'config.py', 'model.pth', *arguments)

    return _evaluate


@pytest.fixture
def said(project, exit_message):
    """What the command says where it goes wrong."""
    write_data(project / 'data')

    def _said(*arguments):
        return exit_message(main, *arguments)

    return _said


def write_checkpoint(project: Path) -> None:
    """A model for which any image is most likely of class 0, then 1, ..."""
    cfg = Config.fromfile(project / 'config.py')
    init_default_scope('mmpretrain')
    model = MODELS.build(cfg.model)
    model.head.fc.weight.data.zero_()
    model.head.fc.bias.data = -torch.arange(1000) / 100
    torch.save(dict(state_dict=model.state_dict()), project / 'model.pth')


def write_data(root: Path) -> None:
    for folder, names in PLACES.items():
        write_images(root / folder, *names)
    write_objectnet(root / 'objectnet-1.0')


def write_tables(folder: Path) -> Path:
    """Tables of standard models, in which the shift halves the odds."""
    folder.mkdir()
    for name in ('-a-clean', '-a', '-r-clean', '-r', ''):
        write_table(folder / f'results-imagenet{name}.csv', name)
    write_table(folder / 'results-imagenetv2-matched-frequency.csv', 'v2')
    write_table(folder / 'results-sketch.csv', 'sketch')
    return folder


def write_table(path: Path, name: str) -> None:
    odds = np.array([0.01, 1, 5])
    if 'clean' not in name and name:
        odds = odds / 2
    top1 = 100 * odds / (1 + odds)
    rows = [f'vit_{i}.a1_in1k,{value}' for i, value in enumerate(top1)]
    path.write_text('\n'.join(['model,top1', *rows]) + '\n')


def test_everything_that_is_there_is_evaluated(model, evaluate):
    tables = write_tables(model / 'results')
    log = evaluate('--baseline', tables, '--out', 'out').out
    assert log.endswith('wrote out/plot.png (the plot)\n')

    report = json.loads((model / 'out' / 'table.json').read_text())
    sizes = {
        name: (s['images'], s['classes'], s['found'])
        for name, s in report['sets'].items()
    }
    assert sizes == {
        'imagenet': (4, 1000, 4),
        'imagenet-real': (3, 1000, 4),  # to one image ReaL gives no label
        'imagenetv2-matched-frequency': (2, 1000, 2),
        'imagenet-r': (2, 200, 1),
        'imagenet-a': (2, 200, 2),
        'imagenet-sketch': (1, 1000, 1),
        'objectnet': (6, 6, 6),
    }
    assert list(report['not_found']) == [
        'imagenetv2-threshold0.7',
        'imagenetv2-top-images',
    ]
    assert 'data/imagenetv2-top-images-format-val' in log
    assert 'baseline of imagenet-r: 3 models, correlation 1.000' in log
    assert log.count('Load checkpoint from model.pth') == 1
    assert (model / 'out' / 'table.md').read_text() in log
    assert (model / 'out' / 'plot.png').stat().st_size > 1000

    def column(name: str) -> list[float | None]:
        sets = report['sets'].values()
        return [s[name] and round(s[name], 1) for s in sets]

    # Of R the best is 1, of A 6, of the objects the alarm clock: whatever the
    # other classes score.
    assert column('top1') == [25, 33.3, 0, 100, 50, 100, 16.7]
    assert column('top5') == [50, 33.3, 50, 100, 50, 100, 83.3]
    # ImageNet's images of the classes of R are three, of A and ObjectNet one.
    assert column('imagenet') == [None, None, 25, 33.3, 0, 25, 0]
    assert column('difference') == [None, None, -25, 66.7, 50, 75, 16.7]
    # 25 % is odds of 1 to 3; 1 to 6 is 14.3 %. 33.3 %, 1 to 2; 1 to 4, 20 %.
    assert column('predicted') == [None, None, 14.3, 20, 0, 14.3, None]
    assert column('effective_robustness') == [
        *(None, None, -14.3, 80, 50, 85.7, None)
    ]


def test_only_the_sets_that_are_asked_for_with_a_zero_shot_head(
    model, evaluate
):
    head = 'model.head.type=mmclip.ZeroShotClsHead'
    options = ['--datasets', 'imagenet-r', '--cfg-options', head]
    log = evaluate(*options).out
    folder = model / 'work_dirs' / 'config' / 'robustness'
    (sets,) = json.loads((folder / 'table.json').read_text())['sets'].items()
    assert sets[0] == 'imagenet-r'
    assert sets[1]['top1'] == 100
    assert sets[1]['imagenet'] is None  # ImageNet was not asked for
    assert 'not found' not in log


def test_a_set_that_was_asked_for_must_be_there(model, call):
    names = ['--datasets', 'imagenet-r', 'imagenet']
    result = call(main, 'config.py', 'model.pth', *names)
    first, *looked = result.err.splitlines()
    assert first.startswith('error: data does not have imagenet, imagenet-r.')
    assert looked[0].endswith(', nowhere/val')  # the config's own test set
    assert (
        looked[1]
        == '  imagenet-r: data/imagenet-r/imagenet-r, data/imagenet-r'
    )
    assert (result.code, result.out) == (1, '')


def test_a_table_that_exists_is_kept_without_force(model, said):
    (model / 'out').mkdir()
    (model / 'out' / 'table.md').write_text('mine')
    assert said('config.py', 'config.py', '--out', 'out') == (
        'error: out/table.md exists; pass --force to overwrite it.'
    )


def test_a_head_of_other_classes_is_refused(project, said):
    write_random(project, 'x.pth', 0)
    message = said('config.py', 'x.pth')
    assert message.startswith('error: The head of this model (LinearClsHead)')
    assert 'has 3 classes' in message
    assert 'model.head.num_classes=1000' in message


def test_a_checkpoint_that_does_not_fit_stops_it(model, said):
    """Also where no hook of the config looks at what is loaded."""
    tensors = torch.load(model / 'model.pth')['state_dict']
    del tensors['backbone.ln1.bias']
    torch.save(dict(state_dict=tensors), model / 'x.pth')
    with open(model / 'config.py', 'a') as config:
        config.write('default_hooks = dict(strict_load=None)\n')
    message = said('config.py', 'x.pth')
    assert message.startswith('error: x.pth: The weights do not fit the model')
    assert 'backbone.ln1.bias' in message


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (['missing.py', 'model.pth'], 'missing.py does not exist'),
        (['config.py', 'missing.pth'], 'missing.pth does not exist'),
        (
            ['no_test.py', 'model.pth'],
            'no_test.py has no model and no test_dataloader',
        ),
        (
            ['config.py', 'config.py', '--out', 'config.py/out'],
            'config.py/out cannot be written to',
        ),
        (
            ['config.py', 'model.pth', '--baseline', 'images'],
            'images/results-imagenet.csv is missing',
        ),
        (
            ['config.py', 'model.pth', '--cfg-options', 'test_dataloder.a=1'],
            "'test_dataloder' (did you mean 'test_dataloader'?)",
        ),
        (
            ['config.py', 'model.pth', '--data-root', 'missing'],
            'Give the folder with one folder per data set',
        ),
    ],
)
def test_what_is_wrong_is_one_sentence(model, said, arguments, message):
    (model / 'no_test.py').write_text('train_cfg = None\n')
    assert message in said(*arguments)


@pytest.mark.slow
def test_two_processes_count_every_image_once(model, run):
    write_data(model / 'data')
    line = (TOOL, 'config.py', 'model.pth', '--out')
    run(*line, 'one')
    run(*line, 'two', '--launcher', 'pytorch', ranks=2)
    tables = [(model / n / 'table.md').read_text() for n in ('one', 'two')]
    assert tables[0] == tables[1]


def test_classes_in_another_order_are_refused(model, said):
    one, other, *more = IMAGENET_CATEGORIES
    checkpoint = torch.load(model / 'model.pth')
    checkpoint['meta'] = dict(dataset_meta=dict(classes=[other, one, *more]))
    torch.save(checkpoint, model / 'x.pth')
    message = said('config.py', 'x.pth')
    assert 'error: The classes of the test set and of the check' in message

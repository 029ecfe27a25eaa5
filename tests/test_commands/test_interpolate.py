"""WiSE-FT's curve, from random weights and a few images."""

import json
import re
import shlex
import shutil
from collections import Counter

import pytest
import torch
from mmengine.config import Config
from mmengine.dataset import BaseDataset
from mmengine.runner import Runner

from mmclip.averaging import weight_space
from mmclip.checkpoint import read_checkpoint
from mmclip.commands.interpolate import main
from mmclip.datasets.shifts import imagenet_synsets
from tests.conftest import REPOSITORY
from tests.test_commands.test_robustness import write_data
from tests.test_commands.weights import (
    CLASSES,
    load_in_this_process,
    write_random,
)
from tools.demo.run import ways

ENDS = ('zero_shot.pth', 'fine_tuned.pth')
SHIFTED = ('--eval', 'shifted', 'dataset.data_root=shifted')


@pytest.fixture
def ends(project):
    """Both ends, and a second data set: half of the images."""
    load_in_this_process(project)
    shutil.copytree(project / 'images', project / 'shifted')
    for path in sorted(project.glob('shifted/*/*.png'))[::2]:
        path.unlink()
    return [write_random(project, name, i) for i, name in enumerate(ENDS)]


@pytest.fixture
def curve(ends, call):
    """Call the command in this process; returns all that is printed."""

    def _curve(*arguments):
        result = call(main, *ENDS, '--config', 'config.py', *arguments)
        return result.out + result.err

    return _curve


def accuracy(project, checkpoint: str, data_root: str) -> float:
    """As tools/test.py gets it."""
    cfg = Config.fromfile(project / 'config.py')
    cfg.test_dataloader.dataset.data_root = str(project / data_root)
    cfg.load_from = str(project / checkpoint)
    cfg.work_dir = str(project / 'reference')
    cfg.experiment_name = f'{project.name}-{checkpoint}-{data_root}'
    return Runner.from_cfg(cfg).test()['accuracy/top1']


def test_the_curve_and_the_chosen_weights(project, curve, ends):
    line = [*SHIFTED, '--alphas', '0:1:0.25']
    printed = curve(*line, '--choose', '0.3', '--out', 'out.pth')
    assert 'wrote out.pth (the weights at alpha 0.3)\n' in printed

    folder = project / 'work_dirs' / 'config' / 'interpolation'
    content = json.loads((folder / 'curve.json').read_text())
    scores = {p['alpha']: p['scores'] for p in content['curve']}
    assert list(scores) == [0, 0.25, 0.3, 0.5, 0.75, 1]
    assert (folder / 'table.md').read_text() in printed
    assert (folder / 'curve.png').is_file()
    for alpha, name, data_set, root in (
        (0, ENDS[0], 'clean', 'images'),
        (0.3, 'out.pth', 'clean', 'images'),
        (0.3, 'out.pth', 'shifted', 'shifted'),
        (1, ENDS[1], 'shifted', 'shifted'),
    ):
        wanted = accuracy(project, name, root)
        assert scores[alpha][data_set] == pytest.approx(wanted)
    assert len({score['clean'] for score in scores.values()}) > 1

    out = read_checkpoint(project / 'out.pth')
    assert out['meta']['averaged'] == dict(zip(ENDS, (0.7, 0.3), strict=True))
    assert out['meta']['dataset_meta']['classes'] == CLASSES
    for key, tensor in out['state_dict'].items():
        wanted = 0.7 * ends[0][key] + 0.3 * ends[1][key]
        torch.testing.assert_close(tensor, wanted)
    assert not list(project.rglob('*0.25*'))  # no checkpoint but one


def test_images_are_loaded_once_for_as_many_alphas_as_memory_holds(
    project, curve, monkeypatch
):
    loaded = Counter()
    load = BaseDataset.__getitem__

    def count(self, index):
        loaded[index] += 1
        return load(self, index)

    monkeypatch.setattr(BaseDataset, '__getitem__', count)
    tables = []
    for memory, times in (weight_space.MEMORY, 1), (1, 5):
        monkeypatch.setattr(weight_space, 'MEMORY', memory)
        loaded.clear()
        curve('--alphas', '0:1:0.25', '--work-dir', f'in_{memory}')
        tables.append((project / f'in_{memory}' / 'table.md').read_text())
        assert set(loaded.values()) == {times}
    assert tables[0] == tables[1]


def test_choosing_the_best_on_a_data_set_of_another_config(project, curve):
    (project / 'other.py').write_text(
        "_base_ = ['config.py']\n"
        "test_dataloader = dict(dataset=dict(data_root='shifted'))\n"
    )
    printed = curve(
        *('--eval', 'held_out', 'other.py'),
        *('--alphas', '0,0.5,1', '--choose', 'best:held_out'),
        *('--work-dir', 'curve'),
    )
    content = json.loads((project / 'curve' / 'curve.json').read_text())
    held_out = {p['alpha']: p['scores']['held_out'] for p in content['curve']}
    assert held_out[content['chosen']] == max(held_out.values())
    assert held_out[0] == pytest.approx(accuracy(project, ENDS[0], 'shifted'))
    assert 'does not hold for new images' in printed


def test_the_docs_command_for_the_shifts_of_imagenet(project, curve):
    """From a config of ImageNet, with weights that look at no image."""
    for name in imagenet_synsets():
        (project / 'data' / 'imagenet' / 'val' / name).mkdir(parents=True)
    write_data(project / 'data')
    with open(project / 'config.py', 'a') as config:
        config.write(
            "resize = dict(type='Resize', scale=(32, 32))\n"
            "loader['dataset'].update(\n"
            "    type='mmclip.ImageNet', data_root='data/imagenet',\n"
            "    split='val', pipeline=[pipeline[0], resize, pipeline[1]])\n"
            "model['head'].update(num_classes=1000)\n"
            "model['data_preprocessor'].update(num_classes=1000)\n"
            "test_evaluator = dict(type='mmclip.SubsetAccuracy', topk=1)\n"
        )
    for name, order in zip(ENDS, (-1, 1), strict=True):
        weights = write_random(project, name, 0, classes=())
        weights['head.fc.weight'] = torch.zeros(1000, 32)
        weights['head.fc.bias'] = order * torch.arange(1000) / 100
        torch.save(dict(state_dict=weights), project / name)

    text = (REPOSITORY / 'docs' / 'weight_space.md').read_text()
    written = text.split("### ImageNet's shifts")[1].split('```')[1]
    words = shlex.split(written.replace('\\\n', ''))
    first, last = words.index('--eval'), words.index('--out')
    printed = curve(*words[first:last], '--alphas', '0,1', '--work-dir', 'out')
    assert 'note: --eval r: mmclip.ImageNetR takes only pipeline' in printed
    assert ', not split.' in printed
    points = json.loads((project / 'out' / 'curve.json').read_text())['curve']
    scores = {p['alpha']: p['scores'] for p in points}
    # The first of all classes, of R's, A's and the objects' at alpha 0.
    wanted = dict(clean=25, v2=0, r=100, a=50, sketch=100, objectnet=100 / 6)
    assert scores[0] == pytest.approx(wanted)
    assert scores[1]['r'] == 0


def test_ends_of_two_models_are_refused(project, curve):
    write_random(project, ENDS[1], 1, act='gelu')
    message = curve()
    assert 'cannot be averaged' in message
    assert "act: first 'quick_gelu', second 'gelu'" in message


def test_both_of_another_activation_than_the_config_are_refused(
    project, curve
):
    for seed, name in enumerate(ENDS):
        write_random(project, name, seed, act='gelu')
    message = curve()
    assert 'fine_tuned.pth is from another model' in message
    assert "act: checkpoint 'gelu', here 'quick_gelu'" in message


def test_classes_in_another_order_than_the_data_are_refused(project, curve):
    for seed, name in enumerate(ENDS):
        write_random(project, name, seed, classes=('red', 'green', 'blue'))
    message = curve()
    assert (
        'error: The classes of the test set and of the checkpoint' in message
    )
    assert "'blue' is number 0 in one and 2" in message


def test_a_data_set_that_lacks_a_class_is_refused(project, curve):
    shutil.rmtree(project / 'shifted' / 'green')
    assert 'have different classes' in curve(*SHIFTED)


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (
            ['--choose', 'best:shifted'],
            "no data set is called 'shifted', only clean.",
        ),
        (['--choose', '0.3,0.5'], 'the weights of one alpha'),
        (['--alphas', '0:2:1'], 'between 0 and 1'),
        (['--eval', 'clean', 'a=b'], 'different names'),
        (['--eval', 'shifted'], 'one or more KEY=VALUE'),
        (['--eval', 'shifted', 'missing.py'], 'missing.py does not exist'),
        (
            ['--eval', 'shifted', 'dataset.data_prefx=x'],
            'error: --eval shifted dataset.data_prefx=x: '
            "test_dataloader.dataset (CustomDataset) has no 'data_prefx' "
            "(did you mean 'data_prefix'?).",
        ),
        (
            ['--eval', 'shifted', 'dataset.pipeline.9.type=X'],
            '--eval shifted dataset.pipeline.9.type=X: Index 9 exceeds',
        ),
        (
            ['--eval', 'shifted', 'batch_size.x=1'],
            "--eval shifted batch_size.x=1: batch_size={'x': 1} in child",
        ),
        (['--eval', 'a', 'no_test.py'], 'no_test.py has no test_dataloader'),
        (['--cfg-options', 'test_dataloder.a=1'], "'test_dataloder' (did you"),
        (
            ['--eval', 'r', 'dataset.type=mmclip.ImageNetR'],
            "in 'images/': not a class folder of ImageNetR",
        ),
        (['--work-dir', 'config.py/x'], 'config.py/x cannot be written to'),
        (['--metric', 'top5'], "called 'top5'; it has: accuracy/top1"),
    ],
)
def test_what_is_wrong_is_named(project, curve, arguments, message):
    (project / 'no_test.py').write_text('train_cfg = None\n')
    assert message in curve(*arguments)


def test_one_file_under_two_names_is_refused(project, exit_message):
    line = ('zs.pth', './zs.pth', '--config', 'config.py')
    assert exit_message(main, *line) == 'error: Both checkpoints are zs.pth.'


def test_a_table_that_exists_is_kept_without_force(project, curve):
    (project / 'work').mkdir()
    (project / 'work' / 'table.md').write_text('mine')
    options = ('--alphas', '0,1', '--choose', '0', '--work-dir', 'work')
    said = curve(*options)
    assert 'work/table.md exists; pass --force to overwrite it.' in said
    assert 'wrote work/table.md' in curve(*options, '--force')


def test_the_docs_have_the_command_of_the_demo():
    text = (REPOSITORY / 'docs' / 'weight_space.md').read_text()
    blocks = re.findall(r'```shell\n(.*?)```', text, re.DOTALL)
    written = [shlex.split(block.replace('\\\n', '')) for block in blocks]
    commands = [c for _, group in ways(0, quick=False) for c in group]
    (wanted,) = [c for c in commands if 'tools/interpolate.py' in c]
    assert wanted in written

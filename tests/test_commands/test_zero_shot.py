"""The command, and what tools/test.py says of its result."""

import json

import open_clip
import pytest
import torch
from torchvision.datasets import ImageFolder

from mmclip.commands.zero_shot import main
from tests.conftest import save_whole_model
from tests.test_commands.conftest import TOOLS

CLASSES = ['blue', 'green', 'red']
TEMPLATE = 'something {}'
CONFIG = """
_base_ = ['config.py']
model = dict(
    backbone=dict(proj_dim=24),
    head=dict(
        _delete_=True,
        type='mmclip.ZeroShotClsHead',
        num_classes=3,
        in_channels=24,
    ),
)
"""


@pytest.fixture
def inputs(project):
    """A whole random model for the images of ``project``, and its texts."""
    save_whole_model(project)
    (project / 'names.txt').write_text('\n'.join(CLASSES))
    (project / 'texts.txt').write_text(TEMPLATE)
    (project / 'zero_shot.py').write_text(CONFIG)
    return project


def arguments(out):
    return (
        'open_clip_config.json',
        'open_clip_model.safetensors',
        out,
        '--classes',
        'names.txt',
        '--templates',
        'texts.txt',
    )


def test_its_accuracy_is_that_of_open_clip(inputs, call, run):
    report = call(main, *arguments('x.pth')).out
    assert '3 classes x 1 templates' in report
    assert report.endswith('next: mmclip test CONFIG x.pth\n')
    options = ('--out', 'metrics.json', '--out-item', 'metrics')
    run(TOOLS / 'test.py', 'zero_shot.py', 'x.pth', *options)
    ours = json.loads((inputs / 'metrics.json').read_text())
    assert ours['accuracy/top1'] == pytest.approx(
        accuracy_by_open_clip(inputs)
    )


def test_a_bare_model_config_will_do(inputs, call, exit_message):
    config = json.loads((inputs / 'open_clip_config.json').read_text())
    bare = config['model_cfg']
    (inputs / 'bare.json').write_text(json.dumps(bare))
    assert call(main, 'bare.json', *arguments('x.pth')[1:]).code == 0
    del bare['text_cfg']
    (inputs / 'bare.json').write_text(json.dumps(bare))
    said = exit_message(main, 'bare.json', *arguments('y.pth')[1:])
    assert said.startswith('error: bare.json does not describe a text tower.')


def accuracy_by_open_clip(folder):
    name = f'local-dir:{folder}'
    model, _, preprocess = open_clip.create_model_and_transforms(name)
    model.eval()
    classifier = open_clip.build_zero_shot_classifier(
        model, open_clip.get_tokenizer(name), CLASSES, [TEMPLATE]
    )
    images, labels = zip(
        *ImageFolder(str(folder / 'images'), preprocess), strict=True
    )
    with torch.no_grad():
        features = model.encode_image(torch.stack(images), normalize=True)
    right = (features @ classifier).argmax(1) == torch.tensor(labels)
    return 100 * right.float().mean().item()


def test_a_missing_file_of_names_is_said(inputs, exit_message):
    said = exit_message(main, *arguments('x.pth'), '--classes', 'no.txt')
    assert said == 'error: There is no text file no.txt.'
    assert not (inputs / 'x.pth').exists()


@pytest.mark.parametrize(
    ('model', 'template', 'message'),
    [
        (['ViT-B-16', 'openia'], 'a {}', 'openia'),
        (['ViT-B-61', 'openai'], 'a {}', 'ViT-B-61'),
        (['ViT-B-16', 'openai'], 'a {} of {x}', "template 'a {} of {x}'"),
    ],
)
def test_what_is_wrong_comes_before_any_note(
    tmp_path, call, model, template, message
):
    (tmp_path / 'names.txt').write_text('cat\ncat\n')
    (tmp_path / 'texts.txt').write_text(template)
    texts = ('--classes', 'names.txt', '--templates', 'texts.txt')
    result = call(main, *model, 'x.pth', *texts)
    assert message in result.err
    assert result.out == ''


@pytest.mark.parametrize(
    ('names', 'message'),
    [
        ('one two three', 'order of the folders: one, three, two'),
        ('One Two THREE', "'Two' is number 1 in one and 2 in the other"),
        ('one two', 'names.txt has 2 names, but images has 3 class folders'),
    ],
)
def test_names_in_another_order_than_the_folders_are_refused(
    tmp_path, exit_message, names, message
):
    for name in ('one', 'three', 'two', '.ipynb_checkpoints'):
        (tmp_path / 'images' / name).mkdir(parents=True)
    (tmp_path / 'names.txt').write_text('\n'.join(names.split()))
    model = ('ViT-B-16', 'openai', 'x.pth')
    texts = ('--classes', 'names.txt', '--data', 'images')
    assert message in exit_message(main, *model, *texts)

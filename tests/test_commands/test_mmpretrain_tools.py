"""mmpretrain's other tools on our configs and checkpoints, unmodified."""

import runpy
import sys

import matplotlib
import pytest
from mmpretrain import ImageClassificationInferencer

from mmclip.checkpoint import read_checkpoint
from tests.test_commands.conftest import MMPRETRAIN_TOOLS
from tests.test_commands.weights import CLASSES, write_random
from tests.test_engine.conftest import train

__all__ = ['train']  # a fixture


@pytest.fixture
def tool(project, monkeypatch):
    """Run one of mmpretrain's tools on the project, in this process."""
    monkeypatch.chdir(project)
    matplotlib.use('agg')

    def _tool(path, *args):
        monkeypatch.setattr(sys, 'argv', [path, *map(str, args)])
        runpy.run_path(str(MMPRETRAIN_TOOLS / path), run_name='__main__')

    return _tool


def test_verify_dataset_reads_with_our_loader(project, tool):
    with open(project / 'config.py', 'a') as config:
        config.write(
            "pipeline[0] = dict(type='LoadImageFromFile', _scope_='mmclip')\n"
        )
    image = project / 'images' / 'red' / '0.png'
    image.write_bytes(image.read_bytes()[:100])
    tool('misc/verify_dataset.py', 'config.py')
    broken = (project / 'brokenfiles.log').read_text()
    assert broken.splitlines() == ['images/red/0.png']


def test_vis_scheduler_draws_with_layer_decay(project, tool):
    with open(project / 'config.py', 'a') as config:
        config.write(
            'optim_wrapper.update(\n'
            "    constructor='mmclip.LayerDecayOptimWrapperConstructor')\n"
            "optim_wrapper['paramwise_cfg'].update(\n"
            '    custom_keys=dict(cls_token=dict(decay_mult=0.0)))\n'
        )
    tool(
        'visualization/vis_scheduler.py',
        'config.py',
        '--not-show',
        '--save-path',
        'lr.png',
    )
    assert (project / 'lr.png').stat().st_size > 0


def test_publish_model_takes_a_training_checkpoint(train, tool, project):
    train(epochs=1)
    tool('model_converters/publish_model.py', 'work/epoch_1.pth', 'out.pth')
    (published,) = project.glob('out_*.pth')
    assert 'optimizer' not in read_checkpoint(published)


def test_the_inferencer_takes_a_config_and_its_checkpoint(
    project, monkeypatch
):
    write_random(project, 'x.pth', 0)
    monkeypatch.chdir(project)
    infer = ImageClassificationInferencer('config.py', 'x.pth', device='cpu')
    (result,) = infer('images/red/0.png')
    assert result['pred_class'] == CLASSES[result['pred_label']]

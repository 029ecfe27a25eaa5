"""Tuned by FLYP with tools/train.py, tested as an ordinary classifier."""

import pytest
import torch

from mmclip.checkpoint import convert_source, read_checkpoint
from mmclip.commands.flyp_to_classifier import main
from tests.conftest import save_whole_model
from tests.test_commands.conftest import TOOLS

FLYP = """
_base_ = ['config.py']
backbone = _base_.model.backbone
backbone.update(
    proj_dim=24,
    init_cfg=dict(type='mmclip.PretrainedCLIP', checkpoint='tower.pth'))
model = dict(
    _delete_=True,
    type='mmclip.ContrastiveClassifier',
    data_preprocessor=_base_.model.data_preprocessor,
    backbone=backbone,
    text=dict(
        type='mmclip.OpenCLIPTextTower',
        model='open_clip_config.json',
        pretrained='open_clip_model.safetensors'),
    classes=['blue', 'green', 'red'],
    templates=['something {}', 'a {} thing'])
optim_wrapper = dict(
    _delete_=True, optimizer=dict(type='AdamW', lr=1e-3, weight_decay=0.1))
train_cfg = dict(max_epochs=1)
"""
ZERO_SHOT = """
_base_ = ['config.py']
model = dict(
    backbone=dict(proj_dim=24),
    head=dict(
        _delete_=True, type='mmclip.ZeroShotClsHead',
        num_classes=3, in_channels=24))
"""
CONVERTER = TOOLS / 'model_converters' / 'flyp_to_classifier.py'


@pytest.mark.slow
def test_the_classifier_predicts_what_the_tuned_model_predicts(project, run):
    save_whole_model(project)
    tower, _ = convert_source(
        str(project / 'open_clip_config.json'),
        str(project / 'open_clip_model.safetensors'),
    )
    torch.save(tower, project / 'tower.pth')
    (project / 'flyp.py').write_text(FLYP)
    (project / 'zero_shot.py').write_text(ZERO_SHOT)
    run(TOOLS / 'train.py', 'flyp.py', '--work-dir', 'work')
    tuned = read_checkpoint(project / 'work' / 'epoch_1.pth')['state_dict']
    key = 'backbone.proj'
    assert not torch.equal(tuned[key], tower['state_dict'][key])
    run(CONVERTER, 'flyp.py', 'work/epoch_1.pth', 'out.pth')
    clip = read_checkpoint(project / 'out.pth')['meta']['clip']
    assert clip['backbone']['act'] == 'quick_gelu'
    assert clip['head']['num_classes'] == 3
    scores = {}
    for config, checkpoint in (
        ('flyp.py', 'work/epoch_1.pth'),
        ('zero_shot.py', 'out.pth'),
    ):
        out = f'{config}.pkl'
        run(TOOLS / 'test.py', config, checkpoint, '--out', out)
        scores[config] = load_scores(project / out)
    torch.testing.assert_close(scores['flyp.py'], scores['zero_shot.py'])


def load_scores(path):
    from mmengine.fileio import load

    predictions = sorted(load(path), key=lambda p: p['img_path'])
    return torch.stack([p['pred_score'] for p in predictions])


def test_another_model_is_refused(project, exit_message):
    torch.save(dict(state_dict={}), project / 'x.pth')
    said = exit_message(main, 'config.py', 'x.pth', 'out.pth')
    assert 'mmclip.ContrastiveClassifier; got ImageClassifier' in said
    assert not (project / 'out.pth').exists()

"""The ordinary runner and the notebook give the same probabilities."""

import mmengine
import pytest
import torch

import mmclip
from mmclip.checkpoint.files.writing import write_checkpoint
from mmclip.commands import test as test_command
from tests.test_predicting.conftest import (
    ANSWERS,
    checkpoint,
    model_config,
    pipeline,
)


@pytest.fixture
def logits_of_runner(photos, model_path, tmp_path):
    """Logits up to a constant of each row, as tools/test.py has them."""
    data = dict(type='mmclip.ImageFolder', data_root=str(photos))
    cfg = mmengine.Config(
        dict(
            default_scope='mmpretrain',
            model=model_config(),
            test_dataloader=dict(
                batch_size=2,
                num_workers=0,
                dataset=dict(data, pipeline=pipeline(), with_label=False),
                sampler=dict(type='DefaultSampler', shuffle=False),
            ),
            test_evaluator=[],
            test_cfg=dict(),
            work_dir=str(tmp_path / 'work'),
        )
    )
    cfg.dump(tmp_path / 'config.py')
    out = tmp_path / 'out.pkl'
    code = test_command.main(
        [str(tmp_path / 'config.py'), str(model_path), f'--out={out}']
    )
    assert code == 0
    return torch.stack([p['pred_score'] for p in mmengine.load(out)]).log()


def test_probabilities_are_those_of_the_runner(
    logits_of_runner, model, photos
):
    expected = (logits_of_runner / ANSWERS['temperature']).softmax(dim=1)
    found = model.predict_folder(photos).probabilities
    torch.testing.assert_close(found, expected, rtol=2e-5, atol=0)


@pytest.mark.parametrize(
    'change',
    [
        lambda clip: clip['answers'].update(temperature=2.6),
        lambda clip: clip['preprocess'].update(interpolation='bilinear'),
        lambda clip: clip['preprocess'].update(resize_mode='squash'),
        lambda clip: clip['backbone'].update(act='gelu'),
    ],
    ids=['temperature', 'interpolation', 'resize_mode', 'act'],
)
def test_another_description_would_give_others(
    logits_of_runner, photos, tmp_path, change
):
    content = checkpoint()
    change(content['meta']['clip'])
    write_checkpoint(content, tmp_path / 'other.pth')
    other = mmclip.load(tmp_path / 'other.pth', device='cpu')
    expected = (logits_of_runner / ANSWERS['temperature']).softmax(dim=1)
    found = other.predict_folder(photos).probabilities
    assert not torch.allclose(found, expected, rtol=1e-4, atol=0)

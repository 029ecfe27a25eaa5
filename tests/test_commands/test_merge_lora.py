"""Training with LoRA, resuming, testing, merging and exporting, for real."""

import json

import pytest
from safetensors.torch import load_file

from mmclip.checkpoint import read_checkpoint
from mmclip.commands.merge_lora import main
from tests.test_checkpoint.lora import write_tower
from tests.test_commands.conftest import TOOLS

CONVERTERS = TOOLS / 'model_converters'
TOOL = CONVERTERS / 'merge_lora.py'
CONFIG = """
_base_ = ['config.py']
model = dict(
    backbone=dict(
        _delete_=True,
        type='mmclip.LoRAModel',
        module=dict(
            type='mmclip.CLIPVisionTransformer',
            arch=dict(width=32, depth=2, num_heads=2, mlp_width=96),
            act='quick_gelu',
            img_size=32,
            patch_size=8,
            init_cfg=dict(
                type='mmclip.PretrainedCLIP', checkpoint='tower.pth'
            ),
        ),
        alpha=8,
        rank=4,
        targets=[dict(type='attn.qkv')],
    ),
)
optim_wrapper = dict(
    _delete_=True, optimizer=dict(type='AdamW', lr=1e-2)
)
"""


@pytest.fixture
def trained(project, run):
    """Trained with LoRA for two epochs, resumed for a third."""
    write_tower(project / 'tower.pth')
    (project / 'lora.py').write_text(CONFIG)
    train = (TOOLS / 'train.py', 'lora.py', '--work-dir', 'work')
    run(*train)
    log = run(
        *train, '--resume', '--cfg-options', 'train_cfg.max_epochs=3'
    ).stdout
    assert 'resumed epoch: 2' in log
    return project


def accuracy(run, project, *arguments):
    """What tools/test.py measures."""
    out = ('--out', 'metrics.json', '--out-item', 'metrics', '--force')
    run(TOOLS / 'test.py', *arguments, *out)
    return json.loads((project / 'metrics.json').read_text())['accuracy/top1']


@pytest.mark.slow
def test_train_resume_test_merge_and_export(trained, run):
    checkpoint = 'work/epoch_3.pth'
    saved = read_checkpoint(trained / checkpoint)
    keys = saved['state_dict']
    assert all('.lora_' in k or k.startswith('head.') for k in keys)
    assert saved['ema_state_dict']['steps'] == 9  # of 3 epochs
    log = run(TOOL, 'lora.py', checkpoint, 'merged.pth').stdout
    assert f'next: python {TOOLS}/test.py merged.py merged.pth' in log
    assert accuracy(run, trained, 'merged.py', 'merged.pth') == accuracy(
        run, trained, 'lora.py', checkpoint
    )
    export = CONVERTERS / 'mmcls_to_openclip.py'
    run(export, 'merged.pth', 'timm.safetensors', '--to', 'timm')
    assert 'blocks.0.attn.qkv.weight' in load_file(
        trained / 'timm.safetensors'
    )


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (('config.py', 'tower.pth', 'x.pth'), 'is not a LoRAModel'),
        (('config.py', 'missing.pth', 'x.pth'), 'missing.pth does not exist'),
        (('missing.py', 'tower.pth', 'x.pth'), 'missing.py does not exist'),
    ],
)
def test_errors_are_one_sentence_and_leave_no_file(
    project, exit_message, arguments, message
):
    write_tower(project / 'tower.pth')
    assert message in exit_message(main, *arguments)
    assert not (project / 'x.pth').exists()

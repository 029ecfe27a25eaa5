"""tools/test.py, and mmpretrain's own, on real files."""

import json

import pytest
import timm
import torch
from mmengine.config import Config
from safetensors.torch import save_file

from mmclip.commands import train
from mmclip.commands.test import main
from mmclip.evaluation.test_time_augmentation import (
    use_test_time_augmentation,
)
from tests.conftest import put_into_hub_cache, use_hub_cache
from tests.processes import free_port
from tests.test_checkpoint.conftest import shrink_timm
from tests.test_commands.conftest import TOOL_SETS, TOOLS
from tests.test_commands.weights import load_in_this_process, write_random


@TOOL_SETS
def test_weights_that_do_not_fit_stop_the_test(project, run, tools):
    weights = {f'other.{i}': torch.zeros(1) for i in range(500)}
    torch.save(dict(state_dict=weights), project / 'x.pth')
    log = run(tools / 'test.py', 'config.py', 'x.pth', fails=True).stdout
    assert 'The checkpoint does not fit the model' in log
    assert 'backbone.cls_token' in log
    assert 'other.0' in log
    assert 'other.499' not in log
    assert tools != TOOLS or 'Traceback' not in log


@TOOL_SETS
def test_malicious_checkpoints_are_not_run(evil, project, run, tools):
    line = (tools / 'test.py', 'config.py', evil)
    log = run(*line, fails=True, TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD='1').stdout
    assert 'mkdir' in log
    assert not (project / 'witness').exists()


@pytest.mark.parametrize('option', ['--out', '--show-dir'])
def test_results_that_cannot_be_written_stop_the_test(
    project, exit_message, option
):
    line = ('config.py', 'config.py', option, 'config.py/x/out.pkl')
    said = exit_message(main, *line)
    assert said.startswith('error: config.py/x')
    assert 'cannot be written to (Not a directory)' in said


@pytest.mark.parametrize(
    ('options', 'said'),
    [
        (
            '--out m.json',
            'm.json must end in .pkl or .pickle, or be for '
            'metrics: --out-item metrics',
        ),
        ('--out m.txt --out-item metrics', 'm.txt must end in .json or '),
        ('--out-item metrics', '--out-item needs --out'),
        ('--show-dir x --interval 0', '0 is not above 0'),
    ],
)
def test_wrong_usage_is_one_sentence(call, options, said):
    result = call(main, 'no.py', 'no.pth', *options.split())
    assert result.code == 2
    assert said in result.err.splitlines()[0]


def test_test_time_augmentation_pictures_and_predictions(project, run):
    write_random(project, 'x.pth', 0)
    line = (TOOLS / 'test.py', 'config.py', 'x.pth')
    log = run(*line, '--tta', '--amp', '--out', 'predictions.pkl').stdout
    assert log.endswith('\nwrote predictions.pkl (predictions)\n')
    assert (project / 'predictions.pkl').is_file()
    log = run(*line, '--show-dir', 'pictures').stdout
    assert log.endswith('\nwrote pictures (pictures of predictions)\n')
    assert list(project.rglob('pictures/*.png'))


def test_tta_of_other_packages_is_not_made_up():
    cfg = Config(
        dict(
            default_scope='mmseg',
            test_dataloader=dict(dataset=dict(type='ADE20KDataset')),
            tta_model=dict(type='SegTTAModel'),
        )
    )
    with pytest.raises(ValueError, match='--tta needs tta_pipeline in'):
        use_test_time_augmentation(cfg)


@pytest.mark.slow
def test_two_processes_measure_what_one_does_and_one_of_them_writes_it(
    project, run
):
    """With --tta, on eleven images: both processes get six, one twice.

    The weights are as EMAHook saves them: the averages are the state_dict.
    """
    (project / 'images' / 'red' / '3.png').unlink()
    others = write_random(project, 'x.pth', 1)
    ema = {f'module.{key}': tensor for key, tensor in others.items()}
    write_random(
        project, 'x.pth', 0, ema_state_dict=dict(ema, steps=torch.tensor(1))
    )
    load_in_this_process(project)
    # Each process works in a folder of its own, so that both could write;
    # in one that they share, mmengine collects what they predict.
    for name in ('alone', '0', '1'):
        (project / name).mkdir()
        (project / name / '.dist_test').symlink_to(project / 'shared')
    (project / 'shared').mkdir()
    (project / 'apart.py').write_text(
        f"""
_base_ = ['config.py']
import os
import signal
os.chdir({str(project)!r} + '/' + os.environ.get('RANK', 'alone'))
test_dataloader = dict(dataset=dict(data_root={str(project / 'images')!r}))
"""
    )
    out = ('--out', 'metrics.json', '--out-item', 'metrics')
    files = (project / 'apart.py', project / 'x.pth')
    no_hook = ('--cfg-options', 'custom_hooks=[]')
    run(TOOLS / 'test.py', *files, '--tta', *out, *no_hook)
    dist_test = TOOLS / 'dist_test.sh'
    run(dist_test, *files, 2, '--tta', *out, PORT=free_port())
    alone, first = (
        json.loads((project / name / 'metrics.json').read_text())
        for name in ('alone', '0')
    )
    assert first == alone
    assert 0 < alone['accuracy/top1'] < 100
    assert (project / '1' / 'work_dirs').is_dir()
    assert not (project / '1' / 'metrics.json').exists()


def test_a_classifier_of_timm_without_converting(project, call, monkeypatch):
    """timm://NAME.TAG as CHECKPOINT and as load_from, of two narrow blocks."""
    name = 'vit_base_patch32_clip_224.laion2b_ft_in12k_in1k'
    folder = put_into_hub_cache(project / 'hub', f'timm/{name}')
    use_hub_cache(monkeypatch, project / 'hub')
    shrink_timm(monkeypatch)
    weights = timm.create_model(name).state_dict()
    save_file(weights, folder / 'model.safetensors')
    load_in_this_process(project)
    (project / 'timm_config.py').write_text(
        """
_base_ = ['config.py']
pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='Resize', scale=(224, 224)),
    dict(type='PackInputs'),
]
for_all = dict(dataset=dict(pipeline=pipeline))
train_dataloader = val_dataloader = test_dataloader = for_all
model = dict(
    backbone=dict(
        arch=dict(width=64, mlp_width=128),
        act='gelu',
        img_size=224,
        patch_size=32,
    ),
    head=dict(num_classes=1000, in_channels=64),
    data_preprocessor=dict(num_classes=1000),
)
train_cfg = dict(max_epochs=1)
# The images stand in for ImageNet: three of its thousand classes.
default_hooks = dict(check_classes=None)
"""
    )
    result = call(main, 'timm_config.py', f'timm://{name}')
    assert 'accuracy/top1' in result.out + result.err
    option = ('--cfg-options', f'load_from=timm://{name}')
    result = call(train.main, 'timm_config.py', *option)
    log = result.out + result.err
    assert result.code == 0, log
    assert f'Load checkpoint from timm://{name}' in log
    assert 'accuracy/top1' in log

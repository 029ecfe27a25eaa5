"""tools/train.py and tools/test.py, and mmpretrain's own, on real files."""

import json
import os
import signal
from pathlib import Path
from types import SimpleNamespace

import mmpretrain
import pytest
import timm
import torch
from mmengine.config import Config, ConfigDict
from mmengine.runner import Runner
from safetensors.torch import save_file

from mmclip.checkpoint import read_checkpoint
from mmclip.commands import test, train
from mmclip.engine import InterruptHook
from mmclip.engine.config.train_options import (
    use_mixed_precision,
    use_new_schedule,
)
from mmclip.engine.resume.signals import STOPPING
from mmclip.evaluation.test_time_augmentation import (
    use_test_time_augmentation,
)
from tests.conftest import put_into_hub_cache
from tests.test_commands.conftest import TOOLS
from tests.test_commands.weights import load_in_this_process, write_random

MMPRETRAIN_TOOLS = Path(mmpretrain.__file__).parent / '.mim' / 'tools'
TOOL_SETS = pytest.mark.parametrize(
    'tools', [TOOLS, MMPRETRAIN_TOOLS], ids=['mmclip', 'mmpretrain']
)


def weights(project: Path, name: str) -> dict[str, torch.Tensor]:
    return read_checkpoint(project / name)['state_dict']


@TOOL_SETS
def test_train_resume_and_test(project, run, tools):
    run(tools / 'train.py', 'config.py', '--work-dir', 'work')
    assert (project / 'work' / 'epoch_2.pth').is_file()
    options = ['--resume-with-new-schedule', '--cfg-options']
    if tools == MMPRETRAIN_TOOLS:
        options = ['--resume', '--cfg-options']
        options += ['default_hooks.exact_resume.new_schedule=True']
    log = run(
        tools / 'train.py',
        'config.py',
        '--work-dir',
        'work',
        *options,
        'train_cfg.max_epochs=3',
        'optim_wrapper.optimizer.lr=5e-4',
    ).stdout
    assert 'resumed epoch: 2' in log
    assert 'Epoch(train) [1]' not in log
    assert 'optim_wrapper.optimizer.lr was 0.001 and is 0.0005' in log
    checkpoint = read_checkpoint(project / 'work' / 'epoch_3.pth')
    groups = checkpoint['optimizer']['param_groups']
    assert max(group['initial_lr'] for group in groups) == 5e-4
    del checkpoint['optimizer']  # as the best checkpoint has none
    torch.save(checkpoint, project / 'weights.pth')
    run(
        tools / 'test.py',
        # The run's own config says resume=True.
        'work/config.py' if tools == TOOLS else 'config.py',
        'weights.pth',
        '--out',
        'metrics.json',
        '--out-item',
        'metrics',
    )
    metrics = json.loads((project / 'metrics.json').read_text())
    assert 0 <= metrics['accuracy/top1'] <= 100


def test_both_sets_of_tools_train_the_same_weights(project, run):
    for name, tools in (('ours', TOOLS), ('theirs', MMPRETRAIN_TOOLS)):
        run(tools / 'train.py', 'config.py', '--work-dir', name)
    torch.testing.assert_close(
        weights(project, 'ours/epoch_2.pth'),
        weights(project, 'theirs/epoch_2.pth'),
        rtol=0,
        atol=0,
    )


def test_training_learns(project, run):
    log = run(
        TOOLS / 'train.py',
        'config.py',
        '--cfg-options',
        'train_cfg.max_epochs=20',
        'param_scheduler.T_max=20',
        'optim_wrapper.optimizer.lr=5e-3',
    ).stdout
    assert 'accuracy/top1: 100.0000' in log


@TOOL_SETS
def test_weights_that_do_not_fit_stop_the_test(project, run, tools):
    torch.save(
        dict(state_dict=dict(nothing=torch.zeros(1))), project / 'x.pth'
    )
    log = run(tools / 'test.py', 'config.py', 'x.pth', fails=True).stdout
    assert 'The checkpoint does not fit the model' in log
    assert 'backbone.cls_token' in log
    assert tools != TOOLS or 'Traceback' not in log


@TOOL_SETS
def test_malicious_checkpoints_are_not_run(project, run, tools):
    class Payload:
        def __reduce__(self):
            return os.mkdir, (str(project / 'witness'),)

    torch.save(dict(state_dict={}, extra=Payload()), project / 'evil.pth')
    unsafe = dict(TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD='1')
    for arguments in (
        ('test.py', 'config.py', 'evil.pth'),
        ('train.py', 'config.py', '--resume', 'evil.pth'),
    ):
        log = run(tools / arguments[0], *arguments[1:], fails=True, **unsafe)
        assert 'mkdir' in log.stdout
    assert not (project / 'witness').exists()


@TOOL_SETS
def test_the_python_in_a_checkpoints_config_is_not_run(project, run, tools):
    run(tools / 'train.py', 'config.py', '--work-dir', 'work')
    path = project / 'work' / 'epoch_2.pth'
    # Unsafe on purpose: what this run wrote, with the config that ours drops.
    checkpoint = torch.load(path, weights_only=False)
    assert 'config' not in read_checkpoint(path)['meta']
    witness = project / 'witness'
    checkpoint['meta']['config'] = f'import os; os.mkdir({str(witness)!r})'
    torch.save(checkpoint, path)
    run(
        tools / 'train.py',
        'config.py',
        '--resume',
        path,
        '--cfg-options',
        'train_cfg.max_epochs=3',
    )
    assert not witness.exists()


@pytest.mark.parametrize('option', ['--out', '--show-dir'])
def test_results_that_cannot_be_written_stop_the_test(
    project, exit_message, option
):
    line = ('config.py', 'no.pth', option, 'config.py/x/out.pkl')
    assert 'config.py/x' in (said := exit_message(test.main, *line))
    assert said.startswith('error: ')
    assert 'cannot be written to (Not a directory)' in said


@pytest.mark.parametrize(
    ('line', 'message'),
    [
        ('optim_wraper = dict()', "did you mean 'optim_wrapper'?"),
        ("model['backbone']['patch_sise'] = 8", "'patch_sise'"),
        ("model['backbone']['act'] = 'relu'", 'CLIPVisionTransformer: act'),
        ("model['head']['type'] = 'Linear'", 'Linear is not in the '),
        ("loader['dataset']['data_root'] = 'no'", 'There is no folder no/'),
        ("loader['dataset']['type'] = 'ImageNot'", 'ImageNot is not in the '),
        ("loader['sampler']['typ'] = 1", "'typ'"),
        ("pipeline.append(dict(type='Nothing'))", 'Nothing is not in the '),
        ("val_evaluator['topp'] = 1", "'topp'"),
        ("optim_wrapper['optimizer']['type'] = 'X'", 'X is not in the '),
        ('x = y', "config.py cannot be read: NameError: name 'y' is not"),
        ('x = (', 'config.py cannot be read: SyntaxError: '),
        ('import no_such_module', 'cannot be read: ModuleNotFoundError: '),
    ],
)
def test_what_is_wrong_in_a_config_is_one_sentence(
    project, exit_message, line, message
):
    with open(project / 'config.py', 'a') as config:
        config.write(f'{line}\n')
    said = exit_message(train.main, 'config.py')
    assert said.startswith('error: ')
    assert message in said


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (['no.py'], 'Config no.py does not exist'),
        (['no_base.py'], 'no.py'),
        (['config.py', '--resume', 'no.pth'], 'no.pth does not exist'),
        (
            ['config.py', '--cfg-options', 'optim_wraper.x=1'],
            "did you mean 'optim_wrapper'?",
        ),
        (['config.py', '--cfg-options', 'model.x.y.z=1'], "'x'"),
        (['config.py', '--cfg-options', 'load_from=no.pth'], 'no.pth does'),
        (['config.py', '--work-dir', 'config.py/x'], 'config.py/x'),
    ],
)
def test_what_is_wrong_in_arguments_is_one_sentence(
    project, exit_message, arguments, message
):
    (project / 'no_base.py').write_text("_base_ = ['no.py']")
    said = exit_message(train.main, *arguments)
    assert said.startswith('error: ')
    assert message in said


@pytest.mark.parametrize('value', ['lr', 'optim_wrapper.clip_grad=(1,'])
def test_options_that_are_not_values_are_wrong_usage(call, value):
    result = call(train.main, 'config.py', '--cfg-options', value)
    assert result.code == 2
    assert result.err.startswith(f'error: argument --cfg-options: {value!r}')


def test_amp_no_validate_and_auto_scale_lr(project, run):
    with open(project / 'config.py', 'a') as config:
        config.write(
            "optim_wrapper.update(type='AmpOptimWrapper', loss_scale=512.0)\n"
        )
    log = run(
        TOOLS / 'train.py',
        'config.py',
        '--amp',
        '--no-validate',
        '--auto-scale-lr',
        '--no-pin-memory',
        '--no-persistent-workers',
        '--cfg-options',
        'train_dataloader.batch_size=6',
    ).stdout
    assert 'BFloat16OptimWrapper' in log
    assert 'Epoch(val)' not in log
    assert 'Scaling the original LR by 1.5' in log
    for tensor in weights(project, 'work_dirs/config/epoch_2.pth').values():
        assert tensor.isfinite().all()


def test_auto_scale_lr_needs_to_know_what_the_rate_is_for(
    project, exit_message
):
    with open(project / 'config.py', 'a') as config:
        config.write('del auto_scale_lr\n')
    said = exit_message(train.main, 'config.py', '--auto-scale-lr')
    assert 'set auto_scale_lr=dict(base_batch_size=...)' in said


BFLOAT16 = dict(type='mmclip.BFloat16OptimWrapper')


@pytest.mark.parametrize(
    ('on_gpu', 'given', 'wanted'),
    [
        (True, dict(), dict(type='AmpOptimWrapper', loss_scale='dynamic')),
        (
            True,
            dict(type='AmpOptimWrapper', dtype='float16', loss_scale=512.0),
            dict(type='AmpOptimWrapper', dtype='float16', loss_scale=512.0),
        ),
        # Of bfloat16 nothing needs scaling.
        (
            True,
            dict(type='AmpOptimWrapper', dtype='bfloat16', loss_scale=512.0),
            BFLOAT16,
        ),
        (True, BFLOAT16, BFLOAT16),
        (False, dict(type='OptimWrapper'), BFLOAT16),
        (
            False,
            dict(type='AmpOptimWrapper', dtype='float16', loss_scale=512.0),
            BFLOAT16,
        ),
    ],
)
def test_amp_keeps_of_the_config_what_has_a_meaning(
    monkeypatch, on_gpu, given, wanted
):
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: on_gpu)
    common = dict(accumulative_counts=2, optimizer=dict(type='AdamW'))
    wrapper = ConfigDict(**given, **common)
    use_mixed_precision(wrapper)
    assert wrapper == ConfigDict(**wanted, **common)


def test_amp_refuses_an_optimizer_wrapper_that_it_does_not_know():
    with pytest.raises(ValueError, match="is 'DeepSpeedOptimWrapper': leave"):
        use_mixed_precision(ConfigDict(type='DeepSpeedOptimWrapper'))


EXACT_RESUME = dict(type='mmclip.ExactResumeHook')


@pytest.mark.parametrize(
    'hooks',
    [
        dict(default_hooks=dict(logger=None, any_name=EXACT_RESUME)),
        dict(custom_hooks=[dict(type='EMAHook'), EXACT_RESUME]),
        dict(),  # of another package
    ],
)
def test_the_hook_that_compares_hears_of_a_new_schedule(hooks):
    cfg = Config(hooks)
    use_new_schedule(cfg)
    default = cfg.get('default_hooks', {}).values()
    assert [
        hook.get('new_schedule')
        for hook in [*default, *cfg.get('custom_hooks', [])]
        if hook and hook['type'] == EXACT_RESUME['type']
    ] == [True]


def test_test_time_augmentation_pictures_and_predictions(project, run):
    run(TOOLS / 'train.py', 'config.py', '--work-dir', 'work')
    run(
        TOOLS / 'test.py',
        'config.py',
        'work/epoch_2.pth',
        '--tta',
        '--amp',
        '--out',
        'predictions.pkl',
        '--work-dir',
        'work',
    )
    assert (project / 'predictions.pkl').is_file()
    run(
        TOOLS / 'test.py',
        'config.py',
        'work/epoch_2.pth',
        '--show-dir',
        'pictures',
        '--work-dir',
        'work',
    )
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


def test_two_processes(project, run):
    port = dict(PORT='29611')
    run(TOOLS / 'dist_train.sh', 'config.py', 2, '--work-dir', 'work', **port)
    log = run(
        TOOLS / 'dist_test.sh', 'config.py', 'work/epoch_2.pth', 2, **port
    ).stdout
    assert 'accuracy/top1' in log


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
    run(dist_test, *files, 2, '--tta', *out, PORT='29613')
    alone, first = (
        json.loads((project / name / 'metrics.json').read_text())
        for name in ('alone', '0')
    )
    assert first == alone
    assert 0 < alone['accuracy/top1'] < 100
    assert (project / '1' / 'work_dirs').is_dir()
    assert not (project / '1' / 'metrics.json').exists()


@pytest.mark.parametrize(
    ('script', 'arguments', 'tool'),
    [
        ('slurm_train.sh', ['config.py'], 'train.py'),
        ('slurm_test.sh', ['config.py', 'x.pth'], 'test.py'),
    ],
)
def test_slurm(tmp_path, run, script, arguments, tool):
    """srun is replaced by a program that prints its arguments."""
    srun = tmp_path / 'bin' / 'srun'
    srun.parent.mkdir()
    srun.write_text('#!/bin/sh\necho "$@"\n')
    srun.chmod(0o755)
    path = f'{srun.parent}:{os.environ["PATH"]}'
    command = run(
        TOOLS / script, 'gpu', 'job', *arguments, '--amp', PATH=path, GPUS='4'
    ).stdout
    assert '--partition=gpu --job-name=job --ntasks=4' in command
    assert f'{tool} {" ".join(arguments)} --launcher slurm --amp' in command


@pytest.mark.slow
def test_a_classifier_of_timm_without_converting(project, run):
    """timm://NAME.TAG as CHECKPOINT and as load_from, at full size."""
    name = 'vit_base_patch32_clip_224.laion2b_ft_in12k_in1k'
    folder = put_into_hub_cache(project / 'hub', f'timm/{name}')
    weights = timm.create_model(name).state_dict()
    save_file(weights, folder / 'model.safetensors')
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
        _delete_=True,
        type='mmclip.CLIPVisionTransformer',
        arch='base',
        act='gelu',
        patch_size=32,
    ),
    head=dict(num_classes=1000, in_channels=768),
    data_preprocessor=dict(num_classes=1000),
)
train_cfg = dict(max_epochs=1)
# The images stand in for ImageNet: three of its thousand classes.
default_hooks = dict(check_classes=None)
"""
    )
    hub = dict(HF_HUB_CACHE=str(project / 'hub'), HF_HUB_OFFLINE='1')
    log = run(
        TOOLS / 'test.py', 'timm_config.py', f'timm://{name}', **hub
    ).stdout
    assert 'accuracy/top1' in log
    option = ('--cfg-options', f'load_from=timm://{name}')
    log = run(TOOLS / 'train.py', 'timm_config.py', *option, **hub).stdout
    assert f'Load checkpoint from timm://{name}' in log
    assert 'accuracy/top1' in log


@pytest.mark.parametrize('hooks', [[], [InterruptHook()]])
def test_ctrl_c_closes_a_run_that_has_no_hook_for_it(
    tmp_path, monkeypatch, hooks
):
    heard = []
    runner = SimpleNamespace(
        hooks=hooks,
        train=lambda: heard.append(signal.getsignal(signal.SIGINT)),
    )
    (tmp_path / 'config.py').write_text('')
    monkeypatch.setattr(Runner, 'from_cfg', lambda cfg: runner)
    before = {number: signal.getsignal(number) for number in STOPPING}
    try:
        assert train.main([str(tmp_path / 'config.py')]) == 0
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    assert (heard == [signal.default_int_handler]) == (not hooks)

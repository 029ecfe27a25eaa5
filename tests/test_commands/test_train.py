"""tools/train.py, and mmpretrain's own, on real files."""

import functools
import json
import os
import shutil
import signal
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.registry import HOOKS
from mmengine.runner import Runner

from mmclip.checkpoint import read_checkpoint
from mmclip.commands.train import main, parse_args, print_stop
from mmclip.engine import InterruptHook
from mmclip.engine.config.build import build_runner, naming_the_config
from mmclip.engine.config.load import complete_dataloaders
from mmclip.errors import ConfigError
from tests.processes import finish, start
from tests.test_commands.conftest import (
    MMPRETRAIN_TOOLS,
    TOOL_SETS,
    TOOLS,
    make_project,
)


@pytest.fixture(scope='module')
def trained(tmp_path_factory):
    """The work directory of a run of a set of tools; made once each."""

    @functools.cache
    def run(tools: Path) -> Path:
        folder = make_project(tmp_path_factory.mktemp('trained'))
        line = (tools / 'train.py', 'config.py', '--work-dir', 'work')
        log = finish(start(*line, cwd=folder))
        (folder / 'work' / 'log').write_text(log)
        return folder / 'work'

    return run


def weights(path: Path) -> dict[str, torch.Tensor]:
    return read_checkpoint(path)['state_dict']


@TOOL_SETS
def test_train_resume_and_test(trained, project, run, tools):
    shutil.copytree(trained(tools), project / 'work')
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


def test_both_sets_of_tools_train_the_same_weights(trained):
    ours, theirs = (
        weights(trained(tools) / 'epoch_2.pth')
        for tools in (TOOLS, MMPRETRAIN_TOOLS)
    )
    torch.testing.assert_close(ours, theirs, rtol=0, atol=0)


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


def test_the_end_names_what_was_written_and_what_to_type(
    trained, project, run
):
    work = trained(TOOLS)
    (best,) = (path.name for path in work.glob('best_*.pth'))
    then = f'next: python {TOOLS}/test.py config.py work/{best}\n'
    assert (
        (work / 'log')
        .read_text()
        .endswith(
            f'\nwrote work/{best} (the best by accuracy/top1)\n'
            f'wrote work/epoch_2.pth (the last)\n{then}'
        )
    )
    shutil.copytree(work, project / 'work')
    line = ('config.py', '--work-dir', 'work', '--resume')
    log = run(TOOLS / 'train.py', *line).stdout
    assert log.endswith(
        '\nnothing was trained: the run has reached train_cfg.max_epochs=2 '
        f'before. To train longer, raise it.\n{then}'
    )


@pytest.mark.parametrize(
    ('line', 'then'),
    [
        ('c.py --amp', 'mmclip train c.py --amp --resume'),
        ('c.py --resume a.pth --amp', 'mmclip train c.py --amp --resume'),
        ('c.py --resume=a.pth', 'mmclip train c.py --resume'),
        ('c.py --resume --launcher pytorch', 'the same command'),
        ('c.py --launcher pytorch', 'the same command, with --resume'),
    ],
)
def test_a_stopped_run_says_how_to_go_on(
    tmp_path, monkeypatch, capsys, line, then
):
    for name in 'RANK', 'WORLD_SIZE', 'MASTER_ADDR', 'MASTER_PORT':
        monkeypatch.setenv(name, '0')
    monkeypatch.setattr('sys.argv', ['mmclip'])
    monkeypatch.chdir(tmp_path)
    args = parse_args(line.split())
    checkpoint = str(tmp_path / 'work' / 'iter_7.pth')
    print_stop(None, checkpoint, args, line.split())
    assert capsys.readouterr().out == (
        f'wrote work/iter_7.pth (the run so far)\nnext: {then}\n'
    )


@TOOL_SETS
def test_malicious_checkpoints_are_not_run(evil, project, run, tools):
    line = (tools / 'train.py', 'config.py', '--resume', evil)
    log = run(*line, fails=True, TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD='1').stdout
    assert 'mkdir' in log
    assert not (project / 'witness').exists()


@pytest.mark.parametrize(
    ('line', 'message'),
    [
        (
            "model['backbone']['act'] = 'relu'",
            'backbone (CLIPVisionTransformer): act',
        ),
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
    assert message in exit_message(main, 'config.py')


def test_what_mmengine_says_nothing_of_is_said(project, exit_message):
    config = project / 'numbers.py'
    config.write_text('import numpy as np\nx = np.array([1])\n')
    assert 'cannot call what it imports' in exit_message(main, 'numbers.py')


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
        (['.'], '. is not a config: it must be a file that ends in one of '),
        (['images/red/0.png'], 'red/0.png is not a config: '),
    ],
)
def test_what_is_wrong_in_arguments_is_one_sentence(
    project, exit_message, arguments, message
):
    (project / 'no_base.py').write_text("_base_ = ['no.py']")
    assert message in exit_message(main, *arguments)


BACKBONE = 'model.backbone (CLIPVisionTransformer): '


@pytest.mark.parametrize(
    ('option', 'message'),
    [
        # Before anything is built.
        (
            'optim_wrapper.optimizer.lr=x',
            "(AdamW): lr is 'x', but must be a n",
        ),
        ('model.backbone.img_size=x', f"{BACKBONE}img_size is 'x', but must"),
        ('val_dataloader.pin_memory=x', "pin_memory is 'x', but must be True"),
        ('val_evaluator.topk=x', "topk is 'x', but must be a number"),
        ('val_cfg.fp16=x', "val_cfg: fp16 is 'x', but must be True or False"),
        ('train_dataloader.batch_size=0', 'batch_size is 0, but must be a '),
        ('train_dataloader.num_workers=-1', 'must be a whole number from 0'),
        ('train_cfg.max_epochs=0', 'train_cfg: max_epochs is 0, but must be'),
        ('optim_wrapper.clip_grad=3', 'clip_grad is 3, but must be a dict'),
        ('train_dataloader=3', 'train_dataloader is 3, but must be a dict.'),
        ('model.backbone=3', 'model.backbone is 3, but must be a dict: set'),
        ('pipeline.0.type=X', "'pipeline'; if it is a variable of the config"),
        ('train_cfg=None', 'config.py has no train_cfg: add it'),
        (
            'val_evaluator.topk=10',
            'val_evaluator.topk has 10, but model.head.',
        ),
        # While it is built.
        ('val_evaluator=None', 'val_evaluator should be either all None or '),
        ('randomness.seed=x', 'config.py: randomness: Cannot cast'),
        (
            'model.data_preprocessor.mean=x',
            'model.data_preprocessor (ClsDataPreprocessor): new(): invalid',
        ),
        ('model.backbone.patch_size=0', f'{BACKBONE}ZeroDivisionError: '),
        (
            'model.backbone.type=mmclip.CLIPVisionTransformr',
            'model.backbone: mmclip.CLIPVisionTransformr is not in the mmpre'
            "train::model registry (did you mean 'mmclip.CLIPVisionTransforme",
        ),
    ],
)
def test_a_wrong_value_is_named_with_its_place(
    project, exit_message, option, message
):
    """And is not followed by a traceback."""
    said = exit_message(main, 'config.py', '--cfg-options', option)
    assert message in said
    assert '\n' not in said


@HOOKS.register_module()
class Mine(Hook):
    """A class of a user, with one refusal and two faults of its own."""

    def __init__(self, number: int = 3, fault: str = ''):
        if number == 4:
            raise ValueError(f'number is {number}, but must be odd')
        if fault == 'building':
            int('x')
        self.fault = fault

    def before_train(self, runner):
        raise ValueError(self.fault)


@pytest.mark.parametrize(
    ('settings', 'kind', 'message'),
    [
        (
            dict(number=4),
            ConfigError,
            r'custom_hooks\.0 \(Mine\): number is 4',
        ),
        (dict(other=4), ConfigError, r'custom_hooks\.0 \(Mine\)'),
        (dict(fault='building'), ValueError, 'invalid literal for int'),
        (dict(fault='training'), ValueError, 'training'),
    ],
)
def test_the_faults_of_other_classes_keep_their_tracebacks(
    project, monkeypatch, settings, kind, message
):
    monkeypatch.chdir(project)
    cfg = Config.fromfile('config.py')
    cfg.custom_hooks = [dict(type='Mine', **settings)]
    cfg.work_dir = 'work'
    complete_dataloaders(cfg, pin_memory=False)
    with pytest.raises(ValueError, match=message) as error:
        runner = build_runner(cfg)
        with naming_the_config(cfg):
            runner.train()
    assert error.type is kind


@pytest.mark.parametrize('value', ['lr', 'optim_wrapper.clip_grad=(1,'])
def test_options_that_are_not_values_are_wrong_usage(call, value):
    result = call(main, 'config.py', '--cfg-options', value)
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
    for tensor in weights(project / 'work_dirs/config/epoch_2.pth').values():
        assert tensor.isfinite().all()


def test_auto_scale_lr_needs_to_know_what_the_rate_is_for(
    project, exit_message
):
    with open(project / 'config.py', 'a') as config:
        config.write('del auto_scale_lr\n')
    said = exit_message(main, 'config.py', '--auto-scale-lr')
    assert 'set auto_scale_lr=dict(base_batch_size=...)' in said


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


@pytest.mark.parametrize('hooks', [[], [InterruptHook()]])
def test_ctrl_c_closes_a_run_that_has_no_hook_for_it(
    tmp_path, monkeypatch, hooks
):
    heard = []
    runner = SimpleNamespace(
        hooks=hooks,
        register_hook=lambda hook: None,
        iter=1,
        cfg={},
        train=lambda: heard.append(signal.getsignal(signal.SIGINT)),
    )
    (tmp_path / 'config.py').write_text(
        'model = train_dataloader = train_cfg = optim_wrapper = dict()'
    )
    monkeypatch.setattr(Runner, 'from_cfg', lambda cfg: runner)
    assert main([str(tmp_path / 'config.py')]) == 0
    assert (heard == [signal.default_int_handler]) == (not hooks)

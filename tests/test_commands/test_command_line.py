"""The command ``mmclip``, its list of commands, and how all of them end."""

import errno
import importlib
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from mmclip import cli
from mmclip.commands import _command_line as command_line
from mmclip.errors import ArgumentError, CheckpointError, DataError
from tests.conftest import REPOSITORY
from tests.test_commands.conftest import TOOLS

DOORS = [
    path
    for path in sorted(TOOLS.rglob('*.py'))
    if path.parent.name not in ('demo', '__pycache__')
]
NAMES = list(cli.commands())
# What a parser has no need of.
HEAVY = {'torch', 'numpy', 'mmengine', 'mmpretrain', 'open_clip', 'yaml'}


def behind(door: Path) -> str:
    """The command that a file of tools/ leads to."""
    (name,) = re.findall(r'from mmclip\.commands\.(\w+) ', door.read_text())
    return name.replace('_', '-')


HELP = """
import runpy, sys
for line in {lines}:
    print('$', *line, flush=True)
    sys.argv = line
    try:
        runpy.run_path(line[0], run_name='__main__')
    except SystemExit as end:
        assert not end.code
    print('heavy:', *{heavy} & set(sys.modules))
"""


def help_of(*lines: list[str]) -> list[str]:
    """What each line prints with --help, and what it imports that is heavy."""
    typed = [[*map(str, line), '--help'] for line in lines]
    code = HELP.format(lines=typed, heavy=HEAVY)
    printed = subprocess.run(
        [sys.executable, '-c', code],
        env=os.environ | dict(PYTHONPATH=str(REPOSITORY)),
        stdout=subprocess.PIPE,
        check=True,
        text=True,
    ).stdout
    return printed.split('$ ')[1:]


def test_every_command_is_listed_with_a_sentence(capsys):
    assert cli.main(['--help']) == 0
    printed = capsys.readouterr().out
    assert cli.main([]) == 2  # wrong usage, with the same text as help
    assert capsys.readouterr().err == printed
    for path in (REPOSITORY / 'mmclip' / 'commands').glob('[!_]*.py'):
        assert re.search(
            rf'^  {path.stem.replace("_", "-")} +[A-Z].*\.$', printed, re.M
        )


def test_every_door_in_tools_opens_a_command():
    assert set(map(behind, DOORS)) <= set(NAMES)


@pytest.mark.parametrize(
    ('typed', 'meant'),
    [('inpect', 'inspect'), ('zero_shot', 'zero-shot')]
    + [(door.stem, behind(door)) for door in DOORS if door.stem not in NAMES]
    + [('linear-probe', 'probe'), ('tools/linear_prob.py', 'probe')],
)
def test_a_misspelt_command_is_told_the_nearest(capsys, typed, meant):
    assert cli.main([typed, 'x.pth']) == 2
    said = capsys.readouterr().err
    assert said.startswith(f'error: mmclip has no command {typed!r} ')
    assert f'did you mean {meant!r}?' in said


def test_a_reader_of_help_may_go(monkeypatch):
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, 'w') as gone:
        monkeypatch.setattr('sys.stdout', gone)
        assert cli.main(['--help']) == 141


def test_the_console_command_is_declared():
    assert 'mmclip = mmclip.cli:main' in (REPOSITORY / 'setup.py').read_text()


def test_help_imports_nothing_heavy():
    program = REPOSITORY / 'mmclip' / '__main__.py'
    names = ['', *NAMES]
    found = help_of(*([program, *name.split()] for name in names))
    for name, printed in zip(names, found, strict=True):
        assert f'\nusage: mmclip {name}' in printed
        assert printed.endswith('\nheavy:\n'), name


def test_help_shows_what_was_typed():
    for door, printed in zip(
        DOORS, help_of(*([door] for door in DOORS)), strict=True
    ):
        assert re.search(rf'\nusage: python {door}\s', printed)
        assert f'  python {door} ' in printed  # an example
        assert printed.endswith('\nheavy:\n'), door


def test_something_heavy_would_be_seen(tmp_path):
    (tmp_path / 'x.py').write_text('import mmclip.models.public')
    assert 'torch' in help_of([tmp_path / 'x.py'])[0]


# Of a data worker, where /dev/shm has 64 KB.
FULL = 'unable to allocate shared memory(shm) for file </torch_241_4_1>: '
FULL += 'No space left on device (28)'


@pytest.mark.parametrize(
    ('error', 'code', 'said'),
    [
        (CheckpointError('x.pth is bad.'), 1, 'error: x.pth is bad.\n'),
        (DataError('no images'), 1, 'error: no images\n'),
        (ArgumentError('alpha is 2'), 2, 'error: alpha is 2\n'),
        (OSError(2, 'No such file', 'x'), 1, "[Errno 2] No such file: 'x'"),
        (RuntimeError(FULL), 1, 'error: /dev/shm, through which data work'),
        (KeyboardInterrupt(), 130, ''),
        (SystemExit(143), 143, ''),
        (SystemExit(2), 2, ''),
    ],
)
def test_all_commands_end_in_one_way(capsys, error, code, said):
    @command_line.command
    def main(argv=None):
        raise error

    assert main([]) == code
    assert said in capsys.readouterr().err


@pytest.mark.parametrize('error', [ValueError, KeyError, RuntimeError])
def test_bugs_keep_their_traceback(error):
    @command_line.command
    def main(argv=None):
        raise error('x')

    with pytest.raises(error):
        main([])


def test_processes_of_one_run_say_it_once(tmp_path, monkeypatch, capsys):
    @command_line.command
    def main(argv=None):
        raise DataError('no images')

    for rank in '1', '0':
        (tmp_path / rank).mkdir()
        file = tmp_path / rank / 'error.json'
        monkeypatch.setenv('TORCHELASTIC_ERROR_FILE', str(file))
        assert main([]) == 1
    assert capsys.readouterr().err == 'error: no images\n'


def test_values_of_options_are_those_of_mmengine():
    from argparse import ArgumentParser

    from mmengine.config import DictAction

    line = ['a=1', 'b.c=[1,(2,x)]', 'd=None', 'e=1e-4', 'f=a=b', 'g=1,2']
    parser = ArgumentParser()
    parser.add_argument('--x', nargs='+', action=DictAction)
    theirs = parser.parse_args(['--x', *line]).x
    assert command_line.parse_values(line) == theirs


@pytest.mark.parametrize(
    ('typed', 'launcher', 'said'),
    [
        (
            'mmclip',
            'pytorch',
            'RANK is not in the environment: type mmclip '
            'launch --nproc_per_node N train ...',
        ),
        (
            'tools/train.py',
            'pytorch',
            'type python tools/launch.py --nproc_per_node N train ...',
        ),
        (
            'mmclip',
            'slurm',
            'SLURM_PROCID is not in the environment: type '
            'srun mmclip train ... --launcher slurm',
        ),
        (
            'mmclip',
            'mpi',
            'MASTER_ADDR is not in the environment: type '
            'mpirun -x MASTER_ADDR=HOST mmclip train ... --launcher mpi',
        ),
    ],
)
def test_a_launcher_that_has_started_nothing_is_wrong_usage(
    monkeypatch, capsys, typed, launcher, said
):
    from mmclip.commands.train import main

    monkeypatch.setattr(sys, 'argv', [typed])
    for name in 'RANK', 'SLURM_PROCID', 'MASTER_ADDR':
        monkeypatch.delenv(name, raising=False)
    for name in 'RANK', 'SIZE':
        monkeypatch.setenv(f'OMPI_COMM_WORLD_{name}', '0')
    assert main(['c.py', '--launcher', launcher]) == 2
    assert said in capsys.readouterr().err


def test_options_of_several_times_add_up():
    parser = command_line.Parser('x', None, '')
    parser.add_cfg_options('a=1')
    args = parser.parse(['--cfg-options', 'a=1', '--cfg-options', 'b=2'])
    assert args.cfg_options == dict(a=1, b=2)


@pytest.mark.parametrize(
    ('line', 'message'),
    [
        (['flops', 'x.py', '--shape', '-3'], '--shape: -3 is not above 0'),
        (['cost', 'x.py', '--tflops', '0'], '--tflops: 0 is not above 0'),
        (
            ['cost', 'x.py', '--images', 'x'],
            "--images: invalid int value: 'x'",
        ),
        (
            ['export', 'x.pth', 'y.pth', '--to', 'onnx'],
            "--to: must be one of open_clip, timm, hf; got 'onnx'.",
        ),
        (
            ['zero_shot', 'a', 'b', 'c', '--device', 'cudaa'],
            "--device: 'cudaa': use cpu or cuda (did you mean 'cuda'?)",
        ),
        (
            ['zero_shot', 'a', 'b', 'c', '--device', 'cuda:1'],
            "--device: 'cuda:1': there is no GPU here: use --device cpu",
        ),
        (
            ['zero_shot', 'a', 'b', 'c', '--device', 'gpu'],
            "--device: 'gpu': there is no GPU here: use --device cpu",
        ),
        (
            ['launch', '--nproc_per_node', '0', 'train', 'x.py'],
            '--nproc_per_node: 0 is not above 0',
        ),
        (
            ['launch', '--nnodes', '0:2', 'train', 'x.py'],
            '--nnodes: 0:2 is not above 0',
        ),
    ],
)
def test_wrong_numbers_and_devices_are_wrong_usage(
    capsys, monkeypatch, line, message
):
    name, *argv = line
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: False)
    command = importlib.import_module(f'mmclip.commands.{name}')
    assert command.main(argv) == 2
    assert f'error: argument {message}' in capsys.readouterr().err


def test_without_a_display_there_is_no_window(capsys, monkeypatch):
    from mmclip.commands import test

    monkeypatch.setattr(sys, 'platform', 'linux')
    for name in ('DISPLAY', 'WAYLAND_DISPLAY'):
        monkeypatch.delenv(name, raising=False)
    assert test.main(['c.py', 'x.pth', '--show']) == 2
    said = capsys.readouterr().err
    assert 'error: there is no display: use --show-dir DIR' in said
    monkeypatch.setenv('WAYLAND_DISPLAY', 'wayland-0')
    assert test.parse_args(['c.py', 'x.pth', '--show']).show


def test_choices_are_those_of_the_package():
    """Parsers do not import what they are the choices of."""
    from mmclip.checkpoint.towers.sources import DTYPES
    from mmclip.commands import convert, robustness
    from mmclip.evaluation.robustness import NAMES

    line = ['config.py', 'x.pth']
    for command, option, choices in (
        (convert, ['model', *line, '--dtype'], DTYPES),
        (robustness, [*line, '--datasets'], NAMES),
    ):
        for choice in choices:
            command.parse_args([*option, choice])
        with pytest.raises(SystemExit):
            command.parse_args([*option, 'other'])
    assert robustness.NAMES == NAMES


@pytest.mark.parametrize(
    ('typed', 'wanted'),
    [
        ('/bin/mmclip', 'mmclip test c.py'),
        ('/x/mmclip/__main__.py', 'mmclip test c.py'),
        ('tools/soup.py', 'python tools/test.py c.py'),
        ('/x/tools/y/export.py', 'python /x/tools/test.py c.py'),
    ],
)
def test_the_next_command_is_typed_in_the_same_way(monkeypatch, typed, wanted):
    monkeypatch.setattr(sys, 'argv', [typed])
    assert command_line.command_line('test', 'c.py') == wanted


def test_launch_starts_commands_by_name_and_programs_by_path():
    from mmclip.commands.launch import parse_args

    args = parse_args(['--nproc_per_node=2', 'train', 'c.py', '--amp'])
    assert (args.module, args.training_script) == (True, 'mmclip')
    assert args.training_script_args == [
        *('train', 'c.py', '--amp', '--launcher', 'pytorch')
    ]
    args = parse_args(['--nproc_per_node=2', 'tools/train.py', 'c.py'])
    assert (args.module, args.training_script) == (False, 'tools/train.py')
    assert args.training_script_args == ['c.py']


@pytest.mark.parametrize(
    ('named', 'said'),
    [
        ([], 'No space left on device.'),
        (['a.log'], 'a.log could not be written (No space left on device).'),
    ],
)
def test_of_a_full_disk_it_is_said_what_to_do(named, said, capsys):
    @command_line.command
    def main(argv):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), *named)

    assert main([]) == 1
    assert capsys.readouterr().err.startswith(f'error: {said} Make room')

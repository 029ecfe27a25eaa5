"""Whatever the pages, configs and metafiles name is there."""

import importlib
import os
import re
import shlex
from pathlib import Path
from unittest import mock

import pytest
import yaml

from mmclip import cli
from tests.conftest import REPOSITORY
from tests.test_commands.test_command_line import DOORS, behind

PAGES = [
    REPOSITORY / 'README.md',
    REPOSITORY / 'SECURITY.md',
    *sorted(REPOSITORY.glob('docs/*.md')),
    *sorted(REPOSITORY.glob('configs/**/*.md')),
]
CONFIGS = sorted(REPOSITORY.glob('configs/**/*.py'))
METAFILES = [
    REPOSITORY / 'model-index.yml',
    *sorted(REPOSITORY.glob('configs/**/metafile*.yml')),
]
COMMANDS = {str(d.relative_to(REPOSITORY)): behind(d) for d in DOORS}
# The command that a script runs, and how many words stand before its own.
SCRIPTS = {
    'tools/dist_train.sh': ('train', 1),
    'tools/dist_test.sh': ('test', 2),
    'tools/slurm_train.sh': ('train', 0),
    'tools/slurm_test.sh': ('test', 0),
}
IN_SLURM = dict.fromkeys(
    ['SLURM_PROCID', 'SLURM_NTASKS', 'SLURM_NODELIST'], '0'
)
# In open_clip's repository.
ELSEWHERE = {'docs/openclip_results.csv'}


def command_lines(page: Path) -> list[list[str]]:
    """The lines of shell that start our commands, as words."""
    text = page.read_text(encoding='utf-8')
    if page.suffix == '.py':  # in its docstring, indented
        blocks = ['\n'.join(re.findall(r'^    +(.*)$', text, re.M))]
    else:
        blocks = re.findall(r'```(?:shell|console|bash)\n(.*?)```', text, re.S)
    found = []
    for block in blocks:
        for line in re.sub(r'\\\n\s*', ' ', block).splitlines():
            start = re.search(
                r'(^|\s)((python3? )(-u )?tools/\S+\.py|bash tools/\S+\.sh'
                r'|mmclip [a-z])',
                line,
            )
            if start and 'import' not in line and 'tools/demo' not in line:
                line = re.sub(r'\[[^\]]*\]|\.\.\.|&$', '', line)
                line = line.replace('RUN*.pth', 'RUN1.pth RUN2.pth')
                found.append(
                    shlex.split(line[start.start(2) :], comments=True)
                )
    return found


def parse(words: list[str]) -> None:
    """Parse a command line with the parser of its command.

    Raises:
        SystemExit: If the command has no such options.
    """
    program, *rest = words
    if program == 'mmclip':
        name, *arguments = rest
    elif program == 'bash':
        script, *arguments = rest
        name, _ = SCRIPTS[script]
        if 'slurm' in script:
            arguments = arguments[2:]  # partition and name of the job
        else:
            where = 1 if name == 'train' else 2
            del arguments[where]  # the number of processes
    else:
        tool, *arguments = [word for word in rest if word != '-u']
        name = COMMANDS[tool]
    assert name in cli.commands(), words
    module = f'mmclip.commands.{name.replace("-", "_")}'
    with mock.patch.dict(os.environ, IN_SLURM):
        importlib.import_module(module).parse_args(arguments)


@pytest.mark.parametrize(
    'page',
    [*PAGES, *CONFIGS],
    ids=lambda page: str(page.relative_to(REPOSITORY)),
)
def test_command_lines_parse(page):
    for words in command_lines(page):
        try:
            parse(words)
        except SystemExit as end:
            pytest.fail(f'{shlex.join(words)}: exit code {end.code}')


def test_there_are_command_lines_to_parse():
    found = [words for page in PAGES for words in command_lines(page)]
    assert len(found) > 40
    assert len({word for words in found for word in words[:2]}) > 15


@pytest.mark.parametrize(
    'words',
    [
        ['python', 'tools/train.py', 'CONFIG', '--no-such-option'],
        ['mmclip', 'convert', 'NAME'],
        ['bash', 'tools/dist_train.sh', 'CONFIG', '8', '--no-such-option'],
    ],
)
def test_lines_that_would_fail_do_not_parse(words):
    with pytest.raises(SystemExit):
        parse(words)


@pytest.mark.parametrize('page', PAGES, ids=lambda page: page.name)
def test_paths_and_links_lead_somewhere(page):
    text = page.read_text(encoding='utf-8')
    named = re.findall(
        r'(?<![\w/.-])((?:tools|configs|docs|requirements|mmclip|tests)/'
        r'[\w./-]+\w)(?![\w{*])',
        text,
    )
    for name in named:
        if name not in ELSEWHERE:
            assert (REPOSITORY / name).exists(), name
    for link in re.findall(r'\]\((?!https?:|#)([^)#]+)(?:#[^)]*)?\)', text):
        assert (page.parent / link).exists(), link


@pytest.mark.parametrize('page', PAGES, ids=lambda page: page.name)
def test_commands_named_in_the_text_exist(page):
    text = page.read_text(encoding='utf-8')
    for name in re.findall(r'`mmclip ([a-z][a-z-]+)', text):
        assert name in cli.commands()


@pytest.mark.parametrize('file', METAFILES, ids=lambda file: file.name)
def test_files_that_metafiles_name_exist(file):
    content = yaml.safe_load(file.read_text(encoding='utf-8'))
    names = content.get('Import', [])
    for model in content.get('Models', []):
        if 'Config' in model:
            names.append(model['Config'])
    for collection in content.get('Collections', []):
        if 'README' in collection:
            names.append(collection['README'])
    for name in names:
        assert (REPOSITORY / name).is_file(), name
    for comment in re.findall(r'^# .*python (\S+\.py)', file.read_text()):
        assert (REPOSITORY / comment).is_file(), comment

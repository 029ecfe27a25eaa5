"""make on machines that lack something."""

import os
import shutil
import subprocess

import pytest

from tests.conftest import REPOSITORY


@pytest.fixture
def make(tmp_path):
    """Run make in a folder with the project's files but no environment."""
    for name in ('Makefile', 'setup.py', 'pyproject.toml'):
        shutil.copy(REPOSITORY / name, tmp_path)
    shutil.copytree(REPOSITORY / 'requirements', tmp_path / 'requirements')
    (tmp_path / 'mmclip').mkdir()
    shutil.copy(REPOSITORY / 'mmclip' / 'requirements.py', tmp_path / 'mmclip')

    def _make(*arguments, **env):
        return subprocess.run(
            ['make', *arguments],
            cwd=tmp_path,
            env=os.environ | env,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=300,
        )

    return _make


@pytest.mark.slow  # an environment is made
def test_without_a_network_one_sentence_says_so(make):
    result = make(
        'venv', PIP_NO_INDEX='1', PIP_FIND_LINKS='', PIP_EXTRA_INDEX_URL=''
    )
    assert result.returncode != 0
    assert 'error: PyPI cannot be reached' in result.stdout
    assert 'Traceback' not in result.stdout


def test_an_old_python_is_refused(make, tmp_path):
    old = tmp_path / 'old-python'
    old.write_text('#!/bin/sh\nexit 1\n')
    old.chmod(0o755)
    result = make('venv', f'PYTHON={old}')
    assert result.returncode != 0
    assert 'needs Python 3.10 or newer' in result.stdout


def test_the_oldest_packages_get_their_own_environment(make):
    plan = make('--dry-run', 'test-oldest').stdout
    assert '-m venv .venv-oldest' in plan
    assert '--constraint requirements/constraints-oldest.txt' in plan
    assert '.venv-oldest/bin/pytest' in plan
    assert '.venv/' not in plan


def test_clean_removes_both_environments(make, tmp_path):
    for name in ('.venv', '.venv-oldest'):
        (tmp_path / name).mkdir()
    assert make('clean').returncode == 0
    assert not list(tmp_path.glob('.venv*'))

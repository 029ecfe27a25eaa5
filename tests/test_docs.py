"""The pages in docs/ as HTML."""

import re
import runpy
from pathlib import Path

import pytest
from sphinx.cmd.build import build_main

from tests.conftest import REPOSITORY

DOCS = REPOSITORY / 'docs'


@pytest.mark.parametrize(
    ('page', 'link', 'moved'),
    [
        ('README.md', '[a](docs/zoo.md#by-name)', '[a](zoo.md#by-name)'),
        ('README.md', '[a](SECURITY.md)', '[a](security.md)'),
        ('README.md', '<img src="docs/a.png"', '<img src="a.png"'),
        ('README.md', '[a](https://a.org)', '[a](https://a.org)'),
        ('README.md', '[a](#b)', '[a](#b)'),
        ('configs/clip/README.md', '[a](../../README.md)', '[a](index.md)'),
        (
            'configs/clip/README.md',
            '[a](./clip-l-336.py)',
            '[a](../configs/clip/clip-l-336.py)',
        ),
    ],
)
def test_links_of_included_files_lead_to_the_same_place(page, link, moved):
    text = [link]
    move_links = runpy.run_path(str(DOCS / 'conf.py'))['move_links']
    move_links(None, Path('..', page), 'index', text)
    assert text == [moved]


@pytest.mark.slow  # autodoc imports all that docs/api.md names
def test_the_pages_build_without_a_warning(tmp_path):
    arguments = ['-q', '-W', '-d', str(tmp_path / 'doctrees')]
    theme = ['-D', 'html_theme=basic']  # the fastest
    assert build_main([*arguments, *theme, str(DOCS), str(tmp_path)]) == 0
    home = (tmp_path / 'index.html').read_text(encoding='utf-8')
    for link in re.findall(r'<(?:link|script|img)[^>]*="(http[^"]*)', home):
        pytest.fail(f'The home page loads {link}')
    for link in re.findall(r' (?:src|href)="([^"#?:]+)[#?"]', home):
        assert (tmp_path / link).exists(), link
    zoo = (tmp_path / 'zoo.html').read_text(encoding='utf-8')
    assert '<span class="column">Names</span>49' in zoo  # for phones

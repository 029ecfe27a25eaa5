"""The page in Chromium (of Debian: apt-get install chromium)."""

import html
import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from mmclip.report.page import write_report
from tests.test_report.runs import write_run

CHROMIUM = shutil.which('chromium') or shutil.which('chromium-browser')
pytestmark = pytest.mark.skipif(
    CHROMIUM is None, reason='Chromium is not installed'
)
CLICK = """
<script>
const said = {};
const cell = document.querySelector('.cell.is-wrong');
const images = document.getElementById(cell.getAttribute('popovertarget'));
said.before = images.matches(':popover-open');
cell.click();
said.after = images.matches(':popover-open');
const picture = images.querySelector('use').getBoundingClientRect();
said.picture = picture.width > 50 && picture.height > 50;
images.querySelector('.close').click();
said.closed = !images.matches(':popover-open');
said.width = innerWidth;
said.page = document.documentElement.scrollWidth;
top.document.title = JSON.stringify(said);
</script>
"""
MEASURE = """
<script>
const table = document.querySelector('#confusion table');
const width = element => element.getBoundingClientRect().width;
top.document.title = JSON.stringify({
  class: width(table.querySelector('tbody th')),
  table: table.scrollWidth,
  room: table.parentElement.clientWidth,
});
</script>
"""


def chromium(page: Path, *options: str) -> subprocess.CompletedProcess:
    assert CHROMIUM is not None
    return subprocess.run(
        [
            CHROMIUM,
            '--headless',
            '--no-sandbox',
            '--disable-gpu',
            '--enable-logging=stderr',
            f'--user-data-dir={page.parent / "profile"}',
            *options,
            page.as_uri(),
        ],
        capture_output=True,
        text=True,
        timeout=120,
        cwd=page.parent,
    )


@pytest.fixture
def page(tmp_path) -> Path:
    names = ['a class with quite a long name', '<b>bold</b>', '犬']
    names += [f'class {i}' for i in range(9)]
    return write_report(write_run(tmp_path / 'run', names), root=tmp_path)


def test_it_opens_without_a_complaint_and_prints(page):
    result = chromium(page, '--print-to-pdf=page.pdf')
    assert result.returncode == 0, result.stderr
    assert 'CONSOLE' not in result.stderr
    pdf = page.with_name('page.pdf').read_bytes()
    assert pdf.startswith(b'%PDF') and len(pdf) > 50_000


def on_a_phone(page: Path, script: str) -> dict:
    """What a script says of the page on a screen of 390 pixels."""
    text = page.read_text(encoding='utf-8')
    policy = '<meta http-equiv="Content-Security-Policy"'
    assert text.count(policy) == 1
    # The page itself lets nothing run, not even a test.
    text = text.replace(policy, '<meta data-was')
    text = html.escape(text.replace('</body>', f'{script}</body>'))
    # Windows of Chromium are never narrower than 500 pixels.
    frame = f'<title></title><iframe width="390" srcdoc="{text}"></iframe>'
    page.write_text(frame, encoding='utf-8')
    result = chromium(page, '--dump-dom', '--hide-scrollbars')
    (said,) = re.findall('<title>(.*?)</title>', result.stdout)[:1]
    return json.loads(said)


def test_on_a_phone_cells_open_and_the_page_fits(page):
    assert on_a_phone(page, CLICK) == dict(
        before=False,
        after=True,
        picture=True,
        closed=True,
        width=390,
        page=390,
    )


def test_on_a_phone_long_names_leave_room_for_others(tmp_path):
    """In the table of confused pairs, which many classes have."""
    names = [f'class {i}' for i in range(20)]
    names += [f'unbroken{"x" * 90}{i}' for i in range(20)]
    page = write_report(write_run(tmp_path / 'run', names))
    said = on_a_phone(page, MEASURE)
    assert said['class'] > 70
    assert said['table'] <= said['room'] <= 390


def test_a_complaint_would_be_seen(page):
    text = page.read_text(encoding='utf-8')
    page.write_text(text.replace('</body>', f'{CLICK}</body>'), 'utf-8')
    assert 'CONSOLE' in chromium(page, '--dump-dom').stderr

"""What is on a page."""

import json
import re
from html.parser import HTMLParser

from mmclip.adapting.run_files.run_folder import RunFolder
from mmclip.report.page import write_report

VOID = {'meta', 'link', 'br', 'img', 'input', 'hr'}


class Page(HTMLParser):
    """The words of a page, its elements and what they load."""

    def __init__(self, text: str):
        super().__init__()
        self.tags: list[tuple[str, dict]] = []
        self.open: list[str] = []
        self.words = ''
        self.feed(text)
        self.close()
        assert not self.open

    def handle_starttag(self, tag, attributes):
        found = dict(attributes)
        assert len(found) == len(attributes)
        self.tags.append((tag, found))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag
        if tag in ('td', 'th', 'li'):
            self.words += ' '

    def handle_data(self, data):
        if self.open[-1:] != ['style']:
            self.words += re.sub(r'\s+', ' ', data)

    def section(self, name: str) -> bool:
        return ('section', {'id': name}) in self.tags


def read(folder: RunFolder, *arguments, **options) -> Page:
    page = write_report(folder, *arguments, **options)
    return Page(page.read_text('utf-8'))


def numbers_of(folder: RunFolder) -> dict:
    return json.loads(folder.metrics.read_text('utf-8'))

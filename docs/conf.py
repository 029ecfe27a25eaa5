import os
import re
import runpy
import sys
from pathlib import Path

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.transforms.post_transforms import SphinxPostTransform

DOCS = Path(__file__).parent
ROOT = DOCS.parent
# The demo is not installed, and imports its neighbours.
sys.path[:0] = [str(ROOT), str(ROOT / 'tools' / 'demo')]

project = 'mmclip'
author = 'The mmclip authors'
copyright = f'2026, {author}'
release = runpy.run_path(str(ROOT / 'mmclip' / 'version.py'))['__version__']

extensions = [
    'myst_parser',
    'sphinx.ext.autodoc',
    'sphinx.ext.napoleon',
]
myst_enable_extensions = ['html_image']
myst_heading_anchors = 3
exclude_patterns = ['_build']
autodoc_member_order = 'bysource'
maximum_signature_line_length = 79
toc_object_entries_show_parents = 'hide'

html_theme = 'furo'
html_title = f'mmclip {release}'
html_static_path = ['_static']
html_css_files = ['tables.css']
html_copy_source = False
html_use_index = False

# Files of the repository that are pages here: README.md is index.md.
INCLUDE = re.compile(r'^```\{include\} (\S+)', re.M)
PAGES = {
    (DOCS / included).resolve(): page.name
    for page in DOCS.glob('*.md')
    for included in INCLUDE.findall(page.read_text(encoding='utf-8'))
}


def move_links(app: Sphinx, path: Path, parent: str, text: list[str]) -> None:
    """Make links that are right in the repository lead to the pages here."""
    folder = (DOCS / path).parent

    def moved(link: re.Match) -> str:
        target = (folder / link['path']).resolve()
        return link['start'] + PAGES.get(target, os.path.relpath(target, DOCS))

    text[0] = re.sub(
        r'(?P<start>\]\(|\b(?:src|srcset)=")'
        r'(?![a-z]+:|#)(?P<path>[^)#"\s]+)',
        moved,
        text[0],
    )


class StackTables(SphinxPostTransform):
    """Name the columns in the cells of tables that are too wide for a phone.

    There, _static/tables.css puts the cells of each row below one another.
    """

    default_priority = 900
    formats = ('html',)

    def run(self, **_: object) -> None:
        for table in self.document.findall(nodes.table):
            head, *body = (list(row) for row in table.findall(nodes.row))
            texts = [[cell.astext() for cell in row] for row in (head, *body)]
            longest = max(len(text) for row in texts for text in row)
            # With one word below the other, in characters.
            narrowest = sum(
                max(map(len, ' '.join(column).split()))
                for column in zip(*texts, strict=True)
            )
            if len(head) < 3 or (longest <= 40 and narrowest <= 50):
                continue
            table['classes'].append('stack')
            for row in body:
                for name, cell in zip(texts[0][1:], row[1:], strict=True):
                    if cell.children:
                        label = nodes.inline(text=name, classes=['column'])
                        cell[0].insert(0, label)


def setup(app: Sphinx) -> None:
    app.connect('include-read', move_links)
    app.connect(
        'source-read',
        lambda app, name, text: move_links(app, Path(name), name, text),
    )
    app.add_post_transform(StackTables)

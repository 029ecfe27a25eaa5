import runpy
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))  # tools.demo is not installed

project = 'mmclip'
author = 'The mmclip authors'
copyright = f'2026, {author}'
release = runpy.run_path(str(ROOT / 'mmclip' / 'version.py'))['__version__']

extensions = [
    'myst_parser',
    'sphinx.ext.autodoc',
    'sphinx.ext.napoleon',
]
myst_heading_anchors = 3
# The model page, which is included, links to configs in the repository.
suppress_warnings = ['myst.xref_missing']
exclude_patterns = ['_build']
html_theme = 'sphinx_rtd_theme'
autodoc_member_order = 'bysource'

"""A module of ours comes along with one of another package."""

import importlib.util
import sys

import pytest

from mmclip.post_import import when_imported

OURS = """
import theirs
known = theirs.known
"""


@pytest.fixture(autouse=True)
def modules(tmp_path, monkeypatch):
    """A folder of modules, ``theirs`` and ``ours``, known to no other test."""
    (tmp_path / 'theirs.py').write_text('known = 1\n')
    (tmp_path / 'ours.py').write_text(OURS)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, 'meta_path', [*sys.meta_path])
    yield tmp_path
    for name in ('theirs', 'ours'):
        sys.modules.pop(name, None)


def test_at_once_if_theirs_is_imported_already():
    importlib.import_module('theirs')
    when_imported('theirs', 'ours')
    assert sys.modules['ours'].known == 1


def test_not_before_theirs_is_imported_and_then_after_all_of_it():
    finders = len(sys.meta_path)
    when_imported('theirs', 'ours')
    importlib.util.find_spec('theirs')  # only looks for it
    assert 'ours' not in sys.modules
    theirs = importlib.import_module('theirs')
    assert sys.modules['ours'].known == 1
    assert importlib.reload(theirs).known == 1  # with its own loader
    assert len(sys.meta_path) == finders


def test_an_import_that_failed_does_not_leave_ours_behind(modules):
    when_imported('theirs', 'ours')
    (modules / 'theirs.py').write_text('raise OSError')
    with pytest.raises(OSError):
        importlib.import_module('theirs')
    (modules / 'theirs.py').write_text('known = not False')
    importlib.import_module('theirs')
    assert 'ours' in sys.modules


def test_an_error_in_ours_is_not_swallowed(tmp_path):
    (tmp_path / 'ours.py').write_text('import no_such_module\n')
    when_imported('theirs', 'ours')
    with pytest.raises(ImportError, match='no_such_module'):
        importlib.import_module('theirs')


def test_a_package_that_is_not_there_is_missing_as_ever():
    when_imported('not_there', 'ours')
    with pytest.raises(ModuleNotFoundError, match='not_there'):
        importlib.import_module('not_there')
    assert 'ours' not in sys.modules

"""What happens where the hub is out of reach."""

from types import SimpleNamespace

import huggingface_hub
import pytest
from huggingface_hub import constants
from huggingface_hub.errors import (
    EntryNotFoundError,
    LocalEntryNotFoundError,
)

from mmclip.checkpoint import CheckpointError
from mmclip.checkpoint.files import downloads
from mmclip.checkpoint.files.downloads import only_cached_files_if_offline
from mmclip.checkpoint.files.paths import WEIGHT_NAMES
from mmclip.checkpoint.towers.sources import convert_repository


class Missing(EntryNotFoundError):
    """What the hub answers about a file that a repository lacks."""

    def __init__(self):
        Exception.__init__(self, '404')


@pytest.fixture
def network(monkeypatch):
    """Sets what the hub answers: an error, or nothing at all."""

    def _set(error=None):
        def head(*args, **kwargs):
            if error:
                raise error

        session = SimpleNamespace(head=head)
        monkeypatch.setattr(huggingface_hub, 'get_session', lambda: session)
        monkeypatch.setattr(constants, 'HF_HUB_OFFLINE', False)

    return _set


def test_an_outage_is_said_and_does_not_last(network, monkeypatch):
    said = []
    monkeypatch.setattr(
        downloads, 'print_log', lambda message, **_: said.append(message)
    )
    network(OSError('no route'))
    with only_cached_files_if_offline():
        assert constants.HF_HUB_OFFLINE
    assert not constants.HF_HUB_OFFLINE
    assert 'is out of reach (no route)' in said[0]
    network()
    with only_cached_files_if_offline():
        assert not constants.HF_HUB_OFFLINE


@pytest.mark.parametrize('offline', [False, True])
def test_a_hiccup_is_no_missing_file(network, monkeypatch, tmp_path, offline):
    """Only offline, or if the hub says so, the next name is tried."""
    network(OSError() if offline else None)
    tried = []

    def download(repository, name):
        tried.append(name)
        if len(tried) == 1 and not offline:
            raise Missing
        raise LocalEntryNotFoundError('no network')

    monkeypatch.setattr(huggingface_hub, 'hf_hub_download', download)
    monkeypatch.setattr(
        huggingface_hub, 'snapshot_download', lambda *a, **k: str(tmp_path)
    )
    error = FileNotFoundError if offline else CheckpointError
    with pytest.raises(error):
        convert_repository('org/name')
    assert tried == list(WEIGHT_NAMES[: None if offline else 2])

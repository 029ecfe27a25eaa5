"""What all downloads have in common."""

import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mmengine.logging import print_log

from mmclip.checkpoint.files.explain import explained
from mmclip.checkpoint.files.paths import WEIGHT_NAMES
from mmclip.checkpoint.files.reading import read_state_dict


@contextmanager
def only_cached_files_if_offline() -> Iterator[None]:
    """Spare the user huggingface_hub's retries, a minute of them.

    If the hub is out of reach, only files that were downloaded before are
    used inside, and that is logged.
    """
    from huggingface_hub import constants, get_session

    if constants.HF_HUB_OFFLINE:
        yield
        return
    try:
        get_session().head(constants.ENDPOINT, timeout=10)
    except Exception as error:  # of whichever HTTP library it uses
        print_log(
            f'{constants.ENDPOINT} is out of reach ({error}): only files that '
            'were downloaded before are used.',
            logger='current',
            level=logging.WARNING,
        )
        constants.HF_HUB_OFFLINE = True
    try:
        yield
    finally:
        constants.HF_HUB_OFFLINE = False


def refuse_damaged(repository: str) -> None:
    """Look at the weights that the hub's cache has of a repository.

    Raises:
        CheckpointError: If they cannot be read, naming what to delete.
    """
    from huggingface_hub import try_to_load_from_cache

    for name in WEIGHT_NAMES:
        path = try_to_load_from_cache(repository, name)
        if isinstance(path, str):
            read_state_dict(path)


def refuse_damaged_json(folder: Path) -> None:
    """Look at the JSON files of a repository in the hub's cache.

    Raises:
        CheckpointError: If one cannot be read, naming what to delete.
    """
    for path in sorted(folder.glob('*.json')):
        with explained(path):
            json.loads(path.read_text(encoding='utf-8'))

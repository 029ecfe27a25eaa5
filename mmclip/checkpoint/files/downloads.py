"""Checks that all downloads share."""

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
    """Spare the user a minute of huggingface_hub's retries.

    If the hub is out of reach, the block uses only files that are in the
    cache, and this is logged.
    """
    from huggingface_hub import constants, get_session

    if constants.HF_HUB_OFFLINE:
        yield
        return
    try:
        get_session().head(constants.ENDPOINT, timeout=10)
    except Exception as error:  # of whichever HTTP library it uses
        print_log(
            f'{constants.ENDPOINT} is out of reach ({error}): only files in '
            'the cache are used.',
            logger='current',
            level=logging.WARNING,
        )
        constants.HF_HUB_OFFLINE = True
    try:
        yield
    finally:
        constants.HF_HUB_OFFLINE = False


def refuse_damaged(repository: str) -> None:
    """Refuse a repository with damaged weights in the hub's cache.

    Raises:
        CheckpointError: If weights cannot be read; says what to delete.
    """
    from huggingface_hub import try_to_load_from_cache

    for name in WEIGHT_NAMES:
        path = try_to_load_from_cache(repository, name)
        if isinstance(path, str):
            read_state_dict(path)


def refuse_damaged_json(folder: Path) -> None:
    """Refuse a repository with damaged JSON files in the hub's cache.

    Raises:
        CheckpointError: If one cannot be read; says what to delete.
    """
    for path in sorted(folder.glob('*.json')):
        with explained(path):
            json.loads(path.read_text(encoding='utf-8'))

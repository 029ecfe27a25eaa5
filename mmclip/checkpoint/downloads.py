"""What all downloads have in common."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager

from mmengine.logging import print_log


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

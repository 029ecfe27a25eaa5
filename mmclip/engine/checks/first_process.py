"""Checks that one process makes for all processes."""

from collections.abc import Callable

from mmengine.dist import broadcast_object_list, is_main_process

from mmclip.errors import DataError


def check_once(check: Callable[[], None]) -> None:
    """Run a check in the first process, and stop all processes if it fails.

    Raises:
        DataError: In the other processes, with the first one's message.
    """
    failure: Exception | None = None
    if is_main_process():
        try:
            check()
        except Exception as error:
            failure = error
    message = [str(failure) if failure else None]
    broadcast_object_list(message)
    if failure is not None:
        raise failure
    if message[0] is not None:
        raise DataError(message[0])

"""The exception of data that a run cannot use as they are."""


class DataError(ValueError):
    """Images, labels or classes are not what a run needs.

    The message names the file, folder or label, what was found, what was
    wanted and the next step.
    """

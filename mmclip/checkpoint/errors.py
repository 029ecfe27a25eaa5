"""The one exception that checkpoint handling raises."""


class CheckpointError(RuntimeError):
    """A checkpoint cannot be read, converted or loaded as asked.

    The message names the file or key, what was found, what was wanted and
    the next step.
    """

"""mmengine's files, written atomically."""

from pathlib import Path

from mmengine.fileio import LocalBackend, register_backend

from mmclip.checkpoint.files.atomic import atomic_file


class AtomicLocalBackend(LocalBackend):
    """mmengine's backend for local files; they are whole or not there."""

    def put(self, obj: bytes, filepath: str | Path) -> None:
        """Write bytes to a file.

        Raises:
            OSError: If they cannot be written; an old file stays as it was.
        """
        with atomic_file(filepath) as temporary:
            temporary.write_bytes(obj)

    def put_text(
        self, obj: str, filepath: str | Path, encoding: str = 'utf-8'
    ) -> None:
        """Write a text to a file; errors as in :meth:`put`."""
        self.put(obj.encode(encoding), filepath)


def use_atomic_backend() -> None:
    """Let mmengine write all local files so."""
    register_backend('local', AtomicLocalBackend, force=True, prefixes='')

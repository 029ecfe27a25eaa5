"""Atomic writing of mmengine's files."""

from pathlib import Path

from mmengine.fileio import LocalBackend, register_backend

from mmclip.checkpoint.files.atomic import atomic_file


class AtomicLocalBackend(LocalBackend):
    """mmengine's backend for local files, which writes all or nothing."""

    def put(self, obj: bytes, filepath: str | Path) -> None:
        """Write bytes to a file."""
        with atomic_file(filepath) as temporary:
            temporary.write_bytes(obj)

    def put_text(
        self, obj: str, filepath: str | Path, encoding: str = 'utf-8'
    ) -> None:
        """Write text to a file; errors are as in :meth:`put`."""
        self.put(obj.encode(encoding), filepath)


def use_atomic_backend() -> None:
    """Make mmengine write all local files atomically."""
    register_backend('local', AtomicLocalBackend, force=True, prefixes='')

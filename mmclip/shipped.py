"""Where the files are that come with the package, as its configs."""

from pathlib import Path


def shipped(path: str) -> Path:
    """Return the place of ``configs/...`` or ``model-index.yml``."""
    package = Path(__file__).parent
    installed = package / '.mim'
    return (installed if installed.exists() else package.parent) / path

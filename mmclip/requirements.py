"""What mmclip runs with: read by ``setup.py``, checked at import."""

from importlib.metadata import PackageNotFoundError, version

from packaging.specifiers import SpecifierSet

REQUIRED = {
    'torch': '>=2.6',  # torch.load with weights_only as the default
    'torchvision': '>=0.21',
    'mmengine': '>=0.10.4,<1',
    'mmpretrain': '>=1.2,<2',
    'open_clip_torch': '>=3.0,<4',
    'safetensors': '>=0.4',
    'numpy': '>=1.26',
    'packaging': '>=22',
}
# mmcv and mmcv-lite both are the module `mmcv`; either will do.
MMCV = '>=2.0,<2.4'  # the upper bound is mmpretrain 1.2.0's own


def check() -> None:
    """Compare the installed versions with the ranges.

    Raises:
        ImportError: Naming what is missing or outside its range, and the
            command that installs it.
    """
    for package, wanted in REQUIRED.items():
        _check_one(package, wanted)
    for package in ('mmcv', 'mmcv-lite'):
        if _installed(package) is not None:
            return _check_one(package, MMCV)
    raise ImportError(
        'mmclip needs mmcv or mmcv-lite, and neither is installed; run: '
        f"pip install 'mmcv-lite{MMCV}'"
    )


def _check_one(package: str, wanted: str) -> None:
    found = _installed(package)
    if found is None or not SpecifierSet(wanted).contains(found, True):
        raise ImportError(
            f'mmclip needs {package}{wanted}, but '
            f'{found or "no version of it"} is installed; run: '
            f"pip install '{package}{wanted}'"
        )


def _installed(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None

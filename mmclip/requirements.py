"""What mmclip runs with: read by ``setup.py``, checked at import."""

from importlib.metadata import PackageNotFoundError, version

REQUIRED = {
    'packaging': '>=22',  # first, since it compares the others
    'torch': '>=2.6',  # torch.load with weights_only as the default
    'torchvision': '>=0.21',
    'mmengine': '>=0.10.4,<1',
    'mmpretrain': '>=1.2,<2',
    'open_clip_torch': '>=3.0,<4',
    'timm': '>=1.0.17',  # what open_clip builds most towers with
    'huggingface_hub': '>=0.20',
    'filelock': '>=3',
    'safetensors': '>=0.4',
    'numpy': '>=1.26',
}
# mmcv and mmcv-lite both are the module `mmcv`: one of them, not both.
MMCV = '>=2.0,<2.4'  # the upper bound is mmpretrain 1.2.0's own


def check() -> None:
    """Compare the installed versions with the ranges.

    Raises:
        ImportError: Naming what is missing or outside its range, and the
            command that installs it.
    """
    for package, wanted in REQUIRED.items():
        _check_one(package, wanted)
    mmcvs = [name for name in ('mmcv', 'mmcv-lite') if _installed(name)]
    if not mmcvs:
        raise ImportError(
            'mmclip needs mmcv or mmcv-lite, and neither is installed; run: '
            f"pip install 'mmcv-lite{MMCV}'"
        )
    if len(mmcvs) > 1:
        raise ImportError(
            'mmclip needs one of mmcv and mmcv-lite, but both are installed '
            'and overwrite each other; run: pip uninstall --yes mmcv '
            f"mmcv-lite && pip install 'mmcv-lite{MMCV}' (or mmcv, for its "
            'compiled operators)'
        )
    _check_one(mmcvs[0], MMCV)


def _check_one(package: str, wanted: str) -> None:
    found = _installed(package)
    if found is None or not _contains(wanted, found):
        raise ImportError(
            f'mmclip needs {package}{wanted}, but '
            f'{found or "no version of it"} is installed; run: '
            f"pip install '{package}{wanted}'"
        )


def _contains(wanted: str, found: str) -> bool:
    from packaging.specifiers import SpecifierSet

    return SpecifierSet(wanted).contains(found, prereleases=True)


def _installed(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None

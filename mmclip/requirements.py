"""Version requirements: read by ``setup.py``, checked at import."""

from importlib.metadata import PackageNotFoundError, version

REQUIRED = {
    'packaging': '>=22',  # first, since it compares the others
    # In older versions crafted files corrupt memory despite weights_only
    # (CVE-2026-24747).
    'torch': '>=2.10',
    'torchvision': '>=0.25',
    # 0.10.5 cannot be imported alongside transformers 4 and torch >= 2.5.
    'mmengine': '>=0.10.6,<1',
    'mmpretrain': '>=1.2,<2',
    'open_clip_torch': '>=3.2,<4',  # the first with every name in the zoo
    'timm': '>=1.0.21',  # the first to build every tower on meta
    'huggingface_hub': '>=0.26',
    'filelock': '>=3.9',
    'safetensors': '>=0.4.1',
    'numpy': '>=1.26',
}
MMCV = '>=2.0,<2.4'  # the upper bound is mmpretrain's own
# mmengine imports pkg_resources, without requiring it, when a config inherits
# from another package's; setuptools 81 removed it. Required for installation
# but not checked at import, since everything else works without it.
SETUPTOOLS = '<81'
# For the events of `mmclip adapt`; nothing else needs it.
TENSORBOARD = '>=2.18'
# Packages that provide the same module, of which only one may be installed.
# Those of onedl are maintained forks.
SAME_MODULE = {
    'mmcv': ('mmcv-lite', 'mmcv', 'onedl-mmcv'),
    'mmengine': ('mmengine', 'onedl-mmengine'),
    'mmpretrain': ('mmpretrain', 'onedl-mmpretrain'),
}


def check() -> None:
    """Compare the installed versions with the ranges.

    Raises:
        ImportError: If a package is missing, outside its range or installed
            twice; the message has the command that fixes it.
    """
    for package, wanted in (REQUIRED | {'mmcv': MMCV}).items():
        _check_one(SAME_MODULE.get(package, (package,)), wanted)


def _check_one(names: tuple[str, ...], wanted: str) -> None:
    installed = {name: found for name in names if (found := _installed(name))}
    if len(installed) > 1:
        raise ImportError(
            f'mmclip needs only one of {" and ".join(installed)}, but they '
            'are installed together and overwrite each other; run: pip '
            'uninstall '
            f'--yes {" ".join(installed)} && {_install(names, wanted)}'
        )
    names = tuple(installed) or names
    found = installed.get(names[0])
    if found is None or not _contains(wanted, found):
        raise ImportError(
            f'mmclip needs {" or ".join(name + wanted for name in names)}, '
            f'but {found or "no version of it"} is installed; run: '
            f'{_install(names, wanted)}'
        )


def _install(names: tuple[str, ...], wanted: str) -> str:
    return f"pip install '{names[0]}{wanted}'"


def _contains(wanted: str, found: str) -> bool:
    from packaging.specifiers import SpecifierSet

    return SpecifierSet(wanted).contains(found, prereleases=True)


def _installed(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None

"""Build mmclip, with the configs and tools that mim looks for."""

import os
import runpy
import shutil
from pathlib import Path

from setuptools import find_packages, setup
from setuptools.command.build_py import build_py

ROOT = Path(__file__).parent
# Run, not imported: the package's requirements are not installed yet.
VERSION = runpy.run_path(str(ROOT / 'mmclip/version.py'))['__version__']
REQUIREMENTS = runpy.run_path(str(ROOT / 'mmclip/requirements.py'))
MIM_FILES = ('configs', 'tools', 'model-index.yml')


class BuildWithMim(build_py):
    """Put configs, tools and model-index.yml into ``mmclip/.mim``.

    Copies into wheels; links back to the checkout in editable installs.
    """

    def run(self) -> None:
        """Build, then add what mim looks for."""
        super().run()
        if self.editable_mode:
            self._link(ROOT / 'mmclip' / '.mim')
        else:
            self._copy(Path(self.build_lib) / 'mmclip' / '.mim')

    def _link(self, folder: Path) -> None:
        folder.mkdir(exist_ok=True)
        for name in MIM_FILES:
            link = folder / name
            if not link.is_symlink():
                link.symlink_to(os.path.join('..', '..', name))

    def _copy(self, folder: Path) -> None:
        ignore = shutil.ignore_patterns('__pycache__')
        # An earlier build may have left files that no longer exist.
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        for name in MIM_FILES:
            source, target = ROOT / name, folder / name
            if source.is_dir():
                shutil.copytree(source, target, ignore=ignore)
            else:
                shutil.copy2(source, target)


setup(
    name='mmclip',
    version=VERSION,
    description='Fine-tune CLIP on your own images with mmpretrain, and use '
    'its encoder in every OpenMMLab package',
    long_description=(ROOT / 'README.md').read_text(encoding='utf-8'),
    long_description_content_type='text/markdown',
    license='Apache-2.0',
    license_files=['LICENSE'],
    python_requires='>=3.10',
    packages=find_packages(include=['mmclip', 'mmclip.*']),
    # So that editable installs put the checkout on Python's path, tests and
    # tools included; otherwise any folder called mmclip, as where it is
    # cloned, would come first.
    package_dir={'': '.'},
    package_data={'mmclip': ['**/*.html', 'report/templates/*']},
    install_requires=[
        *(
            f'{name}{range_}'
            for name, range_ in REQUIREMENTS['REQUIRED'].items()
        ),
        f'setuptools{REQUIREMENTS["SETUPTOOLS"]}',
        f'tensorboard{REQUIREMENTS["TENSORBOARD"]}',
    ],
    extras_require={
        'lite': [f'mmcv-lite{REQUIREMENTS["MMCV"]}'],
        'full': [f'mmcv{REQUIREMENTS["MMCV"]}'],
        'demo': ['matplotlib', 'pillow', 'scikit-learn', 'tqdm'],
        'dev': [
            'build',
            'codespell',
            'furo',
            'modelindex',
            'mypy',
            'myst-parser',
            'pytest',
            'pytest-xdist',
            'ruff',
            'setuptools>=77',
            'sphinx',
            'transformers>=4.49',
        ],
    },
    cmdclass={'build_py': BuildWithMim},
    entry_points={'console_scripts': ['mmclip = mmclip.cli:main']},
    zip_safe=False,
)

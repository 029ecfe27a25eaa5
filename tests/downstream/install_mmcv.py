"""Install the mmcv that mmsegmentation, mmdetection and mmpose accept.

python install_mmcv.py lite    mmcv-lite, and a stand-in for its operators
python install_mmcv.py full    mmcv, compiled here in half an hour or more
"""

import shutil
import subprocess
import sys
import tarfile
import tempfile
from importlib.util import find_spec
from pathlib import Path

VERSION = '2.1.0'  # the newest that all three accept
STAND_IN = Path(__file__).with_name('mmcv_stand_in.py')
PIP = [sys.executable, '-m', 'pip']


def main(kind: str) -> None:
    subprocess.check_call([*PIP, 'uninstall', '--yes', 'mmcv', 'mmcv-lite'])
    if kind == 'full':
        with tempfile.TemporaryDirectory() as folder:
            install_full(Path(folder))
    else:
        install_lite()


def install_lite() -> None:
    """Install mmcv-lite, which has no operators, and add the stand-in."""
    name = f'mmcv-lite=={VERSION}'
    subprocess.check_call([*PIP, 'install', '--no-deps', name])
    package = Path(find_spec('mmcv').submodule_search_locations[0])
    shutil.copy(STAND_IN, package / '_ext.py')


def install_full(folder: Path) -> None:
    """Build mmcv from source with C++20, which today's torch needs."""
    source = ['--no-binary', 'mmcv', '--no-build-isolation', '--no-deps']
    name = f'mmcv=={VERSION}'
    subprocess.check_call([*PIP, 'download', *source, '-d', folder, name])
    (archive,) = folder.glob('mmcv-*')
    with tarfile.open(archive) as packed:
        packed.extractall(folder, filter='data')
    setup = folder / f'mmcv-{VERSION}' / 'setup.py'
    setup.write_text(setup.read_text().replace('-std=c++17', '-std=c++20'))
    build = ['--no-build-isolation', '--no-deps', setup.parent]
    subprocess.check_call(['env', 'MMCV_WITH_OPS=1', *PIP, 'install', *build])


if __name__ == '__main__':
    if sys.argv[1:] not in (['lite'], ['full']):
        sys.exit(__doc__)
    main(sys.argv[1])

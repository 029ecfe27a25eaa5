"""The package: its wheel, its import, its editable install."""

import os
import shutil
import subprocess
import sys
import zipfile

import pytest

from mmclip import requirements
from tests.conftest import REPOSITORY


@pytest.fixture(scope='module')
def dist(tmp_path_factory):
    """A folder with the sdist, and the wheel that was built from it."""
    folder = tmp_path_factory.mktemp('dist')
    command = ['build', '--no-isolation', '--outdir', folder, REPOSITORY]
    subprocess.run([sys.executable, '-m', *command], check=True)
    return folder


@pytest.fixture(scope='module')
def wheel(dist):
    (path,) = dist.glob('mmclip-*.whl')
    return path


@pytest.fixture
def source(dist, tmp_path):
    """The unpacked sdist."""
    (path,) = dist.glob('mmclip-*.tar.gz')
    shutil.unpack_archive(path, tmp_path)
    return tmp_path / path.name.removesuffix('.tar.gz')


@pytest.fixture(scope='module')
def installed(wheel, tmp_path_factory):
    """A folder that holds nothing but the unpacked wheel."""
    folder = tmp_path_factory.mktemp('installed')
    command = ['pip', 'install', '--no-deps', '--target', folder, wheel]
    subprocess.run([sys.executable, '-m', *command], check=True)
    return folder


def run_python(code, cwd, path=''):
    return subprocess.run(
        [sys.executable, '-c', code],
        cwd=cwd,
        env=os.environ | dict(PYTHONPATH=str(path)),
        capture_output=True,
        text=True,
    )


def test_the_wheel_carries_configs_and_tools(wheel):
    names = set(zipfile.ZipFile(wheel).namelist())
    for name in (
        'configs/clip/clip-l-336.py',
        'configs/clip/metafile.yml',
        'tools/train.py',
        'tools/dist_train.sh',
        'tools/model_converters/openclip_to_mmcls.py',
        'model-index.yml',
    ):
        assert f'mmclip/.mim/{name}' in names
    assert any(name.endswith('licenses/LICENSE') for name in names)
    assert not any(name.startswith('tests/') for name in names)
    assert not any('__pycache__' in name for name in names)


def test_the_wheel_works_from_a_clean_directory(installed, tmp_path):
    code = """
import mmclip, mmpretrain
from mmengine import Config
from mmengine.registry import MODELS, init_default_scope
init_default_scope('mmpretrain')
configs = mmclip.__path__[0] + '/.mim/configs/clip/'
cfg = Config.fromfile(configs + 'clip-b16-224.py')
cfg.model.backbone.arch = dict(width=32, depth=1, num_heads=2, mlp_width=64)
backbone = MODELS.build(cfg.model).backbone
import inspect
print(inspect.getfile(type(backbone)))
"""
    result = run_python(code, tmp_path, installed)
    assert result.returncode == 0, result.stderr
    assert result.stdout.strip() == str(
        installed / 'mmclip' / 'models' / 'clip_vit.py'
    )


def test_the_tools_of_the_wheel_work(installed, tmp_path):
    tool = installed / 'mmclip' / '.mim' / 'tools' / 'train.py'
    result = subprocess.run(
        [sys.executable, tool, '--help'],
        cwd=tmp_path,
        env=os.environ | dict(PYTHONPATH=str(installed)),
        capture_output=True,
        text=True,
    )
    assert '--auto-scale-lr' in result.stdout


def test_the_sdist_holds_its_tests_and_their_environment(source):
    for name in ('tests/conftest.py', 'Makefile', 'requirements'):
        assert (source / name).exists()


def test_a_deleted_config_does_not_come_back_from_an_old_build(source):
    configs = source / 'build' / 'lib' / 'mmclip' / '.mim' / 'configs'
    configs.mkdir(parents=True)
    (configs / 'deleted.py').touch()
    subprocess.run(
        [sys.executable, 'setup.py', 'build_py'], cwd=source, check=True
    )
    assert sorted(path.name for path in configs.iterdir()) == [
        '_base_',
        'clip',
    ]


def test_editable_installs_link_to_configs_and_tools():
    for name in ('configs', 'tools', 'model-index.yml'):
        link = REPOSITORY / 'mmclip' / '.mim' / name
        assert link.resolve() == REPOSITORY / name


@pytest.mark.parametrize('scope', ['mmengine', 'mmpretrain', 'mmseg'])
def test_any_scope_finds_the_backbone_without_custom_imports(scope, tmp_path):
    code = f"""
from mmengine.registry import MODELS, DefaultScope, Registry
seg = Registry('model', parent=MODELS, scope={scope!r} + '_host')
with DefaultScope.overwrite_default_scope({scope!r} + '_host'):
    backbone = seg.build(dict(
        type='mmclip.CLIPVisionTransformer', act='gelu', img_size=16,
        arch=dict(width=32, depth=1, num_heads=2, mlp_width=64)))
print(type(backbone).__name__)
"""
    result = run_python(code, tmp_path)
    assert result.stdout.endswith('CLIPVisionTransformer\n'), result.stderr


def test_import_costs_little_more_than_mmpretrain(tmp_path):
    heavy = '{"open_clip", "timm", "sklearn", "mmclip.models"}'
    code = f'import sys, mmclip; print({heavy} & set(sys.modules))'
    assert run_python(code, tmp_path).stdout.strip() == 'set()'


def test_a_bare_interpreter_is_told_what_to_install(tmp_path):
    # -S: without the packages of the environment.
    result = subprocess.run(
        [sys.executable, '-S', '-c', 'import mmclip'],
        cwd=tmp_path,
        env=os.environ | dict(PYTHONPATH=str(REPOSITORY)),
        capture_output=True,
        text=True,
    )
    assert "run: pip install 'packaging>=22'" in result.stderr


class TestRequirements:
    @pytest.fixture
    def versions(self, monkeypatch):
        """Installed versions, to be changed by the test."""
        installed = dict(
            torch='2.15.0+cu132',
            torchvision='0.29.2+cu132',
            mmengine='0.10.7',
            mmpretrain='1.2.0',
            open_clip_torch='3.3.0',
            timm='1.0.31',
            huggingface_hub='2.4.0',
            filelock='4.2.12',
            safetensors='0.8.0',
            numpy='2.4.6',
            packaging='26.3',
        ) | {'mmcv-lite': '2.2.0', 'mmcv': None}
        monkeypatch.setattr(requirements, '_installed', installed.get)
        return installed

    def test_the_tested_set_passes(self, versions):
        requirements.check()

    def test_full_mmcv_instead_of_lite_passes(self, versions):
        versions.update({'mmcv-lite': None, 'mmcv': '2.1.0'})
        requirements.check()

    def test_neither_mmcv_nor_mmcv_lite(self, versions):
        versions['mmcv-lite'] = None
        with pytest.raises(ImportError, match='needs mmcv or mmcv-lite'):
            requirements.check()

    def test_both_mmcv_and_mmcv_lite(self, versions):
        versions['mmcv'] = '2.2.0'
        with pytest.raises(ImportError, match='but both are installed'):
            requirements.check()

    @pytest.mark.parametrize(
        ('package', 'found', 'message'),
        [
            ('torch', '2.3.0', r'needs torch>=2\.6, but 2\.3\.0 is'),
            ('mmpretrain', None, "run: pip install 'mmpretrain>="),
            ('mmcv-lite', '1.7.0', r'needs mmcv-lite>=2\.0'),
        ],
    )
    def test_what_is_wrong_is_said(self, versions, package, found, message):
        versions[package] = found
        with pytest.raises(ImportError, match=message):
            requirements.check()

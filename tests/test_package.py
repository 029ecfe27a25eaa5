"""The package: its wheel, its import, its editable install."""

import os
import re
import shutil
import subprocess
import sys
import zipfile
from importlib.metadata import version

import pytest
from mmpretrain.utils import dependency
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name
from packaging.version import Version

from mmclip import multimodal, requirements
from mmclip.engine.config.load import load_config
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


def bound_of(wanted, operator):
    for specifier in SpecifierSet(str(wanted)):
        if specifier.operator == operator:
            return specifier.version
    return None


RANGES = requirements.REQUIRED | {'mmcv-lite': requirements.MMCV}
OUTSIDE = [(package, '0.0.1') for package in RANGES] + [
    (package, bound)
    for package, wanted in RANGES.items()
    if (bound := bound_of(wanted, '<'))
]


def run_python(code, cwd, path=''):
    return subprocess.run(
        [sys.executable, '-c', code],
        cwd=cwd,
        env=os.environ | dict(PYTHONPATH=str(path)),
        capture_output=True,
        text=True,
    )


@pytest.mark.slow
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
    assert 'mmclip/report/templates/run.html' in names
    assert 'mmclip/predicting/page.html' in names
    assert any(name.endswith('licenses/LICENSE') for name in names)
    assert any(name.endswith('entry_points.txt') for name in names)
    assert not any(name.startswith('tests/') for name in names)
    assert not any('__pycache__' in name for name in names)


@pytest.mark.slow
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


@pytest.mark.slow
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


@pytest.mark.slow
def test_the_sdist_holds_its_tests_and_their_environment(source):
    for name in ('tests/conftest.py', 'Makefile', 'requirements'):
        assert (source / name).exists()


@pytest.mark.slow
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
        'mmdet',
        'mmpose',
        'mmseg',
    ]


def test_editable_installs_link_to_configs_and_tools():
    for name in ('configs', 'tools', 'model-index.yml'):
        link = REPOSITORY / 'mmclip' / '.mim' / name
        assert link.resolve() == REPOSITORY / name


def test_a_folder_of_the_same_name_is_not_imported(tmp_path):
    """As beside a clone; setuptools' own finder would come after it."""
    (tmp_path / 'mmclip').mkdir()
    done = run_python('import mmclip; print(mmclip.__version__)', tmp_path)
    assert done.stdout.strip() == version('mmclip'), done.stderr


@pytest.mark.slow
def test_an_import_alone_registers_everything(tmp_path):
    """Backbones in any scope, and schemes of checkpoints; at little cost."""
    code = """
import sys, mmclip
print({'open_clip', 'timm', 'sklearn', 'mmclip.models'} & set(sys.modules))
from mmengine.runner import CheckpointLoader
try:
    CheckpointLoader.load_checkpoint('open_clip://ViT-B-32/opanai')
except RuntimeError as error:
    print(error)
from mmengine.registry import MODELS, DefaultScope, Registry
for host in ('mmengine', 'mmpretrain', 'mmseg'):
    seg = Registry('model', parent=MODELS, scope=f'{host}_host')
    with DefaultScope.overwrite_default_scope(f'{host}_host'):
        backbone = seg.build(dict(
            type='mmclip.CLIPVisionTransformer', act='gelu', img_size=16,
            arch=dict(width=32, depth=1, num_heads=2, mlp_width=64)))
    print(host, type(backbone).__name__)
"""
    result = run_python(code, tmp_path)
    said = result.stdout.splitlines()
    logged = ' - mmengine - '
    heavy, scheme, *backbones = [x for x in said if logged not in x]
    assert heavy == 'set()', result.stderr
    assert 'its tags: openai' in scheme
    assert backbones == [
        f'{host} CLIPVisionTransformer'
        for host in ('mmengine', 'mmpretrain', 'mmseg')
    ], result.stderr


@pytest.mark.slow
def test_models_are_imported_beside_pycocotools(tmp_path):
    """mmpretrain's multimodal ones, too, if transformers has their names."""
    folder = tmp_path / 'pycocotools-2.0.11.dist-info'
    folder.mkdir()
    (folder / 'METADATA').write_text('Name: pycocotools\nVersion: 2.0.11\n')
    code = """
import mmclip.models.public, mmpretrain.utils.dependency as dependency
print('multimodal', dependency.WITH_MULTIMODAL)
"""
    result = run_python(code, tmp_path, f'{tmp_path}:{REPOSITORY}')
    works = Version(version('transformers')) < Version('4.50')
    assert f'multimodal {works}' in result.stdout, result.stderr
    assert result.stderr.count('switched off') == (not works)


class TestMultimodal:
    @pytest.fixture
    def switch(self, monkeypatch):
        """mmpretrain's switch, on, before its models are imported."""
        monkeypatch.setattr(dependency, 'WITH_MULTIMODAL', True)
        monkeypatch.delitem(sys.modules, 'mmpretrain.models', raising=False)
        return dependency

    @pytest.mark.parametrize('missing', [None, 'transformers.x'])
    def test_it_is_switched_off_where_a_name_is_missing(
        self, switch, monkeypatch, caplog, missing
    ):
        monkeypatch.setattr(multimodal, 'missing_name', lambda _: missing)
        multimodal.switch_off_if_broken()
        assert switch.WITH_MULTIMODAL is (missing is None)
        assert len(caplog.records) == (missing is not None)

    @pytest.mark.parametrize(
        ('source', 'missing'),
        [
            ('from transformers import __version__', None),
            ('def late():\n    from transformers import gone', None),
            ('from other_package import gone', None),
            ('from transformers import gone', 'transformers.gone'),
            (
                'try:\n    from transformers.gone import (\n        one, two'
                ')\nexcept:\n    one = None',
                'transformers.gone.one',
            ),
        ],
    )
    def test_names_that_files_import(self, tmp_path, source, missing):
        (tmp_path / 'x.py').write_text(source)
        assert multimodal.missing_name(tmp_path.glob('*.py')) == missing


def test_a_config_builds_on_one_of_mmpretrain(tmp_path):
    path = tmp_path / 'config.py'
    path.write_text(
        "_base_ = 'mmpretrain::vision_transformer/vit-base-p16_64xb64_in1k.py'"
    )
    assert load_config(path).model.type == 'ImageClassifier'


def test_a_setuptools_that_is_too_new_is_named(tmp_path, monkeypatch):
    path = tmp_path / 'config.py'
    path.write_text("_base_ = 'mmpretrain::_base_/default_runtime.py'")
    monkeypatch.setitem(sys.modules, 'pkg_resources', None)
    with pytest.raises(ImportError, match="pip install 'setuptools<81'"):
        load_config(path)


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


def test_the_import_says_which_version_is_too_old(tmp_path):
    folder = tmp_path / 'torch-2.9.1.dist-info'
    folder.mkdir()
    (folder / 'METADATA').write_text('Name: torch\nVersion: 2.9.1\n')
    result = run_python('import mmclip', tmp_path, tmp_path)
    assert result.stderr.endswith(
        'ImportError: mmclip needs torch>=2.10, but 2.9.1 is installed; '
        "run: pip install 'torch>=2.10'\n"
    )


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

    def test_the_maintained_forks_pass(self, versions):
        versions.update(dict.fromkeys(('mmengine', 'mmpretrain')))
        versions.update({'mmcv-lite': None, 'onedl-mmcv': '2.3.6'})
        versions['onedl-mmengine'] = '0.10.12'
        versions['onedl-mmpretrain'] = '1.3.6'
        requirements.check()

    @pytest.mark.parametrize(('package', 'found'), OUTSIDE)
    def test_too_old_or_too_new(self, versions, package, found):
        versions[package] = found
        wanted = RANGES[package]
        message = (
            f'mmclip needs {package}{wanted}, but {found} is installed; '
            f"run: pip install '{package}{wanted}'"
        )
        with pytest.raises(ImportError, match=f'^{re.escape(message)}$'):
            requirements.check()

    @pytest.mark.parametrize('package', RANGES)
    def test_missing(self, versions, package):
        versions[package] = None
        message = (
            'but no version of it is installed; '
            f"run: pip install '{package}{RANGES[package]}'"
        )
        with pytest.raises(ImportError, match=f'{re.escape(message)}$'):
            requirements.check()

    @pytest.mark.parametrize(
        ('package', 'other'),
        [
            ('mmcv-lite', 'mmcv'),
            ('mmcv-lite', 'onedl-mmcv'),
            ('mmengine', 'onedl-mmengine'),
            ('mmpretrain', 'onedl-mmpretrain'),
        ],
    )
    def test_two_packages_with_one_module(self, versions, package, other):
        versions[other] = versions[package]
        message = (
            f'needs only one of {package} and {other}, but they are installed '
            'together and overwrite each other; run: pip uninstall --yes '
            f"{package} {other} && pip install '{package}{RANGES[package]}'"
        )
        with pytest.raises(ImportError, match=f'{re.escape(message)}$'):
            requirements.check()


@pytest.mark.parametrize('package', RANGES)
def test_the_oldest_set_is_the_lower_bounds(package):
    oldest = pins('constraints-oldest.txt')[canonicalize_name(package)]
    assert oldest == Version(bound_of(RANGES[package], '>='))


@pytest.mark.parametrize('package', RANGES)
def test_the_newest_set_is_in_the_ranges(package):
    newest = pins('constraints.txt')[canonicalize_name(package)]
    assert newest in SpecifierSet(RANGES[package])


@pytest.mark.parametrize('name', ['constraints.txt', 'constraints-oldest.txt'])
def test_both_sets_have_what_is_required_but_not_checked(name):
    assert pins(name)['setuptools'] in SpecifierSet(requirements.SETUPTOOLS)
    assert pins(name)['tensorboard'] in SpecifierSet(requirements.TENSORBOARD)


def pins(name):
    """The version of each package in a file of constraints."""
    lines = (REPOSITORY / 'requirements' / name).read_text().splitlines()
    pinned = [Requirement(line) for line in lines if line[0] != '#']
    return {
        canonicalize_name(one.name): Version(bound_of(one.specifier, '=='))
        for one in pinned
    }

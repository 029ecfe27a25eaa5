"""No path to a checkpoint executes what it holds.

Each is tried with torch asked to load unsafely, and with a payload that works
where pickles are executed.
"""

import functools
import http.server
import threading
from pathlib import Path

import pytest
import torch
from mmengine.runner import CheckpointLoader, load_checkpoint
from mmengine.runner import checkpoint as catalogue
from torch import nn

from mmclip.checkpoint import CheckpointError, PretrainedCLIP, convert_source
from mmclip.models import CLIPVisionTransformer
from tests.conftest import put_into_hub_cache, use_hub_cache
from tests.test_checkpoint.conftest import Payload, shrink_timm

pytestmark = pytest.mark.filterwarnings('ignore:Environment variable TORCH')
NAMES = {
    'torchvision://': 'resnet18',
    'modelzoo://': 'resnet18',
    'open-mmlab://': 'evil',
    'openmmlab://': 'evil',
    'mmcls://': 'evil',
}


@pytest.fixture(autouse=True)
def unsafe(monkeypatch, tmp_path) -> None:
    """What would let torch execute pickles."""
    monkeypatch.setenv('TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD', '1')
    monkeypatch.setenv('MMENGINE_HOME', str(tmp_path / 'home'))
    monkeypatch.setattr(torch.hub, 'get_dir', lambda: str(tmp_path / 'torch'))


@pytest.fixture
def evil(tmp_path) -> Path:
    """A file with weights and a payload; that it works is tried after."""
    path, witness = tmp_path / 'files' / 'evil.pth', tmp_path / 'witness'
    path.parent.mkdir()
    weights = {'backbone.a': torch.zeros(1)}
    torch.save(dict(state_dict=weights, extra=Payload(witness)), path)
    yield path
    assert not witness.exists()
    torch.load(path)  # as the environment asks for
    assert witness.exists()


@pytest.fixture
def server(evil):
    """Serves the file; its address."""

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_):
            pass

    handler = functools.partial(Quiet, directory=str(evil.parent))
    with http.server.ThreadingHTTPServer(('127.0.0.1', 0), handler) as httpd:
        threading.Thread(
            target=httpd.serve_forever, args=(0.01,), daemon=True
        ).start()
        yield f'http://127.0.0.1:{httpd.server_port}'
        httpd.shutdown()


def test_every_scheme_of_mmengine_is_ours():
    """Also those that other libraries may have added on the way."""
    import mmpretrain.apis  # noqa: F401

    modules = {f.__module__ for f in CheckpointLoader._schemes.values()}
    assert modules == {'mmclip.checkpoint.schemes'}


def test_local_files_and_urls(evil, server):
    for path in (str(evil), f'{server}/evil.pth'):
        with pytest.raises(CheckpointError, match='mkdir'):
            CheckpointLoader.load_checkpoint(path)


@pytest.mark.parametrize('scheme', NAMES)
def test_catalogues(server, monkeypatch, scheme):
    urls = {NAMES[scheme]: f'{server}/evil.pth'}
    for name in (
        'get_torchvision_models',
        'get_external_models',
        'get_mmcls_models',
    ):
        monkeypatch.setattr(catalogue, name, lambda: urls)
    with pytest.raises(CheckpointError, match='mkdir'):
        CheckpointLoader.load_checkpoint(scheme + NAMES[scheme])
    with pytest.raises(CheckpointError, match="has no model 'resnet1x'"):
        CheckpointLoader.load_checkpoint(f'{scheme}resnet1x')


def test_mmengines_home(evil, tmp_path, monkeypatch):
    (tmp_path / 'home').mkdir()
    evil.rename(tmp_path / 'home' / 'evil.pth')
    urls = dict(evil='evil.pth')
    monkeypatch.setattr(catalogue, 'get_external_models', lambda: urls)
    with pytest.raises(CheckpointError, match='mkdir'):
        CheckpointLoader.load_checkpoint('open-mmlab://evil')
    (tmp_path / 'home' / 'evil.pth').rename(evil)


@pytest.mark.parametrize('scheme', ['s3', 'petrel', 'my:s3', 'my:petrel'])
def test_object_stores(evil, monkeypatch, scheme):
    class Backend:
        def get(self, url: str) -> bytes:
            return evil.read_bytes()

    monkeypatch.setattr(
        'mmclip.checkpoint.schemes.get_file_backend',
        lambda url, backend_args: Backend(),
    )
    with pytest.raises(CheckpointError, match='mkdir'):
        CheckpointLoader.load_checkpoint(f'{scheme}://bucket/evil.pth')


def test_pavi_is_refused():
    with pytest.raises(CheckpointError, match='give the file'):
        CheckpointLoader.load_checkpoint('pavi://evil.pth')


@pytest.mark.parametrize('name', ['', '..', 'a/..', 'a/'])
def test_urls_name_a_file(name):
    with pytest.raises(CheckpointError, match='does not name a file'):
        CheckpointLoader.load_checkpoint(f'https://nowhere.invalid/{name}')


def test_files_of_one_name_are_not_mixed_up(server, evil):
    for name in ('a', 'b'):
        (evil.parent / name).mkdir()
        torch.save({name: torch.ones(1)}, evil.parent / name / 'x.pth')
    for name in ('a', 'b'):
        url = f'{server}/{name}/x.pth'
        assert list(CheckpointLoader.load_checkpoint(url)) == [name]


def test_initializers(evil):
    module = CLIPVisionTransformer(
        arch=dict(width=8, depth=1, num_heads=1, mlp_width=8),
        act='gelu',
        img_size=8,
        patch_size=8,
        init_cfg=dict(type='Pretrained', checkpoint=str(evil)),
    )
    for use in (
        module.init_weights,
        lambda: PretrainedCLIP(str(evil))(module),
        lambda: load_checkpoint(nn.Linear(1, 1), str(evil)),
    ):
        with pytest.raises(CheckpointError, match='mkdir'):
            use()


def test_converters(evil):
    for name in ('ViT-B-32', 'vit_base_patch32_clip_quickgelu_224'):
        with pytest.raises(CheckpointError, match='mkdir'):
            convert_source(name, str(evil), 'openai')


@pytest.mark.parametrize(
    ('path', 'repository', 'name'),
    [
        (
            'open_clip://ViT-B-32/openai',
            'timm/vit_base_patch32_clip_224.openai',
            'open_clip_pytorch_model.bin',
        ),
        (
            'timm://vit_base_patch32_clip_224.laion2b_ft_in12k_in1k',
            'timm/vit_base_patch32_clip_224.laion2b_ft_in12k_in1k',
            'pytorch_model.bin',
        ),
        ('hf-hub:org/evil', 'org/evil', 'open_clip_pytorch_model.bin'),
    ],
)
def test_downloads(evil, tmp_path, monkeypatch, path, repository, name):
    """In the cache of the hub, as if they had been downloaded."""
    folder = put_into_hub_cache(tmp_path / 'hub', repository)
    (folder / name).write_bytes(evil.read_bytes())
    shrink_timm(monkeypatch)
    (folder / 'open_clip_config.json').write_text(
        '{"model_cfg": {"embed_dim": 8, "vision_cfg": {"width": 64, '
        '"layers": 1, "patch_size": 8, "image_size": 8}, "text_cfg": {}}}'
    )
    use_hub_cache(monkeypatch, tmp_path / 'hub')
    with pytest.raises(CheckpointError, match='mkdir'):
        CheckpointLoader.load_checkpoint(path)

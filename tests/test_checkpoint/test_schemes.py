"""Checkpoint paths of other libraries, wherever a config takes a path."""

import json
import multiprocessing

import pytest
import timm
import torch
from mmengine.registry import MODELS, init_default_scope
from mmengine.runner import CheckpointLoader, load_checkpoint
from safetensors.torch import save_file

from mmclip.analysis.parity import make_twins, randomize, relative_difference
from mmclip.checkpoint import CheckpointError
from mmclip.models import CLIPVisionTransformer
from tests.conftest import (
    RELATIVE_TOLERANCE,
    put_into_hub_cache,
    use_hub_cache,
)
from tests.test_checkpoint.conftest import assert_same, shrink, shrink_timm

NAME, TAG = 'ViT-B-32', 'openai'
URL = f'open_clip://{NAME}/{TAG}'
TIMM = 'vit_base_patch32_clip_224.laion2b_ft_in12k_in1k'


PHOTOS = torch.randn(1, 3, 224, 224)
ARCH = dict(width=64, depth=2, num_heads=2, mlp_width=128)


@pytest.fixture(scope='module', autouse=True)
def small():
    """Two blocks of 64 channels in the models of both libraries."""
    with pytest.MonkeyPatch.context() as patch:
        shrink(patch, NAME)
        shrink_timm(patch)
        yield


@pytest.fixture(scope='module')
def hub(tmp_path_factory, small):
    """A hub cache with random weights of one open_clip and one timm model."""
    folder = tmp_path_factory.mktemp('hub')
    reference, _ = make_twins(NAME, TAG)
    weights = {f'visual.{k}': v for k, v in reference.state_dict().items()}
    weights['logit_scale'] = torch.zeros(())
    repository = 'timm/vit_base_patch32_clip_224.openai'
    snapshot = put_into_hub_cache(folder, repository)
    save_file(weights, snapshot / 'open_clip_model.safetensors')
    classifier = timm.create_model(TIMM, num_classes=1000).eval()
    randomize(classifier)
    snapshot = put_into_hub_cache(folder, f'timm/{TIMM}')
    save_file(classifier.state_dict(), snapshot / 'model.safetensors')
    return folder, reference, classifier


@pytest.fixture
def cached(hub, monkeypatch):
    """The same, with the libraries looking there and nowhere else."""
    folder, reference, classifier = hub
    use_hub_cache(monkeypatch, folder)
    return reference, classifier


def backbone(**changes) -> CLIPVisionTransformer:
    cfg = dict(
        type='mmclip.CLIPVisionTransformer',
        arch=ARCH,
        act='quick_gelu',
        patch_size=32,
        proj_dim=512,
    )
    init_default_scope('mmpretrain')
    module = MODELS.build(cfg | changes)
    module.init_weights()
    return module.eval()


@pytest.mark.parametrize(
    'init_cfg',
    [
        dict(type='mmclip.PretrainedCLIP', checkpoint=URL),
        dict(type='Pretrained', checkpoint=URL, prefix='backbone.'),
    ],
)
def test_init_cfg(cached, init_cfg):
    assert_same(backbone(init_cfg=init_cfg), cached[0], PHOTOS)


def test_the_wrong_activation_is_refused(cached):
    init_cfg = dict(type='mmclip.PretrainedCLIP', checkpoint=URL)
    with pytest.raises(CheckpointError, match="act: checkpoint 'quick_gelu'"):
        backbone(act='gelu', init_cfg=init_cfg)


def test_a_timm_classifier_with_its_head(cached):
    init_default_scope('mmpretrain')
    model = MODELS.build(
        dict(
            type='ImageClassifier',
            backbone=dict(
                type='mmclip.CLIPVisionTransformer',
                arch=ARCH,
                act='gelu',
                patch_size=32,
            ),
            head=dict(type='LinearClsHead', num_classes=1000, in_channels=64),
        )
    ).eval()
    load_checkpoint(model, f'timm://{TIMM}', strict=True)
    assert_same(model, cached[1], PHOTOS)
    assert torch.equal(model.head.fc.weight, cached[1].head.weight)


def test_mmpretrains_get_model(cached):
    import mmpretrain

    model = mmpretrain.get_model(f'clip-{NAME}_{TAG}'.lower(), pretrained=True)
    assert_same(model.extract_feat, cached[0], PHOTOS)


def test_mmpretrains_feature_extractor(cached, tmp_path):
    """Preprocessing and weights, from a name to a feature."""
    import numpy as np
    import open_clip
    from mmpretrain import FeatureExtractor
    from PIL import Image

    from mmclip.checkpoint.towers.open_clip import find_tower

    random = np.random.default_rng(0)
    pixels = random.integers(0, 256, (300, 401, 3), dtype=np.uint8)
    image = Image.fromarray(pixels)
    image.save(tmp_path / 'photo.png')
    extract = FeatureExtractor(f'clip-{NAME}_{TAG}'.lower(), pretrained=True)
    feature = extract(str(tmp_path / 'photo.png'))[0][0]
    transform = open_clip.image_transform(
        224, is_train=False, **find_tower(NAME, TAG).preprocess
    )
    with torch.no_grad():
        wanted = cached[0](transform(image)[None])[0]
    assert relative_difference(feature, wanted) <= RELATIVE_TOLERANCE


def test_names_are_listed():
    import mmpretrain
    import open_clip

    names = set(mmpretrain.list_models('clip-*'))
    for name, tag in open_clip.list_pretrained():
        assert f'clip-{name}_{tag}'.lower() in names


@pytest.fixture
def empty_hub(tmp_path, monkeypatch):
    """Makes a repository with a config in a hub cache of its own."""
    use_hub_cache(monkeypatch, tmp_path)

    def fill(repository, tiny_model):
        folder = put_into_hub_cache(tmp_path, repository)
        cfg = dict(model_cfg=json.loads(tiny_model.config.read_text()))
        (folder / 'open_clip_config.json').write_text(json.dumps(cfg))
        return folder

    return fill


@pytest.mark.parametrize('scheme', ['local-dir:', 'hf-hub:'])
def test_folders_and_repositories(tiny_model, empty_hub, scheme):
    folder, weights = empty_hub('org/tiny', tiny_model), tiny_model.model
    file = folder / 'open_clip_pytorch_model.safetensors'
    save_file(weights.state_dict(), file)
    name = 'org/tiny' if scheme == 'hf-hub:' else folder.name
    path = scheme + ('org/tiny' if scheme == 'hf-hub:' else str(folder))
    checkpoint = CheckpointLoader.load_checkpoint(path)
    proj = checkpoint['state_dict']['backbone.proj']
    assert torch.equal(proj, weights.visual.proj)
    assert checkpoint['meta']['clip']['source']['name'] == name


@pytest.mark.parametrize(
    ('path', 'message'),
    [
        ('open_clip://ViT-B-32', 'must be open_clip://NAME/TAG'),
        ('open_clip://ViT-B-32/opanai', 'its tags: openai'),
        ('open_clip://ViT-B-33/openai', 'did you mean'),
        (
            'open_clip://ViT-B-16/openai',
            'could not be downloaded.* mmclip zero-shot ViT-B-16 '
            'open_clip_model.safetensors OUT.pth --tag openai',
        ),
        ('timm://vit_base_patch32_clip_224', r'must be timm://NAME\.TAG'),
        ('timm://vit_base_patch32_clip_224.x', 'its tags: '),
        ('timm://ViT-B-32.openai', 'timm has no weights ViT-B-32.openai'),
        ('open_clip://vit_base_patch32_clip_224/openai', 'but timm has: give'),
        (f'timm://{TIMM.replace("32", "16")}', 'could not be downloaded'),
        ('hf-hub:org/nothing', 'hf download org/nothing --local-dir nothing;'),
        ('local-dir:nowhere', 'local-dir:nowhere: The folder nowhere does no'),
        ('openclip://ViT-B-32/openai', "did you mean 'open_clip://'"),
        ('hf_hub:org/x', "did you mean 'hf-hub:'"),
        ('tim://x', "did you mean 'timm://'"),
    ],
)
def test_errors_are_one_sentence(cached, path, message):
    with pytest.raises(CheckpointError, match=message):
        CheckpointLoader.load_checkpoint(path)


@pytest.mark.parametrize(
    ('path', 'repository', 'file', 'content'),
    [
        (
            URL,
            'timm/vit_base_patch32_clip_224.openai',
            'open_clip_model.safetensors',
            b'',
        ),
        (f'timm://{TIMM}', f'timm/{TIMM}', 'model.safetensors', b'<html>'),
        (
            'hf-hub:org/tiny',
            'org/tiny',
            'open_clip_pytorch_model.bin',
            b'PK\x03\x04 half',
        ),
        ('hf-hub:org/tiny', 'org/tiny', 'config.json', b'<html>'),
    ],
)
def test_a_damaged_file_of_the_hubs_cache_is_named(
    tiny_model, tmp_path, empty_hub, path, repository, file, content
):
    """The file itself: for a link to it the hub would make another."""
    blob = tmp_path / 'blob'
    blob.write_bytes(content)
    (empty_hub(repository, tiny_model) / file).symlink_to(blob)
    with pytest.raises(CheckpointError, match=f'Delete {blob} to download it'):
        CheckpointLoader.load_checkpoint(path)


def test_two_processes_load_at_once(cached):
    """As the ranks of a node do; neither waits for the other for ever."""
    with multiprocessing.get_context('fork').Pool(2) as pool:
        loaded = pool.map_async(number_of_tensors, range(2), chunksize=1)
        assert loaded.get(timeout=60) == [32, 32]


def number_of_tensors(rank):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv('LOCAL_RANK', str(rank))
        return len(CheckpointLoader.load_checkpoint(URL)['state_dict'])

"""The test pipelines give open_clip's pixels."""

import numpy as np
import open_clip
import pytest
import timm
import torch
from mmcv.transforms import Compose
from mmengine.config import Config
from mmengine.registry import MODELS, TRANSFORMS, init_default_scope
from mmpretrain import FeatureExtractor, ImageClassificationInferencer
from open_clip.transform import image_transform
from PIL import Image
from torchvision.transforms import Normalize

from mmclip.checkpoint.towers.open_clip import find_tower
from mmclip.checkpoint.towers.timm import find_timm_tower
from mmclip.datasets import preprocessing, read_image
from tests.conftest import classifier

SIZE = 224
PHOTOS = [
    (500, 375),
    (337, 333),
    (224, 225),
    (375, 500),
    (97, 131),
    (641, 224),
    (1000, 3),
]


def groups() -> list[dict]:
    """The different preprocessings of open_clip's pairs."""
    found = {}
    for pair in open_clip.list_pretrained():
        settings = open_clip.get_pretrained_cfg(*pair)
        keys = ('mean', 'std', 'interpolation', 'resize_mode')
        found.setdefault(str([settings[key] for key in keys]), pair)
    return [find_tower(*pair).preprocess for pair in found.values()]


GROUPS = groups()
# Of these, what decides about pixels.
RESIZES = list(
    {(g['interpolation'], g['resize_mode']): g for g in GROUPS}.values()
)


def photo(path, size, mode='RGB', **save):
    """Smooth random colours, as Pillow stores them."""
    random = np.random.default_rng(sum(size))
    small = random.integers(0, 256, (9, 7, len(mode)), dtype=np.uint8)
    image = Image.fromarray(small.squeeze(), mode).resize(size)
    image.save(path, **save)
    return path


def ours(path, preprocess, size=SIZE, **changes) -> torch.Tensor:
    init_default_scope('mmpretrain')
    pipeline = preprocessing.test_pipeline(preprocess, size)
    for transform in pipeline:
        transform |= {k: v for k, v in changes.items() if k in transform}
    return Compose(pipeline)(dict(img_path=str(path)))['inputs'].flip(0)


def theirs(path, preprocess, normalize=False) -> torch.Tensor:
    transform = image_transform(SIZE, is_train=False, **preprocess)
    if not normalize:
        assert isinstance(transform.transforms.pop(), Normalize)
    tensor = transform(Image.open(path))
    return tensor if normalize else (tensor * 255).round().byte()


def test_there_are_eight_groups():
    assert len(GROUPS) == 8


@pytest.mark.parametrize('suffix', ['png', 'jpg'])
@pytest.mark.parametrize('size', PHOTOS, ids=str)
@pytest.mark.parametrize('preprocess', RESIZES, ids=str)
def test_the_same_pixels(tmp_path, preprocess, size, suffix):
    path = photo(tmp_path / f'x.{suffix}', size)
    assert torch.equal(ours(path, preprocess), theirs(path, preprocess))


def test_greyscale_and_exif(tmp_path):
    path = photo(tmp_path / 'grey.png', (300, 260), 'L')
    assert torch.equal(ours(path, GROUPS[0]), theirs(path, GROUPS[0]))
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by 90 degrees
    path = photo(tmp_path / 'turned.jpg', (300, 260), exif=exif)
    assert torch.equal(ours(path, GROUPS[0]), theirs(path, GROUPS[0]))


@pytest.mark.parametrize(
    'change', [dict(backend='cv2'), dict(interpolation='nearest')], ids=str
)
def test_another_resize_is_seen(tmp_path, change):
    path = photo(tmp_path / 'x.png', (500, 375))
    difference = ours(path, GROUPS[0], **change).int()
    difference -= theirs(path, GROUPS[0]).int()
    assert difference.abs().max() > 0


@pytest.mark.parametrize('group', range(8))
def test_the_same_values_after_normalisation(tmp_path, group):
    path, preprocess = photo(tmp_path / 'x.png', (337, 333)), GROUPS[group]
    init_default_scope('mmpretrain')
    normalize = MODELS.build(
        dict(
            type='ClsDataPreprocessor',
            **preprocessing.data_preprocessor(preprocess),
        )
    )
    batch = dict(inputs=ours(path, preprocess).flip(0)[None])
    result = normalize(batch)['inputs'][0]
    wanted = theirs(path, preprocess, normalize=True)
    # A pixel is rounded three times, in another order.
    bound = 4 * torch.finfo(torch.float32).eps * wanted.abs().max().item()
    torch.testing.assert_close(result, wanted, rtol=0, atol=bound)


@pytest.mark.parametrize(
    'name',
    [
        'vit_base_patch32_clip_224.openai_ft_in1k',  # crop of 0.9
        'vit_base_patch32_clip_384.openai_ft_in12k_in1k',  # squash and 0.95
        'vit_large_patch14_clip_336.laion2b_ft_in12k_in1k',  # squash
        'vit_base_patch16_clip_224.laion2b_ft_in12k_in1k',  # crop of 0.95
    ],
)
def test_timms_crops(tmp_path, name):
    path = photo(tmp_path / 'x.png', (500, 375))
    tower = find_timm_tower(*name.split('.'))
    data = timm.data.resolve_data_config(
        pretrained_cfg=timm.get_pretrained_cfg(name).to_dict()
    )
    transform = timm.data.create_transform(**data, normalize=False)
    result = ours(path, tower.preprocess, tower.img_size)
    assert torch.equal(result, transform(Image.open(path)))


def test_what_is_not_supported_is_refused():
    def pipeline(**changes):
        return preprocessing.test_pipeline(GROUPS[0] | changes, (224, 336))

    with pytest.raises(ValueError, match=r"resize_mode must be .*'longest'"):
        pipeline(resize_mode='longest')
    with pytest.raises(ValueError, match=r"interpolation must be .*'random'"):
        pipeline(interpolation='random')
    with pytest.raises(ValueError, match='needs square images'):
        pipeline(resize_mode='shortest')
    assert pipeline(resize_mode='squash')[1]['scale'] == (336, 224)


@pytest.fixture
def config():
    """A tiny classifier with the pipeline of open_clip's commonest group."""
    preprocessor = preprocessing.data_preprocessor(GROUPS[0])
    pipeline = preprocessing.test_pipeline(GROUPS[0], SIZE)
    return Config(
        dict(
            default_scope='mmpretrain',
            model=classifier(3, img_size=SIZE, patch_size=56)
            | dict(data_preprocessor=preprocessor),
            test_dataloader=dict(
                dataset=dict(type='CustomDataset', pipeline=pipeline)
            ),
        )
    )


def test_features_of_an_array_are_those_of_open_clips_pixels(tmp_path, config):
    path = photo(tmp_path / 'x.jpg', (500, 375))
    extract = FeatureExtractor(config, pretrained=False, device='cpu')
    ((feature,),) = extract(read_image(path))
    with torch.no_grad():
        pixels = theirs(path, GROUPS[0], normalize=True)[None]
        (wanted,) = extract.model.extract_feat(pixels)
    torch.testing.assert_close(feature, wanted[0])


@pytest.mark.parametrize(
    'inferencer', [FeatureExtractor, ImageClassificationInferencer]
)
def test_inferencers_take_paths(tmp_path, config, inferencer):
    path = str(photo(tmp_path / 'x.png', (300, 260)))
    infer = inferencer(config, pretrained=False, device='cpu')
    (of_path,), (of_array,) = infer(path), infer(read_image(path))
    torch.testing.assert_close(of_path, of_array)


def faster(path, preprocess, size=SIZE):
    init_default_scope('mmpretrain')
    pipeline = preprocessing.faster(
        preprocessing.test_pipeline(preprocess, size)
    )
    return Compose(pipeline)(dict(img_path=str(path)))['inputs'].flip(0)


@pytest.mark.parametrize('size', PHOTOS, ids=str)
@pytest.mark.parametrize('preprocess', RESIZES, ids=str)
def test_the_faster_pipeline_has_nearly_the_same_pixels(
    tmp_path, preprocess, size
):
    path = photo(tmp_path / 'x.jpg', size)
    found, wanted = faster(path, preprocess), theirs(path, preprocess)
    difference = (found.int() - wanted.int()).abs()
    # Squashed images may be enlarged in one direction, reduced in the other.
    most = 2 if preprocess['resize_mode'] == 'shortest' else 10
    assert difference.max() <= most
    assert difference.float().mean() < 0.2


def test_a_large_photo_is_reduced_while_it_is_decoded(tmp_path):
    path = photo(tmp_path / 'x.jpg', (2000, 1500))
    found, wanted = faster(path, GROUPS[0]), theirs(path, GROUPS[0])
    difference = (found.int() - wanted.int()).abs().float()
    assert 0.02 < difference.mean() < 1  # not reduced: 0.004


def test_a_random_crop_is_never_enlarged_by_the_reduction(tmp_path):
    crop = dict(type='RandomResizedCrop', scale=100, crop_ratio_range=(0.3, 1))
    load, _ = preprocessing.faster([dict(type='mmclip.LoadImage'), crop])
    shorter = load['reduce_to']
    init_default_scope('mmpretrain')
    built = TRANSFORMS.build(crop)
    sides = []
    for seed in range(200):
        np.random.seed(seed)
        pixels = np.empty((shorter, 3 * shorter // 2), np.uint8)
        sides += built.rand_crop_params(pixels)[2:]
    assert 100 <= min(sides) < 130


@pytest.mark.parametrize('preprocess', RESIZES, ids=str)
def test_the_faster_pipeline_says_of_itself_what_the_other_does(preprocess):
    pipeline = preprocessing.test_pipeline(preprocess, SIZE)
    wanted = preprocessing.read_pipeline(pipeline, SIZE)
    assert wanted
    found = preprocessing.read_pipeline(preprocessing.faster(pipeline), SIZE)
    assert found == wanted

"""Every config builds, reads images and is what it says."""

import copy
import functools
import re

import numpy as np
import pytest
import torch
from mmengine.dataset import Compose
from mmengine.registry import (
    DATASETS,
    MODELS,
    TRANSFORMS,
    init_default_scope,
)
from mmpretrain.structures import DataSample
from PIL import Image

from mmclip.analysis.parity import randomize, relative_difference
from mmclip.engine.config.load import complete_dataloaders, load_config
from tests.conftest import (
    RELATIVE_TOLERANCE,
    REPOSITORY,
    put_into_hub_cache,
    use_hub_cache,
)
from tests.processes import finish, start
from tests.test_checkpoint.conftest import shrink_timm

CONFIGS = sorted((REPOSITORY / 'configs' / 'clip').glob('*.py'))
IN1K = [path for path in CONFIGS if 'demo' not in path.name]
ONLY_TESTED = ('3rdparty', 'zeroshot')
RECIPES = [
    path for path in IN1K if not any(word in path.name for word in ONLY_TESTED)
]
every_in1k = pytest.mark.parametrize('path', IN1K, ids=lambda p: p.stem)


@pytest.fixture(scope='module')
def imagenet(tmp_path_factory):
    """An ImageNet-style tree: 1000 classes, one odd-sized image for all."""
    root = tmp_path_factory.mktemp('imagenet')
    random = np.random.default_rng(0)
    pixels = random.integers(0, 255, (123, 457, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(root / 'x.JPEG')
    for split in ('train', 'val'):
        for i in range(1000):
            folder = root / split / f'n{i:08d}'
            folder.mkdir(parents=True)
            (folder / 'x.JPEG').hardlink_to(root / 'x.JPEG')
    return root


read = functools.cache(load_config)


def load(path):
    cfg = copy.deepcopy(read(path))
    init_default_scope(cfg.default_scope)
    return cfg


def tower(cfg):
    """The config of the image tower, also of one inside of LoRA."""
    return cfg.model.backbone.get('module', cfg.model.backbone)


# LoRA loads weights when it is built: see tests/test_models/test_lora.py.
@pytest.mark.parametrize(
    'path',
    [
        pytest.param(
            path, marks=pytest.mark.slow if 'clip-l' in path.name else []
        )
        for path in CONFIGS
        if 'lora' not in path.name and 'flyp' not in path.name
    ],
    ids=lambda path: path.stem,
)
def test_the_model_builds(path):
    cfg = load(path)
    with torch.device('meta'):
        model = MODELS.build(cfg.model)
        size = cfg.model.backbone.img_size
        logits = model(torch.zeros(2, 3, size, size))
    assert logits.shape == (2, cfg.model.head.num_classes)


@pytest.mark.slow
@torch.no_grad()
def test_flyp_builds_with_its_text_tower():
    cfg = load(REPOSITORY / 'configs' / 'clip' / 'clip-b16-224_flyp_in1k.py')
    samples = [DataSample().set_gt_label(label) for label in (0, 999)]
    model = MODELS.build(cfg.model)
    images = torch.zeros(2, 3, 224, 224)
    loss = model(images, samples, mode='loss')['loss']
    assert loss.isfinite()
    assert model.head.fc.weight.shape == (1000, 512)
    act = model.text.clip.transformer.resblocks[0].mlp.gelu
    assert type(act).__name__ == 'QuickGELU'  # as the tag has it


@pytest.mark.parametrize('path', RECIPES, ids=lambda p: p.stem)
def test_epochs_are_the_same_in_the_tools_of_mmpretrain(path):
    """Which do not tell the sampler how many images a step takes."""
    cfg = load(path)
    written = cfg.train_dataloader.sampler.get('images_per_step')
    complete_dataloaders(cfg, pin_memory=False)
    assert cfg.train_dataloader.sampler.images_per_step == written


@every_in1k
@pytest.mark.parametrize('split', ['train', 'test'])
def test_images_come_out_at_the_models_size(path, split, imagenet):
    cfg = load(path)
    loader = cfg[f'{split}_dataloader']
    if loader is None:
        assert path not in RECIPES
        return
    dataset = DATASETS.build(loader.dataset | dict(data_root=str(imagenet)))
    size = tower(cfg).img_size
    if (path.stem, split) == ('clip-l-336_fast_in1k', 'train'):
        assert dataset[1]['inputs'].shape == (3, 224, 224)
        (schedule,) = cfg.custom_hooks[-1].schedule  # of the last epochs
        dataset.pipeline = Compose(schedule.train_pipeline)
    assert dataset[1]['inputs'].shape == (3, size, size)
    assert dataset[1]['data_samples'].gt_label.item() == 1


@pytest.mark.parametrize(
    ('name', 'tag_settings'),
    [
        ('clip-l-336', ('ViT-L-14-336', 'openai')),
        ('clip-l-224', ('ViT-L-14', 'openai')),
        ('clip-b16-224', ('ViT-B-16', 'openai')),
    ],
)
def test_images_are_prepared_as_open_clip_does(name, tag_settings, imagenet):
    import open_clip
    from open_clip.transform import PreprocessCfg, image_transform_v2

    cfg = load(REPOSITORY / 'configs' / 'clip' / f'{name}.py')
    size = cfg.model.backbone.img_size
    settings = open_clip.get_pretrained_cfg(*tag_settings)
    keys = ('mean', 'std', 'interpolation', 'resize_mode')
    theirs = image_transform_v2(
        PreprocessCfg(size=size, **{k: settings[k] for k in keys}), False
    )
    path = imagenet / 'x.JPEG'
    wanted = theirs(Image.open(path))

    pipeline = Compose(
        [TRANSFORMS.build(t) for t in cfg.test_dataloader.dataset.pipeline]
    )
    packed = pipeline(dict(img_path=str(path), gt_label=0))
    preprocessor = MODELS.build(
        cfg.model.data_preprocessor | dict(type='ClsDataPreprocessor')
    )
    batch = dict(
        inputs=[packed['inputs']], data_samples=[packed['data_samples']]
    )
    ours = preprocessor(batch)['inputs'][0]
    torch.testing.assert_close(ours, wanted)


@every_in1k
def test_a_missing_imagenet_is_explained(path, tmp_path):
    cfg = load(path)
    wanted = 'n01440764'
    with pytest.raises(FileNotFoundError, match=f'{wanted}(.|\n)*make demo'):
        DATASETS.build(
            cfg.test_dataloader.dataset | dict(data_root=str(tmp_path))
        )


def test_a_recipe_trains_with_the_real_command(imagenet, tmp_path):
    """Shrunk to a few thousand parameters and four images, on one process."""
    options = [
        'model.backbone.arch.width=32',
        'model.backbone.arch.depth=2',
        'model.backbone.arch.num_heads=2',
        'model.backbone.arch.mlp_width=64',
        'model.backbone.init_cfg=None',
        'model.head.in_channels=32',
        'train_cfg.max_epochs=1',
        *(
            f'{split}_dataloader.{option}'
            for split in ('train', 'val')
            for option in (
                f'dataset.data_root={imagenet}',
                'num_workers=0',
                'dataset.indices=4',
                'batch_size=2',
            )
        ),
    ]
    config = tmp_path / 'config.py'
    base = REPOSITORY / 'configs' / 'clip' / 'clip-b16-224.py'
    config.write_text(
        f"_base_ = ['{base}']\n"
        'model = dict(backbone=dict(arch=dict(_delete_=True)))\n'
    )
    train = REPOSITORY / 'tools' / 'train.py'
    log = finish(start(train, config, '--cfg-options', *options, cwd=tmp_path))
    assert 'accuracy/top5' in log
    assert (tmp_path / 'work_dirs' / 'config' / 'epoch_1.pth').is_file()


def test_the_example_for_ones_own_data_works(imagenet, tmp_path):
    page = (REPOSITORY / 'docs' / 'training.md').read_text()
    examples = re.findall(r'```python\n(.+?)```', page, re.DOTALL)
    (example,) = [text for text in examples if 'data/mine' in text]
    config = tmp_path / 'mine.py'
    config.write_text(
        example.replace('/path/to/mmclip', str(REPOSITORY)).replace(
            'data/mine', str(imagenet)
        )
    )
    cfg = load(config)
    assert cfg.model.head.num_classes == 12
    assert cfg.optim_wrapper.paramwise_cfg.layer_decay_rate == 0.65
    for loader in (cfg.train_dataloader, cfg.test_dataloader):
        dataset = DATASETS.build(loader.dataset)
        assert dataset[0]['inputs'].shape == (3, 336, 336)


THIRD_PARTY = 'clip-l-336-laion2b-in12k-pre_3rdparty_in1k'
TIMM = 'vit_large_patch14_clip_336', 'laion2b_ft_in12k_in1k'


def test_the_third_party_config_prepares_images_as_timm_does():
    from mmclip.checkpoint.towers.timm import find_timm_tower
    from mmclip.datasets import preprocessing

    tower = find_timm_tower(*TIMM)
    cfg = load(REPOSITORY / 'configs' / 'clip' / f'{THIRD_PARTY}.py')
    assert cfg.test_pipeline == preprocessing.test_pipeline(
        tower.preprocess, tower.img_size
    )
    wanted = preprocessing.data_preprocessor(tower.preprocess)
    assert wanted.items() <= cfg.model.data_preprocessor.to_dict().items()


def test_the_third_party_row_by_name(tmp_path, monkeypatch):
    """mmpretrain.get_model gives timm's outputs."""
    import mmpretrain
    import timm
    from safetensors.torch import save_file

    shrink_timm(monkeypatch)
    reference = timm.create_model('.'.join(TIMM)).eval()
    randomize(reference)
    folder = put_into_hub_cache(tmp_path, f'timm/{".".join(TIMM)}')
    save_file(reference.state_dict(), folder / 'model.safetensors')
    use_hub_cache(monkeypatch, tmp_path)
    arch = dict(width=64, depth=2, num_heads=2, mlp_width=128)
    model = mmpretrain.get_model(
        THIRD_PARTY,
        pretrained=True,
        backbone=dict(arch=dict(_delete_=True, **arch)),
        head=dict(in_channels=64),
    )
    x = torch.randn(1, 3, 336, 336)
    with torch.no_grad():
        difference = relative_difference(model(x), reference(x))
    assert difference <= RELATIVE_TOLERANCE

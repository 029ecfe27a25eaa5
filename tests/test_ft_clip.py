"""What FT-CLIP's recipes hold, number by number.

LightDXY/FT-CLIP: scripts/, run_class_finetuning.py, models/finetune_clip.py,
datasets.py, and timm's transforms, which that calls. Schedules and averages:
tests/test_recipes.py.
"""

import functools
import math
import re

import pytest
import torch
from mmengine.optim import build_optim_wrapper
from mmengine.registry import MODELS, TRANSFORMS
from torch import nn

from mmclip.analysis.parity import make_twins, relative_difference
from mmclip.models.vit import DropPath
from tests.conftest import RELATIVE_TOLERANCE, REPOSITORY
from tests.ft_clip import SOURCES, every, load

CONFIGS = REPOSITORY / 'configs' / 'clip'
DROPS = dict(p=nn.Dropout, rate=DropPath)
# CLIP's mean and standard deviation of red, green and blue, in 0-255.
MEAN = (122.7709383, 116.7460125, 104.09373615)
STD = (68.5005327, 66.6321579, 70.32316305)


@functools.cache
def build_model(name):
    """On the meta device; for all tests, which only look at it."""
    cfg = load(name)
    with torch.device('meta'):
        return MODELS.build(cfg.model)


def build_transforms(pipeline):
    """By type, in order."""
    built = [TRANSFORMS.build(transform) for transform in pipeline]
    return {type(transform).__name__: transform for transform in built}


def attributes(thing, names):
    """As tuples where they are sequences."""
    found = {name: getattr(thing, name) for name in names}
    return {
        name: tuple(value) if isinstance(value, list) else value
        for name, value in found.items()
    }


@every
def test_the_augmentation(name):
    """Images are BGR until the data preprocessor, and so are fill colours."""
    size = SOURCES[name].img_size
    transforms = build_transforms(load(name).train_pipeline)
    wanted = {
        'SeedSample': {},
        'LoadImage': {},
        'RandomResizedCrop': dict(
            scale=(size, size),
            crop_ratio_range=(0.08, 1.0),
            aspect_ratio_range=(3 / 4, 4 / 3),
            interpolation='bicubic',
            backend='pillow',
        ),
        'RandomFlip': dict(prob=0.5, direction='horizontal'),
        'RandAugment': dict(
            num_policies=2,
            magnitude_level=9,
            magnitude_std=0.5,
            total_level=10,
        ),
        'RandomErasing': dict(
            erase_prob=0.25,
            mode='rand',
            min_area_ratio=0.02,
            max_area_ratio=pytest.approx(1 / 3),
            aspect_range=pytest.approx((0.3, 1 / 0.3)),
            fill_color=pytest.approx(MEAN[::-1]),
            fill_std=pytest.approx(STD[::-1]),
        ),
        'PackInputs': {},
    }
    assert list(transforms) == list(wanted)
    for kind, values in wanted.items():
        assert attributes(transforms[kind], values) == values, kind


@every
def test_what_leaves_the_image_is_filled_with_the_mean(name):
    """As timm fills in rotating, shearing and translating; bicubic, too."""
    operations = build_transforms(load(name).train_pipeline)['RandAugment']
    names = ('pad_val', 'interpolation')
    filling = [op for op in operations.transforms if hasattr(op, 'pad_val')]
    assert len(filling) == 5
    for op in filling:
        assert attributes(op, names) == dict(
            pad_val=(104, 117, 123), interpolation='bicubic'
        )


@every
def test_the_images_of_the_evaluation(name):
    size = SOURCES[name].img_size
    cfg = load(name)
    assert cfg.val_dataloader.dataset.pipeline == cfg.test_pipeline
    transforms = build_transforms(cfg.test_pipeline)
    wanted = {
        'LoadImage': {},
        'ResizeEdge': dict(
            scale=size, edge='short', interpolation='bicubic', backend='pillow'
        ),
        'CenterCrop': dict(crop_size=(size, size)),
        'PackInputs': {},
    }
    assert list(transforms) == list(wanted)
    for kind, values in wanted.items():
        assert attributes(transforms[kind], values) == values, kind


@every
def test_the_input(name):
    preprocessor = build_model(name).data_preprocessor
    assert preprocessor.to_rgb
    assert preprocessor.batch_augments is None  # neither Mixup nor CutMix
    stated = load(name).model.data_preprocessor
    assert stated.mean == pytest.approx(MEAN)
    assert stated.std == pytest.approx(STD)


@every
def test_the_model(name):
    source, cfg = SOURCES[name], load(name)
    backbone = build_model(name).backbone
    assert backbone.out_type == 'avg_featmap'
    assert backbone.depth == source.depth
    grid = source.img_size // (16 if 'b16' in name else 14)
    assert backbone.pos_embed.shape[1] == grid**2 + 1
    assert cfg.model.backbone.act == 'quick_gelu'
    assert cfg.model.backbone.init_cfg.fresh == ['ln1']
    drops = [
        getattr(module, name)
        for module in backbone.modules()
        for name, kind in DROPS.items()
        if isinstance(module, kind)
    ]
    assert drops and not any(drops)
    assert cfg.load_from is None


@every
def test_the_loss_is_timms(name):
    """LabelSmoothingCrossEntropy(0.1), as run_class_finetuning.py has it."""
    from timm.loss import LabelSmoothingCrossEntropy

    torch.manual_seed(0)
    scores, labels = torch.randn(8, 1000), torch.randint(1000, (8,))
    ours = build_model(name).head.loss_module(scores, labels)
    theirs = LabelSmoothingCrossEntropy(smoothing=0.1)(scores, labels)
    assert ours.item() == pytest.approx(theirs.item(), rel=1e-6)


@every
def test_the_optimizer(name):
    cfg = load(name)
    wrapper = build_optim_wrapper(build_model(name), cfg.optim_wrapper)
    assert type(wrapper.optimizer) is torch.optim.AdamW
    assert wrapper.optimizer.defaults['betas'] == (0.9, 0.999)
    assert wrapper.optimizer.defaults['eps'] == 1e-8
    assert wrapper.clip_grad_kwargs is None


@every
def test_the_images_of_a_step(name):
    """On as many GPUs as the config's header says."""
    source, cfg = SOURCES[name], load(name)
    header = (CONFIGS / f'{name}.py').read_text().split('"""')[1]
    (gpus,) = re.findall(rf'dist_train.sh \S+/{name}.py (\d+)', header)
    machines = re.findall(r'NNODES=(\d+)', header) or ['1']
    assert [int(machines[0]) * int(gpus)] == [source.gpus]
    a_pass = source.gpus * cfg.train_dataloader.batch_size
    assert cfg.optim_wrapper.accumulative_counts == source.update_freq
    assert a_pass * source.update_freq == source.batch
    assert cfg.auto_scale_lr.base_batch_size == a_pass
    assert cfg.train_dataloader.dataset.pipeline == cfg.train_pipeline


@every
def test_when_it_is_evaluated(name):
    cfg = load(name)
    assert cfg.train_cfg.by_epoch and cfg.train_cfg.val_interval == 1
    assert cfg.train_cfg.max_epochs == SOURCES[name].epochs


@every
def test_what_is_frozen(name):
    parameters = build_model(name).named_parameters()
    frozen = {n for n, p in parameters if not p.requires_grad}
    conv1 = {'backbone.patch_embed.projection.weight'}
    assert frozen == (conv1 if SOURCES[name].freeze_conv1 else set())


@every
@pytest.mark.parametrize('seed', [0, 12])  # 12 draws the end of the range
def test_the_head_starts_near_zero(name, seed):
    """A truncated normal of 0.02 within 2, times 0.001."""
    head = MODELS.build(load(name).model.head)
    torch.manual_seed(seed)
    head.init_weights()
    bound = torch.tensor(2e-3).item()  # as float32
    assert head.fc.weight.abs().max().item() <= bound
    assert head.fc.weight.std().item() == pytest.approx(2e-5, rel=0.01)
    assert head.fc.bias.abs().max() < 1e-4


@torch.no_grad()
def test_features_are_the_mean_of_normalised_patches():
    """A fresh norm of the patch tokens, their mean, no projection."""
    reference, backbone = make_twins('ViT-B-16-quickgelu', depth=2, width=64)
    described = backbone.architecture()
    ours = load('clip-b16-224').model.backbone
    ours.update(arch=described['arch'], init_cfg=None)
    model = MODELS.build(ours).eval()
    tensors = {
        key: tensor
        for key, tensor in backbone.state_dict().items()
        if key != 'proj'
    }
    model.load_state_dict(tensors)
    images = torch.randn(2, 3, 224, 224)
    tokens = reference.forward_intermediates(
        images,
        indices=1,
        normalize_intermediates=False,
        intermediates_only=True,
        output_fmt='NLC',
    )['image_intermediates'][-1]
    wanted = reference.ln_post(tokens).mean(dim=1)
    found = model(images)[-1]
    assert relative_difference(found, wanted) < RELATIVE_TOLERANCE
    wrong = reference.ln_post(tokens.mean(dim=1))  # the other order
    assert relative_difference(found, wrong) > RELATIVE_TOLERANCE


# By timm's name: mmpretrain's, and what makes timm's number of its own.
OPERATIONS = {
    'AutoContrast': ('AutoContrast', None),
    'Equalize': ('Equalize', None),
    'Invert': ('Invert', None),
    'Rotate': ('Rotate', lambda x: x),
    'PosterizeIncreasing': ('Posterize', math.ceil),
    'SolarizeIncreasing': ('Solarize', math.ceil),
    'SolarizeAdd': ('SolarizeAdd', lambda x: x),
    'ColorIncreasing': ('ColorTransform', lambda x: 1 - x),
    'ContrastIncreasing': ('Contrast', lambda x: 1 - x),
    'BrightnessIncreasing': ('Brightness', lambda x: 1 - x),
    'SharpnessIncreasing': ('Sharpness', lambda x: 1 - x),
    'ShearX': ('Shear horizontal', lambda x: x),
    'ShearY': ('Shear vertical', lambda x: x),
    'TranslateXRel': ('Translate horizontal', lambda x: x),
    'TranslateYRel': ('Translate vertical', lambda x: x),
}


@every
def test_the_operations_are_timms_rand_m9_mstd05_inc1(name):
    from timm.data import auto_augment

    theirs = auto_augment.rand_augment_transform('rand-m9-mstd0.5-inc1', {})
    ours = build_transforms(load(name).train_pipeline)['RandAugment']
    assert ours.num_policies == theirs.num_layers == 2
    assert ours.total_level == auto_augment._LEVEL_DENOM
    by_name = {
        f'{type(t).__name__} {getattr(t, "direction", "")}'.strip(): t
        for t in ours.transforms
    }
    assert {op.name for op in theirs.ops} == set(OPERATIONS)
    assert len(by_name) == len(theirs.ops)
    for op in theirs.ops:
        kind, convert = OPERATIONS[op.name]
        transform = by_name[kind]
        assert transform.prob == op.prob, kind
        if convert is None:
            assert op.level_fn is None
            continue
        assert transform.magnitude_level == op.magnitude
        assert transform.magnitude_std == op.magnitude_std
        low, high = transform.magnitude_range
        number = low + (high - low) * op.magnitude / ours.total_level
        (wanted,) = op.level_fn(op.magnitude, op.hparams)
        assert matches(convert, number, wanted), kind


def matches(convert, number, wanted):
    """With either sign, which both draw at random."""
    return any(
        abs(wanted) == pytest.approx(abs(convert(sign * number)))
        for sign in (1, -1)
    )

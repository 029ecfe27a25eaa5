"""FT-CLIP's recipes, number by number, against the rules of its source.

LightDXY/FT-CLIP: utils.py (cosine_scheduler), models/finetune_clip.py, and
timm's auto_augment, which its datasets.py calls. The learning rates and the
weight decay of every parameter at the peak: tests/test_engine/
test_layer_decay.py.
"""

import math
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from mmengine.registry import (
    MODELS,
    PARAM_SCHEDULERS,
    TRANSFORMS,
    init_default_scope,
)
from torch import nn

from mmclip.analysis.parity import make_twins, relative_difference
from mmclip.engine.config import load_config
from tests.conftest import RELATIVE_TOLERANCE, REPOSITORY

NUM_IMAGES = 1_281_167


@dataclass(frozen=True)
class Source:
    """Numbers of the scripts in FT-CLIP's scripts/."""

    lr: float
    epochs: int
    warmup_epochs: int
    batch: int
    update_freq: int
    freeze_conv1: bool

    @property
    def steps(self) -> int:
        return NUM_IMAGES // self.batch


SOURCES = {
    'clip-l-336': Source(6e-4, 30, 5, 1920, 4, False),
    'clip-l-224': Source(4e-4, 30, 5, 2048, 4, True),
    'clip-b16-224': Source(6e-4, 50, 10, 2048, 1, True),
}
every = pytest.mark.parametrize('name', SOURCES)


def load(name):
    cfg = load_config(REPOSITORY / 'configs' / 'clip' / f'{name}.py')
    init_default_scope(cfg.default_scope)
    return cfg


def their_schedule(source):
    """The learning rate of every optimizer step, written out again."""
    warmup = source.warmup_epochs * source.steps
    rest = source.epochs * source.steps - warmup
    floor = 1e-6
    falling = [
        floor + 0.5 * (source.lr - floor) * (1 + math.cos(math.pi * i / rest))
        for i in range(rest)
    ]
    return np.concatenate([np.linspace(floor, source.lr, warmup), falling])


def our_schedule(cfg, iters_per_epoch):
    """The learning rate of every iteration, by mmengine's schedulers."""
    parameter = nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.SGD([parameter], lr=cfg.optim_wrapper.optimizer.lr)
    schedulers = [
        PARAM_SCHEDULERS.build(
            dict(scheduler, optimizer=optimizer, epoch_length=iters_per_epoch)
        )
        for scheduler in cfg.param_scheduler
    ]
    found = []
    for _ in range(cfg.train_cfg.max_epochs * iters_per_epoch):
        found.append(optimizer.param_groups[0]['lr'])
        for scheduler in schedulers:
            scheduler.step()
    return np.array(found)


@every
@pytest.mark.filterwarnings('ignore:Detected call of')
def test_the_learning_rate_of_every_step(name):
    source, cfg = SOURCES[name], load(name)
    assert cfg.optim_wrapper.accumulative_counts == source.update_freq
    ours = our_schedule(cfg, source.update_freq * source.steps)
    at_steps = ours[source.update_freq - 1 :: source.update_freq]
    theirs = their_schedule(source)
    assert len(at_steps) == len(theirs)
    if source.update_freq == 1:
        np.testing.assert_allclose(at_steps, theirs, rtol=1e-6)
        return
    # mmengine counts the passes between steps too: never further off than
    # their own next step.
    following = np.append(theirs[1:], 1e-6)
    low, high = np.minimum(theirs, following), np.maximum(theirs, following)
    assert (at_steps >= low * (1 - 1e-6)).all()
    assert (at_steps <= high * (1 + 1e-6)).all()


@pytest.mark.parametrize(
    ('name', 'lr', 'max_norm'),
    [
        ('clip-l-336_wise-ft_in1k', 3e-5, 1.0),
        ('clip-b16-224_flyp_in1k', 1e-5, None),
    ],
)
@pytest.mark.filterwarnings('ignore:Detected call of')
def test_the_schedule_of_wise_ft_and_flyp(name, lr, max_norm):
    """cosine_lr of src/models/utils.py in mlfoundations/wise-ft."""
    cfg = load(name)
    steps = math.ceil(NUM_IMAGES / 512)
    ours = our_schedule(cfg, steps)
    warmup, rest = 500, 10 * steps - 500
    falling = 0.5 * (1 + np.cos(np.pi * np.arange(rest) / rest))
    theirs = lr * np.concatenate([np.arange(1, warmup + 1) / warmup, falling])
    np.testing.assert_allclose(ours, theirs, rtol=1e-6, atol=1e-12)
    assert cfg.optim_wrapper.optimizer.weight_decay == 0.1
    clip = cfg.optim_wrapper.get('clip_grad') or {}
    assert clip.get('max_norm') == max_norm
    (crop,) = (t for t in cfg.train_pipeline if t.type == 'RandomResizedCrop')
    assert crop.crop_ratio_range == (0.9, 1.0)


@every
def test_the_average_of_weights(name):
    source, cfg = SOURCES[name], load(name)
    (hook,) = cfg.custom_hooks
    assert hook.type == 'EMAHook'
    assert 1 - hook.momentum == pytest.approx(0.9998)
    assert hook.get('interval', 1) == source.update_freq


@every
def test_what_is_frozen(name):
    cfg = load(name)
    with torch.device('meta'):
        model = MODELS.build(cfg.model)
    frozen = {n for n, p in model.named_parameters() if not p.requires_grad}
    conv1 = {'backbone.patch_embed.projection.weight'}
    assert frozen == (conv1 if SOURCES[name].freeze_conv1 else set())


@every
def test_the_head_starts_near_zero(name):
    """A truncated normal of 0.02, times 0.001."""
    head = MODELS.build(load(name).model.head)
    head.init_weights()
    assert head.fc.weight.std().item() == pytest.approx(2e-5, rel=0.01)
    assert head.fc.bias.abs().max() < 1e-4


@torch.no_grad()
def test_features_are_the_mean_of_normalised_patches():
    """A fresh norm of the patch tokens, their mean, no projection."""
    reference, backbone = make_twins('ViT-B-16-quickgelu', depth=2)
    described = backbone.describe()
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


def test_the_augmentation_is_timms_rand_m9_mstd05_inc1():
    from timm.data import auto_augment

    theirs = auto_augment.rand_augment_transform('rand-m9-mstd0.5-inc1', {})
    ours = next(
        TRANSFORMS.build(t)
        for t in load('clip-l-336').train_pipeline
        if t.type == 'RandAugment'
    )
    assert ours.num_policies == theirs.num_layers == 2
    assert ours.total_level == auto_augment._LEVEL_DENOM
    by_name = {
        f'{type(t).__name__} {getattr(t, "direction", "")}'.strip(): t
        for t in ours.transforms
    }
    assert {op.name for op in theirs.ops} == set(OPERATIONS)
    assert len(by_name) == len(theirs.ops)
    for op in theirs.ops:
        name, convert = OPERATIONS[op.name]
        transform = by_name[name]
        assert transform.prob == op.prob, name
        if convert is None:
            assert op.level_fn is None
            continue
        assert transform.magnitude_level == op.magnitude
        assert transform.magnitude_std == op.magnitude_std
        low, high = transform.magnitude_range
        number = low + (high - low) * op.magnitude / ours.total_level
        (wanted,) = op.level_fn(op.magnitude, op.hparams)
        assert matches(convert, number, wanted), name


def matches(convert, number, wanted):
    """With either sign, which both draw at random."""
    return any(
        abs(wanted) == pytest.approx(abs(convert(sign * number)))
        for sign in (1, -1)
    )


def test_erasing_is_timms():
    """Probability 0.25, mode pixel, count 1, as datasets.py has it."""
    (erasing,) = (
        t
        for t in load('clip-l-336').train_pipeline
        if t.type == 'RandomErasing'
    )
    from timm.data.random_erasing import RandomErasing

    theirs = RandomErasing(probability=0.25, mode='pixel', max_count=1)
    assert erasing.erase_prob == theirs.probability
    assert erasing.mode == 'rand' and theirs.per_pixel
    assert erasing.min_area_ratio == theirs.min_area
    assert erasing.max_area_ratio == pytest.approx(theirs.max_area)

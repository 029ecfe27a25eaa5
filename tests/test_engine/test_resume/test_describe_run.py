"""Checkpoints of trainings describe themselves, and are compared."""

from typing import ClassVar

import pytest
import torch
from mmengine.model import BaseModel, ImgDataPreprocessor
from mmengine.runner import Runner
from torch import nn

from mmclip.checkpoint import (
    CheckpointError,
    PretrainedCLIP,
    open_weights,
    read_checkpoint,
    write_checkpoint,
)
from mmclip.checkpoint.describe import describe_model, preprocess_of
from mmclip.checkpoint.meta import make_clip
from mmclip.checkpoint.towers.export import export_checkpoint, write_export
from mmclip.checkpoint.towers.tower import CLIP, OTHER, SIGLIP, build_backbone
from mmclip.datasets import preprocessing
from tests.test_engine.conftest import Numbers

MEAN, STD = [0.48145466, 0.4578275, 0.40821073], [0.25, 0.26, 0.27]
SOURCE = dict(library='open_clip', name='tiny', tag='openai', file='x.pt')
BACKBONE = dict(
    type=CLIP,
    arch=dict(width=16, depth=2, num_heads=2, mlp_width=32),
    act='quick_gelu',
    img_size=16,
    patch_size=8,
)
OPENAI = dict(
    mean=MEAN, std=STD, interpolation='bicubic', resize_mode='shortest'
)


class Head(nn.Linear):
    """A linear classifier with the names of mmpretrain's."""

    def __init__(self, num_classes: int):
        super().__init__(16, num_classes)
        self.num_classes, self.in_channels = num_classes, 16


class OtherHead(Head):
    """Its weights have the same names."""


class Classifier(BaseModel):
    """Classifies images of one grey, into two."""

    def __init__(self, head=Head, mean=MEAN, bgr_to_rgb=True, **backbone):
        super().__init__(
            ImgDataPreprocessor(
                [255 * value for value in mean],
                [255 * value for value in STD],
                bgr_to_rgb=bgr_to_rgb,
            )
        )
        self.backbone = build_backbone(BACKBONE | backbone)
        self.head = head(2)

    def forward(self, inputs, data_samples=None, mode='tensor'):
        grey = torch.stack(inputs).view(-1, 1, 1, 1)
        size = self.backbone.img_size
        size = (size, size) if isinstance(size, int) else size
        outputs = self.head(self.backbone(grey.expand(-1, 3, *size))[-1])
        return dict(loss=outputs.square().mean()) if mode == 'loss' else []

    def train_step(self, data, optim_wrapper):
        loss = self(data['inputs'], mode='loss')
        optim_wrapper.update_params(loss['loss'])
        return loss

    def test_step(self, data):
        return self(data['inputs'])


class Named(Numbers):
    """With what a data set says of itself."""

    metainfo: ClassVar = dict(classes=('zero', 'one'))


@pytest.fixture
def trained(train, tmp_path):
    """Train a model for an epoch; returns the checkpoint's path."""

    def _trained(model=None, work_dir='work', **arguments):
        train(
            1,
            model or Classifier(),
            work_dir=work_dir,
            strict_load=dict(type='mmclip.StrictLoadHook'),
            make_runner=with_names,
            **arguments,
        )
        return tmp_path / work_dir / 'epoch_1.pth'

    return _trained


def with_names(model, train_dataloader, **arguments):
    train_dataloader['dataset'] = Named()
    return Runner(model, train_dataloader=train_dataloader, **arguments)


def test_a_training_says_all_that_is_known(trained, tmp_path):
    model = Classifier(img_size=(16, 32))
    clip = make_clip(BACKBONE, 16, OPENAI, SOURCE)
    tensors = build_backbone(BACKBONE).state_dict()
    tensors = {f'backbone.{key}': value for key, value in tensors.items()}
    write_checkpoint(
        dict(meta=dict(clip=clip), state_dict=tensors), tmp_path / 'base.pth'
    )
    PretrainedCLIP(str(tmp_path / 'base.pth'))(model.backbone)
    clip = read_checkpoint(trained(model))['meta']['clip']
    assert clip['backbone'] == BACKBONE | dict(
        img_size=[16, 32],
        norm_eps=1e-5,
        pre_norm=True,
        pool='cls_token',
        out_type='pooled',
    )
    assert clip['img_size'] == [16, 32]  # its own, not that of its source
    assert clip['preprocess'] == dict(mean=MEAN, std=STD)
    assert clip['source'] == SOURCE
    assert clip['classes'] == ['zero', 'one']
    assert clip['head'] == dict(
        type='tests.Head', num_classes=2, in_channels=16
    )


@pytest.mark.parametrize('kind', [{}, dict(type=SIGLIP, pool='avg')])
def test_another_tower_is_refused_wherever_weights_meet_it(
    trained, tmp_path, kind
):
    change = kind | dict(act='gelu')
    message = "act: checkpoint 'quick_gelu', here 'gelu'"
    path = trained(Classifier(**kind))
    with pytest.raises(CheckpointError, match=message):
        PretrainedCLIP(str(path))(build_backbone(BACKBONE | change))
    for resume in (False, True):
        with pytest.raises(CheckpointError, match=message):
            start = dict(load_from=str(path), resume=resume)
            trained(Classifier(**change), 'other', **start)
    with pytest.raises(CheckpointError, match=message):
        start_test(Classifier(**change), path, tmp_path)


def start_test(model, path, tmp_path):
    """Load weights as tools/test.py does."""
    runner = Runner(
        model,
        work_dir=str(tmp_path / 'test'),
        test_dataloader=dict(
            batch_size=4,
            dataset=Named(),
            sampler=dict(type='DefaultSampler', shuffle=False),
            collate_fn=dict(type='pseudo_collate'),
        ),
        test_cfg=dict(),
        test_evaluator=[],
        default_hooks=dict(strict_load=dict(type='mmclip.StrictLoadHook')),
        load_from=str(path),
        experiment_name=f'{tmp_path.name}-{torch.rand(1).item()}',
    )
    runner.call_hook('before_run')
    runner.load_or_resume()


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        (
            dict(out_type='avg_featmap'),
            "out_type: checkpoint 'pooled', here 'avg_featmap'",
        ),
        (dict(out_indices=0), r'out_indices: checkpoint \[1\], here'),
        (dict(head=OtherHead), "head: checkpoint 'tests.Head', here"),
    ],
)
def test_other_outputs_are_refused_in_a_test(
    trained, tmp_path, change, message
):
    path = trained()
    start_test(Classifier(), path, tmp_path)
    with pytest.raises(CheckpointError, match=message):
        start_test(Classifier(**change), path, tmp_path)
    trained(Classifier(**change), 'tuned', load_from=str(path))


def test_another_image_size_is_a_new_start(trained, tmp_path):
    path, larger = trained(), dict(img_size=(16, 32))
    wrong = r'patch_grid: checkpoint \[2, 2\], here \[2, 4\]'
    with pytest.raises(CheckpointError, match=wrong):
        trained(
            Classifier(**larger), 'resumed', load_from=str(path), resume=True
        )
    start_test(Classifier(**larger), path, tmp_path)
    tuned = trained(Classifier(**larger), 'tuned', load_from=str(path))
    assert read_checkpoint(tuned)['meta']['clip']['img_size'] == [16, 32]


def test_weights_that_do_not_describe_themselves_get_one_note(
    trained, tmp_path, capfd
):
    path = trained()
    for described in (True, False):
        checkpoint = read_checkpoint(path)
        if not described:
            del checkpoint['meta']['clip']
        write_checkpoint(checkpoint, tmp_path / 'x.pth')
        for start in (
            lambda: start_test(Classifier(), tmp_path / 'x.pth', tmp_path),
            lambda: trained(load_from=str(tmp_path / 'x.pth')),
        ):
            capfd.readouterr()
            start()
            note = f"{tmp_path / 'x.pth'} has no meta['clip']: only keys"
            output = ''.join(capfd.readouterr())
            assert output.count(note) == (0 if described else 1)


def test_images_that_are_prepared_differently_are_warned_of(
    trained, tmp_path, capfd
):
    path = trained()
    for change, words in (
        ({}, None),
        (dict(mean=[0.5] * 3), 'here [0.5, 0.5, 0.5]'),
        (dict(bgr_to_rgb=False), "channels: checkpoint 'RGB', here 'BGR'"),
    ):
        for start in (
            lambda model: start_test(model, path, tmp_path),
            lambda model: trained(model, 'tuned', load_from=str(path)),
        ):
            capfd.readouterr()
            start(Classifier(**change))
            output = ''.join(capfd.readouterr())
            assert ('not prepared as the weights expect' in output) == bool(
                words
            )
            assert words is None or words in output


@pytest.mark.parametrize('to', ['open_clip', 'timm', 'hf'])
def test_exports_say_what_the_training_was(trained, tmp_path, to):
    model = Classifier(proj_dim=8, img_size=32)
    model.head = nn.Linear(8, 2)
    checkpoint = read_checkpoint(trained(model))
    tensors = checkpoint['state_dict']
    for key in [key for key in tensors if not key.startswith('backbone.')]:
        del tensors[key]
    exported = export_checkpoint(checkpoint, to)
    if to == 'hf':
        assert exported.files['config.json']['hidden_act'] == 'quick_gelu'
        assert any('preprocessor_config' in note for note in exported.notes)
    out = tmp_path / ('hf' if to == 'hf' else 'out.safetensors')
    write_export(exported, out)
    file = out / 'model.safetensors' if to == 'hf' else out
    clip = open_weights(file).clip
    assert clip['backbone']['act'] == 'quick_gelu'
    assert clip['img_size'] == 32


def test_resuming_keeps_the_source(train, trained, tmp_path):
    path = trained()
    checkpoint = read_checkpoint(path)
    checkpoint['meta']['clip']['source'] = SOURCE
    write_checkpoint(checkpoint, path)
    train(
        2,
        Classifier(),
        resume=True,
        strict_load=dict(type='mmclip.StrictLoadHook'),
        make_runner=with_names,
    )
    clip = read_checkpoint(tmp_path / 'work' / 'epoch_2.pth')['meta']['clip']
    assert clip['source'] == SOURCE


def test_models_of_other_packages_are_described():
    """Under any name, behind LoRA, and with a teacher that is alike."""
    model = nn.Module()
    model.decode_head = Head(3)
    model.teacher = build_backbone(BACKBONE)
    assert describe_model(model, None, None)['backbone']['act'] == 'quick_gelu'
    model.student = build_backbone(BACKBONE | dict(act='gelu'))
    assert describe_model(model, None, None) is None
    model.backbone = nn.Module()
    model.backbone.module = build_backbone(
        dict(type=OTHER, model='ViT-B-32'), 'meta'
    )
    clip = describe_model(model, None, ['a'])
    assert clip['backbone']['type'] == OTHER
    assert clip['img_size'] == 224
    assert clip['head']['type'] == 'tests.Head'
    assert clip['preprocess'] is None
    assert describe_model(nn.Linear(1, 1), None, None) is None


@pytest.mark.parametrize(
    ('mode', 'img_size'),
    [('shortest', 224), ('squash', 224), ('squash', (64, 128))],
)
@pytest.mark.parametrize('crop_pct', [1.0, 0.9, 0.875, 0.95])
def test_a_pipeline_says_what_it_was_made_from(mode, img_size, crop_pct):
    preprocess = OPENAI | dict(resize_mode=mode)
    if crop_pct != 1.0:
        preprocess |= dict(crop_pct=crop_pct)
    pipeline = preprocessing.test_pipeline(preprocess, img_size)
    described = preprocess_of(Classifier(), pipeline, img_size)
    again = preprocessing.test_pipeline(described, img_size)
    assert again == pipeline
    assert described['mean'] == pytest.approx(MEAN, abs=1e-7)


@pytest.mark.parametrize(
    'pipeline',
    [
        [dict(type='Resize', scale=224, interpolation='bicubic')],  # OpenCV
        [
            dict(type='Resize', scale=224, backend='pillow'),
            dict(type='RandomFlip'),
        ],
        [dict(type='Resize', scale=200, backend='pillow')],
        [dict(type='Resize', scale_factor=2.0, backend='pillow')],
        [object()],
        [],
    ],
)
def test_what_a_pipeline_does_not_say_is_not_stated(pipeline):
    described = preprocess_of(Classifier(), pipeline, 224)
    assert set(described) == {'mean', 'std'}


def test_colours_are_in_the_order_red_green_blue():
    model = Classifier(mean=MEAN[::-1], bgr_to_rgb=False)
    described = preprocess_of(model, None, 224)
    assert described['mean'] == pytest.approx(MEAN, abs=1e-7)
    assert described['std'] == STD[::-1]
    assert described['channels'] == 'BGR'
    del model.data_preprocessor
    normalize = dict(type='Normalize', mean=[127.5] * 3, std=[255.0] * 3)
    described = preprocess_of(model, [normalize], 224)
    assert described == dict(mean=[0.5] * 3, std=[1.0] * 3)
    assert preprocess_of(model, [], 224) is None

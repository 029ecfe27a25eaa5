"""What must be the same before weights are averaged."""

import copy

import open_clip
import pytest
import torch
from mmengine.config import Config
from mmengine.registry import MODELS, init_default_scope
from mmpretrain.datasets.categories import IMAGENET_CATEGORIES

from mmclip.checkpoint import CheckpointError, write_checkpoint
from mmclip.checkpoint.compatibility import (
    check_compatible,
    check_fits_model,
    read_weights,
)
from mmclip.checkpoint.lora import merge_modules
from tests.test_checkpoint.lora import lora_config, write_tower

ARCH = dict(width=16, depth=1, num_heads=2, mlp_width=32)
BACKBONE = dict(
    type='mmclip.CLIPVisionTransformer',
    arch=ARCH,
    act='quick_gelu',
    img_size=16,
    patch_size=8,
)
HEAD = dict(type='mmclip.ZeroShotClsHead', num_classes=2, in_channels=16)
WEIGHTS = {'head.fc.weight': torch.zeros(2, 16)}


def converted(classes=('a', 'b'), **backbone) -> dict:
    """As tools/zero_shot_head.py describes it."""
    clip = dict(backbone=BACKBONE | backbone, head=HEAD)
    meta = dict(clip=clip, dataset_meta=dict(classes=list(classes)))
    return dict(meta=meta, state_dict=dict(WEIGHTS))


def trained(classes=('a', 'b'), head=HEAD['type'], **backbone) -> dict:
    """As mmengine's runner describes it."""
    backbone = BACKBONE | dict(drop_path_rate=0.1) | backbone
    model = dict(
        type='ImageClassifier',
        backbone=backbone,
        head=dict(type=head, num_classes=2, in_channels=16),
    )
    text = Config(dict(lr=-1e-3, model=model)).pretty_text
    meta = dict(cfg=text, dataset_meta=dict(classes=classes))
    return dict(meta=meta, state_dict=dict(WEIGHTS))


@pytest.mark.parametrize(
    ('one', 'other'),
    [
        (converted(), converted()),
        (converted(), trained()),
        (trained(), trained(drop_path_rate=0.0, with_cp=True)),
        (trained(arch='base'), converted(arch='base')),
    ],
)
def test_checkpoints_of_one_model_fit(one, other):
    assert check_compatible(one, other) == []


@pytest.mark.parametrize('make', [converted, trained])
@pytest.mark.parametrize(
    ('change', 'message'),
    [
        (dict(act='gelu'), "backbone.act: 'gelu', wanted 'quick_gelu'"),
        (dict(norm_eps=1e-6), 'backbone.norm_eps: 1e-06, wanted 1e-05'),
        (dict(arch=ARCH | dict(num_heads=4)), 'num_heads: 4, wanted 2'),
        (
            dict(out_type='avg_featmap'),
            "backbone.out_type: 'avg_featmap', wanted 'pooled'",
        ),
    ],
)
def test_what_shapes_do_not_show_is_compared(make, change, message):
    with pytest.raises(CheckpointError, match=message):
        check_compatible(trained(), make(**change))


def test_heads_that_compute_something_else_are_refused():
    with pytest.raises(CheckpointError, match="head: 'LinearClsHead', wanted"):
        check_compatible(converted(), trained(head='LinearClsHead'))


def test_all_differences_are_listed():
    other = converted(('a', 'c'), act='gelu')
    other['state_dict']['head.fc.weight'] = torch.zeros(3, 16)
    other['state_dict']['extra'] = torch.zeros(1)
    with pytest.raises(CheckpointError) as error:
        check_compatible(converted(), other)
    for line in (
        'shape: head.fc.weight is (3, 16), wanted (2, 16)',
        'unexpected: extra',
        "backbone.act: 'gelu'",
        "class 1: 'c', wanted 'b'",
    ):
        assert line in str(error.value)


def test_classes_in_another_order_are_refused():
    with pytest.raises(CheckpointError, match='another order'):
        check_compatible(converted(('a', 'b')), trained(('b', 'a')))


def test_another_number_of_classes_is_refused():
    with pytest.raises(CheckpointError, match='classes: 3, wanted 2'):
        check_compatible(converted(), trained(('a', 'b', 'c')))


def test_names_that_are_known_to_mean_the_same_classes():
    one, other = converted(('zero', 'one')), trained(('0', '1'))
    with pytest.raises(CheckpointError, match="class 0: '0', wanted 'zero'"):
        check_compatible(one, other)
    assert check_compatible(one, other, same_classes=True) == []


def test_imagenet_has_two_lists_of_names():
    ours = converted(open_clip.IMAGENET_CLASSNAMES)
    theirs = trained(IMAGENET_CATEGORIES)
    assert check_compatible(ours, theirs) == []
    changed = list(IMAGENET_CATEGORIES)
    changed[0], changed[1] = changed[1], changed[0]
    with pytest.raises(CheckpointError, match='class 0: '):
        check_compatible(ours, trained(tuple(changed)))


@pytest.mark.parametrize('holds_it', ['first', 'second'])
def test_updates_of_lora_are_refused_until_they_are_merged(tmp_path, holds_it):
    init_default_scope('mmpretrain')
    write_tower(tmp_path / 'tower.pth')
    model = MODELS.build(lora_config(tmp_path / 'tower.pth'))
    with_lora = dict(meta={}, state_dict=model.state_dict())
    merge_modules(model)
    merged = dict(meta={}, state_dict=model.state_dict())
    check_compatible(merged, merged)
    both = [with_lora, merged]
    with pytest.raises(CheckpointError) as error:
        check_compatible(*(both if holds_it == 'first' else both[::-1]))
    message = str(error.value)
    assert f'The {holds_it} holds 13 tensors of LoRA (backbone.' in message
    assert 'tools/model_converters/merge_lora.py' in message


def test_what_is_not_known_is_said():
    bare = dict(state_dict=dict(WEIGHTS))
    notes = check_compatible(converted(), bare)
    assert len(notes) == 2
    assert all(note.startswith('The second does not') for note in notes)


@pytest.mark.parametrize(
    'text',
    [
        'model = dict(',
        'model = open("x")',
        'model = dict(backbone=__import__("os").mkdir("{witness}"))',
        'x = 1',
    ],
)
def test_a_config_in_a_checkpoint_is_not_executed(text, tmp_path):
    witness = tmp_path / 'witness'
    other = trained()
    other['meta']['cfg'] = text.replace('{witness}', str(witness))
    notes = check_compatible(converted(), other)
    assert ['activation' in note for note in notes] == [True]
    assert not witness.exists()


def test_a_checkpoint_of_another_model_than_the_configs_is_refused():
    model = dict(backbone=BACKBONE, head=HEAD)
    check_fits_model(converted(), model)
    check_fits_model(dict(state_dict={}), model)
    with pytest.raises(CheckpointError, match=r"act: 'gelu', wanted"):
        check_fits_model(trained(act='gelu'), model)


@pytest.mark.parametrize('suffix', ['.pth', '.safetensors'])
def test_reading_leaves_the_optimizer_out(tmp_path, suffix):
    checkpoint = copy.deepcopy(converted()) | dict(optimizer=dict(state={}))
    write_checkpoint(checkpoint, tmp_path / f'x{suffix}')
    read = read_weights(tmp_path / f'x{suffix}')
    assert read.keys() == {'meta', 'state_dict'}
    assert read['meta']['clip'] == checkpoint['meta']['clip']
    assert torch.equal(
        read['state_dict']['head.fc.weight'], WEIGHTS['head.fc.weight']
    )

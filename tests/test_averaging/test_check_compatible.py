"""What must be the same before weights are averaged."""

import copy

import open_clip
import pytest
import torch
from mmengine.registry import MODELS, init_default_scope
from mmpretrain.datasets.categories import IMAGENET_CATEGORIES

from mmclip.averaging.average import check_compatible, read_weights
from mmclip.checkpoint import CheckpointError, write_checkpoint
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
    """As a training describes it."""
    backbone = BACKBONE | dict(out_type='pooled') | backbone
    clip = dict(backbone=backbone, head=dict(type=head), classes=list(classes))
    return dict(meta=dict(clip=clip), state_dict=dict(WEIGHTS))


def check(one, other, **arguments):
    return check_compatible({'one.pth': one, 'other.pth': other}, **arguments)


@pytest.mark.parametrize(
    ('one', 'other'),
    [
        (converted(), converted()),
        (converted(), trained()),
        (converted(norm_eps=1e-5, pool='cls_token'), trained()),
        (trained(head='ZeroShotClsHead'), trained(out_indices=[0])),
        (trained(arch='base'), converted(arch='b')),
    ],
)
def test_checkpoints_of_one_model_fit(one, other):
    assert check(one, other) == []


@pytest.mark.parametrize('make', [converted, trained])
@pytest.mark.parametrize(
    ('change', 'message'),
    [
        (dict(act='gelu'), "act: first 'quick_gelu', second 'gelu'"),
        (dict(norm_eps=1e-6), 'norm_eps: first 1e-05, second 1e-06'),
        (dict(arch=ARCH | dict(num_heads=4)), 'num_heads: first 2, second 4'),
        (
            dict(out_type='avg_featmap'),
            "out_type: first 'pooled', second 'avg_featmap'",
        ),
    ],
)
def test_what_shapes_do_not_show_is_compared(make, change, message):
    with pytest.raises(CheckpointError, match=message):
        check(trained(), make(**change))


def test_heads_that_compute_something_else_are_refused():
    with pytest.raises(CheckpointError, match='head: first'):
        check(converted(), trained(head='LinearClsHead'))


def test_all_differences_are_listed():
    other = converted(('a', 'c'), act='gelu')
    other['state_dict']['head.fc.weight'] = torch.zeros(3, 16)
    other['state_dict']['extra'] = torch.zeros(1)
    with pytest.raises(CheckpointError) as error:
        check(converted(), other)
    for line in (
        'one.pth and other.pth cannot be averaged',
        'shape: head.fc.weight is (3, 16), wanted (2, 16)',
        'unexpected: extra',
        "act: first 'quick_gelu', second 'gelu'",
        "class 1: first 'b', second 'c'",
    ):
        assert line in str(error.value)


def test_of_many_differences_the_first_are_listed():
    other = converted()
    other['state_dict'] = {f'x{i}': torch.zeros(1) for i in range(20)}
    with pytest.raises(CheckpointError, match=r'\n  and \d+ more') as error:
        check(converted(), other)
    assert len(str(error.value).splitlines()) == 12


def test_classes_in_another_order_are_refused():
    letters = tuple('abcdefghijklm')
    with pytest.raises(CheckpointError, match='another order'):
        check(converted(letters), converted(letters[::-1]))


def test_another_number_of_classes_is_refused():
    with pytest.raises(CheckpointError, match='classes: first 2, second 3'):
        check(converted(), trained(('a', 'b', 'c')))


def test_names_that_are_known_to_mean_the_same_classes():
    one, other = converted(('zero', 'one')), trained(('0', '1'))
    with pytest.raises(CheckpointError) as error:
        check(one, other)
    assert "class 0: first 'zero', second '0'" in str(error.value)
    assert 'pass --same-classes' in str(error.value)
    assert check(one, other, same_classes=True) == []
    other['meta']['clip']['backbone']['act'] = 'gelu'
    with pytest.raises(CheckpointError) as error:
        check(one, other)
    assert '--same-classes' not in str(error.value)


def test_imagenet_has_two_lists_of_names():
    ours = converted(open_clip.IMAGENET_CLASSNAMES)
    theirs = trained(IMAGENET_CATEGORIES)
    assert check(ours, theirs) == []
    changed = list(IMAGENET_CATEGORIES)
    changed[0], changed[1] = changed[1], changed[0]
    with pytest.raises(CheckpointError, match='class 0: '):
        check(ours, trained(tuple(changed)))


def test_images_that_were_prepared_in_another_way_are_said():
    one, other = trained(), trained()
    for checkpoint, mean in ((one, 0.5), (other, 0.4)):
        checkpoint['meta']['clip']['preprocess'] = dict(
            mean=[mean] * 3, std=[0.5] * 3
        )
    (note,) = check(one, other)
    assert 'mean: first [0.5, 0.5, 0.5], second [0.4, 0.4, 0.4]' in note
    assert check(one, one) == []


@pytest.mark.parametrize('holds_it', ['one.pth', 'other.pth'])
def test_updates_of_lora_are_refused_until_they_are_merged(tmp_path, holds_it):
    init_default_scope('mmpretrain')
    write_tower(tmp_path / 'tower.pth')
    model = MODELS.build(lora_config(tmp_path / 'tower.pth'))
    with_lora = dict(meta={}, state_dict=model.state_dict())
    merge_modules(model)
    merged = dict(meta={}, state_dict=model.state_dict())
    check(merged, merged)
    both = [with_lora, merged]
    with pytest.raises(CheckpointError) as error:
        check(*(both if holds_it == 'one.pth' else both[::-1]))
    message = str(error.value)
    assert f'{holds_it} holds 13 LoRA tensors (backbone.' in message
    assert 'mmclip merge-lora' in message


def test_what_is_not_known_is_said():
    bare = dict(
        meta=dict(cfg="model = dict(backbone=dict(act='gelu'))"),
        state_dict=dict(WEIGHTS),
    )
    notes = check(converted(), bare)
    assert len(notes) == 2
    assert notes[0].startswith("other.pth has no meta['clip']: only keys")
    assert notes[1].startswith('other.pth does not name its classes')


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

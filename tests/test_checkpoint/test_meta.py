"""What weights say of themselves is taken by name and type."""

import pytest
import torch
from mmengine.runner import load_checkpoint

from mmclip.averaging.average import averaged_checkpoint, check_compatible
from mmclip.checkpoint import (
    CheckpointError,
    PretrainedCLIP,
    read_checkpoint,
    write_checkpoint,
)
from mmclip.checkpoint.describe import describe_model
from mmclip.checkpoint.meta import (
    GRID,
    OUTPUTS,
    PREPROCESS,
    TOWER,
    classes_of,
    differences,
    facts,
    read_clip,
)
from mmclip.checkpoint.towers.export import export_checkpoint
from mmclip.checkpoint.towers.inspect import inspect_weights
from mmclip.checkpoint.towers.tower import CLIP, OTHER, SIGLIP, build_backbone

ARCH = dict(width=16, depth=2, num_heads=2, mlp_width=32)
BACKBONE = dict(type=CLIP, arch=ARCH, act='quick_gelu', patch_size=8)
GOOD = dict(
    backbone=BACKBONE,
    img_size=16,
    preprocess=dict(mean=[0.5] * 3, std=[0.5] * 3),
    source=dict(name='tiny', tag=None),
    head=dict(type='mmclip.ZeroShotClsHead', num_classes=2),
    classes=['a', 'b'],
)
WRONG = [
    ((), 'text'),
    ((), [1]),
    ((), {}),
    (('backbone',), None),
    (('backbone',), 3),
    (('backbone', 'type'), 'torch.nn.Linear'),
    (('backbone', 'type'), ['list']),
    (('backbone', 'arch'), 7),
    (('backbone', 'arch'), 'tiny'),
    (('backbone', 'arch'), ARCH | dict(depth='2')),
    (('backbone', 'arch'), ARCH | dict(depth=-1)),
    (('backbone', 'arch'), ARCH | dict(width=15)),
    (('backbone', 'act'), None),
    (('backbone', 'patch_size'), 8.0),
    (('backbone', 'norm_eps'), '1e-5'),
    (('backbone', 'norm_eps'), float('nan')),
    (('backbone', 'pre_norm'), 1),
    (('backbone', 'out_indices'), {}),
    (('backbone', 'img_size'), 32),
    (('img_size',), 'large'),
    (('img_size',), [16]),
    (('img_size',), True),
    (('preprocess',), 'shortest'),
    (('preprocess', 'mean'), 0.5),
    (('preprocess', 'mean'), [0.5, 0.5, 'x']),
    (('preprocess', 'std'), [0.5, 0.5, 0.0]),
    (('preprocess', 'crop_pct'), 2),
    (('source',), ['openai']),
    (('source', 'name'), 4),
    (('head',), 'LinearClsHead'),
    (('head', 'type'), dict),
    (('classes',), 'ab'),
    (('classes',), [1, 2]),
]


def changed(keys, value):
    if not keys:
        return value
    first, *others = keys
    return (
        GOOD | {first: value}
        if not others
        else GOOD | {first: GOOD[first] | {others[0]: value}}
    )


def checkpoint(clip):
    module = build_backbone(BACKBONE | dict(img_size=16))
    tensors = {f'backbone.{k}': v for k, v in module.state_dict().items()}
    return dict(meta=dict(clip=clip), state_dict=tensors)


USES = dict(
    initializer=lambda c: PretrainedCLIP('x.pth').load(
        c, build_backbone(BACKBONE | dict(img_size=16))
    ),
    average=lambda c: averaged_checkpoint({}, {'x.pth': c}, {'x.pth': 1.0}),
    comparison=lambda c: check_compatible({'x': c, 'y': checkpoint(GOOD)}),
    export=lambda c: export_checkpoint(c, 'timm'),
    classes=classes_of,
)


@pytest.mark.parametrize(('keys', 'value'), WRONG)
def test_wrong_types_give_one_sentence_everywhere(keys, value):
    for use in USES.values():
        with pytest.raises(CheckpointError) as error:
            use(checkpoint(changed(keys, value)))
        assert len(str(error.value)) < 300
        assert '\n' not in str(error.value).strip()


@pytest.mark.parametrize('suffix', ['.pth', '.safetensors'])
def test_readers_of_files_name_the_path(tmp_path, suffix):
    path = tmp_path / f'x{suffix}'
    wrong = changed(('backbone', 'norm_eps'), '1e-5')
    write_checkpoint(checkpoint(wrong), path)
    message = (
        f"{path}: meta['clip']['backbone']: norm_eps must be a number from "
        "0 to 1, got '1e-5'."
    )
    for use in (
        read_checkpoint,
        inspect_weights,
        lambda p: load_checkpoint(torch.nn.Linear(1, 1), str(p)),
    ):
        with pytest.raises(CheckpointError) as error:
            use(path)
        assert str(error.value) == message


@pytest.mark.parametrize('meta', [[], 'text', dict(dataset_meta='x'), None])
def test_other_meta_of_strangers(meta):
    stranger = dict(meta=meta, state_dict={})
    if meta in ([], 'text'):
        with pytest.raises(CheckpointError, match='meta must be an object'):
            classes_of(stranger)
    else:
        assert classes_of(stranger) is None
    with pytest.raises(CheckpointError, match='must be a list of names'):
        classes_of(dict(meta=dict(dataset_meta=dict(classes=5))))


def test_only_known_keys_are_taken():
    unknown = dict(init_cfg=dict(type='Pretrained'), with_cp=True)
    clip = GOOD | dict(backbone=BACKBONE | unknown, hook='x')
    assert read_clip(checkpoint(clip)) == GOOD


@pytest.mark.parametrize(
    'backbone',
    [
        BACKBONE,
        BACKBONE | dict(arch='small', norm_eps=1e-6, pool='avg'),
        BACKBONE | dict(pre_norm=False, out_indices=[0, -1], img_size=16),
        dict(type=SIGLIP, arch=ARCH, act='gelu', patch_size=8),
        dict(type=OTHER, model='ViT-B-32'),
        dict(type=OTHER, model='RN50', out_type='featmap', out_indices=[1]),
    ],
)
def test_facts_are_those_of_the_module_without_building_it(backbone):
    module = build_backbone(backbone, 'meta')
    said = dict(backbone=backbone, img_size=module.img_size)
    ours = describe_model(module, None, None)
    assert differences(said, ours, (*TOWER, *OUTPUTS, *GRID)) == []
    missing = ours and facts(ours).keys() - facts(said).keys()
    assert missing <= {*OUTPUTS}


def test_what_changes_maps_is_compared():
    maps = BACKBONE | dict(out_type='featmap')
    windows = dict(window_size=2, global_blocks=[1])
    one = dict(backbone=maps | windows)
    other = dict(backbone=maps | dict(norm_outputs='none'))
    unlike = differences(one, other, OUTPUTS)
    names = [text.partition(':')[0] for text in unlike]
    assert names == ['norm_outputs', 'window_size', 'global_blocks']
    assert unlike[1] == 'window_size: checkpoint 2, here 0'
    # A tower of unknown use says nothing of them.
    assert differences(dict(backbone=BACKBONE), other, OUTPUTS) == []


def test_no_out_indices_mean_the_last_block():
    unsaid = BACKBONE | dict(out_type='featmap')
    said = [
        facts(dict(backbone=unsaid | indices))
        for indices in ({}, dict(out_indices=None), dict(out_indices=-1))
    ]
    assert said[0] == said[1] == said[2]
    assert said[0]['out_indices'] == [1]


@pytest.mark.parametrize(
    ('one', 'other', 'unlike'),
    [
        (dict(mean=[0.5] * 3), dict(mean=(0.50001,) * 3), []),
        (dict(mean=[0.5] * 3), dict(mean=[0.51] * 3), ['mean']),
        (dict(std=[0.5] * 3), dict(mean=[0.51] * 3), []),
        (dict(mean=[0.5] * 3), dict(channels='BGR'), ['channels']),
        (dict(resize_mode='squash'), dict(resize_mode='shortest'), ['resize']),
        (
            dict(resize_mode='squash'),
            dict(resize_mode='squash', crop_pct=0.9),
            ['crop_pct: checkpoint 1.0, here 0.9'],
        ),
        (dict(mean=[0.5] * 3), dict(crop_pct=0.9), []),
        (dict(mean=[0.5] * 3), None, []),
    ],
)
def test_ways_to_prepare_images_are_compared(one, other, unlike):
    found = differences(
        dict(preprocess=one), dict(preprocess=other), PREPROCESS
    )
    assert len(found) == len(unlike)
    for line, start in zip(found, unlike, strict=True):
        assert line.startswith(start)


def test_a_derived_backbone_takes_the_weights_of_its_base():
    cls = type(build_backbone(BACKBONE, 'meta'))

    class Mine(cls):
        pass

    arguments = {k: v for k, v in BACKBONE.items() if k != 'type'}
    module = Mine(**arguments, img_size=16)
    good = checkpoint(GOOD)
    PretrainedCLIP('x.pth').load(good, module)
    wanted = good['state_dict']['backbone.pos_embed']
    assert torch.equal(module.pos_embed, wanted)

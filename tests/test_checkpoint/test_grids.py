"""Position embeddings are resized from the grid that they have."""

import pytest
import torch
import torch.nn.functional as F
from mmengine.model import PretrainedInit
from mmengine.registry import WEIGHT_INITIALIZERS
from mmengine.runner import load_checkpoint

from mmclip.averaging.average import (
    average,
    averaged_checkpoint,
    check_compatible,
    read_weights,
)
from mmclip.checkpoint import CheckpointError, PretrainedCLIP, write_checkpoint
from mmclip.checkpoint.meta import make_clip
from mmclip.checkpoint.towers.tower import CLIP, OTHER, SIGLIP, build_backbone

BACKBONE = dict(
    arch=dict(width=8, depth=1, num_heads=2, mlp_width=16),
    act='gelu',
    patch_size=8,
)
PAIRS = [
    ((32, 64), (64, 32)),
    ((32, 128), (64, 64)),
    ((32, 128), (64, 128)),
    ((64, 64), (32, 128)),
    ((32, 64), (32, 64)),
]


def build(kind, img_size):
    return build_backbone(BACKBONE | dict(type=kind, img_size=img_size))


def right(pos_embed, prefix, source, target):
    """By torch alone, from the true grid."""
    height, width = (side // 8 for side in source)
    patches = pos_embed[0, prefix:].T.reshape(1, -1, height, width)
    if source != target:
        patches = F.interpolate(
            patches,
            [side // 8 for side in target],
            mode='bicubic',
            antialias=True,
        )
    patches = patches.flatten(2).transpose(1, 2)
    return torch.cat([pos_embed[:, :prefix], patches], dim=1)


def whole(module):
    model = torch.nn.Module()
    model.backbone = module
    return model


def pretrained(**arguments):
    init = WEIGHT_INITIALIZERS.build(dict(type='Pretrained', **arguments))
    assert isinstance(init, PretrainedInit)
    return init


# How weights are saved, and how they come into a backbone.
SAVED = dict(
    described=lambda module: dict(
        meta=dict(
            clip=make_clip(
                dict(type=f'mmclip.{type(module).__name__}')
                | module.architecture(),
                module.img_size,
                None,
            )
        ),
        state_dict={
            f'backbone.{k}': v for k, v in module.state_dict().items()
        },
    ),
    plain=lambda module: dict(state_dict=whole(module).state_dict()),
)
LOADED = dict(
    clip=lambda path, module: PretrainedCLIP(str(path))(module),
    prefix=lambda path, module: pretrained(
        checkpoint=str(path), prefix='backbone.'
    )(module),
    whole=lambda path, module: pretrained(checkpoint=str(path))(whole(module)),
    mmengine=lambda path, module: load_checkpoint(
        whole(module), str(path), strict=True
    ),
)


@pytest.mark.parametrize('kind', [CLIP, SIGLIP])
@pytest.mark.parametrize(('source', 'target'), PAIRS)
def test_from_the_true_grid_by_every_way(tmp_path, kind, source, target):
    module = build(kind, source)
    prefix = module.num_prefix_tokens
    wanted = right(module.pos_embed.detach(), prefix, source, target)
    for saved, save in SAVED.items():
        path = tmp_path / f'{saved}.pth'
        write_checkpoint(save(module), path)
        for loaded, load in LOADED.items():
            backbone = build(kind, target)
            load(path, backbone)
            torch.testing.assert_close(
                backbone.pos_embed.detach(), wanted, msg=f'{saved} {loaded}'
            )


def test_by_torch_alone():
    module, backbone = build(CLIP, (32, 64)), build(CLIP, (64, 32))
    weights = module.state_dict()
    before = {key: tensor.clone() for key, tensor in weights.items()}
    backbone.load_state_dict(weights)
    wanted = right(module.pos_embed.detach(), 1, (32, 64), (64, 32))
    torch.testing.assert_close(backbone.pos_embed.detach(), wanted)
    torch.testing.assert_close(dict(weights), before, rtol=0, atol=0)


@pytest.mark.parametrize(
    ('source', 'target'),
    # 4 x 16 patches into 8 x 8 are like a square's, and are taken for them.
    [pair for pair in PAIRS if pair != ((32, 128), (64, 64))]
    + [((32, 64), (64, 64)), ((64, 64), (32, 64))],
)
def test_nobody_knows_the_grid_of_a_rectangular_one(tmp_path, source, target):
    module, path = build(CLIP, source), tmp_path / 'x.pth'
    tensors = {f'backbone.{k}': v for k, v in module.state_dict().items()}
    write_checkpoint(dict(state_dict=tensors), path)
    for load in LOADED.values():
        with pytest.raises(CheckpointError, match='nothing states how many'):
            load(path, build(CLIP, target))


def tower(image_size):
    """open_clip's own vision transformer."""
    vision = dict(width=64, layers=1, head_width=64, patch_size=16)
    vision |= dict(image_size=image_size)
    model = dict(embed_dim=8, vision_cfg=vision)
    return build_backbone(dict(type=OTHER, model=model))


def test_towers_of_open_clip_itself_are_not_turned(tmp_path):
    module, path = tower((32, 64)), tmp_path / 'x.pth'
    for save in (SAVED['described'], SAVED['plain']):
        write_checkpoint(save(module), path)
        for load in LOADED.values():
            load(path, tower((32, 64)))
            with pytest.raises(CheckpointError, match='image'):
                load(path, tower((64, 32)))


def test_the_user_may_say_it(tmp_path):
    module, path = build(CLIP, (32, 64)), tmp_path / 'x.pth'
    write_checkpoint(dict(state_dict=dict(module.state_dict())), path)
    backbone = build(CLIP, (64, 32))
    PretrainedCLIP(str(path), img_size=(32, 64))(backbone)
    wanted = right(module.pos_embed.detach(), 1, (32, 64), (64, 32))
    torch.testing.assert_close(backbone.pos_embed.detach(), wanted)
    write_checkpoint(SAVED['described'](module), path)
    with pytest.raises(CheckpointError, match='Leave img_size out'):
        PretrainedCLIP(str(path), img_size=(64, 32))(backbone)


def test_squares_need_not_say_it(tmp_path):
    module, path = build(CLIP, (32, 32)), tmp_path / 'x.pth'
    write_checkpoint(dict(state_dict=dict(module.state_dict())), path)
    backbone = build(CLIP, (64, 64))
    PretrainedCLIP(str(path))(backbone)
    wanted = right(module.pos_embed.detach(), 1, (32, 32), (64, 64))
    torch.testing.assert_close(backbone.pos_embed.detach(), wanted)


def test_a_description_of_another_number_of_patches_is_refused(tmp_path):
    checkpoint = SAVED['described'](build(CLIP, (32, 64)))
    checkpoint['meta']['clip']['img_size'] = [32, 32]
    checkpoint['meta']['clip']['backbone']['img_size'] = [32, 32]
    write_checkpoint(checkpoint, tmp_path / 'x.pth')
    with pytest.raises(CheckpointError, match='has 32 patches, but'):
        PretrainedCLIP(str(tmp_path / 'x.pth'))(build(CLIP, (32, 32)))


def test_averages_have_one_grid_and_keep_it(tmp_path):
    paths = []
    for i, img_size in enumerate([(32, 64), (32, 64), (64, 32)]):
        paths.append(tmp_path / f'{i}.pth')
        write_checkpoint(SAVED['described'](build(CLIP, img_size)), paths[i])
    one, other, turned = map(read_weights, paths)
    check_compatible(dict(one=one, other=other))
    wrong = r'patch_grid: first \[4, 8\], second \[8, 4\]'
    with pytest.raises(CheckpointError, match=wrong):
        check_compatible(dict(one=one, turned=turned))
    mean = average([one['state_dict'], other['state_dict']])
    backbone, path = build(CLIP, (64, 32)), tmp_path / 'mean.pth'
    shares = {'one': 0.5, 'other': 0.5}
    write_checkpoint(
        averaged_checkpoint(mean, dict(one=one, other=other), shares), path
    )
    wanted = right(mean['backbone.pos_embed'], 1, (32, 64), (64, 32))
    for load in LOADED.values():
        load(path, backbone)
        torch.testing.assert_close(backbone.pos_embed.detach(), wanted)

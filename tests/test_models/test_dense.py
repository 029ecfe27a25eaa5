"""Dense last blocks, computed from open_clip's own weights by the formulas."""

import pytest
import torch
from open_clip.model import _build_vision_tower

from mmclip.analysis.parity import randomize
from mmclip.checkpoint.towers.convert import convert
from mmclip.checkpoint.towers.dialects import OPEN_CLIP
from mmclip.models import CLIPVisionTransformer
from tests.test_models.conftest import TINY, images, tiny

WIDTH, HEADS, DIM = 32, 2, 24


@pytest.fixture(scope='module')
def tower():
    cfg = dict(
        image_size=32,
        patch_size=8,
        width=WIDTH,
        layers=4,
        head_width=16,
        mlp_ratio=2,
    )
    tower = _build_vision_tower(DIM, cfg)
    torch.manual_seed(0)
    randomize(tower)
    return tower.eval()


def ours(tower, dense, **kwargs):
    model = CLIPVisionTransformer(
        TINY, act='gelu', img_size=32, patch_size=8, proj_dim=DIM,
        out_type='featmap', dense=dense, **kwargs,
    ).eval()  # fmt: skip
    model.load_state_dict(convert(tower.state_dict(), OPEN_CLIP).state_dict)
    return model


def before_last_block(tower, x):
    x = tower.conv1(x).flatten(2).transpose(1, 2)
    token = tower.class_embedding.expand(len(x), 1, -1)
    x = torch.cat([token, x], 1) + tower.positional_embedding
    x = tower.ln_pre(x)
    for block in tower.transformer.resblocks[:-1]:
        x = block(x)
    return x


def heads(x):
    return x.unflatten(-1, (HEADS, -1)).transpose(1, 2)


def formula(tower, dense, pixels):
    """Compute patches as the papers' formulas say, in open_clip's terms."""
    x = before_last_block(tower, pixels)
    block = tower.transformer.resblocks[-1]
    attn = block.attn
    y = block.ln_1(x) @ attn.in_proj_weight.T + attn.in_proj_bias
    q, k, v = map(heads, y.chunk(3, dim=-1))
    scale = (WIDTH // HEADS) ** -0.5
    like_q = (q @ q.mT * scale).softmax(-1)
    like_k = (k @ k.mT * scale).softmax(-1)
    weights = dict(
        maskclip=torch.eye(q.shape[2]).expand_as(like_q),
        sclip=like_q + like_k,
        clearclip=like_q,
    )[dense]
    out = attn.out_proj((weights @ v).transpose(1, 2).flatten(2))
    if dense != 'clearclip':
        x = x + out
        out = x + block.mlp(block.ln_2(x))
    return (tower.ln_post(out) @ tower.proj)[:, 1:]


@pytest.mark.parametrize('dense', ['maskclip', 'sclip', 'clearclip'])
def test_patches_are_those_of_the_formula(tower, dense):
    pixels = images()
    with torch.no_grad():
        (got,) = ours(tower, dense)(pixels)
        (plain,) = ours(tower, None)(pixels)
        wanted = formula(tower, dense, pixels)
    assert got.shape == (2, DIM, 4, 4)
    torch.testing.assert_close(got.flatten(2).mT, wanted, rtol=1e-4, atol=1e-5)
    assert not torch.allclose(got, plain, atol=0.1)


@pytest.mark.parametrize('dense', ['maskclip', 'sclip', 'clearclip'])
def test_what_is_not_used_is_not_trained(tower, dense):
    model = ours(tower, dense)
    model(images())[-1].sum().backward()
    for name, param in model.named_parameters():
        assert (param.grad is not None) == param.requires_grad, name


def test_dense_and_the_class_token_and_earlier_blocks(tower):
    pixels = images()
    model = ours(tower, 'sclip', output_cls_token=True, out_indices=[0, 3])
    plain = ours(tower, None, out_indices=[0, 3])
    with torch.no_grad():
        (first, _), (last, token) = model(pixels)
        torch.testing.assert_close(first, plain(pixels)[0])
        torch.testing.assert_close(last, ours(tower, 'sclip')(pixels)[0])
    assert token.shape == (2, DIM)


@pytest.mark.parametrize(
    ('kwargs', 'said'),
    [
        (dict(dense='mask', out_type='featmap'), 'dense must be one of'),
        (dict(dense='sclip'), "dense needs out_type='featmap', got 'pooled'"),
        (
            dict(dense='sclip', out_type='featmap', out_indices=1),
            'out_indices 1 leaves out',
        ),
        (
            dict(
                dense='sclip',
                out_type='featmap',
                window_size=2,
                global_blocks=[0],
            ),
            'a last block without windows',
        ),
        (
            dict(output_cls_token=True),
            "output_cls_token needs out_type='featmap'",
        ),
    ],
)
def test_wrong_arguments(kwargs, said):
    with pytest.raises(ValueError, match=said):
        tiny(**kwargs)

"""Window attention, beside global attention with a mask."""

import pytest
import torch

from mmclip.models import SigLIPVisionTransformer
from tests.test_models.conftest import images, tiny


def masked(model, grid, size):
    """Return which token sees which, by the rule in the docstring."""
    windows = [
        (row // size, column // size)
        for row in range(grid[0])
        for column in range(grid[1])
    ]
    sees = torch.tensor([[a == b for a in windows] for b in windows])
    prefix = model.num_prefix_tokens
    return torch.nn.functional.pad(sees, (prefix, 0, prefix, 0), value=True)


def by_mask(model, pixels):
    """Encode with global attention, and masks in the windowed blocks."""
    grid = model.patch_grid(*pixels.shape[-2:])
    mask = masked(model, grid, model.window_size)
    real = torch.nn.functional.scaled_dot_product_attention
    twin = tiny(type(model), **model.made_with)
    twin.load_state_dict(model.state_dict())
    blocks = iter(range(4))

    def attention(q, k, v, attn_mask=None):
        is_global = next(blocks) in model.global_blocks
        seen = None if is_global else mask[: q.shape[2]]
        return real(q, k, v, attn_mask=seen)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            torch.nn.functional, 'scaled_dot_product_attention', attention
        )
        return twin.eval()(pixels)[-1]


@pytest.mark.parametrize('size', [1, 2, 3, 5])
@pytest.mark.parametrize('out_type', ['featmap', 'pooled'])
@pytest.mark.parametrize('shape', [(32, 32), (40, 56)])
def test_windows_are_global_attention_with_a_mask(size, out_type, shape):
    model = tiny(window_size=size, global_blocks=[1], out_type=out_type)
    model.made_with = dict(out_type=out_type)
    with torch.no_grad():
        got = model.eval()(images(*shape))[-1]
        wanted = by_mask(model, images(*shape))
    torch.testing.assert_close(got, wanted, rtol=1e-4, atol=1e-5)


def test_siglip_has_windows_without_a_class_token():
    kwargs = dict(out_type='featmap')
    model = tiny(
        SigLIPVisionTransformer, window_size=3, global_blocks=[3], **kwargs
    )
    model.made_with = kwargs
    with torch.no_grad():
        got = model.eval()(images(40))[-1]
        wanted = by_mask(model, images(40))
    torch.testing.assert_close(got, wanted, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize('out_type', ['featmap', 'pooled', 'raw'])
@pytest.mark.parametrize('shape', [(32, 32), (24, 40)])
def test_a_window_that_holds_the_image_changes_nothing(out_type, shape):
    plain = tiny(out_type=out_type).eval()
    windowed = tiny(out_type=out_type, window_size=9, global_blocks=[]).eval()
    with torch.no_grad():
        wanted, got = plain(images(*shape))[-1], windowed(images(*shape))[-1]
    torch.testing.assert_close(got, wanted, rtol=1e-5, atol=1e-6)


def test_windows_in_no_block_are_refused():
    with pytest.raises(ValueError, match='all 4 blocks are global'):
        tiny(window_size=2)


@pytest.mark.parametrize(
    ('depth', 'blocks'),
    [(12, (2, 5, 8, 11)), (24, (5, 11, 17, 23)), (27, (6, 13, 20, 26))],
)
def test_by_default_the_last_of_each_quarter_is_global(depth, blocks):
    arch = dict(width=8, depth=depth, num_heads=1, mlp_width=8)
    assert tiny(arch=arch, window_size=2).global_blocks == blocks


def test_gradients_and_recomputation_are_the_same():
    grads = []
    for with_cp in False, True:
        model = tiny(
            window_size=3,
            global_blocks=[1],
            out_type='featmap',
            with_cp=with_cp,
        )
        model(images(40))[-1].square().sum().backward()
        grads.append(model.pos_embed.grad)
    torch.testing.assert_close(*grads)
    assert grads[0].abs().sum() > 0


@pytest.mark.parametrize(
    ('kwargs', 'said'),
    [
        (dict(window_size=-1), 'must not be negative, got -1'),
        (dict(global_blocks=[1]), 'global_blocks needs window_size'),
        (
            dict(window_size=2, global_blocks=[4]),
            r'indices of the 4 blocks, got \[4\]',
        ),
        (
            dict(window_size=2, patch_dropout=0.5),
            'patch_dropout must be 0',
        ),
    ],
)
def test_wrong_arguments(kwargs, said):
    with pytest.raises(ValueError, match=said):
        tiny(**kwargs)

"""Where the class token alone is needed, the last block computes no others."""

import pytest
import torch

from mmclip.models.vit import MLP
from tests.test_models.conftest import TINY, images, tiny

LAST = TINY['depth'] - 1


def see_all_tokens(backbone):
    """Hook into the last block, which then computes all tokens."""
    backbone.layers[-1].attn.register_forward_hook(lambda *_: None)
    return backbone


def rows_of_last_mlp(backbone, monkeypatch):
    """How many tokens of an image the last block's MLP sees."""
    seen = []
    forward = MLP.forward
    monkeypatch.setattr(
        MLP, 'forward', lambda self, x: seen.append(x) or forward(self, x)
    )
    backbone(images())
    return seen[-1].shape[1]


@pytest.mark.parametrize(
    ('settings', 'tokens'),
    [
        ({}, 1),
        (dict(proj_dim=24), 1),
        (dict(out_indices=[1, 2]), 1),
        (dict(with_cp=True), 1),
        (dict(pool='avg'), 17),
        (dict(pool='attention', proj_dim=24), 17),
        (dict(out_type='raw'), 17),
        (dict(out_type='featmap'), 17),
        (dict(out_type='avg_featmap'), 17),
    ],
    ids=str,
)
def test_other_tokens_are_computed_only_if_needed(
    monkeypatch, settings, tokens
):
    assert rows_of_last_mlp(tiny(**settings), monkeypatch) == tokens


@pytest.mark.parametrize('where', ['', '.ln1', '.attn', '.ffn.layers.1'])
@pytest.mark.parametrize(
    'kind',
    [
        'register_forward_hook',
        'register_forward_pre_hook',
        'register_full_backward_hook',
        'register_full_backward_pre_hook',
    ],
)
def test_hooks_see_all_tokens(monkeypatch, where, kind):
    backbone = tiny()
    module = backbone.get_submodule(f'layers.{LAST}{where}')
    hook = getattr(module, kind)(lambda *_: None)
    assert rows_of_last_mlp(backbone, monkeypatch) == 17
    hook.remove()
    assert rows_of_last_mlp(backbone, monkeypatch) == 1


@pytest.mark.parametrize(
    'settings',
    [
        {},
        dict(proj_dim=24, layer_scale_init=0.1),
        dict(out_indices=[0, 1, 3]),
        dict(drop_path_rate=0.5, patch_dropout=0.5),
        dict(with_cp=True, drop_path_rate=0.5),
        dict(frozen_stages=3),
    ],
    ids=str,
)
def test_outputs_and_gradients_are_the_same(settings):
    def step(backbone):
        x = images(batch=4).double().requires_grad_()
        torch.manual_seed(2)
        outs = torch.cat(backbone.double().train()(x))
        (outs * torch.randn_like(outs)).sum().backward()
        gradients = [p.grad for p in backbone.parameters()]
        return [outs, x.grad, *(g for g in gradients if g is not None)]

    wanted = step(see_all_tokens(tiny(**settings)))
    torch.testing.assert_close(
        step(tiny(**settings)), wanted, rtol=1e-9, atol=1e-12
    )


def test_it_compiles_into_one_graph():
    backbone = tiny().eval()
    x = images()
    with torch.no_grad():
        compiled = torch.compile(backbone, backend='eager', fullgraph=True)
        torch.testing.assert_close(compiled(x), backbone(x))

"""Recomputing activations saves memory and changes no gradient."""

import pytest
import torch

from mmclip.models import CLIPVisionTransformer, SigLIPVisionTransformer
from mmclip.models.vit import TransformerLayer
from tests.test_models.conftest import TINY, images, tiny


def build(cls, with_cp, **settings):
    return tiny(cls, drop_path_rate=0.5, with_cp=with_cp, **settings).train()


def gradients(backbone, seed=2):
    """One training step, with its dropped paths drawn from the seed."""
    x = images(batch=4)
    torch.manual_seed(seed)
    backbone(x)[-1].square().sum().backward()
    return {name: p.grad for name, p in backbone.named_parameters()}


@pytest.mark.parametrize(
    ('cls', 'settings'),
    [
        (CLIPVisionTransformer, {}),
        (CLIPVisionTransformer, dict(freeze_patch_embed=True)),
        (CLIPVisionTransformer, dict(frozen_stages=0)),
        (CLIPVisionTransformer, dict(frozen_stages=2)),
        (CLIPVisionTransformer, dict(patch_dropout=0.5)),
        (CLIPVisionTransformer, dict(out_indices=[1, 2])),
        (SigLIPVisionTransformer, {}),
        (SigLIPVisionTransformer, dict(frozen_stages=2)),
    ],
    ids=str,
)
def test_gradients_are_the_same(cls, settings):
    wanted = gradients(build(cls, with_cp=False, **settings))
    backbone = build(cls, with_cp=True, **settings)
    ours = gradients(backbone)
    for name, param in backbone.named_parameters():
        assert (ours[name] is not None) == param.requires_grad, name
    assert any(gradient is not None for gradient in ours.values())
    torch.testing.assert_close(ours, wanted, rtol=0, atol=0)


def test_other_dropped_paths_would_be_seen():
    backbones = [build(CLIPVisionTransformer, with_cp=True) for _ in range(2)]
    one, other = (gradients(b, seed) for seed, b in enumerate(backbones))
    name = 'layers.3.attn.qkv.weight'
    assert not torch.allclose(one[name], other[name])


def test_each_block_is_run_once_more(monkeypatch):
    """And only the blocks that have gradients to compute."""
    runs = []
    forward = TransformerLayer.forward

    def counted(self, *args):
        runs.append(self)
        return forward(self, *args)

    monkeypatch.setattr(TransformerLayer, 'forward', counted)
    gradients(build(CLIPVisionTransformer, with_cp=True))
    assert len(runs) == 2 * TINY['depth']
    runs.clear()
    gradients(build(CLIPVisionTransformer, with_cp=True, frozen_stages=2))
    assert len(runs) == 2 * TINY['depth'] - 2
    runs.clear()
    with torch.no_grad():
        build(CLIPVisionTransformer, with_cp=True)(torch.ones(1, 3, 32, 32))
    assert len(runs) == TINY['depth']

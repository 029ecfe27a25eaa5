"""SigLIPVisionTransformer: equal to timm's, and a good backbone."""

import pytest
import timm
import torch

from mmclip.analysis.parity import make_twins, randomize, relative_difference
from mmclip.checkpoint.towers.convert import convert
from mmclip.checkpoint.towers.dialects import TIMM
from mmclip.checkpoint.towers.timm import backbone_from_timm
from mmclip.checkpoint.towers.tower import build_backbone
from mmclip.models import SigLIPVisionTransformer
from tests.conftest import RELATIVE_TOLERANCE
from tests.test_models.conftest import images, tiny


@pytest.mark.parametrize(
    'mistake', [dict(act='gelu_tanh'), dict(pool='avg'), dict(norm_eps=1e-3)]
)
def test_a_mistake_is_seen(mistake):
    reference, backbone = make_twins('ViT-B-16-SigLIP', depth=2, width=64)
    wrong = SigLIPVisionTransformer(
        dict(width=64, depth=2, num_heads=2, mlp_width=128),
        **(dict(act='gelu') | mistake),
    )
    wrong.load_state_dict(backbone.state_dict(), strict='pool' not in mistake)
    x = images(224, batch=1)
    with torch.no_grad():
        wanted, ours = reference(x), wrong.eval()(x)[0]
    assert relative_difference(ours, wanted) > 5 * RELATIVE_TOLERANCE


def test_timms_average_pooling():
    reference = timm.create_model(
        'vit_base_patch16_siglip_gap_224', depth=2, embed_dim=64, num_heads=2
    )
    randomize(reference)
    backbone = build_backbone(backbone_from_timm(reference))
    backbone.load_state_dict(convert(reference.state_dict(), TIMM).state_dict)
    x = images(224, batch=1)
    with torch.no_grad():
        ours, wanted = backbone.eval()(x)[0], reference.eval()(x)
    assert relative_difference(ours, wanted) <= RELATIVE_TOLERANCE


@pytest.mark.parametrize(
    ('out_type', 'shape'),
    [
        ('pooled', (2, 32)),
        ('avg_featmap', (2, 32)),
        ('raw', (2, 16, 32)),
        ('featmap', (2, 32, 4, 4)),
    ],
)
def test_shapes_and_what_is_trained(out_type, shape):
    backbone = tiny(
        SigLIPVisionTransformer, out_type=out_type, out_indices=[1, -1]
    )
    outs = backbone(images())
    assert [tuple(out.shape) for out in outs] == [shape, shape]
    sum(out.sum() for out in outs).backward()
    for name, parameter in backbone.named_parameters():
        assert (parameter.grad is not None) == parameter.requires_grad, name


def test_frozen_stages_survive_train():
    backbone = tiny(SigLIPVisionTransformer, frozen_stages=2).train()
    assert not backbone.layers[1].training
    assert backbone.layers[2].training
    assert not backbone.pos_embed.requires_grad
    assert backbone.attn_pool.latent.requires_grad


def test_layer_depths():
    backbone = tiny(SigLIPVisionTransformer)
    assert backbone.get_layer_depth('pos_embed') == (0, 6)
    assert backbone.get_layer_depth('layers.3.ln1.weight') == (4, 6)
    assert backbone.get_layer_depth('attn_pool.latent') == (5, 6)

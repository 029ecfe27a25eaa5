"""Norms of outputs, and the class token beside maps."""

import pytest
import torch
from torch import nn

from mmclip.checkpoint.describe import describe_model
from mmclip.checkpoint.meta import read_clip
from mmclip.checkpoint.towers.tower import build_backbone
from mmclip.models import SigLIPVisionTransformer
from tests.test_models.conftest import images, tiny

LEVELS = dict(out_type='featmap', out_indices=[1, 3])


def run(**kwargs):
    model = tiny(**kwargs).eval()
    with torch.no_grad():
        return model, model(images())


def test_the_last_output_is_normalised_or_not():
    model, last = run(**LEVELS)
    _, none = run(**LEVELS, norm_outputs='none')
    torch.testing.assert_close(last[0], none[0])
    normed = model.ln1(none[1].permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
    torch.testing.assert_close(last[1], normed)
    assert not torch.allclose(last[1], none[1], atol=0.1)


@pytest.mark.parametrize('frozen_stages', [-1, 4])
def test_each_output_has_a_norm_of_its_own(frozen_stages):
    kwargs = dict(**LEVELS, frozen_stages=frozen_stages)
    _, none = run(**kwargs, norm_outputs='none')
    model, each = run(**kwargs, norm_outputs='each')
    for got, x in zip(each, none, strict=True):
        wanted = nn.functional.layer_norm(x.permute(0, 2, 3, 1), (32,))
        torch.testing.assert_close(got, wanted.permute(0, 3, 1, 2))
    trained = {n for n, p in model.named_parameters() if p.requires_grad}
    norms = {f'out_norms.{i}.{part}' for i in (0, 1) for part in WB}
    assert norms <= trained and not any(n.startswith('ln1') for n in trained)
    assert frozen_stages == -1 or trained == norms


WB = ('weight', 'bias')


def test_siglips_norms():
    kwargs = dict(cls=SigLIPVisionTransformer, **LEVELS)
    model, last = run(**kwargs)
    _, none = run(**kwargs, norm_outputs='none')
    normed = model.ln1(none[1].permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
    torch.testing.assert_close(last[1], normed)
    assert len(run(**kwargs, norm_outputs='each')[1]) == 2


def test_class_tokens_beside_maps():
    _, pairs = run(**LEVELS, output_cls_token=True)
    _, maps = run(**LEVELS)
    _, raw = run(out_type='raw', out_indices=[1, 3])
    for (patches, token), alone, tokens in zip(pairs, maps, raw, strict=True):
        torch.testing.assert_close(patches, alone)
        torch.testing.assert_close(token, tokens[:, 0])


@pytest.mark.parametrize(
    ('kwargs', 'said'),
    [
        (dict(norm_outputs='all'), 'norm_outputs must be one of'),
        (dict(norm_outputs='none'), "needs out_type='featmap' or 'raw'"),
        (
            dict(norm_outputs='each', out_type='featmap', proj_dim=8),
            'and no proj_dim',
        ),
    ],
)
def test_wrong_arguments(kwargs, said):
    with pytest.raises(ValueError, match=said):
        tiny(**kwargs)


def test_norms_of_early_outputs_are_trained():
    model = tiny(out_type='featmap', out_indices=[0, 1], norm_outputs='each')
    assert all(p.requires_grad for p in model.out_norms.parameters())
    sum(out.sum() for out in model(images())).backward()
    for name, param in model.named_parameters():
        assert (param.grad is not None) == param.requires_grad, name


@pytest.mark.parametrize(
    'kwargs',
    [
        dict(window_size=2, global_blocks=[1]),
        dict(norm_outputs='none'),
        dict(dense='sclip'),
        dict(output_cls_token=True),
    ],
)
def test_its_description_builds_the_same(kwargs):
    model = tiny(out_type='featmap', **kwargs).eval()
    whole = nn.ModuleDict(dict(backbone=model))
    clip = describe_model(whole, pipeline=None, classes=None)
    cfg = read_clip(dict(meta=dict(clip=clip)), 'it')['backbone']
    twin = build_backbone(cfg).eval()
    twin.load_state_dict(model.state_dict())
    with torch.no_grad():
        torch.testing.assert_close(twin(images()), model(images()))

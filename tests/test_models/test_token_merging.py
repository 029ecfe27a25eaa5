"""Token merging, beside the paper's algorithm written token by token."""

import copy
import math
from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from mmclip.models import (
    CLIPVisionTransformer,
    SigLIPVisionTransformer,
    merge_tokens,
)
from mmclip.registry import HOOKS

ARCH = dict(width=32, depth=3, num_heads=2, mlp_width=64)


def build(kind=CLIPVisionTransformer, **kwargs):
    torch.manual_seed(0)
    model = kind(ARCH, act='gelu', img_size=64, patch_size=16, **kwargs)
    for param in model.parameters():
        if param.ndim > 1:
            torch.nn.init.normal_(param, std=0.3)
    return model.eval()


def test_merged_tokens_are_not_recomputed():
    """A recomputed block would find the tokens that later ones merged."""
    model, image = build(with_cp=True), torch.randn(1, 3, 64, 64)
    merge_tokens(model, 2)
    with pytest.raises(ValueError, match='set with_cp=False'):
        model(image)
    with torch.no_grad():
        (x,) = model(image)
    model.with_cp = False
    torch.testing.assert_close(model(image)[0], x)


def merged_one_by_one(model, image, per_block):
    """Encode one image as arXiv 2210.09461 says, with lists of tokens."""
    x = model.patch_embed(image)
    x = torch.cat([model.cls_token, x], 1) + model.pos_embed
    tokens = list(model.pre_norm(x)[0])
    sizes, members = [1] * len(tokens), [[i] for i in range(len(tokens))]
    for layer in model.layers:
        x = torch.stack(tokens)
        qkv = layer.attn.qkv(layer.ln1(x)).view(len(x), 3, 2, 16)
        q, k, v = qkv.unbind(1)
        scores = torch.einsum('ihc,jhc->hij', q, k) / math.sqrt(16)
        scores = scores + torch.tensor(sizes).log()
        attended = torch.einsum('hij,jhc->ihc', scores.softmax(-1), v)
        x = x + layer.attn.proj(attended.flatten(1))
        key = F.normalize(k.mean(1), dim=-1)
        pairs = []
        for i in range(2, len(x), 2):  # the class token is number 0
            similar = [float(key[i] @ key[j]) for j in range(1, len(x), 2)]
            best = max(similar)
            pairs.append((best, i, 1 + 2 * similar.index(best)))
        pairs = sorted(pairs, reverse=True)[:per_block]
        sums = {
            j: (x[j] * sizes[j], sizes[j], members[j]) for j in range(len(x))
        }
        for _, i, j in pairs:
            a, b = sums.pop(i), sums[j]
            sums[j] = (a[0] + b[0], a[1] + b[1], a[2] + b[2])
        order = sorted(sums, key=lambda j: (j % 2, j))
        tokens = [sums[j][0] / sums[j][1] for j in order]
        sizes = [sums[j][1] for j in order]
        members = [sums[j][2] for j in order]
        x = torch.stack(tokens)
        tokens = list(x + layer.ffn(layer.ln2(x)))
    out = torch.zeros(17, 32)
    for token, group in zip(tokens, members, strict=True):
        out[group] = token
    return model.ln1(out)


@pytest.mark.parametrize('per_block', [1, 3])
def test_tokens_are_those_of_the_papers_algorithm(per_block):
    model = build(out_type='raw')
    images = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        wanted = torch.stack(
            [merged_one_by_one(model, i[None], per_block) for i in images]
        )
        plain = model(images)[-1]
        merge_tokens(model, per_block)
        got = model(images)[-1]
    torch.testing.assert_close(got, wanted, rtol=1e-4, atol=1e-4)
    assert not torch.allclose(got, plain, atol=1e-2)


@pytest.mark.parametrize('out_type', ['pooled', 'avg_featmap', 'featmap'])
def test_other_outputs_are_of_the_same_tokens(out_type):
    images = torch.randn(2, 3, 64, 64)
    raw, model = build(out_type='raw'), build(out_type=out_type)
    for each in raw, model:
        merge_tokens(each, 2)
    with torch.no_grad():
        tokens, got = raw(images)[-1], model(images)[-1]
    wanted = dict(
        pooled=tokens[:, 0],
        avg_featmap=tokens[:, 1:].mean(1),
        featmap=tokens[:, 1:].transpose(1, 2).unflatten(2, (4, 4)),
    )[out_type]
    torch.testing.assert_close(got, wanted, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ('kind', 'kwargs'),
    [
        (CLIPVisionTransformer, {}),
        (CLIPVisionTransformer, dict(out_indices=1, out_type='featmap')),
        (SigLIPVisionTransformer, {}),
        (SigLIPVisionTransformer, dict(out_type='featmap')),
    ],
)
@pytest.mark.parametrize('per_block', [0, 4, 100])
def test_shapes_names_and_training_stay(kind, kwargs, per_block):
    model, images = build(kind, **kwargs), torch.randn(3, 3, 64, 80)
    keys = list(model.state_dict())
    with torch.no_grad():
        plain, trained = model(images)[-1], model.train()(images)[-1]
        merge_tokens(model, per_block)
        torch.testing.assert_close(model(images)[-1], trained)
        got = model.eval()(images)[-1]
    assert list(model.state_dict()) == keys
    assert got.shape == plain.shape and got.isfinite().all()
    assert torch.equal(got, plain) == (per_block == 0)


def test_equal_patches_lose_nothing():
    model = build(out_type='featmap')
    with torch.no_grad():
        model.pos_embed[:, 1:] = model.pos_embed[:, 1:2]
        image = torch.ones(1, 3, 64, 64)
        plain = model(image)[-1]
        merge_tokens(model, 5)
        got = model(image)[-1]
    torch.testing.assert_close(got, plain, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ('make', 'per_block', 'said'),
    [
        (lambda: build(out_indices=[0, 2]), 1, r'one output only'),
        (build, -1, 'must not be negative, got -1'),
        (lambda: torch.nn.Linear(1, 1), 1, 'of a Linear cannot be merged'),
    ],
)
def test_what_cannot_be_merged_is_refused(make, per_block, said):
    with pytest.raises(ValueError, match=said):
        merge_tokens(make(), per_block)


def test_frozen_blocks_merge_nothing_in_training():
    model, images = build(frozen_stages=2, out_type='featmap'), pixels()
    with torch.no_grad():
        plain = model.train()(images)[-1]
        merge_tokens(model, 3)
        torch.testing.assert_close(model.train()(images)[-1], plain)
        assert not torch.allclose(model.eval()(images)[-1], plain)


@pytest.mark.parametrize('dtype', [torch.bfloat16, torch.float16])
def test_models_of_half_precision_keep_it(dtype):
    model = build(out_type='featmap')
    with torch.no_grad():
        merge_tokens(model, 3)
        whole = model(pixels())[-1]
        half = model.to(dtype)(pixels().to(dtype))[-1]
    assert half.dtype == dtype
    # Rounding may choose other pairs, but not other tokens.
    similar = F.cosine_similarity(half.float(), whole, dim=1)
    assert similar.median() > 0.99


def test_a_copy_merges_by_itself():
    model = build()
    merge_tokens(model, 2)
    model(pixels())
    twin = copy.deepcopy(model)
    assert twin.layers[0].merging.backbone is twin
    with torch.no_grad():
        torch.testing.assert_close(twin(pixels())[-1], model(pixels())[-1])


def pixels():
    return torch.randn(2, 3, 64, 64, generator=torch.manual_seed(1))


def test_tests_of_several_data_sets_merge_once():
    runner = SimpleNamespace(model=nn.Module())
    runner.model.backbone = build()
    hook = HOOKS.build(dict(type='mmclip.MergeTokensHook', per_block=2))
    hook.before_test(runner)
    hook.before_test(runner)
    assert runner.model.backbone.layers[0].merging.per_block == 2

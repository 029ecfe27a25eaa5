"""TimmVisionTower: timm's own module as a backbone."""

import pytest
import timm
import torch
from mmengine.registry import MODELS

from mmclip.analysis.parity import randomize, relative_difference
from mmclip.engine.optim.layer_decay import LayerDecayOptimWrapperConstructor
from mmclip.errors import DataError
from mmclip.models import TimmVisionTower
from tests.conftest import RELATIVE_TOLERANCE

# One of each kind, and its arguments in a small size.
SMALL = dict(depth=3, embed_dim=64, num_heads=2)
KINDS = [
    'vit_pe_spatial_base_patch16_512',  # rotary and learned positions
    'vit_pe_core_base_patch16_224',  # attention pooling, class token
    'vit_pe_core_gigantic_patch14_448',  # no class token
    'eva02_base_patch14_224',  # SwiGLU, separate q, k, v
    'eva_giant_patch14_224',  # biases of q and v only
    'eva_large_patch14_336',  # the norm follows the mean
    'vit_base_patch14_reg4_dinov2',  # registers, LayerScale
    pytest.param(
        'vit_base_patch14_reg1_tipsv2',
        marks=pytest.mark.skipif(
            not timm.is_model('vit_base_patch14_reg1_tipsv2'),
            reason='timm 1.0.28 or newer has it',
        ),
    ),
    'naflexvit_base_patch16_siglip',
]


@pytest.fixture
def small(monkeypatch):
    """Give timm's models three narrow blocks under their own names."""
    create = timm.create_model
    monkeypatch.setattr(
        timm, 'create_model', lambda name, **kw: create(name, **SMALL | kw)
    )


def twins(name, **arguments):
    """timm's model without its classifier, and our tower, in eval mode."""
    torch.manual_seed(0)
    reference = timm.create_model(name, num_classes=0)
    randomize(reference)
    tower = TimmVisionTower(name, **arguments)
    tower.tower.load_state_dict(reference.state_dict())
    return reference.eval(), tower.eval()


def images(size, width=None):
    generator = torch.Generator().manual_seed(1)
    return torch.randn(2, 3, size, width or size, generator=generator)


@pytest.mark.usefixtures('small')
class TestOutputs:
    @pytest.mark.parametrize('name', KINDS)
    @torch.no_grad()
    def test_the_feature_is_timms(self, name):
        reference, tower = twins(name)
        x = images(tower.img_size)
        (ours,), wanted = tower(x), reference(x)
        assert relative_difference(ours, wanted) <= RELATIVE_TOLERANCE
        other = images(tower.img_size).flip(0)
        assert relative_difference(tower(other)[0], wanted) > 1e-3

    @pytest.mark.parametrize('name', KINDS)
    @torch.no_grad()
    def test_maps_are_timms(self, name):
        reference, tower = twins(
            name, out_type='featmap', out_indices=[0, 2], norm_outputs='none'
        )
        x = images(tower.img_size)
        ours = tower(x)
        wanted = reference.forward_intermediates(
            x, indices=[0, 2], intermediates_only=True
        )
        assert len(ours) == 2
        for mine, theirs in zip(ours, wanted, strict=True):
            assert mine.shape == theirs.shape
            assert relative_difference(mine, theirs) <= RELATIVE_TOLERANCE

    @pytest.mark.parametrize(
        ('name', 'has_norm'),
        [
            ('vit_pe_spatial_base_patch16_512', False),
            ('vit_base_patch14_reg4_dinov2', True),
            ('naflexvit_base_patch16_siglip', True),
        ],
    )
    @torch.no_grad()
    def test_the_last_map_passes_the_final_norm(self, name, has_norm):
        reference, tower = twins(name, out_type='featmap', out_indices=[1, 2])
        x = images(tower.img_size)
        first, last = tower(x)
        raw_first, raw_last = reference.forward_intermediates(
            x, indices=[1, 2], intermediates_only=True
        )
        (normed,) = reference.forward_intermediates(
            x, indices=[2], intermediates_only=True, norm=True
        )
        assert relative_difference(first, raw_first) <= RELATIVE_TOLERANCE
        assert relative_difference(last, normed) <= RELATIVE_TOLERANCE
        is_raw = relative_difference(last, raw_last) <= RELATIVE_TOLERANCE
        assert is_raw != has_norm

    @torch.no_grad()
    def test_without_the_last_block_nothing_is_normalised(self):
        name = 'vit_base_patch14_reg4_dinov2'
        reference, tower = twins(name, out_type='featmap', out_indices=[1])
        x = images(tower.img_size)
        (wanted,) = reference.forward_intermediates(
            x, indices=[1], intermediates_only=True
        )
        assert relative_difference(tower(x)[0], wanted) <= RELATIVE_TOLERANCE

    @pytest.mark.parametrize(
        'name', [name for name in KINDS if 'naflex' not in str(name)]
    )
    @torch.no_grad()
    def test_images_of_another_size(self, name):
        """As timm, once its position embeddings are resized for good."""
        reference, tower = twins(name, out_type='featmap', out_indices=[-1])
        patch = 16 if 'patch16' in name else 14
        height, width = 10 * patch, 7 * patch
        x = images(height, width)
        (ours,) = tower(x)
        assert ours.shape == (2, 64, 10, 7)
        reference.set_input_size((height, width))
        (wanted,) = reference.forward_intermediates(
            x, indices=[2], intermediates_only=True, norm=True
        )
        assert relative_difference(ours, wanted) <= RELATIVE_TOLERANCE

    @torch.no_grad()
    @pytest.mark.parametrize('name', [KINDS[0], KINDS[3], KINDS[-1]])
    def test_pieces_of_patches_are_refused(self, name):
        tower = TimmVisionTower(name)
        size = 14 if 'patch14' in name else 16
        with pytest.raises(DataError, match=f'size_divisor={size}'):
            tower(torch.zeros(1, 3, 4 * size, 4 * size + 2))

    @torch.no_grad()
    def test_naflex_takes_any_aspect(self):
        reference, tower = twins(
            'naflexvit_base_patch16_siglip', out_type='featmap'
        )
        x = images(96, 160)
        assert [m.shape for m in tower(x)] == [(2, 64, 6, 10)] * 3
        patches = x.unfold(2, 16, 16).unfold(3, 16, 16)  # B, 3, H, W, 16, 16
        patches = patches.permute(0, 2, 3, 4, 5, 1).reshape(2, 60, -1)
        rows, columns = torch.meshgrid(
            torch.arange(6), torch.arange(10), indexing='ij'
        )
        coord = torch.stack([rows, columns], -1).reshape(1, 60, 2)
        wanted = reference(
            dict(
                patches=patches,
                patch_coord=coord.expand(2, -1, -1),
                patch_valid=torch.ones(2, 60, dtype=torch.bool),
            )
        )
        tower.out_type = 'pooled'
        assert relative_difference(tower(x)[0], wanted) <= RELATIVE_TOLERANCE

    @torch.no_grad()
    def test_a_projection_is_timms_head(self):
        name = 'vit_pe_core_base_patch16_224'
        reference = timm.create_model(name, num_classes=24).eval()
        tower = TimmVisionTower(name, proj_dim=24).eval()
        tower.tower.load_state_dict(reference.state_dict())
        x = images(224)
        assert torch.allclose(tower(x)[0], reference(x), atol=1e-6)
        assert tower(x)[0].shape == (2, 24)


@pytest.mark.usefixtures('small')
class TestTraining:
    def test_the_first_blocks_are_frozen(self):
        torch.manual_seed(0)
        tower = TimmVisionTower(
            'vit_pe_spatial_tiny_patch16_512',
            out_type='featmap',
            frozen_stages=2,
        ).train()
        before = {k: t.clone() for k, t in tower.tower.named_parameters()}
        optimizer = torch.optim.SGD(
            [p for p in tower.parameters() if p.requires_grad], lr=1.0
        )
        sum(m.square().mean() for m in tower(images(64))).backward()
        optimizer.step()
        moved = {
            name
            for name, param in tower.tower.named_parameters()
            if not torch.equal(param, before[name])
        }
        trained = {n for n in before if n.startswith('blocks.2.')}
        assert moved == trained  # this model has no final norm
        modes = [block.training for block in tower.tower.blocks]
        assert modes == [False, False, True]

    def test_frozen_keeps_everything_in_eval_mode(self):
        tower = TimmVisionTower('eva02_tiny_patch14_224', frozen=True).train()
        assert not any(p.requires_grad for p in tower.parameters())
        assert not any(m.training for m in tower.modules())

    @pytest.mark.parametrize(
        ('model', 'last'),
        [
            (
                'vit_pe_core_base_patch16_224',
                {'norm.weight': 4, 'attn_pool.latent': 4},
            ),
            ('vit_pe_spatial_base_patch16_512', {}),  # ends with its blocks
            ('vit_base_patch14_reg4_dinov2', {'norm.bias': 4}),
        ],
    )
    def test_rates_decay_from_block_to_block(self, model, last):
        tower = TimmVisionTower(model)
        wanted = {
            'cls_token': 0,
            'patch_embed.proj.weight': 0,
            'pos_embed': 0,
            'blocks.0.norm1.weight': 1,
            'blocks.2.mlp.fc1.bias': 3,
        } | last
        for name, layer in wanted.items():
            found = tower.get_layer_depth(
                f'backbone.tower.{name}', 'backbone.'
            )
            assert found == (layer, 5), name
        assert tower.get_layer_depth('head.fc.weight', 'backbone.') == (4, 5)

    def test_the_constructor_finds_it(self):
        model = torch.nn.Sequential(
            TimmVisionTower('vit_pe_spatial_tiny_patch16_512')
        )
        constructor = LayerDecayOptimWrapperConstructor(
            dict(type='OptimWrapper', optimizer=dict(type='SGD', lr=1.0)),
            dict(layer_decay_rate=0.5),
        )
        rates = {
            group['lr'] for group in constructor(model).optimizer.param_groups
        }
        assert len(rates) == 4  # the stem and three blocks

    def test_checkpointing_changes_no_gradient(self):
        name = 'vit_pe_spatial_tiny_patch16_512'
        x, gradients = images(64), []
        for with_cp in (False, True):
            torch.manual_seed(0)
            tower = TimmVisionTower(
                name, out_type='featmap', out_indices=[2], with_cp=with_cp
            ).train()
            assert tower.tower.grad_checkpointing == with_cp
            tower(x)[0].square().sum().backward()
            gradients.append(tower.tower.pos_embed.grad)
        assert torch.equal(*gradients)


def test_two_lines_in_a_config():
    tower = MODELS.build(
        dict(
            type='mmclip.TimmVisionTower',
            model='vit_pe_spatial_tiny_patch16_512',
            out_type='featmap',
            out_indices=[11],
        )
    )
    assert tower(torch.randn(1, 3, 64, 32))[0].shape == (1, 192, 4, 2)
    assert tower.architecture() == dict(
        model='vit_pe_spatial_tiny_patch16_512',
        img_size=512,
        out_type='featmap',
        out_indices=[11],
    )


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (dict(model='vit_no_such'), "has no model 'vit_no_such'"),
        (dict(model='hf-hub:someone/x'), "has no model 'hf-hub:someone/x'"),
        (dict(model='../vit_tiny_patch16_224'), 'has no model'),
        (dict(model='vit_pe_spatial_tiny_patch16_512.fb'), 'has a tag'),
        (dict(model='resnet18'), 'not one of its plain vision transformers'),
        (dict(out_type='raw'), 'out_type must be one of'),
        (dict(out_indices=[0]), 'out_indices needs'),
        (dict(norm_outputs='each'), 'norm_outputs must be one of'),
        (dict(frozen_stages=13), r'in \[-1, 12\]'),
    ],
)
def test_wrong_arguments_are_refused(arguments, message):
    model = dict(model='vit_pe_spatial_tiny_patch16_512')
    with pytest.raises(ValueError, match=message):
        TimmVisionTower(**model | arguments)


def test_a_model_of_a_newer_timm_says_which(monkeypatch):
    monkeypatch.setattr(timm, 'is_model', lambda name: False)
    with pytest.raises(ValueError, match=r'it came with timm 1\.0\.28'):
        TimmVisionTower('vit_base_patch14_reg1_tipsv2')

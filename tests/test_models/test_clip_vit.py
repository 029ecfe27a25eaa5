"""CLIPVisionTransformer: equal to open_clip, and a good backbone."""

import pytest
import torch
from mmengine.utils import to_2tuple
from torch import nn

from mmclip.analysis.parity import make_twins, relative_difference, to_ours
from tests.conftest import RELATIVE_TOLERANCE
from tests.test_models.conftest import images, tiny


class TestParity:
    """The same weights give open_clip's outputs."""

    @pytest.mark.parametrize(
        ('name', 'tag', 'depth'),
        [
            pytest.param(
                *('ViT-L-14-336', 'openai', 6), marks=pytest.mark.slow
            ),
            pytest.param(
                *('ViT-L-14-336', 'openai', None),
                marks=pytest.mark.exhaustive,
            ),
            pytest.param(
                *('ViT-H-14', 'laion2b_s32b_b79k', 8),
                marks=pytest.mark.exhaustive,
            ),
            pytest.param(
                *('ViT-bigG-14', 'laion2b_s39b_b160k', 6),
                marks=pytest.mark.exhaustive,
            ),
        ],
    )
    def test_full_width_outputs_and_gradients(self, name, tag, depth):
        reference, backbone = make_twins(name, tag, depth)
        reference.train(), backbone.train()
        x = images(*to_2tuple(reference.image_size), batch=1)
        wanted, ours = reference(x), backbone(x)[-1]
        assert relative_difference(ours, wanted) <= RELATIVE_TOLERANCE
        assert_same_gradients(reference, wanted, backbone, ours)

    @pytest.mark.parametrize(
        'name',
        [
            'ViT-S-32',
            'ViT-L-14-CLIPA',
            'coca_ViT-B-32',
            'MobileCLIP2-L-14',
            'ViT-B-16-SigLIP',
        ],
    )
    def test_gradients(self, name):
        reference, backbone = make_twins(name, depth=3, width=64)
        x = images(224)
        assert_same_gradients(
            reference, reference(x), backbone, backbone(x)[0]
        )

    def test_patch_dropout_in_training(self):
        reference, backbone = make_twins(
            'ViT-S-16', depth=2, width=64, patch_dropout=0.5
        )
        x = images(224)
        torch.manual_seed(2)
        wanted = reference.train()(x)
        torch.manual_seed(2)
        ours = backbone.train()(x)[0]
        assert relative_difference(ours, wanted) <= RELATIVE_TOLERANCE
        assert relative_difference(backbone.eval()(x)[0], wanted) > 1e-3

    @pytest.mark.parametrize(
        'mistake',
        [
            dict(act='gelu'),
            dict(norm_eps=1e-3),
            pytest.param('no pre-norm', id='no pre-norm'),
        ],
        ids=str,
    )
    def test_a_mistake_is_seen(self, mistake):
        changes = mistake if isinstance(mistake, dict) else {}
        reference, backbone = make_twins(
            'ViT-B-32', 'openai', depth=2, width=64, **changes
        )
        if not changes:
            backbone.pre_norm = nn.Identity()
        x = images(224)
        with torch.no_grad():
            ours, wanted = backbone.eval()(x)[0], reference.eval()(x)
        assert relative_difference(ours, wanted) > 10 * RELATIVE_TOLERANCE

    @pytest.mark.parametrize(
        ('name', 'mistake'),
        [
            ('ViT-L-14-CLIPA', dict(pool='cls_token')),
            ('ViT-L-14-CLIPA', dict(out_type='avg_featmap')),
            ('MobileCLIP2-L-14', dict(act='quick_gelu')),
            ('coca_ViT-B-32', dict(norm_eps=1e-2)),
        ],
    )
    def test_a_mistake_in_a_variant_is_seen(self, name, mistake):
        reference, backbone = make_twins(name, depth=2, width=64, **mistake)
        x = images(224)
        with torch.no_grad():
            difference = relative_difference(backbone(x)[0], reference(x))
        assert difference > 10 * RELATIVE_TOLERANCE

    def test_epsilon_1e_6_is_seen_where_tokens_are_small(self):
        reference, backbone = make_twins(
            'ViT-S-32', depth=2, width=64, norm_eps=1e-6
        )
        x = images(224)
        with torch.no_grad():
            for module in (reference.conv1, backbone.patch_embed):
                for parameter in module.parameters():
                    parameter *= 0.01
            for parameter in (
                reference.class_embedding,
                reference.positional_embedding,
                backbone.cls_token,
                backbone.pos_embed,
            ):
                parameter *= 0.01
            ours, wanted = backbone.eval()(x)[0], reference.eval()(x)
        assert relative_difference(ours, wanted) > 10 * RELATIVE_TOLERANCE

    def test_intermediate_feature_maps(self):
        reference, backbone = make_twins(
            'ViT-S-16',
            depth=4,
            width=64,
            out_type='featmap',
            out_indices=[0, 2, 3],
            proj_dim=None,
        )
        x = images(224)
        wanted = reference.eval().forward_intermediates(x, indices=[0, 2, 3])
        wanted = wanted['image_intermediates']
        # open_clip leaves the last one without the final norm.
        wanted[-1] = reference.ln_post(wanted[-1].permute(0, 2, 3, 1))
        wanted[-1] = wanted[-1].permute(0, 3, 1, 2)
        for ours, other in zip(backbone.eval()(x), wanted, strict=True):
            assert relative_difference(ours, other) <= RELATIVE_TOLERANCE


def assert_same_gradients(reference, wanted, backbone, ours) -> None:
    direction = torch.randn_like(wanted)
    (wanted * direction).sum().backward()
    (ours * direction).sum().backward()
    expected = to_ours(
        {k: p.grad for k, p in reference.named_parameters()}, backbone
    )
    for name, parameter in backbone.named_parameters():
        difference = relative_difference(parameter.grad, expected[name])
        assert difference <= RELATIVE_TOLERANCE, name


class TestOutputs:
    def test_cocas_patches_have_neither_norm_nor_projection(self):
        """Those are as wide as its queries."""
        backbone = tiny(pool='attention', proj_dim=24, out_type='featmap')
        backbone(images())[0].sum().backward()
        assert backbone(images())[0].shape == (2, 32, 4, 4)
        without = {n for n, p in backbone.named_parameters() if p.grad is None}
        frozen = {
            n for n, p in backbone.named_parameters() if not p.requires_grad
        }
        assert without == frozen
        assert {'proj', 'ln1.weight', 'attn_pool.query'} <= frozen

    def test_projection_is_applied_to_the_last_output_only(self):
        backbone = tiny(proj_dim=24, out_type='featmap', out_indices=[0, 3])
        first, last = backbone(images())
        assert first.shape[1] == 32
        assert last.shape[1] == 24

    def test_blocks_after_the_last_index_are_not_trained(self):
        backbone = tiny(out_indices=[0, 1])
        sum(out.sum() for out in backbone(images())).backward()
        without = {n for n, p in backbone.named_parameters() if p.grad is None}
        frozen = {
            n for n, p in backbone.named_parameters() if not p.requires_grad
        }
        assert without == frozen
        assert {name.split('.')[1] for name in frozen if 'layers' in name} == {
            '2',
            '3',
        }

    def test_two_passes_differ_under_drop_path_only_in_training(self):
        backbone = tiny(drop_path_rate=0.5)
        x = images(batch=8)
        assert not torch.equal(backbone(x)[0], backbone(x)[0])
        backbone.eval()
        assert torch.equal(backbone(x)[0], backbone(x)[0])


class TestImageSizes:
    def test_run_time_resize_equals_open_clips_resize_on_load(self):
        from open_clip.model import resize_pos_embed

        reference, backbone = make_twins('ViT-S-16', depth=2, width=64)
        larger, _ = make_twins('ViT-S-16', depth=2, width=64)
        state_dict = {
            f'visual.{k}': v for k, v in reference.state_dict().items()
        }
        holder = nn.Module()
        holder.visual = larger
        larger.grid_size = (20, 20)
        resize_pos_embed(state_dict, holder)
        larger.positional_embedding = nn.Parameter(
            state_dict['visual.positional_embedding']
        )
        x = images(320)
        with torch.no_grad():
            ours, wanted = backbone.eval()(x)[0], larger.eval()(x)
        assert relative_difference(ours, wanted) <= RELATIVE_TOLERANCE

    def test_a_position_embedding_of_another_kind_does_not_fit(self):
        weights = tiny().state_dict()
        weights['pos_embed'] = weights['pos_embed'].flatten()
        with pytest.raises(RuntimeError, match='size mismatch for pos_embed'):
            tiny().load_state_dict(weights)


class TestTraining:
    @pytest.mark.parametrize('frozen_stages', [-1, 0, 2, 4])
    def test_frozen_parts_survive_a_training_step(self, frozen_stages):
        backbone = tiny(frozen_stages=frozen_stages, drop_path_rate=0.1)
        backbone.train()
        before = {k: v.clone() for k, v in backbone.state_dict().items()}
        trained = [p for p in backbone.parameters() if p.requires_grad]
        if trained:
            optimizer = torch.optim.SGD(trained, lr=0.1)
            backbone(images())[0].square().sum().backward()
            optimizer.step()
        changed = {
            key
            for key, value in backbone.state_dict().items()
            if not torch.equal(value, before[key])
        }
        stem = {'cls_token', 'pos_embed', 'patch_embed.projection.weight'}
        frozen_layers = tuple(f'layers.{i}.' for i in range(frozen_stages))
        assert bool(stem & changed) == (frozen_stages < 0)
        assert not any(key.startswith(frozen_layers) for key in changed)
        assert ('ln1.weight' in changed) == (frozen_stages < 4)

    def test_frozen_layers_stay_in_eval_mode(self):
        backbone = tiny(frozen_stages=2)
        assert backbone.train() is backbone
        modes = [layer.training for layer in backbone.layers]
        assert modes == [False, False, True, True]
        assert not backbone.patch_embed.training

    def test_freeze_patch_embed_freezes_nothing_else(self):
        backbone = tiny(freeze_patch_embed=True)
        frozen = [
            n for n, p in backbone.named_parameters() if not p.requires_grad
        ]
        assert frozen == ['patch_embed.projection.weight']

    def test_layer_depth(self):
        backbone = tiny(proj_dim=8)
        depths = {
            name: backbone.get_layer_depth(f'backbone.{name}', 'backbone.')
            for name, _ in backbone.named_parameters()
        }
        for name, (depth, num_layers) in depths.items():
            assert num_layers == 6
            if name.startswith('layers.'):
                assert depth == int(name[7]) + 1
            elif name.startswith(('ln1', 'proj')):
                assert depth == 5
            else:
                assert depth == 0, name
        assert backbone.get_layer_depth('head.fc.weight', 'backbone.') == (
            5,
            6,
        )


class TestArguments:
    @pytest.mark.parametrize(
        ('wrong', 'message'),
        [
            (dict(pool='attention'), 'needs proj_dim'),
            (
                dict(pool='attention', proj_dim=8, out_indices=[0, 3]),
                'pools the last block only',
            ),
        ],
    )
    def test_what_cocas_pooler_cannot_do_is_refused(self, wrong, message):
        with pytest.raises(ValueError, match=message):
            tiny(**wrong)

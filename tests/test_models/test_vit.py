"""What CLIP's and SigLIP's vision transformers have in common."""

import pytest
import torch

from mmclip.models import CLIPVisionTransformer, SigLIPVisionTransformer
from mmclip.models.architecture import ALIASES, ARCHS
from tests.test_models.conftest import TINY, images, tiny

DEPTH = TINY['depth']
pytestmark = pytest.mark.parametrize(
    'cls', [CLIPVisionTransformer, SigLIPVisionTransformer]
)


class TestTokens:
    @pytest.mark.parametrize('index', [1, -1])
    def test_all_outputs_are_of_the_same_tokens(self, cls, index):
        def output(out_type):
            backbone = tiny(cls, out_type=out_type, out_indices=index)
            return backbone.eval()(images())[0]

        prefix = int(cls is CLIPVisionTransformer)
        patches = output('raw')[:, prefix:]
        average, featmap = output('avg_featmap'), output('featmap')
        torch.testing.assert_close(average, patches.mean(1))
        torch.testing.assert_close(featmap[:, :, 1, 2], patches[:, 4 + 2])
        if prefix:
            torch.testing.assert_close(output('pooled'), output('raw')[:, 0])

    @pytest.mark.parametrize('size', [(48, 48), (24, 40), (64, 16)])
    def test_images_of_another_size_are_as_in_a_tower_of_that_size(
        self, cls, size
    ):
        backbone = tiny(cls).eval()
        other = tiny(cls, img_size=size).eval()
        other.load_state_dict(backbone.state_dict())
        x = images(*size)
        with torch.no_grad():
            assert torch.equal(backbone(x)[0], other(x)[0])
            other.pos_embed.zero_()
            assert not torch.allclose(backbone(x)[0], other(x)[0])

    def test_a_border_narrower_than_a_patch_is_left_out(self, cls):
        backbone, x = tiny(cls).eval(), images(39, 35)
        assert torch.equal(backbone(x)[0], backbone(x[..., :32, :32])[0])

    def test_an_image_smaller_than_a_patch_is_refused(self, cls):
        with pytest.raises(ValueError, match='4x32 pixels is smaller'):
            tiny(cls)(images(4, 32))

    def test_positions_are_added_in_float32_under_autocast(self, cls):
        backbone, inputs = tiny(cls), []
        backbone.layers[0].register_forward_pre_hook(
            lambda _, args: inputs.extend(args)
        )
        with torch.autocast('cpu', torch.bfloat16):
            backbone(images())
        assert inputs[0].dtype == torch.float32

    @pytest.mark.parametrize('training', [True, False])
    def test_patches_are_dropped_in_training_only(self, cls, training):
        backbone = tiny(cls, patch_dropout=0.75, out_type='raw')
        tokens = backbone.train(training)(images())[0]
        prefix = int(cls is CLIPVisionTransformer)
        assert tokens.shape[1] == prefix + (4 if training else 16)


class TestParameters:
    def test_their_order_is_that_of_optimizer_states(self, cls):
        """A resumed run finds the state of a parameter by its number."""
        names = [name for name, _ in _parameters(cls)]
        wanted = ['pos_embed', 'patch_embed', 'layers', 'ln1', 'attn_pool']
        if cls is CLIPVisionTransformer:
            wanted[1:1] = ['cls_token', 'proj', 'proj_bias']
            wanted[-2:] = ['pre_norm', 'attn_pool', 'ln1']
        assert list(dict.fromkeys(n.split('.')[0] for n in names)) == wanted
        block = [n for n in names if n.startswith('layers.0.')]
        modules = [n.split('.', 2)[2].rpartition('.')[0] for n in block]
        assert list(dict.fromkeys(modules)) == [
            'ln1',
            'attn.qkv',
            'attn.proj',
            'ln2',
            'ffn.layers.0.0',
            'ffn.layers.1',
        ]

    def test_random_ones_follow_clips_rule(self, cls):
        arch = dict(width=256, depth=8, num_heads=4, mlp_width=512)
        weights = tiny(cls, arch=arch, pool='avg').state_dict()
        attn_std, proj_std, fc_std = 1 / 16, 1 / 64, 512**-0.5
        for name, std in {
            'pos_embed': attn_std,
            'layers.7.attn.qkv.weight': attn_std,
            'layers.7.attn.proj.weight': proj_std,
            'layers.7.ffn.layers.0.0.weight': fc_std,
            'layers.7.ffn.layers.1.weight': proj_std,
        }.items():
            assert weights[name].std().item() == pytest.approx(std, rel=0.03)
        for name, tensor in weights.items():
            if name.startswith('layers') and name.endswith('bias'):
                assert not tensor.any(), name

    def test_all_stay_in_eval_mode_where_all_are_frozen(self, cls):
        backbone = tiny(cls, frozen_stages=DEPTH).train()
        assert not any(p.requires_grad for p in backbone.parameters())
        assert not any(part.training for part in backbone.layers)
        assert not backbone.ln1.training
        assert tiny(cls, frozen_stages=DEPTH - 1).train().ln1.training


def _parameters(cls):
    kwargs = dict(pool='attention')
    if cls is CLIPVisionTransformer:
        kwargs |= dict(proj_dim=24, proj_bias=True)
    return tiny(cls, **kwargs).named_parameters()


class TestArguments:
    @pytest.mark.parametrize(('alias', 'name'), ALIASES.items())
    def test_aliases(self, cls, alias, name):
        with torch.device('meta'):
            backbone = cls(alias, act='gelu')
        assert backbone.width == ARCHS[name][0]

    @pytest.mark.parametrize(
        ('wrong', 'message'),
        [
            (dict(arch='larg'), 'arch must be one of small, medium'),
            (dict(arch=dict(width=32)), 'exactly the keys'),
            (dict(arch=TINY | dict(num_heads=5)), 'not a multiple'),
            (dict(act='relu'), r"act must be one of gelu, .*; got 'relu'"),
            (dict(pool='max'), 'pool must be one of'),
            (dict(out_type='cls'), 'out_type must be one of'),
            (dict(out_indices=[3, 1]), 'increasing'),
            (dict(out_indices=[4]), 'out_indices'),
            (dict(out_indices=[]), 'out_indices'),
            (dict(frozen_stages=5), 'frozen_stages'),
            (dict(drop_path_rate=1.0), 'drop_path_rate'),
            (dict(patch_dropout=1.0), 'patch_dropout'),
            (dict(patch_dropout=0.5, out_type='featmap'), 'holes'),
            (dict(img_size=4), 'smaller than one patch'),
        ],
    )
    def test_wrong_ones_are_refused(self, cls, wrong, message):
        with pytest.raises(ValueError, match=message):
            tiny(cls, **wrong)

    def test_the_activation_has_no_default(self, cls):
        with pytest.raises(TypeError, match='act'):
            cls('base')

    def test_those_of_the_caller_are_not_changed(self, cls):
        indices, arch = [-2, -1], dict(TINY)
        tiny(cls, arch=arch, out_indices=indices)
        assert (indices, arch) == ([-2, -1], TINY)

"""PretrainedCLIP: all of the weights, or an error."""

import pytest
import torch
from mmengine.registry import MODELS, init_default_scope

from mmclip.checkpoint import CheckpointError, write_checkpoint
from mmclip.pos_embed import resize_pos_embed
from tests.test_checkpoint.conftest import TINY_BACKBONE


@pytest.fixture
def converted(converted, tmp_path):
    """The path of a converted tiny model, and its checkpoint."""
    path = tmp_path / 'converted.pth'
    write_checkpoint(converted[0], path)
    return path, converted[0]


def build(path, fresh=(), **changes):
    init_cfg = dict(
        type='mmclip.PretrainedCLIP', checkpoint=str(path), fresh=fresh
    )
    init_default_scope('mmpretrain')
    backbone = MODELS.build(TINY_BACKBONE | dict(init_cfg=init_cfg) | changes)
    backbone.init_weights()
    return backbone


def weights(checkpoint):
    return {
        key.removeprefix('backbone.'): tensor
        for key, tensor in checkpoint['state_dict'].items()
    }


def test_every_tensor_is_loaded(converted):
    path, checkpoint = converted
    backbone = build(path, proj_dim=24)
    torch.testing.assert_close(
        dict(backbone.state_dict()), weights(checkpoint), rtol=0, atol=0
    )


def test_weights_survive_the_init_of_a_whole_classifier(converted):
    path, checkpoint = converted
    init_default_scope('mmpretrain')
    init_cfg = dict(type='mmclip.PretrainedCLIP', checkpoint=str(path))
    normal = dict(type='TruncNormal', layer='Linear')
    head = dict(type='LinearClsHead', num_classes=5, in_channels=32)
    classifier = MODELS.build(
        dict(
            type='ImageClassifier',
            backbone=TINY_BACKBONE | dict(init_cfg=init_cfg),
            head=head | dict(init_cfg=normal | dict(std=2e-5)),
            init_cfg=normal | dict(std=0.1),
        )
    )
    classifier.init_weights()
    wanted = weights(checkpoint)
    for key, tensor in classifier.backbone.state_dict().items():
        assert torch.equal(tensor, wanted[key]), key
    assert classifier.head.fc.weight.std() < 1e-4


def test_what_is_left_out_and_what_is_not_known_is_said(converted, log):
    path, checkpoint = converted
    checkpoint['meta']['clip']['preprocess'] = None
    write_checkpoint(checkpoint, path)
    backbone = build(path)
    assert 'does not say how images must be prepared' in '\n'.join(log)
    assert 'proj' in weights(checkpoint)
    assert 'proj' not in backbone.state_dict()
    assert 'Left out: proj' in '\n'.join(log)


@pytest.mark.parametrize('img_size', [48, (16, 40)])
def test_position_embeddings_are_resized_and_said(converted, log, img_size):
    path, checkpoint = converted
    backbone = build(path, img_size=img_size)
    wanted = resize_pos_embed(
        weights(checkpoint)['pos_embed'], (4, 4), backbone.grid
    )
    assert torch.equal(backbone.pos_embed, wanted)
    assert 'Resized the position embedding' in '\n'.join(log)


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        (dict(act='gelu'), "act: checkpoint 'quick_gelu', here 'gelu'"),
        (dict(norm_eps=1e-6), 'norm_eps: checkpoint 1e-05, here 1e-06'),
        (
            dict(arch=TINY_BACKBONE['arch'] | dict(num_heads=4)),
            'num_heads: checkpoint 2, here 4',
        ),
        (
            dict(arch=TINY_BACKBONE['arch'] | dict(depth=3)),
            'depth: checkpoint 2, here 3',
        ),
        (dict(patch_size=16), 'patch_size: checkpoint 8, here 16'),
    ],
)
def test_other_properties_are_refused_by_name_and_value(
    converted, change, message
):
    with pytest.raises(CheckpointError, match=message):
        build(converted[0], **change)


def test_a_missing_and_an_extra_key_are_refused(converted):
    path, checkpoint = converted
    tensor = checkpoint['state_dict'].pop('backbone.ln1.bias')
    checkpoint['state_dict']['backbone.ln9.bias'] = tensor
    write_checkpoint(checkpoint, path)
    with pytest.raises(CheckpointError) as error:
        build(path)
    assert 'missing: ln1.bias' in str(error.value)
    assert 'unexpected: ln9.bias' in str(error.value)


def test_fresh_parts_keep_their_initialisation(converted, log):
    path, checkpoint = converted
    backbone = build(path, fresh=['ln1'])
    assert torch.equal(backbone.ln1.weight, torch.ones(32))
    assert not torch.equal(weights(checkpoint)['ln1.weight'], torch.ones(32))
    assert 'Kept fresh' in '\n'.join(log)
    with pytest.raises(CheckpointError, match="no part 'ln7'"):
        build(path, fresh=['ln7'])


def test_a_missing_file_says_how_to_make_it():
    with pytest.raises(FileNotFoundError, match='mmclip convert NAME'):
        build('nowhere.pth')


def test_other_modules_are_refused(converted):
    from mmengine.model import initialize

    init_cfg = dict(type='mmclip.PretrainedCLIP', checkpoint=str(converted[0]))
    with pytest.raises(CheckpointError, match='not of a Linear'):
        initialize(torch.nn.Linear(1, 1), init_cfg)


class TestMMPretrainsCheckpoints:
    """Checkpoints of mmpretrain's own CLIP models have no meta['clip']."""

    @pytest.fixture
    def theirs(self, tmp_path):
        """mmpretrain's ViT as its CLIP B/16 configs build it, but small."""
        init_default_scope('mmpretrain')
        arch = dict(
            embed_dims=32,
            num_layers=2,
            num_heads=2,
            feedforward_channels=128,
        )
        backbone = dict(
            type='VisionTransformer',
            arch=arch,
            img_size=32,
            patch_size=8,
            pre_norm=True,
            norm_cfg=dict(type='LN', eps=1e-5),
        )
        head = dict(type='VisionTransformerClsHead', num_classes=5)
        head['in_channels'] = 32
        classifier = MODELS.build(
            dict(type='ImageClassifier', backbone=backbone, head=head)
        )
        torch.manual_seed(0)
        for parameter in classifier.parameters():
            torch.nn.init.normal_(parameter, std=0.2)
        path = tmp_path / 'theirs.pth'
        torch.save(dict(meta={}, state_dict=classifier.state_dict()), path)
        classifier.backbone.eval()
        return path, classifier.backbone

    def test_the_same_outputs(self, theirs, log):
        path, reference = theirs
        backbone = build(path, act='gelu').eval()
        x = torch.randn(2, 3, 32, 32)
        with torch.no_grad():
            torch.testing.assert_close(backbone(x)[0], reference(x)[0])
        assert "has no meta['clip']" in '\n'.join(log)
        assert 'Left out (not part of the backbone)' in '\n'.join(log)

    def test_our_weights_load_into_theirs(self, theirs, converted):
        _, reference = theirs
        missing = reference.load_state_dict(weights(converted[1]), False)
        assert missing.missing_keys == []
        assert missing.unexpected_keys == ['proj']


VISION = dict(layers=[1, 1, 1, 1], width=8, image_size=32)


@pytest.mark.parametrize(
    'backbone',
    [
        TINY_BACKBONE,
        TINY_BACKBONE | dict(type='mmclip.SigLIPVisionTransformer'),
        dict(
            type='mmclip.OpenCLIPVisionTower',
            model=dict(embed_dim=16, vision_cfg=VISION),
        ),
    ],
    ids=lambda backbone: backbone['type'],
)
def test_mmengines_initializer_needs_the_prefix(tmp_path, backbone):
    init_default_scope('mmpretrain')
    source = MODELS.build(backbone)
    whole = {f'backbone.{k}': v for k, v in source.state_dict().items()}
    path = tmp_path / 'x.safetensors'
    write_checkpoint(dict(state_dict=whole), path)
    init_cfg = dict(type='Pretrained', checkpoint=str(path))
    with pytest.raises(CheckpointError, match=r"add prefix='backbone\.'"):
        MODELS.build(backbone | dict(init_cfg=init_cfg)).init_weights()
    # mmengine runs ours before the children's own initialisation.
    ours = dict(type='mmclip.PretrainedCLIP', checkpoint=str(path))
    for found in (init_cfg | dict(prefix='backbone.'), ours):
        module = MODELS.build(backbone | dict(init_cfg=found))
        module.init_weights()
        torch.testing.assert_close(
            module.state_dict(), source.state_dict(), rtol=0, atol=0
        )

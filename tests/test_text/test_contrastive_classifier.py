"""FLYP's loss is open_clip's, and the head follows the text tower."""

import open_clip
import pytest
import torch
from mmengine.registry import init_default_scope
from mmpretrain.registry import MODELS
from mmpretrain.structures import DataSample

from mmclip.analysis.parity import relative_difference
from mmclip.checkpoint import convert_source
from tests.conftest import (
    RELATIVE_TOLERANCE,
    REPOSITORY,
    save_whole_model,
)
from tests.processes import finish, start

CLASSES = ['a cat', 'dog', 'fire truck']
TEMPLATES = ['a photo of {}']


def make_twins(folder, templates=TEMPLATES):
    """A classifier and the open_clip model whose weights it has."""
    reference = save_whole_model(folder)
    config = str(folder / 'open_clip_config.json')
    weights = str(folder / 'open_clip_model.safetensors')
    converted = folder / 'tower.pth'
    checkpoint, _ = convert_source(config, weights)
    torch.save(checkpoint, converted)
    backbone = checkpoint['meta']['clip']['backbone']
    init_default_scope('mmpretrain')  # whatever ran before
    model = MODELS.build(
        dict(
            type='mmclip.ContrastiveClassifier',
            backbone=backbone
            | dict(
                init_cfg=dict(
                    type='mmclip.PretrainedCLIP', checkpoint=str(converted)
                )
            ),
            text=dict(
                type='mmclip.OpenCLIPTextTower',
                model=config,
                pretrained=weights,
            ),
            classes=CLASSES,
            templates=templates,
        )
    )
    model.init_weights()
    return model, reference


def batch(labels=(2, 0, 1, 0)):
    images = torch.randn(
        len(labels), 3, 32, 32, generator=torch.Generator().manual_seed(1)
    )
    return images, [DataSample().set_gt_label(label) for label in labels]


def test_the_loss_and_its_gradients_are_those_of_open_clip(tmp_path):
    model, reference = make_twins(tmp_path)
    model.train()
    images, samples = batch()
    loss = model.loss(images, samples)['loss']
    loss.backward()
    tokenizer = open_clip.get_tokenizer(f'local-dir:{tmp_path}')
    texts = tokenizer(
        [TEMPLATES[0].format(CLASSES[int(s.gt_label)]) for s in samples]
    )
    wanted = open_clip.ClipLoss()(*reference.train()(images, texts))
    wanted.backward()
    torch.testing.assert_close(loss, wanted)
    for ours, theirs in (
        (model.backbone.proj, reference.visual.proj),
        (model.text.clip.text_projection, reference.text_projection),
        (model.text.clip.logit_scale, reference.logit_scale),
    ):
        difference = relative_difference(ours.grad, theirs.grad)
        assert difference < RELATIVE_TOLERANCE


@torch.no_grad()
def test_it_classifies_as_open_clip(tmp_path):
    model, reference = make_twins(tmp_path)
    images, _ = batch()
    classifier = open_clip.build_zero_shot_classifier(
        reference,
        open_clip.get_tokenizer(f'local-dir:{tmp_path}'),
        CLASSES,
        TEMPLATES,
    )
    features = reference.encode_image(images, normalize=True)
    wanted = reference.logit_scale.exp() * features @ classifier
    logits = model.eval()(images)
    assert relative_difference(logits, wanted) < RELATIVE_TOLERANCE


def test_the_head_follows_the_text_tower(tmp_path):
    model, _ = make_twins(tmp_path)
    images, samples = batch()
    before = model.eval()(images)
    weight = model.head.fc.weight.clone()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    model.train()
    model.loss(images, samples)['loss'].backward()
    optimizer.step()
    assert torch.equal(model.head.fc.weight, weight)  # of the last test
    after = model.eval()(images)
    assert not torch.equal(model.head.fc.weight, weight)
    assert not torch.allclose(after, before)


def test_a_few_steps_lower_the_loss(tmp_path):
    model, _ = make_twins(tmp_path, ['a photo of {}', 'the {}'])
    torch.manual_seed(0)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    images, samples = batch(labels=(0, 1, 2))
    losses = []
    for _ in range(20):
        optimizer.zero_grad()
        losses.append(model.loss(images, samples)['loss'])
        losses[-1].backward()
        optimizer.step()
    assert losses[-1] < losses[0] / 2


def test_siglip_is_refused(tmp_path):
    save_whole_model(tmp_path, custom_text=True, init_logit_bias=-10)
    with pytest.raises(ValueError, match='is a SigLIP'):
        MODELS.build(
            dict(
                type='mmclip.OpenCLIPTextTower',
                model=str(tmp_path / 'open_clip_config.json'),
            )
        )


@torch.no_grad()
def test_other_weights_are_another_head(tmp_path):
    model, _ = make_twins(tmp_path)
    images, _ = batch()
    before = model.eval()(images)
    torch.manual_seed(1)
    weights = {
        key: torch.randn_like(tensor) if 'text_projection' in key else tensor
        for key, tensor in model.state_dict().items()
    }
    model.load_state_dict(weights)
    assert not torch.allclose(model(images), before)


@torch.no_grad()
def test_predictions_are_those_of_the_logits(tmp_path):
    model, _ = make_twins(tmp_path)
    images, samples = batch()
    predicted = model.eval().predict(images, samples)
    wanted = model(images).softmax(dim=1)
    scores = torch.stack([sample.pred_score for sample in predicted])
    torch.testing.assert_close(scores, wanted)


def test_captions_are_drawn_from_all_templates(tmp_path):
    model, _ = make_twins(tmp_path, ['a photo of {}', 'the {}', 'no {}'])
    seen = []
    embed = model.text.forward
    model.text.forward = lambda texts: seen.extend(texts) or embed(texts)
    torch.manual_seed(0)
    for _ in range(10):
        model.loss(*batch())
    assert set(seen) >= {'a photo of a cat', 'the a cat', 'no a cat'}


@pytest.mark.parametrize(
    ('labels', 'message'),
    [((0, 3), 'the label 3, but there are only 3 classes')],
)
def test_labels_without_a_class_are_refused(tmp_path, labels, message):
    model, _ = make_twins(tmp_path)
    with pytest.raises(ValueError, match=message):
        model.loss(*batch(labels))


def test_a_backbone_without_projection_is_refused(tmp_path):
    model, _ = make_twins(tmp_path)
    model.backbone.proj = None
    with pytest.raises(ValueError, match=r'model\.backbone\.proj_dim=24'):
        model.loss(*batch())


def test_two_processes_contrast_all_images(tmp_path):
    for rank in ('0', '1', 'whole'):
        (tmp_path / rank).mkdir()
    program = 'tests.test_text.gradients_of_a_rank'
    finish(start('-m', program, tmp_path, cwd=REPOSITORY, ranks=2))
    model, _ = make_twins(tmp_path / 'whole')
    model.train()
    model.loss(*batch())['loss'].backward()
    wanted = (model.backbone.proj.grad, model.text.clip.logit_scale.grad)
    found = torch.load(tmp_path / 'gradients.pt')
    for ours, whole in zip(found, wanted, strict=True):
        assert relative_difference(ours, whole) < 1e-4

"""The probe: what is trained on what, and what is refused."""

import json
import shutil
import sys

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression

from mmclip.checkpoint import CheckpointError, read_checkpoint
from mmclip.checkpoint.files.writing import write_checkpoint
from mmclip.engine.config.load import load_config
from mmclip.probing import logistic, probe, sweep
from mmclip.probing.probe import hold_out
from tests.test_probing.conftest import NUM_CLASSES, make_project


def run(cfg, project, checkpoint='tower.pth'):
    """Probe with the features beside the project."""
    return probe(cfg, str(project / checkpoint), project / 'cache')


@pytest.fixture(scope='module')
def probed(tmp_path_factory):
    """A project, and what a probe of it gives without scikit-learn."""
    project = make_project(tmp_path_factory.mktemp('probed'))
    cfg = load_config(project / 'config.py')
    with pytest.MonkeyPatch.context() as patch:
        for name in [n for n in sys.modules if n.split('.')[0] == 'sklearn']:
            patch.delitem(sys.modules, name)
        patch.setitem(sys.modules, 'sklearn', None)
        found = run(cfg, project)
    return project, found


@pytest.fixture
def quick(monkeypatch):
    """Solvers that stop early, where the numbers do not matter."""
    monkeypatch.setattr(logistic, 'MAX_ITERATIONS', 10)


def cached(project, number):
    """The features and labels of the data set with so many images."""
    for folder in (project / 'cache').iterdir():
        features = np.load(folder / 'features.npy')
        if len(features) == number:
            labels = np.arange(NUM_CLASSES).repeat(number // NUM_CLASSES)
            return features, labels
    raise AssertionError(f'no {number} images')


def test_the_head_predicts_what_scikit_learn_does(probed):
    """Trained on the whole training set, with the best C."""
    project, (result, checkpoint) = probed
    x, y = cached(project, 80)
    x_test, y_test = cached(project, 40)
    theirs = LogisticRegression(C=result.c, max_iter=1000).fit(
        x.astype(np.float64), y
    )
    wanted = theirs.predict(x_test)
    tensors = checkpoint['state_dict']
    scores = torch.nn.functional.linear(
        torch.tensor(x_test),
        tensors['head.fc.weight'],
        tensors['head.fc.bias'],
    )
    assert scores.argmax(1).tolist() == wanted.tolist()
    assert result.linear_top1 == pytest.approx(100 * (wanted == y_test).mean())
    assert 50 < result.linear_top1 < 100  # or the test means little
    assert result.notes == []


def test_the_validation_set_of_the_config_is_used(cfg, project, quick):
    """Which has wrong labels here, so that it cannot be another."""
    names = [f'class{label}' for label in range(4)]
    for name, other in zip(names, names[1:] + names[:1], strict=True):
        images = project / 'images'
        shutil.copytree(images / 'test' / name, images / 'val' / other)
    cfg.val_dataloader.dataset.data_prefix = 'val'
    given, _ = run(cfg, project)
    assert given.validation == "the config's validation set"
    assert given.trials[0].accuracy < 50


@pytest.mark.parametrize(
    ('split', 'why'),
    [
        ('train', "the config's validation set is its train set"),
        ('test', "the config's validation set is its test set"),
        (None, 'the config has no validation set'),
    ],
)
def test_without_a_validation_set_of_its_own_a_tenth_is_held_out(
    cfg, project, quick, split, why
):
    """Also where the config writes another set's folder in another way."""
    if split is None:
        cfg.val_dataloader = None
    else:
        cfg.val_dataloader.dataset.update(
            data_root=str(project / 'images' / split), data_prefix=''
        )
    found, _ = run(cfg, project)
    assert found.validation == f'8 images of the train set, since {why}'
    assert found.trials[0].accuracy > 50


def test_what_is_held_out_has_every_class():
    labels = np.repeat([0, 1, 2], [2, 30, 50])
    first, second = hold_out(labels)
    assert sorted([*first, *second]) == list(range(82))
    assert len(second) == 1 + 3 + 5
    assert set(labels[first]) == set(labels[second]) == {0, 1, 2}
    again = hold_out(labels)[1]
    assert again.tolist() == second.tolist()


def test_one_image_of_a_class_cannot_be_held_out():
    with pytest.raises(ValueError, match='number 1 has only one'):
        hold_out(np.array([0, 0, 1]))


def test_a_classifier_serves_as_a_tower(probed, quick):
    project, (_, checkpoint) = probed
    write_checkpoint(checkpoint, project / 'classifier.pth')
    cfg = load_config(project / 'config.py')
    one, other = (
        run(cfg, project, name)[0] for name in ('tower.pth', 'classifier.pth')
    )
    assert one == other
    assert len(list((project / 'cache').iterdir())) == 2


def test_the_description_of_the_tower_goes_along(cfg, project, quick):
    tower = read_checkpoint(project / 'tower.pth')
    backbone = cfg.model.backbone.to_dict() | dict(
        norm_eps=1e-5, pre_norm=True, pool='cls_token', proj_dim=24
    )
    tower['state_dict']['backbone.proj'] = torch.zeros(32, 24)
    tower['meta'] = dict(
        clip=dict(
            backbone=backbone,
            img_size=32,
            preprocess=dict(mean=[0.5] * 3),
            source=dict(name='tiny'),
            head=dict(type='mmclip.ZeroShotClsHead'),
        )
    )
    write_checkpoint(tower, project / 'described.pth')
    _, checkpoint = run(cfg, project, 'described.pth')
    clip = checkpoint['meta']['clip']
    assert clip['source'] == dict(name='tiny')
    assert 'proj_dim' not in clip['backbone']
    assert clip['head']['type'] == 'mmpretrain.LinearClsHead'
    write_checkpoint(checkpoint, project / 'classifier.pth')
    run(cfg, project, 'classifier.pth')
    assert 'backbone.proj' not in checkpoint['state_dict']
    cfg.model.backbone.act = 'gelu'
    with pytest.raises(CheckpointError, match='act: checkpoint'):
        run(cfg, project, 'described.pth')


def test_a_head_that_is_not_linear_is_refused(cfg, project):
    cfg.model.head = dict(
        type='StackedLinearClsHead',
        num_classes=4,
        in_channels=32,
        mid_channels=[8],
    )
    with pytest.raises(ValueError, match='StackedLinearClsHead'):
        run(cfg, project)


@pytest.mark.parametrize(
    ('backbone', 'message'),
    [
        (
            dict(proj_dim=24),
            r'shape \(24,\), .* 32 numbers: set model.head.in_channels=24',
        ),
        (
            dict(out_type='featmap'),
            r'shape \(32, 4, 4\), .* 32 numbers: set model.backbone.out_type',
        ),
    ],
    ids=['projection', 'map'],
)
def test_another_width_is_refused_first(cfg, project, backbone, message):
    tower = read_checkpoint(project / 'tower.pth')
    tower['state_dict']['backbone.proj'] = torch.zeros(32, 24)
    write_checkpoint(tower, project / 'projected.pth')
    cfg.model.backbone.update(backbone)
    with pytest.raises(ValueError, match=message):
        run(cfg, project, 'projected.pth')
    assert not (project / 'cache').exists()


def test_a_test_on_the_training_images_is_said(cfg, project, quick):
    cfg.test_dataloader.dataset.data_prefix = 'train'
    found, _ = run(cfg, project)
    assert found.notes[0].startswith('the test set is the train set')


@pytest.mark.parametrize('end', [0, -1])
def test_a_c_at_the_end_of_those_tried_is_said(
    cfg, project, quick, monkeypatch, end
):
    def sweep_to_the_end(*arguments):
        trials = sorted(sweep(*arguments), key=lambda trial: trial.c)
        return [trials.pop(end), *trials]

    monkeypatch.setitem(probe.__globals__, 'sweep', sweep_to_the_end)
    found, _ = run(cfg, project)
    c = ('1e-06', '1e+06')[end]
    assert found.notes == [
        f'C={c} is at the end of the range that was tried, 1e-06 to 1e+06: a '
        'better one may lie beyond.'
    ]


@pytest.mark.parametrize(
    ('option', 'message'),
    [
        ({'model.head.num_classes': 5}, '4 classes, but the head has 5'),
        ({'test_dataloader.dataset.data_prefix': 'other'}, 'class0'),
    ],
)
def test_other_classes_than_the_train_sets_are_refused(
    cfg, project, option, message
):
    images = project / 'images'
    shutil.copytree(images / 'test', images / 'other')
    (images / 'other' / 'class0').rename(images / 'other' / 'new')
    cfg.merge_from_dict(option)
    with pytest.raises(ValueError, match=message):
        run(cfg, project)


@pytest.mark.parametrize('split', ['train', 'val', 'test'])
@pytest.mark.parametrize(
    ('labels', 'message'),
    [([[0, 1], [2]], r'the labels \[0, 1\]'), (None, 'no label')],
    ids=['several', 'none'],
)
def test_images_without_one_label_are_refused_first(
    cfg, project, split, labels, message
):
    dataset = dict(cfg[f'{split}_dataloader'].dataset)
    if labels is None:
        dataset |= dict(with_label=False)
    else:
        image = str(next((project / 'images' / 'test').rglob('*.png')))
        images = [dict(img_path=image, gt_label=label) for label in labels]
        content = dict(metainfo=dict(classes=list('abcd')), data_list=images)
        (project / 'list.json').write_text(json.dumps(content))
        dataset |= dict(
            type='MultiLabelDataset', ann_file=str(project / 'list.json')
        )
    cfg[f'{split}_dataloader'] = dict(
        cfg[f'{split}_dataloader'], dataset=dataset
    )
    with pytest.raises(ValueError, match=f'in the {split} set has {message}'):
        run(cfg, project)
    assert not (project / 'cache').exists()


def test_images_that_mmpretrain_leaves_out_are_named_first(cfg, project):
    image = next((project / 'images' / 'test').rglob('*.png'))
    image.rename(image.with_suffix('.webp'))
    pipeline = [dict(type='mmclip.LoadImage'), dict(type='PackInputs')]
    cfg.test_dataloader.dataset.pipeline = pipeline
    with pytest.raises(
        ValueError, match=rf'set leaves out .*/{image.stem}\.webp'
    ):
        run(cfg, project)
    assert not (project / 'cache').exists()

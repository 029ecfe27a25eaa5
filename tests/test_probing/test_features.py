"""Features: computed once, by several processes, and after a kill."""

import json
import multiprocessing
import os
import signal

import numpy as np
import pytest
import torch
from mmengine.dataset import Compose
from mmengine.registry import MODELS, TRANSFORMS

from mmclip.checkpoint import PretrainedCLIP
from mmclip.probing import extract_features
from mmclip.probing.features import hash_weights
from tests.test_probing.conftest import NUM_CLASSES, NUM_TRAIN

NUM_IMAGES = NUM_CLASSES * NUM_TRAIN
fork = multiprocessing.get_context('fork')


@pytest.fixture
def model(cfg, project):
    """The classifier with the tower's weights; ``model.seen`` counts."""
    model = MODELS.build(cfg.model)
    PretrainedCLIP(str(project / 'tower.pth'))(model.backbone)
    model.seen = 0

    def count(module, inputs, outputs):
        model.seen += len(inputs[0])

    model.backbone.register_forward_hook(count)
    return model


def test_they_are_those_of_the_test_pipeline_in_eval_mode(model, cfg, project):
    model.train()
    found = extract_features(model, cfg, 'train', project / 'cache')
    transforms = cfg.test_dataloader.dataset.pipeline
    pipeline = Compose([TRANSFORMS.build(t) for t in transforms])
    path = project / 'images' / 'train' / 'class1' / '0.png'
    packed = pipeline(dict(img_path=str(path), gt_label=1))
    batch = dict(
        inputs=[packed['inputs']], data_samples=[packed['data_samples']]
    )
    inputs = model.data_preprocessor(batch)['inputs']
    with torch.no_grad():
        wanted = model.eval().extract_feat(inputs)[-1][0]
    row = found.labels.tolist().index(1)
    torch.testing.assert_close(torch.tensor(found.features[row]), wanted)


def test_a_second_time_nothing_is_computed_whatever_the_head(
    model, cfg, project
):
    first = extract_features(model, cfg, 'train', project / 'cache')
    seen = model.seen
    model.head.fc.weight.data += 1
    again = extract_features(model, cfg, 'train', project / 'cache')
    assert model.seen == seen
    assert again.folder == first.folder
    assert isinstance(again.features, np.memmap)
    assert np.array_equal(again.features, first.features)
    assert again.classes == tuple(f'class{i}' for i in range(NUM_CLASSES))


@pytest.mark.parametrize(
    'change', ['weights', 'pipeline', 'preprocessor', 'images', 'amp']
)
def test_what_changes_them_changes_their_folder(model, cfg, project, change):
    # Where mmengine's runner looks too: the top level.
    cfg.data_preprocessor = cfg.model.pop('data_preprocessor')
    first = extract_features(model, cfg, 'train', project / 'cache')
    if change == 'weights':
        model.backbone.ln1.bias.data[0] += 1
    elif change == 'pipeline':
        cfg.test_dataloader.dataset.pipeline[0].imdecode_backend = 'pillow'
    elif change == 'preprocessor':
        cfg.data_preprocessor.std = [63.75] * 3
    elif change == 'images':
        (project / 'images' / 'train' / 'class0' / '0.png').unlink()
    second = extract_features(
        model, cfg, 'train', project / 'cache', amp=change == 'amp'
    )
    assert second.folder != first.folder
    assert len(second.features) == NUM_IMAGES - (change == 'images')


def test_a_head_that_normalises_them_has_another_folder(model, cfg, project):
    first = extract_features(model, cfg, 'train', project / 'cache')
    head = dict(type='mmclip.ZeroShotClsHead', num_classes=4, in_channels=32)
    cfg.model.head = head
    model.head = MODELS.build(head)
    second = extract_features(model, cfg, 'train', project / 'cache')
    norms = np.linalg.norm(second.features, axis=1)
    np.testing.assert_allclose(norms, 1, rtol=1e-5)
    assert second.folder != first.folder


def test_weights_may_be_single_numbers():
    """As BatchNorm's count of batches."""
    model = torch.nn.BatchNorm1d(3)
    before = hash_weights(model)
    model.num_batches_tracked += 1
    assert hash_weights(model) != before


def test_what_was_killed_goes_on(model, cfg, project):
    """SIGKILL in the fourth batch, after the first image for the width."""

    def die_in_the_middle():
        torch.set_num_threads(1)  # the pool of threads does not survive a fork

        def die(module, inputs):
            if model.seen >= 1 + 3 * 7:
                os.kill(os.getpid(), signal.SIGKILL)

        model.backbone.register_forward_pre_hook(die)
        extract_features(model, cfg, 'train', project / 'cache')

    process = fork.Process(target=die_in_the_middle)
    process.start()
    process.join(timeout=300)
    assert process.exitcode == -signal.SIGKILL
    assert model.seen == 0
    resumed = extract_features(model, cfg, 'train', project / 'cache')
    assert model.seen == NUM_IMAGES - 3 * 7
    whole = extract_features(model, cfg, 'train', project / 'other')
    np.testing.assert_allclose(resumed.features, whole.features, rtol=1e-5)


def test_two_processes_share_the_work(model, cfg, project):
    def work(rank):
        torch.set_num_threads(1)  # as above
        torch.distributed.init_process_group(
            'gloo',
            init_method=f'file://{project}/store',
            rank=rank,
            world_size=2,
        )
        extract_features(model, cfg, 'train', project / 'cache')
        (project / f'seen{rank}').write_text(str(model.seen))
        torch.distributed.destroy_process_group()

    processes = [fork.Process(target=work, args=(rank,)) for rank in (0, 1)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(timeout=300)
    assert [process.exitcode for process in processes] == [0, 0]
    seen = [int((project / f'seen{rank}').read_text()) for rank in (0, 1)]
    assert seen == [1 + NUM_IMAGES // 2, NUM_IMAGES // 2]
    together = extract_features(model, cfg, 'train', project / 'cache')
    assert model.seen == 0
    alone = extract_features(model, cfg, 'train', project / 'other')
    np.testing.assert_allclose(
        together.features, alone.features, rtol=1e-5, atol=1e-6
    )


def test_features_that_are_not_finite_are_refused(model, cfg, project):
    model.backbone.ln1.bias.data[0] = float('nan')
    with pytest.raises(ValueError, match='NaN or infinite features'):
        extract_features(model, cfg, 'train', project / 'cache')


def test_what_is_damaged_is_computed_again(model, cfg, project):
    first = extract_features(model, cfg, 'test', project / 'cache')
    wanted = np.array(first.features)
    path = first.folder / 'features.npy'
    for change in (
        None,
        b'',
        b'<html>',
        lambda x: x[1:],
        lambda x: x.astype(np.float64),
        lambda x: x[..., None],
        lambda x: x[0, 0],
    ):
        if callable(change):
            array = np.load(path)
        path.unlink()  # others have it mapped
        if callable(change):
            np.save(path, change(array))
        elif change is not None:
            path.write_bytes(change)
        seen = model.seen
        again = extract_features(model, cfg, 'test', project / 'cache')
        assert np.array_equal(again.features, wanted), change
        # The first image also for the width.
        assert model.seen - seen == 1 + len(wanted), change


@pytest.mark.parametrize('value', [np.nan, np.inf])
def test_rows_that_are_not_finite_are_computed_again(
    model, cfg, project, value
):
    first = extract_features(model, cfg, 'test', project / 'cache')
    wanted = np.array(first.features)
    rows = np.load(first.folder / 'features.npy', mmap_mode='r+')
    rows[[3, 5], 7] = value
    rows.flush()
    seen = model.seen
    again = extract_features(model, cfg, 'test', project / 'cache')
    np.testing.assert_allclose(again.features, wanted, rtol=1e-5)
    assert model.seen - seen == 2


def test_a_folder_says_what_is_in_it(model, cfg, project):
    found = extract_features(model, cfg, 'test', project / 'cache')
    source = json.loads((found.folder / 'source.json').read_text())
    assert source['model']['backbone']['act'] == 'quick_gelu'
    assert source['num_images'] == len(found.labels)


def test_a_data_set_around_another_is_refused(model, cfg, project):
    cfg.train_dataloader.dataset = dict(
        type='RepeatDataset', times=2, dataset=cfg.train_dataloader.dataset
    )
    with pytest.raises(ValueError, match='RepeatDataset'):
        extract_features(model, cfg, 'train', project / 'cache')


def test_a_config_without_a_test_set_is_refused(model, cfg, project):
    cfg.test_dataloader = None
    with pytest.raises(ValueError, match='test_dataloader must have'):
        extract_features(model, cfg, 'train', project / 'cache')

import math
import os
import signal
from dataclasses import replace

import numpy as np
import pytest
import torch

from mmclip.adapting import config_file, timing
from mmclip.adapting import plan as plans
from mmclip.adapting.adapt import see
from mmclip.adapting.encoder import open_encoder
from mmclip.adapting.model_file import read_model, write_model
from mmclip.adapting.run_folder import RunFolder, write_text
from mmclip.adapting.tuning import (
    Tuned,
    has_learned,
    hold_out,
    tune,
    why_not,
)
from mmclip.engine import ProgressHook
from mmclip.few_shot.linear_probe import LinearProbe
from mmclip.own_images.read import read_images
from mmclip.own_images.table import Images

STEPS = 6
KEPT = {'classes.txt', 'split.csv'}  # the run's own


@pytest.fixture(autouse=True)
def few_steps(monkeypatch):
    monkeypatch.setattr(plans, 'LEAST_STEPS', STEPS)
    monkeypatch.setattr(plans, 'EPOCHS', 1)
    monkeypatch.setattr(config_file, 'WORKERS', 0)
    monkeypatch.setattr(timing, 'LEAST_SECONDS', 0)


@pytest.fixture
def tuned(run, tmp_path):
    """Fine-tune on the coloured photos of a finished run."""
    root = run.read_metrics()['data']['root']
    images = read_images(root, 0)
    encoder = open_encoder(str(run.path.parent / 'clip'))
    everything = see(encoder, images, run, images.classes, ['{}'])
    folder = RunFolder(tmp_path / 'run')
    images.write(folder.split)
    write_text(folder.classes, '\n'.join(images.classes))
    said = []

    def _tune(**options) -> Tuned | None:
        return tune(
            images,
            encoder,
            everything,
            LinearProbe(),
            dict(c=1.0),
            folder,
            say=said.append,
            **options,
        )

    _tune.images, _tune.folder, _tune.said = images, folder, said
    return _tune


def written(folder: RunFolder) -> set[str]:
    return {path.name for path in folder.path.iterdir()}


def test_what_is_written_gives_the_logits_that_were_compared(tuned, tmp_path):
    result = tuned()
    path = tmp_path / 'model.safetensors'
    write_model(path, result.encoder, result.classifier, tuned.images.classes)
    model, clip = read_model(path)
    assert clip['classes'] == list(tuned.images.classes)
    torch.testing.assert_close(
        model.head((result.seen.pooled,)),
        result.classifier.logits(result.seen.pooled),
    )


def test_tower_and_head_have_changed(tuned, run):
    result = tuned()
    before = open_encoder(str(run.path.parent / 'clip')).state_dict
    after = result.encoder.state_dict
    name = 'layers.0.attn.qkv.weight'
    assert not torch.equal(after[name], before[name])


def test_only_curves_and_the_log_stay(tuned):
    result = tuned()
    assert len(result.training['steps']) == STEPS
    assert written(tuned.folder) == KEPT | {'events', 'train.log'}
    assert 'Iter(train)' in tuned.folder.log.read_text()


def test_ctrl_c_leaves_a_run_that_goes_on(tuned, monkeypatch):
    after = ProgressHook.after_train_iter

    def stop(self, runner, *args, **kwargs):
        after(self, runner, *args, **kwargs)
        if runner.iter == 2:
            os.kill(os.getpid(), signal.SIGINT)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(ProgressHook, 'after_train_iter', stop)
        tuned()
    assert tuned.said[-1] == 'stopped; the same command goes on from here'
    steps = tuned().training['steps']
    assert [step['step'] for step in steps] == list(range(1, STEPS + 1))
    assert 'Resume from' in tuned.folder.log.read_text()
    assert written(tuned.folder) == KEPT | {'events', 'train.log'}


def test_without_time_nothing_is_trained(tuned):
    assert tuned(seconds=0.0) is None
    assert 'allow it with --time' in tuned.said[-1]
    assert written(tuned.folder) == KEPT


def test_a_config_of_the_user_is_followed(tuned, run, tmp_path):
    path = tmp_path / 'mine.py'
    path.write_text(
        f'_base_ = [{str(run.config)!r}]\n'
        'train_cfg = dict(max_iters=3)\nparam_scheduler = []\n'
    )
    assert len(tuned(recipe=str(path)).training['steps']) == 3


def table(number: int, classes: int = 3) -> Images:
    return Images(
        '',
        tuple(f'{i}.png' for i in range(number)),
        tuple((i % classes,) for i in range(number)),
        ('train',) * number,
        tuple(map(str, range(classes))),
    )


def test_a_fifth_of_many_images_is_held_out():
    assert len(hold_out(table(1200), 0).rows('val')) == 240
    assert len(hold_out(table(12_000), 0).rows('val')) == 2000


def test_few_images_are_all_trained_on():
    assert len(hold_out(table(200), 0).rows('val')) == 0


@pytest.mark.parametrize(
    ('loss', 'right', 'learned'),
    [
        (0.1, None, True),
        (math.log(10), None, False),
        (math.log(10) - 0.01, None, False),
        (0.1, (500, 1000), True),
        (0.1, (105, 1000), False),
    ],
)
def test_a_run_that_only_guesses_has_not_learned(loss, right, learned):
    noise = np.random.default_rng(0).normal(0, 0.1, 100)
    assert has_learned(loss + noise, 10, right) is learned


def test_a_classifier_that_cannot_be_beaten_is_not_tuned():
    right = torch.ones(100, dtype=torch.bool)
    assert why_not(table(30), right)
    right[:6] = False
    assert not why_not(table(30), right)
    assert why_not(replace(table(30), several_labels=True), right)

import json
import multiprocessing
import os
import signal
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

import mmclip
from mmclip.adapting import competition
from mmclip.adapting.adapt import see
from mmclip.adapting.material import Material
from mmclip.adapting.run_files import config_file
from mmclip.adapting.run_files.model_file import read_model, write_model
from mmclip.adapting.run_files.run_folder import RunFolder, write_text
from mmclip.adapting.tuning import plan as plans
from mmclip.adapting.tuning import timing
from mmclip.adapting.tuning import tune as tuning
from mmclip.adapting.tuning.tune import Tuned, hold_out, tune, why_not
from mmclip.adapting.tuning.wise_ft import ALPHAS
from mmclip.engine import ProgressHook
from mmclip.few_shot.linear_probe import LinearProbe
from mmclip.few_shot.method import Encoded
from mmclip.few_shot.nearest_neighbours import NearestNeighbours
from mmclip.named_model.encoder import Encoder, open_encoder
from mmclip.own_images.images import Images
from mmclip.own_images.read import read_images

STEPS = 6


@pytest.fixture(autouse=True, scope='module')
def few_steps() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(plans, 'LEAST_STEPS', STEPS)
        patch.setattr(plans, 'EPOCHS', 1)
        patch.setattr(config_file, 'WORKERS', 0)
        patch.setattr(timing, 'LEAST_SECONDS', 0)
        patch.setattr(competition, 'METHODS', (LinearProbe(),))
        yield


@pytest.fixture(scope='module')
def start(run) -> tuple[Images, Encoder, Encoded]:
    """The coloured photos of a finished run, and the tower before."""
    images = read_images(run.read_metrics()['data']['root'], 0)
    encoder = open_encoder(str(run.path.parent / 'clip'))
    assert encoder.embed is not None
    text = encoder.embed(images.classes, ['{}'], print)
    seen = see(encoder, images, run, text, print)
    return images, encoder, seen


class Run:
    """A run in a folder, as far as its fine-tuning."""

    def __init__(self, start: tuple[Images, Encoder, Encoded], path: Path):
        self.start, self.folder = start, RunFolder(path)
        start[0].write(self.folder.split)
        write_text(self.folder.classes, '\n'.join(start[0].classes))
        self.said: list[str] = []

    def tune(self, **options) -> Tuned | None:
        return tune(
            *self.start,
            LinearProbe(),
            dict(c=1.0),
            self.folder,
            say=self.said.append,
            **options,
        )

    def written(self) -> set[str]:
        own = {'classes.txt', 'split.csv'}
        return {path.name for path in self.folder.path.iterdir()} - own


@pytest.fixture
def new(start, tmp_path) -> Run:
    return Run(start, tmp_path / 'run')


@pytest.fixture(scope='module')
def tuned(start, tmp_path_factory) -> tuple[Run, Tuned]:
    new = Run(start, tmp_path_factory.mktemp('run'))
    return new, new.tune()


def test_what_is_written_gives_the_logits_that_were_compared(tuned, tmp_path):
    new, result = tuned
    path, classes = tmp_path / 'model.safetensors', new.start[0].classes
    write_model(path, result.encoder, result.classifier, classes)
    model, clip = read_model(path)
    assert clip['classes'] == list(classes)
    torch.testing.assert_close(
        model.head((result.seen.pooled,)),
        result.classifier.logits(result.seen.pooled),
    )


def test_the_tower_has_changed(tuned):
    new, result = tuned
    name = 'layers.0.attn.qkv.weight'
    before = new.start[1].state_dict[name]
    assert not torch.equal(result.encoder.state_dict[name], before)


def test_only_curves_and_the_log_stay(tuned):
    new, result = tuned
    assert len(result.training['steps']) == STEPS
    assert new.written() == {'events', 'train.log'}
    assert 'Iter(train)' in new.folder.log.read_text()


def test_no_process_is_left_to_the_garbage_collector(
    new, run, monkeypatch, tmp_path
):
    config = tmp_path / 'mine.py'
    config.write_text(
        f'_base_ = [{str(run.config)!r}]\n'
        'train_dataloader = dict(num_workers=1, persistent_workers=True)'
    )
    trained = []

    def train(*args):
        trained.append(tuning_train(*args))  # and so is not freed
        return trained[0]

    tuning_train = tuning.train
    monkeypatch.setattr(tuning, 'train', train)
    before = {*multiprocessing.active_children()}
    new.tune(recipe=str(config))
    assert trained and before.issuperset(multiprocessing.active_children())


def test_ctrl_c_leaves_a_run_that_goes_on(new, monkeypatch):
    after = ProgressHook.after_train_iter

    def stop(self, runner, *args, **kwargs):
        after(self, runner, *args, **kwargs)
        if runner.iter == 2:
            os.kill(os.getpid(), signal.SIGINT)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(ProgressHook, 'after_train_iter', stop)
        new.tune()
    steps = new.tune().training['steps']
    assert [step['step'] for step in steps] == list(range(1, STEPS + 1))
    assert 'Resume from' in new.folder.log.read_text()
    assert new.written() == {'events', 'train.log'}


def test_alpha_is_chosen_on_the_images_held_out(new, monkeypatch):
    monkeypatch.setattr(tuning, 'HOLD_OUT_FROM', 6)
    result = new.tune()
    assert result.settings['alpha'] in ALPHAS
    assert result.training['validation'][-1]['step'] == STEPS
    assert new.said[-1].endswith('at most')


def test_with_another_time_a_stopped_training_begins_again(new, monkeypatch):
    def stop(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(tuning, 'train', stop)
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            new.tune()
    assert len(new.said) == 1
    assert new.tune(seconds=0.0) is None


@pytest.mark.parametrize('changed', ['weights', 'names', 'config', 'version'])
def test_of_anything_else_a_stopped_training_begins_again(
    new, run, monkeypatch, tmp_path, changed
):
    """The paths of images and config, and the model's name, are the same."""

    def stop(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(tuning, 'train', stop)
    config = tmp_path / 'mine.py'
    config.write_text(f'_base_ = [{str(run.config)!r}]\n')

    def tune_until_stopped() -> int:
        with pytest.raises(KeyboardInterrupt):
            new.tune(recipe=str(config))
        return len(new.said)

    assert tune_until_stopped() == tune_until_stopped() == 1
    images, encoder, seen = new.start
    if changed == 'config':
        config.write_text(config.read_text() + 'train_cfg = dict(max_iters=3)')
    elif changed == 'version':  # of mmclip, which knew less of a training
        state = new.folder.path / 'tuning' / 'state.json'
        known = json.loads(state.read_text())
        del known['fitted']
        state.write_text(json.dumps(known))
    elif changed == 'weights':
        seen = replace(seen, pooled=seen.pooled + 1e-3)
    else:
        text = replace(seen.text, embeddings=seen.text.embeddings.flip(0))
        seen = replace(seen, text=text)
    new.start = images, encoder, seen
    assert tune_until_stopped() == 2


def test_what_the_time_allowed_is_said(tuned):
    said = tuned[1].training['fitted']
    assert f'10min on this machine: {STEPS} steps, 0 of 2 blocks' in said


def test_without_time_nothing_is_trained(new):
    assert new.tune(seconds=0.0) is None
    assert 'allow it with --time' in new.said[-1]
    assert new.written() == set()


def test_a_config_of_the_user_is_followed(new, run, tmp_path):
    path = tmp_path / 'mine.py'
    path.write_text(
        f'_base_ = [{str(run.config)!r}]\n'
        'train_cfg = dict(max_iters=3)\nparam_scheduler = []\n'
    )
    assert len(new.tune(recipe=str(path)).training['steps']) == 3


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


def test_no_copy_of_what_is_trained_on_is_held_out(tmp_path, monkeypatch):
    monkeypatch.setattr(tuning, 'HOLD_OUT_FROM', 30)
    images = replace(table(30), root=str(tmp_path))
    for row in range(30):  # two in three have a copy of the same class
        content = row if row % 9 < 3 else row % 3 - 3
        (tmp_path / images.paths[row]).write_text(str(content))
    held = hold_out(images, 0)
    content = [(tmp_path / path).read_text() for path in held.paths]
    assert len(held.rows('val'))
    assert not {content[row] for row in held.rows('val')} & {
        content[row] for row in held.rows('train')
    }


def test_a_classifier_that_cannot_be_beaten_is_not_tuned():
    right = torch.ones(100, dtype=torch.bool)
    assert why_not(table(30), right)
    right[:6] = False
    assert not why_not(table(30), right)
    assert why_not(replace(table(30), several_labels=True), right)


def test_it_takes_part_in_the_choice(run, tmp_path):
    folder = mmclip.adapt(
        run.read_metrics()['data']['root'],
        tmp_path / 'run',
        model=str(run.path.parent / 'clip'),
        templates=['{}'],
        recipe='full',
    )
    numbers = folder.read_metrics()
    assert numbers['methods'][-1]['name'] == 'fine_tuned'
    assert len(numbers['training']['steps']) == STEPS


def test_it_starts_from_a_linear_classifier_only(run, start, capsys):
    images, encoder, seen = start
    method = NearestNeighbours()
    classifier = method.fit(seen, k=1)
    entrant = competition.Entrant(
        method,
        dict(k=1),
        encoder,
        seen,
        classifier,
        torch.zeros(10, dtype=torch.bool),
        dict(val=dict(accuracy=0.0, loss=1.0)),
    )
    material = Material(
        encoder, seen, images, np.arange(len(images)), run, 0, print
    )
    found = competition.fine_tune(material, [entrant], {}, 'full', 600.0)
    assert found is None
    assert 'no linear classifier took part' in capsys.readouterr().out

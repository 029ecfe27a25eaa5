"""Whatever happens to the files, a run goes on from the newest good one."""

import os
import shutil
import threading
import time
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import pytest
import torch
from mmengine.hooks import Hook
from mmengine.optim import OptimWrapper, OptimWrapperDict
from torch.optim import SGD

from mmclip.checkpoint import CheckpointError, read_checkpoint
from mmclip.engine.resume.atomic_backend import AtomicLocalBackend
from tests.conftest import largest_file
from tests.test_engine.conftest import Linear


def truncate(path):
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])


@pytest.mark.parametrize(
    ('damage', 'resumed'),
    [
        (lambda work: truncate(work / 'epoch_3.pth'), 2),
        (lambda work: (work / 'epoch_3.pth').write_bytes(b''), 2),
        (lambda work: (work / 'epoch_3.pth').write_text('<html>'), 2),
        (lambda work: torch.save(dict(a=1), work / 'epoch_3.pth'), 2),
        (lambda work: (work / 'epoch_3.pth').unlink(), 2),
        (lambda work: (work / 'last_checkpoint').unlink(), 3),
        (lambda work: (work / 'last_checkpoint').write_text(''), 3),
        (lambda work: (work / 'last_checkpoint').write_text('/no.pth'), 3),
    ],
)
def test_whatever_happens_to_the_files(
    train, tmp_path, capfd, damage, resumed
):
    train(epochs=3)
    wanted = train(epochs=4, work_dir='other').model.state_dict()
    damage(tmp_path / 'work')
    exists = (tmp_path / 'work' / 'epoch_3.pth').exists()
    capfd.readouterr()
    runner = train(epochs=4, resume=True)
    output = ''.join(capfd.readouterr())
    assert f'resumed epoch: {resumed}' in output
    assert ('Passed over' in output) == (resumed == 2 and exists)
    for key, tensor in runner.model.state_dict().items():
        assert torch.equal(tensor, wanted[key])


def test_a_folder_that_is_named_as_a_checkpoint(train, tmp_path, capfd):
    """Such as other strategies of mmengine write."""
    train(epochs=2)
    (tmp_path / 'work' / 'epoch_9.pth').mkdir()
    capfd.readouterr()
    assert train(epochs=3, resume=True).iter == 6
    assert 'Passed over' in ''.join(capfd.readouterr())


def test_a_moved_work_directory(train, tmp_path):
    train(epochs=2)
    shutil.move(tmp_path / 'work', tmp_path / 'moved')
    assert train(epochs=3, resume=True, work_dir='moved').iter == 6


def test_never_silently_from_the_beginning(train, tmp_path):
    train(epochs=2)
    for path in (tmp_path / 'work').glob('epoch_*.pth'):
        truncate(path)
    with pytest.raises(CheckpointError, match='None of the 2 checkpoints'):
        train(epochs=3, resume=True)


def test_what_was_written_last_counts_not_the_most_iterations(
    train, tmp_path, capfd
):
    """A new run in the folder of an older, longer one."""
    train(epochs=4)
    capfd.readouterr()
    train(epochs=2)
    assert 'has checkpoints of an earlier run' in ''.join(capfd.readouterr())
    train(epochs=3, resume=True)
    assert 'resumed epoch: 2, iter: 4' in ''.join(capfd.readouterr())


def test_last_checkpoint_of_a_copied_folder_is_not_followed(train, tmp_path):
    """It names a file of the original."""
    train(epochs=2)
    copy = tmp_path / 'copy'
    copy.mkdir()
    shutil.copy(tmp_path / 'work' / 'last_checkpoint', copy)
    assert train(epochs=1, resume=True, work_dir='copy').iter == 2


@pytest.mark.parametrize(
    ('out_dir', 'template', 'wanted'),
    [
        ('out', 'w-{:03d}.pth', 'out/work/w-002.pth'),
        # The work directory itself.
        ('work', 'epoch_{}.pth', 'work/epoch_2.pth'),
    ],
)
def test_other_names_and_folders_are_found(
    train, tmp_path, capfd, out_dir, template, wanted
):
    out_dir = str(tmp_path / out_dir)
    where = dict(out_dir=out_dir, filename_tmpl=template)
    train(epochs=2, checkpoint=where)
    assert (tmp_path / wanted).exists()
    train(epochs=3, checkpoint=where, resume=True)
    assert 'resumed epoch: 2' in ''.join(capfd.readouterr())


def test_folders_of_other_backends_are_not_looked_through(train):
    with pytest.raises(CheckpointError, match=r'cannot search s3://runs'):
        train(checkpoint=dict(out_dir='s3://runs'), resume=True)


def test_a_loop_without_epochs_wants_iterations(train, tmp_path):
    with pytest.raises(ValueError, match='This loop has no epochs'):
        train(iters=4)
    train(iters=4, checkpoint=dict(by_epoch=False, interval=2))
    names = sorted(path.name for path in (tmp_path / 'work').glob('*.pth'))
    assert names == ['iter_2.pth', 'iter_4.pth']


def test_a_copied_run_leaves_the_best_of_the_original(train, tmp_path):
    best = dict(save_best='score', rule='greater')
    settings = dict(checkpoint=best, scores=[1, 2, 3])
    train(epochs=2, **settings)
    original = tmp_path / 'work' / 'best_score_epoch_2.pth'
    assert original.exists()
    shutil.copytree(tmp_path / 'work', tmp_path / 'copy')
    train(epochs=3, **settings, work_dir='copy', resume=True)
    assert original.exists()
    (best,) = (tmp_path / 'copy').glob('best_*')
    assert best.name == 'best_score_epoch_3.pth'


def test_the_beginning_is_said(train, capfd):
    train(epochs=1, resume=True)
    assert 'Nothing to resume from' in ''.join(capfd.readouterr())


@pytest.mark.parametrize('keep', [1, 2])
def test_old_checkpoints_go_after_new_ones_are_written(
    train, tmp_path, monkeypatch, keep
):
    """A full disk at the third epoch leaves those before it."""
    write = AtomicLocalBackend.put
    work = tmp_path / 'work'

    def put(self, content, path):
        if str(path).endswith('epoch_3.pth'):
            raise OSError(28, 'No space left on device')
        write(self, content, path)

    monkeypatch.setattr(AtomicLocalBackend, 'put', put)
    with pytest.raises(OSError, match='No space left'):
        train(epochs=3, checkpoint=dict(max_keep_ckpts=keep))
    names = sorted(path.name for path in work.glob('*.pth'))
    assert names == ['epoch_1.pth', 'epoch_2.pth'][2 - keep :]
    assert read_checkpoint(work / 'epoch_2.pth')['meta']['iter'] == 4


def test_a_full_disk_is_said_and_leaves_the_old_file(tmp_path):
    path = tmp_path / 'x.pth'
    AtomicLocalBackend().put(b'old', path)
    wanted = pytest.raises(OSError, match=r'x\.pth could not .* is unchanged')
    with largest_file(1000), wanted:
        AtomicLocalBackend().put(bytes(10_000), path)
    assert path.read_bytes() == b'old'
    assert os.listdir(tmp_path) == ['x.pth']


def test_the_clock_may_be_set_back(train, tmp_path, monkeypatch, capfd):
    """At the end of summer time, or on a machine in another zone."""
    monkeypatch.setenv('TZ', 'Europe/Berlin')
    time.tzset()
    train(epochs=1)
    monkeypatch.setenv('TZ', 'America/New_York')
    time.tzset()
    train(epochs=2, resume=True)
    capfd.readouterr()
    train(epochs=3, resume=True)
    monkeypatch.undo()
    time.tzset()
    assert 'resumed epoch: 2' in ''.join(capfd.readouterr())


def test_addresses_are_resumed_from(train, tmp_path, capfd):
    train(epochs=2)
    handler = partial(SimpleHTTPRequestHandler, directory=tmp_path / 'work')
    with ThreadingHTTPServer(('127.0.0.1', 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f'http://127.0.0.1:{server.server_port}/epoch_2.pth'
        train(epochs=3, resume=True, load_from=url, work_dir='other')
        server.shutdown()
    assert 'resumed epoch: 2, iter: 4' in ''.join(capfd.readouterr())


def test_several_optimizers(train, tmp_path):
    """They count no passes, and so gather no gradients."""
    model = Linear()
    wrapper = OptimWrapperDict(
        weight=OptimWrapper(SGD([model.layer.weight], lr=0.001)),
        bias=OptimWrapper(SGD([model.layer.bias], lr=0.001)),
    )

    def train_step(data, optim_wrapper):
        loss = model(**data, mode='loss')['loss']
        loss.backward()
        for part in optim_wrapper.optim_wrappers.values():
            part.step()
            part.zero_grad()
        return dict(loss=loss)

    model.train_step = train_step
    train(epochs=1, model=model, optim_wrapper=wrapper)
    checkpoint = read_checkpoint(tmp_path / 'work' / 'epoch_1.pth')
    assert set(checkpoint['optimizer']) == {'weight', 'bias'}


@pytest.mark.parametrize('part', ['optimizer', 'message_hub'])
def test_weights_alone_are_not_resumed_from(train, tmp_path, part):
    train(epochs=1)
    path = tmp_path / 'work' / 'epoch_1.pth'
    checkpoint = read_checkpoint(path)
    del checkpoint[part]
    torch.save(checkpoint, tmp_path / 'weights.pth')
    with pytest.raises(CheckpointError, match=f'lacks {part}'):
        train(epochs=2, resume=True, load_from=str(tmp_path / 'weights.pth'))


def test_a_name_as_resume_is_the_checkpoint(train, tmp_path, capfd):
    train(epochs=2)
    path = str(tmp_path / 'work' / 'epoch_1.pth')
    capfd.readouterr()
    train(epochs=3, resume=path)
    assert 'resumed epoch: 1' in ''.join(capfd.readouterr())
    with pytest.raises(FileNotFoundError, match=r'none\.pth does not exist'):
        train(epochs=3, resume='none.pth')


class Metrics(Hook):
    """Puts other metrics in the place of what validation gave."""

    priority = 'VERY_HIGH'

    def __init__(self, metrics):
        self.metrics = metrics

    def after_val_epoch(self, runner, metrics=None):
        metrics.clear()
        metrics.update(self.metrics)


@pytest.mark.parametrize(
    ('metrics', 'chosen'),
    [
        ({'coco/AP': 0.5}, 'coco_AP'),
        ({'crowdpose/AP': 0.5, 'crowdpose/AP(E)': 0.6}, 'crowdpose_AP'),
        ({'confusion': torch.eye(2), 'accuracy/top1': 50.0}, 'accuracy_top1'),
        ({'precision_of_each': [1.0, 0.5], 'recall': 1, 'loss': 1}, 'loss'),
        ({'somebodys/score': 0.5, 'names': 'a'}, None),
    ],
)
def test_the_best_is_that_of_a_metric_whose_rule_is_known(
    train, tmp_path, capfd, metrics, chosen
):
    runner = train(
        epochs=2,
        scores=[0.5, 0.5],
        checkpoint=dict(save_best='auto'),
        custom_hooks=[Metrics(metrics)],
    )
    assert runner.iter == 4
    (best,) = [*(tmp_path / 'work').glob('best_*.pth')] or [None]
    assert best == (
        chosen and tmp_path / 'work' / f'best_{chosen}_epoch_1.pth'
    )
    warnings = ''.join(capfd.readouterr()).count('No best checkpoint is kept')
    assert warnings == (chosen is None)

"""A resumed run deletes what it wrote itself, and nothing else."""

import shutil
from pathlib import Path

import pytest
import torch
from mmengine.runner import CheckpointLoader

from mmclip.checkpoint import read_checkpoint
from mmclip.errors import CheckpointError

BEST = dict(save_best='score', rule='greater', max_keep_ckpts=2)
SCORES = [0.1, 0.2, 0.3, 0.4, 0.5, 0.6]


@pytest.fixture
def trained(train, tmp_path):
    """A work directory with two epochs, the second the best, and others."""
    train(epochs=2, checkpoint=BEST, scores=SCORES)
    for name in ('other_run', 'work/other_run'):
        (tmp_path / name).mkdir()
        (tmp_path / name / 'epoch_1.pth').write_text('of another run')
    (tmp_path / 'work' / 'notes.txt').write_text('mine')
    return tmp_path / 'work'


def change(path: Path, **infos) -> None:
    checkpoint = torch.load(path, weights_only=False)  # made above
    checkpoint['message_hub']['runtime_info'].update(infos)
    torch.save(checkpoint, path)


def files_of(folder: Path) -> set[str]:
    return {
        str(path.relative_to(folder))
        for path in folder.rglob('*')
        if path.is_file() and path.suffix in ('.pth', '.txt')
    }


@pytest.mark.parametrize(
    'infos',
    [
        *(
            dict(best_ckpt=path)
            for path in (
                *('/x/..', '..', '../other_run', 'other_run', 'notes.txt'),
                'best_score_epoch_1.pth/../notes.txt',
            )
        ),
        # Whatever else mmengine deletes by.
        dict(best_ckpt_score='../notes.txt'),
        dict(keep_ckpt_ids=['x/../../notes.txt', 1, 2]),
        dict(keep_ckpt_ids='notes.txt'),
        dict(last_ckpt='notes.txt'),
        dict(best_ckpt=['x']),
        dict(best_score='high'),
        dict(best_score=float('nan')),
    ],
)
def test_no_name_of_a_checkpoint_is_deleted(train, trained, infos):
    root = trained.parent
    change(trained / 'epoch_2.pth', **infos)
    before = files_of(root)
    train(epochs=4, checkpoint=BEST, scores=SCORES, resume=True)
    assert 'work/best_score_epoch_4.pth' in files_of(root)
    own = ('epoch_1.pth', 'epoch_2.pth', 'best_score_epoch_2.pth')
    assert before - files_of(root) <= {f'work/{name}' for name in own}


def test_its_own_are_deleted_after_a_resume(train, trained):
    train(epochs=4, checkpoint=BEST, scores=SCORES, resume=True)
    names = {path.name for path in trained.glob('*.pth')}
    wanted = {'epoch_3.pth', 'epoch_4.pth', 'best_score_epoch_4.pth'}
    assert names == wanted


def test_a_checkpoint_of_elsewhere_deletes_nothing_here(train, trained):
    root = trained.parent
    shutil.copy(trained / 'epoch_2.pth', root / 'download.pth')
    before = files_of(root)
    train(
        epochs=4,
        checkpoint=BEST,
        scores=SCORES,
        resume=True,
        load_from=str(root / 'download.pth'),
    )
    assert before <= files_of(root)


@pytest.mark.parametrize('keep', [1, 2])
def test_folders_are_not_deleted(train, trained, keep):
    (trained / 'epoch_1.pth').unlink()
    (trained / 'epoch_1.pth').mkdir()
    (trained / 'epoch_1.pth' / 'mine.txt').touch()
    fewer = BEST | dict(max_keep_ckpts=keep)
    train(epochs=4, checkpoint=fewer, scores=SCORES, resume=True)
    assert (trained / 'epoch_1.pth' / 'mine.txt').exists()


def test_configs_that_mmengine_would_execute_are_not_read(trained):
    path = trained / 'epoch_2.pth'
    change(path, cfg='import os')
    infos = read_checkpoint(path)['message_hub']['runtime_info']
    assert 'cfg' not in infos
    assert infos['best_ckpt'] == 'best_score_epoch_2.pth'
    # Nor does an Inferencer that is given no config find one.
    meta = CheckpointLoader.load_checkpoint(str(path))['meta']
    assert not {'cfg', 'config'} & set(meta)


@pytest.mark.parametrize(
    ('key', 'value'),
    [('epoch', '../x'), ('iter', -1), ('epoch', True), ('seed', 'x')],
)
def test_a_wrong_position_is_refused(train, trained, key, value):
    path = trained / 'epoch_2.pth'
    checkpoint = torch.load(path, weights_only=False)  # made above
    checkpoint['meta'][key] = value
    torch.save(checkpoint, path)
    with pytest.raises(CheckpointError, match=rf"meta\['{key}'\]"):
        train(epochs=4, resume=True, load_from=str(path))

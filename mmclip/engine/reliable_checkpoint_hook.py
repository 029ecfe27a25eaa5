"""Checkpoints that survive: written whole, deleted late, found again."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from mmengine.config import Config
from mmengine.dist import broadcast_object_list, is_main_process
from mmengine.hooks import CheckpointHook
from mmengine.runner import Runner

from mmclip.checkpoint.atomic import TEMPORARY
from mmclip.checkpoint.errors import CheckpointError
from mmclip.checkpoint.files import read_checkpoint
from mmclip.engine.atomic_backend import use_atomic_backend
from mmclip.registry import HOOKS


@HOOKS.register_module()
class ReliableCheckpointHook(CheckpointHook):
    """mmengine's ``CheckpointHook`` for runs that may die at any moment.

    Files are written under another name and renamed. An old checkpoint is
    deleted only after the new one is written. ``--resume`` goes on from the
    newest checkpoint that can be read, whatever ``last_checkpoint`` says, and
    names those that it passed over. Arguments are those of
    ``CheckpointHook``.
    """

    file_backend: Any

    def before_run(self, runner: Runner) -> None:
        """Choose what to resume from.

        Raises:
            CheckpointError: If there are checkpoints, and none can be read,
                or the one that was named holds weights alone.
        """
        use_atomic_backend()
        if not runner._resume:
            return
        if runner._load_from is not None:
            _check_resumable(runner._load_from)
            return
        found: list[Any] = [None, None]
        if is_main_process():
            try:
                folder = _folder(runner.work_dir, self.out_dir)
                found[0] = find_newest_checkpoint(folder, runner)
            except CheckpointError as error:
                found[1] = str(error)
        broadcast_object_list(found)
        if found[1] is not None:
            raise CheckpointError(found[1])
        runner._load_from = found[0]

    def before_train(self, runner: Runner) -> None:
        """Remove what a killed process left half-written."""
        super().before_train(runner)
        if is_main_process():
            for path in Path(self.out_dir).glob(f'{TEMPORARY}*'):
                path.unlink()

    def _save_checkpoint_with_step(
        self, runner: Runner, step: int, meta: dict
    ) -> None:
        with self._delete_afterwards():
            super()._save_checkpoint_with_step(runner, step, meta)

    def _save_best_checkpoint(self, runner: Runner, metrics: dict) -> None:
        with self._delete_afterwards():
            super()._save_best_checkpoint(runner, metrics)

    @contextmanager
    def _delete_afterwards(self) -> Iterator[None]:
        """Put off the deletions of mmengine's hook until all is written."""
        backend = self.file_backend
        postponed = _PostponedRemoval(backend)
        self.file_backend = postponed
        try:
            yield
        finally:
            self.file_backend = backend
        in_use = {
            self.last_ckpt,
            getattr(self, 'best_ckpt_path', None),
            *getattr(self, 'best_ckpt_path_dict', {}).values(),
        }
        for path in postponed.paths:
            if path not in in_use and backend.exists(path):
                remove = backend.rmtree if backend.isdir(path) else None
                (remove or backend.remove)(path)


class _PostponedRemoval:
    """A file backend that only notes what is to be removed."""

    def __init__(self, backend: Any):
        self._backend = backend
        self.paths: list[str] = []

    def remove(self, path: str) -> None:
        self.paths.append(path)

    rmtree = remove

    def __getattr__(self, name: str) -> Any:
        return getattr(self._backend, name)


def find_newest_checkpoint(folder: Path, runner: Runner) -> str | None:
    """The checkpoint of a run that has seen most iterations and can be read.

    Args:
        folder (Path): Where ``epoch_N.pth`` and ``iter_N.pth`` are.
        runner (Runner): For its log.

    Returns:
        str | None: The file; None if there is none at all.

    Raises:
        CheckpointError: If there are some, and none can be read.
    """
    paths = [p for p in folder.glob('*.pth') if _NAME.fullmatch(p.name)]
    if not paths:
        runner.logger.warning(
            f'Nothing to resume from in {folder}: there is no epoch_N.pth or '
            'iter_N.pth. Training starts at the beginning.'
        )
        return None
    passed_over = []
    for path in sorted(paths, key=_age):
        try:
            _check_resumable(path)
        except CheckpointError as error:
            passed_over.append(str(error))
            runner.logger.warning(f'Passed over: {error}')
        else:
            runner.logger.info(f'Resume from {path}.')
            return str(path)
    raise CheckpointError(
        f'None of the {len(paths)} checkpoints in {folder} can be resumed '
        f'from; move them away to start at the beginning. {passed_over[0]}'
    )


def has_checkpoints(cfg: Config) -> bool:
    """Whether a run of a config has left a checkpoint, good or bad."""
    hook = cfg.get('default_hooks', {}).get('checkpoint') or {}
    folder = _folder(cfg.work_dir, hook.get('out_dir'))
    return any(_NAME.fullmatch(p.name) for p in folder.glob('*.pth'))


def _folder(work_dir: str, out_dir: str | None) -> Path:
    """Where mmengine writes checkpoints."""
    if out_dir is None:
        return Path(work_dir)
    return Path(out_dir) / Path(work_dir).name


def _check_resumable(path: str | Path) -> None:
    checkpoint = read_checkpoint(path)
    missing = {'meta', 'state_dict', 'optimizer'} - set(checkpoint)
    if missing:
        raise CheckpointError(
            f'{path} cannot be resumed from: it lacks '
            f'{", ".join(sorted(missing))}. To start from its weights, set '
            'load_from.'
        )


_NAME = re.compile(r'(epoch|iter)_(\d+)\.pth')


def _age(path: Path) -> tuple[int, float]:
    """Sorts newest first: by iterations done, if that can be read."""
    try:
        done = read_checkpoint(path, mmap=True)['meta']['iter']
    except (CheckpointError, KeyError, TypeError):
        done = None
    if not isinstance(done, int):  # broken: try it first, to say so
        return -(2**62), -path.stat().st_mtime
    return -done, -path.stat().st_mtime

"""Checkpoints that survive: written whole, deleted late, found again."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from mmengine.dist import broadcast_object_list, is_main_process
from mmengine.hooks import CheckpointHook
from mmengine.runner import IterBasedTrainLoop, Runner

from mmclip.checkpoint.atomic import TEMPORARY
from mmclip.checkpoint.errors import CheckpointError
from mmclip.engine.accumulated_gradients import (
    add_gradients,
    restore_gradients,
    share_gradients,
)
from mmclip.engine.atomic_backend import use_atomic_backend
from mmclip.engine.find_checkpoint import (
    check_resumable,
    checkpoint_folder,
    find_newest_checkpoint,
    list_checkpoints,
)
from mmclip.registry import HOOKS


@HOOKS.register_module()
class ReliableCheckpointHook(CheckpointHook):
    """mmengine's ``CheckpointHook`` for runs that may die at any moment.

    Files are written under another name and renamed. An old checkpoint is
    deleted only after the new one is written. ``--resume`` goes on from the
    checkpoint that was written last and can be read, whatever
    ``last_checkpoint`` says, and names those that it passed over. Gradients
    that ``accumulative_counts`` has gathered since the last step are in the
    checkpoint, too. Arguments are those of ``CheckpointHook``.
    """

    file_backend: Any
    best_ckpt_path: str | None
    best_ckpt_path_dict: dict[str, str | None]

    def before_run(self, runner: Runner) -> None:
        """Choose what to resume from.

        Raises:
            CheckpointError: If there are checkpoints, and none can be read.
            TypeError: If ``resume`` is neither True, False nor a name.
        """
        use_atomic_backend()
        resume: Any = runner._resume
        if isinstance(resume, str) and resume:
            # As FlexibleRunner takes it; Runner would not look at the name.
            runner._load_from, runner._resume = resume, True
        elif resume and resume is not True:
            raise TypeError(
                f'resume={resume!r} must be True, False or a checkpoint to go '
                "on from (resume='FILE', as --resume FILE)."
            )
        if runner._resume and runner._load_from is None:
            runner._load_from = self._find(runner)
            # mmengine would still follow last_checkpoint.
            runner._resume = runner._load_from is not None

    def _find(self, runner: Runner) -> str | None:
        """The main process looks, all hear of it."""
        found: list[Any] = [None, None]
        if is_main_process():
            try:
                found[0] = find_newest_checkpoint(
                    checkpoint_folder(runner.work_dir, self.out_dir),
                    self.filename_tmpl,
                    runner.logger,
                )
            except CheckpointError as error:
                found[1] = str(error)
        broadcast_object_list(found)
        if found[1] is not None:
            raise CheckpointError(found[1])
        return found[0]

    def before_train(self, runner: Runner) -> None:
        """Remove what a killed process left half-written.

        Raises:
            ValueError: If the checkpoints are to be written at the ends of
                epochs, of which the loop has none.
        """
        if self.by_epoch and isinstance(runner.train_loop, IterBasedTrainLoop):
            raise ValueError(
                'This loop has no epochs, so that no checkpoint would be '
                'written before its end: set by_epoch=False and an interval '
                'in iterations in default_hooks.checkpoint.'
            )
        if not runner._resume:
            self._warn_of_earlier_runs(runner)
        super().before_train(runner)
        if runner._resume:
            # A validation that is made up for writes its best score there.
            self.last_ckpt = str(runner._load_from or runner._resume)
        self._take_best_from_here()
        if is_main_process():
            for path in Path(self.out_dir).glob(f'{TEMPORARY}*'):
                path.unlink()

    def _warn_of_earlier_runs(self, runner: Runner) -> None:
        if '://' in (self.out_dir or '') or not is_main_process():
            return
        folder = checkpoint_folder(runner.work_dir, self.out_dir)
        earlier = list_checkpoints(folder, self.filename_tmpl)
        if earlier:
            runner.logger.warning(
                f'{folder} holds checkpoints of an earlier run, such as '
                f'{earlier[0].name}. Until this run has written its own, '
                '--resume would go on from those.'
            )

    def _take_best_from_here(self) -> None:
        """Forget where a copied or moved run had its best checkpoint.

        That of the original is deleted otherwise when a better one comes.
        """
        if getattr(self, 'best_ckpt_path', None) is not None:
            self.best_ckpt_path = self._here(self.best_ckpt_path)
        for key, path in getattr(self, 'best_ckpt_path_dict', {}).items():
            self.best_ckpt_path_dict[key] = self._here(path)

    def _here(self, path: str | None) -> str | None:
        if path is None:
            return None
        return self.file_backend.join_path(self.out_dir, Path(path).name)

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Add when it was, and the gradients gathered since the last step."""
        checkpoint['meta']['written'] = time.time()
        add_gradients(runner, checkpoint)

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Take the gradients up again.

        Raises:
            CheckpointError: If a run cannot go on from it.
            ValueError: If the run now gathers others.
        """
        # DeepSpeed keeps the weights elsewhere.
        if runner._resume and 'state_dict' in checkpoint:
            check_resumable(checkpoint, runner._load_from or runner._resume)
            restore_gradients(runner, checkpoint)

    def _save_checkpoint_with_step(
        self, runner: Runner, step: int, meta: dict
    ) -> None:
        share_gradients(runner)
        with self._delete_afterwards():
            super()._save_checkpoint_with_step(runner, step, meta)

    def _save_best_checkpoint(self, runner: Runner, metrics: dict) -> None:
        if not hasattr(self, 'file_backend'):
            return  # runner.val(), without training
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

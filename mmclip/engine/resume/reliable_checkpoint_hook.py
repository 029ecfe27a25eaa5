"""A checkpoint hook for runs that may be killed at any moment."""

import logging
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from numbers import Real
from pathlib import Path
from typing import Any

from mmengine.dist import broadcast_object_list, is_main_process
from mmengine.hooks import CheckpointHook
from mmengine.logging import print_log
from mmengine.runner import EpochBasedTrainLoop, IterBasedTrainLoop, Runner

from mmclip.checkpoint.files.atomic import TEMPORARY
from mmclip.checkpoint.files.run_state import is_step
from mmclip.engine.optim.steps import check_checkpoints, has_gathered
from mmclip.engine.resume.atomic_backend import use_atomic_backend
from mmclip.engine.resume.describe_run import describe_run
from mmclip.engine.resume.find_checkpoint import (
    as_pattern,
    check_resumable,
    checkpoint_folder,
    find_newest_checkpoint,
    list_checkpoints,
)
from mmclip.engine.resume.plain_values import make_plain, restore_plain
from mmclip.errors import CheckpointError, ConfigError
from mmclip.registry import HOOKS

# Not 'val...', which mmengine would log with the metrics.
VALIDATED = 'iter_validated'


@HOOKS.register_module()
class ReliableCheckpointHook(CheckpointHook):
    """mmengine's ``CheckpointHook`` for runs that may die at any moment.

    Files are written under a temporary name and renamed. An old checkpoint is
    deleted only after the new one is written, and only if this run wrote it,
    judging by its name and folder. Folders are never deleted. ``--resume``
    continues from the readable checkpoint written last, whatever
    ``last_checkpoint`` says, and reports those that it passed over. If it was
    written before a validation, the run validates first. Checkpoints are
    written between optimizer steps. Arguments are those of
    ``CheckpointHook``.
    """

    # Metrics for which higher is better: mmengine's and mmpose's.
    _default_greater_keys = (*CheckpointHook._default_greater_keys, '/AP')

    file_backend: Any
    save_best: list[str] | None
    best_ckpt_path: str | None
    best_ckpt_path_dict: dict[str, str | None]

    def before_run(self, runner: Runner) -> None:
        """Choose the checkpoint to resume from.

        Raises:
            CheckpointError: If there are checkpoints, but none can be read.
        """
        use_atomic_backend()
        resume: Any = runner._resume
        if resume and resume is not True:
            # FlexibleRunner accepts a name; Runner would ignore it.
            runner._load_from, runner._resume = str(resume), True
        if runner._resume and runner._load_from is None:
            runner._load_from = self._find(runner)
            # mmengine would still follow last_checkpoint.
            runner._resume = runner._load_from is not None

    def _find(self, runner: Runner) -> str | None:
        """Search in the main process, and tell the others."""
        found: list[str | None] = [None, None]
        opened = None
        if is_main_process():
            try:
                opened = find_newest_checkpoint(
                    checkpoint_folder(runner.work_dir, self.out_dir),
                    self.filename_tmpl,
                    runner.logger,
                )
                found[0] = None if opened is None else str(opened)
            except CheckpointError as error:
                found[1] = str(error)
        broadcast_object_list(found)
        if found[1] is not None:
            raise CheckpointError(found[1])
        return opened or found[0]

    def before_train(self, runner: Runner) -> None:
        """Finish what a killed process left undone.

        Half-written files are removed. A validation that the checkpoint does
        not know of is repeated: mmengine would skip it, and the last epoch
        could then never be the best.
        """
        if self.by_epoch and isinstance(runner.train_loop, IterBasedTrainLoop):
            raise ConfigError(
                'This loop has no epochs, so no checkpoint would be written '
                'before its end: set by_epoch=False and an interval in '
                'iterations in default_hooks.checkpoint.'
            )
        check_checkpoints(runner, self)
        if not runner._resume:
            self._warn_of_earlier_runs(runner)
        self._forget_files_of_others(runner)
        super().before_train(runner)
        if runner._resume:
            self.last_ckpt = str(runner._load_from or runner._resume)
        if is_main_process():
            for path in Path(self.out_dir).glob(f'{TEMPORARY}*'):
                path.unlink()
        if runner._resume and _lacks_validation(runner):
            runner.logger.info(
                f'Validate iteration {runner.iter}: the checkpoint was '
                'written before its validation.'
            )
            runner.val_loop.run()

    def _warn_of_earlier_runs(self, runner: Runner) -> None:
        if '://' in (self.out_dir or '') or not is_main_process():
            return
        folder = checkpoint_folder(runner.work_dir, self.out_dir)
        earlier = list_checkpoints(folder, self.filename_tmpl)
        if earlier:
            runner.logger.warning(
                f'{folder} has checkpoints of an earlier run, such as '
                f'{earlier[0].name}. Until this run has written its own, '
                '--resume would continue from those.'
            )

    def _forget_files_of_others(self, runner: Runner) -> None:
        """Allow only files that this run wrote to be deleted.

        Files that a checkpoint from another folder calls older are kept, and
        so is every file with a name that this hook does not give. The
        checkpoint may be untrusted, and the folder a copy of the run's.
        """
        infos = runner.message_hub.runtime_info
        resumed = str(runner._load_from or runner._resume or '')
        folder = checkpoint_folder(runner.work_dir, self.out_dir)
        is_own = bool(runner._resume) and _is_in(resumed, folder)
        if 'keep_ckpt_ids' in infos:
            steps = infos['keep_ckpt_ids'] if is_own else []
            infos['keep_ckpt_ids'] = [
                step
                for step in steps
                if is_step(step)
                # mmengine deletes what exceeds max_keep_ckpts at once.
                and not Path(folder, self.filename_tmpl.format(step)).is_dir()
            ]
        names = f'best_.+_{as_pattern(self.filename_tmpl)}'.replace('/', '_')
        for key in [k for k in infos if str(k).startswith('best_ckpt')]:
            name = re.split(r'[/\\]', str(infos[key]))[-1]
            if is_own and re.fullmatch(names, name):
                infos[key] = f'{folder}/{name}'
            else:
                del infos[key]

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Add the time and a description of the weights."""
        checkpoint['meta']['written'] = time.time()
        self._said: set[str] = getattr(self, '_said', set())
        if clip := describe_run(runner, self._said):
            checkpoint['meta']['clip'] = clip
        make_plain(checkpoint, self._said)

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Check that the run can resume from the checkpoint."""
        # DeepSpeed keeps the weights elsewhere.
        if runner._resume and 'state_dict' in checkpoint:
            check_resumable(checkpoint, runner._load_from or runner._resume)
        if runner._resume:
            restore_plain(runner, checkpoint)

    def _save_checkpoint_with_step(
        self, runner: Runner, step: int, meta: dict
    ) -> None:
        if has_gathered(runner) and not self.by_epoch:
            return  # a best score within a step, which a resumed run repeats
        with self._delete_afterwards():
            super()._save_checkpoint_with_step(runner, step, meta)

    def _save_best_checkpoint(self, runner: Runner, metrics: dict) -> None:
        if not hasattr(self, 'file_backend'):
            return  # runner.val(), without training
        # Checkpoints written from here on know of this validation.
        runner.message_hub.update_info(VALIDATED, runner.iter)
        self._choose_metric(runner, metrics)
        with self._delete_afterwards():
            super()._save_best_checkpoint(runner, metrics)

    def _choose_metric(self, runner: Runner, metrics: dict) -> None:
        """Choose the first comparable metric for 'auto'.

        mmengine takes the first metric, and fails if it is not a number or
        has no rule whether higher is better.
        """
        if not self.save_best or 'auto' not in self.key_indicators:
            return
        rules = self.rules
        for name, score in metrics.items():
            if isinstance(score, Real) or getattr(score, 'ndim', None) == 0:
                with suppress(ValueError):  # mmengine knows no rule
                    self._init_rule(rules, [name])
                    return
        self.save_best = None
        runner.logger.warning(
            "No best checkpoint is kept: save_best='auto' does not know "
            f'whether higher is better for any of {", ".join(metrics)}. Set '
            'default_hooks.checkpoint.save_best to one of them, and rule to '
            "'greater' or 'less'."
        )

    @contextmanager
    def _delete_afterwards(self) -> Iterator[None]:
        """Postpone the hook's deletions until everything is written."""
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
            if path in in_use:
                continue
            if backend.isfile(path):
                backend.remove(path)
            elif backend.isdir(path):
                print_log(
                    f'{path} is an older checkpoint but is kept: folders are '
                    'not deleted.',
                    logger='current',
                    level=logging.WARNING,
                )


def _lacks_validation(runner: Runner) -> bool:
    """Tell whether a validation is due that was not finished."""
    loop = runner.train_loop
    if runner.val_loop is None:
        return False
    if runner.message_hub.runtime_info.get(VALIDATED) == runner.iter:
        return False
    if isinstance(loop, EpochBasedTrainLoop):
        done, end = loop.epoch, loop.max_epochs
        if loop.iter != done * len(loop.dataloader):
            return False  # in the middle of an epoch
    elif isinstance(loop, IterBasedTrainLoop):
        done, end = loop.iter, loop.max_iters
    else:
        return False
    loop._decide_current_val_interval()
    return done >= max(1, loop.val_begin) and (
        done % loop.val_interval == 0 or done == end
    )


def _is_in(path: str, folder: str) -> bool:
    """Tell whether a file is directly in a folder, local or remote."""
    if '://' in path or '://' in folder:
        return path.rpartition('/')[0] == folder
    return Path(path).resolve().parent == Path(folder).resolve()


class _PostponedRemoval:
    """A file backend that only records what to remove."""

    def __init__(self, backend: Any):
        self._backend = backend
        self.paths: list[str] = []

    def remove(self, path: str) -> None:
        self.paths.append(path)

    rmtree = remove

    def __getattr__(self, name: str) -> Any:
        return getattr(self._backend, name)

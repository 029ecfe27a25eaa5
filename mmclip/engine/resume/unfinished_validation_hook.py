"""No epoch without its validation, whenever a run was killed."""

import secrets
from pathlib import Path

from mmengine.dist import broadcast_object_list, is_main_process
from mmengine.hooks import Hook
from mmengine.runner import EpochBasedTrainLoop, IterBasedTrainLoop, Runner

from mmclip.checkpoint.files.atomic import atomic_file
from mmclip.registry import HOOKS


@HOOKS.register_module()
class UnfinishedValidationHook(Hook):
    """Validate first, if a run was killed after training and before the end.

    A checkpoint is written before the validation that follows it. mmengine
    resumes with the next epoch: the metrics of the last one are lost, and it
    can never be the best. What was validated last stands in
    ``last_validation`` in the work directory: the run, which keeps its name
    when it is resumed, and the iteration.
    """

    priority = 'LOWEST'

    def before_train(self, runner: Runner) -> None:
        """Validate what was resumed, if that is due and was not done."""
        hub = runner.message_hub
        if 'run' not in hub.runtime_info:
            hub.update_info('run', secrets.token_hex(8))
        if runner.iter == 0 or runner.val_loop is None or not _is_due(runner):
            return
        done = [_read(runner) == _describe(runner)]
        broadcast_object_list(done)  # not every process need have the note
        if not done[0]:
            runner.logger.info(
                f'Validate iteration {runner.iter}, where the run ended '
                'before validation did.'
            )
            runner.val_loop.run()

    def after_val(self, runner: Runner) -> None:
        """Note that it is done, after the best checkpoint is written."""
        if is_main_process() and 'run' in runner.message_hub.runtime_info:
            with atomic_file(_note(runner)) as temporary:
                temporary.write_text(_describe(runner))


def _note(runner: Runner) -> Path:
    return Path(runner.work_dir) / 'last_validation'


def _read(runner: Runner) -> str | None:
    note = _note(runner)
    return note.read_text() if note.exists() else None


def _describe(runner: Runner) -> str:
    run = runner.message_hub.get_info('run')
    return f'run {run}, iteration {runner.iter}\n'


def _is_due(runner: Runner) -> bool:
    """Whether the loop validates after what it has done so far."""
    loop = runner.train_loop
    if isinstance(loop, EpochBasedTrainLoop):
        done, end = loop.epoch, loop.max_epochs
        if loop.iter != done * len(loop.dataloader):
            return False  # in the middle of an epoch
    elif isinstance(loop, IterBasedTrainLoop):
        done, end = loop.iter, loop.max_iters
    else:
        return False
    loop._decide_current_val_interval()
    return done >= loop.val_begin and (
        done % loop.val_interval == 0 or done == end
    )

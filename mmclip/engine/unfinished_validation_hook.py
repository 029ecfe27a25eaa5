"""No epoch without its validation, whenever a run was killed."""

from pathlib import Path

from mmengine.dist import is_main_process
from mmengine.hooks import Hook
from mmengine.runner import EpochBasedTrainLoop, IterBasedTrainLoop, Runner

from mmclip.checkpoint.atomic import atomic_file
from mmclip.registry import HOOKS


@HOOKS.register_module()
class UnfinishedValidationHook(Hook):
    """Validate first, if a run was killed after training and before the end.

    A checkpoint is written before the validation that follows it. mmengine
    resumes with the next epoch: the metrics of the last one are lost, and it
    can never be the best. What was validated last stands in
    ``last_validation`` in the work directory.
    """

    priority = 'LOWEST'

    def before_train(self, runner: Runner) -> None:
        """Validate what was resumed, if that is due and was not done."""
        note = _note(runner)
        if runner.iter == 0:
            if is_main_process():
                note.unlink(missing_ok=True)  # of an earlier run
        elif runner.val_loop is not None and _is_due(runner):
            done = note.read_text().strip() if note.exists() else None
            if done != str(runner.iter):
                runner.logger.info(
                    f'Validate iteration {runner.iter}, where the run ended '
                    'before validation did.'
                )
                runner.val_loop.run()

    def after_val(self, runner: Runner) -> None:
        """Note that it is done, after the best checkpoint is written."""
        if is_main_process() and runner._train_loop is not None:
            with atomic_file(_note(runner)) as temporary:
                temporary.write_text(f'{runner.iter}\n')


def _note(runner: Runner) -> Path:
    return Path(runner.work_dir) / 'last_validation'


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

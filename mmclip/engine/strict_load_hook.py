"""No run with weights that were loaded in part."""

from typing import Any

from mmengine.hooks import EMAHook, Hook
from mmengine.model import BaseTTAModel, is_model_wrapper
from mmengine.runner import Runner

from mmclip.checkpoint.errors import CheckpointError
from mmclip.registry import HOOKS


@HOOKS.register_module()
class StrictLoadHook(Hook):
    """Stop if a checkpoint does not fit the model, key by key.

    mmengine's runner only warns when ``load_from``, ``--resume`` or
    ``tools/test.py`` meets missing, unexpected or misshapen weights, and goes
    on with random ones.
    """

    def before_run(self, runner: Runner) -> None:
        """Let ``EMAHook`` load its averages strictly, too.

        Raises:
            ValueError: If they are of a model for test-time augmentation,
                whose names of weights are others: mmengine would load none.
        """
        hooks = _ema_hooks(runner)
        model = runner.model
        if is_model_wrapper(model):
            model = model.module
        if hooks and isinstance(model, BaseTTAModel):
            raise ValueError(
                'EMAHook finds no averages for test-time augmentation; leave '
                'it out (custom_hooks): the state_dict of its checkpoints '
                'holds the averages already.'
            )
        for hook in hooks:
            hook.strict_load = True

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Load once more, strictly, before the runner's own way.

        Raises:
            CheckpointError: If keys or shapes differ, listing them; if a run
                is resumed with averaged weights that it had not, or without
                those that it had.
        """
        if runner._resume:
            self._check_averages(runner, checkpoint)
        model: Any = runner.model
        while is_model_wrapper(model) or isinstance(model, BaseTTAModel):
            model = model.module
        state_dict = checkpoint.get('state_dict', checkpoint)
        try:
            model.load_state_dict(state_dict, strict=True)
        except RuntimeError as error:
            raise CheckpointError(
                f'The checkpoint does not fit the model. {error}\n'
                'To start from a backbone, name it in its init_cfg '
                "(type='mmclip.PretrainedCLIP') instead of load_from."
            ) from None

    def _check_averages(self, runner: Runner, checkpoint: dict) -> None:
        has, wants = 'ema_state_dict' in checkpoint, bool(_ema_hooks(runner))
        if has != wants:
            raise CheckpointError(
                f'The checkpoint {"has" if has else "lacks"} averaged weights '
                f'(ema_state_dict), and this run has '
                f'{"an" if wants else "no"} EMAHook. Resume with the same '
                'custom_hooks, or start from the weights with load_from.'
            )


def _ema_hooks(runner: Runner) -> list[EMAHook]:
    return [hook for hook in runner.hooks if isinstance(hook, EMAHook)]

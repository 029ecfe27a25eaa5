"""No run with weights that were loaded in part."""

from collections.abc import Mapping
from typing import Any

from mmengine.hooks import EMAHook, Hook
from mmengine.model import BaseTTAModel, is_model_wrapper
from mmengine.runner import Runner

from mmclip.checkpoint.describe import unwrapped
from mmclip.checkpoint.finite import check_finite
from mmclip.checkpoint.state_dict import (
    check_names,
    weights_of,
    without_prefix,
    without_wrapper,
)
from mmclip.checkpoint.unconverted import advise
from mmclip.engine.resume.describe_run import compare_with_run, warn_of_images
from mmclip.errors import CheckpointError, ConfigError
from mmclip.registry import HOOKS

EXTRA = '_extra_state'  # torch's key of what a module adds


@HOOKS.register_module()
class StrictLoadHook(Hook):
    """Stop if a checkpoint does not fit the model, key by key.

    mmengine's runner only warns when ``load_from``, ``--resume`` or
    ``tools/test.py`` meets missing, unexpected or misshapen weights, and goes
    on with random ones. What a checkpoint says of its model in
    ``meta['clip']`` must be so, and images that are prepared in another way
    are warned of.
    """

    def before_run(self, runner: Runner) -> None:
        """Let ``EMAHook`` load its averages strictly, too.

        Raises:
            ConfigError: If they are of a model for test-time augmentation,
                whose names of weights are others: mmengine would load none.
        """
        hooks = _ema_hooks(runner)
        model = runner.model
        if is_model_wrapper(model):
            model = model.module
        if hooks and isinstance(model, BaseTTAModel):
            raise ConfigError(
                'EMAHook finds no averages for test-time augmentation; leave '
                'it out (custom_hooks): the state_dict of its checkpoints '
                'holds the averages already.'
            )
        for hook in hooks:
            hook.strict_load = True

    def before_train(self, runner: Runner) -> None:
        """Warn of images that are prepared unlike those of the weights."""
        # How images are resized and cropped is the training's choice.
        warn_of_images(runner, ('mean', 'std', 'channels'))

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Load once more, strictly, before the runner's own way.

        Raises:
            CheckpointError: If keys or shapes differ, listing them; if a
                weight is NaN or infinite; if a run
                is resumed with averaged weights that it had not, or without
                those that it had; if ``EMAHook`` could not read it.
        """
        if runner._resume:
            self._check_averages(runner, checkpoint)
        if 'state_dict' not in checkpoint and _ema_hooks(runner):
            raise CheckpointError(
                'The checkpoint has no state_dict, which EMAHook needs: leave '
                'EMAHook out of custom_hooks, or save the weights as '
                'dict(state_dict=...).'
            )
        path = str(runner._load_from or runner._resume)
        compare_with_run(runner, checkpoint, path)
        state_dict = checkpoint.get('state_dict', checkpoint)
        _check_types(state_dict, path)
        self._load(runner, without_wrapper(state_dict))

    def _load(self, runner: Runner, state_dict: Mapping[str, Any]) -> None:
        model = unwrapped(runner.model)
        check_finite(state_dict, 'The checkpoint', model)
        try:
            model.load_state_dict(state_dict, strict=True)
        except RuntimeError as error:
            advice = advise(str(runner._load_from), state_dict)
            raise CheckpointError(
                f'The checkpoint does not fit the model: {advice or error}\n'
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
        if has:
            # EMAHook exchanges them with those of state_dict, and mmengine
            # only warns of what does not fit then.
            averages = checkpoint['ema_state_dict']
            _check_types(averages, 'ema_state_dict')
            self._load(runner, without_prefix(averages, 'module.'))


def _check_types(weights: Any, where: str) -> None:
    """Refuse what is not a state dict; modules may have states of their own.

    Raises:
        CheckpointError: If keys are not names, or values not tensors.
    """
    check_names(weights, where)
    tensors = {k: weights[k] for k in weights if not k.endswith(EXTRA)}
    weights_of(dict(state_dict=tensors), where)


def _ema_hooks(runner: Runner) -> list[EMAHook]:
    return [hook for hook in runner.hooks if isinstance(hook, EMAHook)]

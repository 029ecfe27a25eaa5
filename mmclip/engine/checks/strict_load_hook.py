"""A hook that refuses weights which fit only in part."""

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
from mmclip.checkpoint.unconverted import advise, lacks_classifier
from mmclip.engine.resume.describe_run import compare_with_run, warn_of_images
from mmclip.errors import CheckpointError, ConfigError, some_misfits
from mmclip.registry import HOOKS

EXTRA = '_extra_state'  # torch's key for a module's own state


@HOOKS.register_module()
class StrictLoadHook(Hook):
    """A hook that stops if a checkpoint does not fit the model exactly.

    When ``load_from``, ``--resume`` or ``tools/test.py`` finds missing,
    unexpected or misshapen weights, mmengine's runner only warns and goes on
    with random ones. The model must also match the checkpoint's
    ``meta['clip']``; different preprocessing of images is a warning.
    """

    def before_run(self, runner: Runner) -> None:
        """Make ``EMAHook`` load its averages strictly, too.

        Raises:
            ConfigError: If the model is for test-time augmentation, which
                has other names: mmengine would load no averages.
        """
        hooks = _ema_hooks(runner)
        model = runner.model
        if is_model_wrapper(model):
            model = model.module
        if hooks and isinstance(model, BaseTTAModel):
            raise ConfigError(
                'EMAHook finds no averages for test-time augmentation: remove '
                'it from custom_hooks; the state_dict of its checkpoints '
                'already has the averages.'
            )
        for hook in hooks:
            hook.strict_load = True

    def before_train(self, runner: Runner) -> None:
        """Warn if images are not prepared as the weights expect."""
        # Training may resize and crop images as it likes.
        warn_of_images(runner, ('mean', 'std', 'channels'))

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Load the weights strictly, before the runner loads them.

        Raises:
            CheckpointError: If keys or shapes differ (the message lists
                them); if a weight is NaN or infinite; if a run is resumed
                with averaged weights but had none, or the reverse; if
                ``EMAHook`` could not read the checkpoint.
        """
        if runner._resume:
            self._check_averages(runner, checkpoint)
        if 'state_dict' not in checkpoint and _ema_hooks(runner):
            raise CheckpointError(
                'The checkpoint has no state_dict, which EMAHook needs: '
                'remove EMAHook from custom_hooks, or save the weights as '
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
            path = str(runner._load_from or runner._resume)
            if problem := lacks_classifier(path, state_dict, model):
                raise CheckpointError(f'{path}: {problem}') from None
            problem = advise(path, state_dict) or some_misfits(error)
            raise CheckpointError(
                f'The checkpoint does not fit the model: {problem}\n'
                'To start from a backbone, name it in its init_cfg '
                "(type='mmclip.PretrainedCLIP') instead of load_from."
            ) from None

    def _check_averages(self, runner: Runner, checkpoint: dict) -> None:
        has, wants = 'ema_state_dict' in checkpoint, bool(_ema_hooks(runner))
        if has != wants:
            raise CheckpointError(
                f'The checkpoint {"has" if has else "lacks"} averaged weights '
                f'(ema_state_dict), but this run has '
                f'{"an" if wants else "no"} EMAHook. Resume with the same '
                'custom_hooks, or start from the weights with load_from.'
            )
        if has:
            # EMAHook swaps them with those of state_dict, and mmengine only
            # warns about what does not fit then.
            averages = checkpoint['ema_state_dict']
            _check_types(averages, 'ema_state_dict')
            self._load(runner, without_prefix(averages, 'module.'))


def _check_types(weights: Any, where: str) -> None:
    """Refuse anything but a state dict, in which modules' own states pass."""
    check_names(weights, where)
    tensors = {k: weights[k] for k in weights if not k.endswith(EXTRA)}
    weights_of(dict(state_dict=tensors), where)


def _ema_hooks(runner: Runner) -> list[EMAHook]:
    return [hook for hook in runner.hooks if isinstance(hook, EMAHook)]

"""No run with weights that were loaded in part."""

from typing import Any

from mmengine.hooks import Hook
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

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Load once more, strictly, before the runner's own way.

        Raises:
            CheckpointError: If keys or shapes differ, listing them.
        """
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

"""A hook that merges similar tokens in tests, for speed."""

from typing import Any

from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper
from mmengine.runner import Runner

from mmclip.models.lora import LoRAModel
from mmclip.models.token_merging import merge_tokens
from mmclip.registry import HOOKS


@HOOKS.register_module()
class MergeTokensHook(Hook):
    """A hook for ``mmclip test`` that merges tokens of the ``backbone``.

    Training and its validations are as without it.

    Args:
        per_block (int): See :func:`mmclip.models.merge_tokens`.
    """

    def __init__(self, per_block: int):
        self.per_block = per_block

    def before_test(self, runner: Runner) -> None:
        """Change the backbone.

        Raises:
            ValueError: If it cannot merge tokens.
        """
        model: Any = runner.model
        model = model.module if is_model_wrapper(model) else model
        backbone = model.backbone
        if isinstance(backbone, LoRAModel):
            backbone = backbone.module
        merge_tokens(backbone, self.per_block)

"""A hook that merges similar tokens in tests, for speed."""

from typing import Any

from mmengine.hooks import Hook
from mmengine.runner import Runner

from mmclip.checkpoint.describe import unwrapped
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
        self._changed: Any = None

    def before_test(self, runner: Runner) -> None:
        """Change the backbone.

        Raises:
            ValueError: If it cannot merge tokens.
        """
        backbone: Any = unwrapped(runner.model).backbone
        if isinstance(backbone, LoRAModel):
            backbone = backbone.module
        if backbone is not self._changed:  # by a test before
            merge_tokens(backbone, self.per_block)
            self._changed = backbone

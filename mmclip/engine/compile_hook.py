"""A hook that compiles the backbone, without a trace in checkpoints."""

from typing import Any

from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper
from mmengine.runner import Runner

from mmclip.registry import HOOKS


@HOOKS.register_module()
class CompileHook(Hook):
    """A hook that compiles the model's ``backbone`` with ``torch.compile``.

    mmengine's own ``compile=True`` compiles the whole training step, including
    its log, and hits torch's recompilation limit. Names in checkpoints are
    the same as without compiling.

    Args:
        backend (str): See ``torch.compile``. Defaults to ``'inductor'``,
            which needs a C++ compiler.
        mode (str | None): See ``torch.compile``. Defaults to None.
    """

    def __init__(self, backend: str = 'inductor', mode: str | None = None):
        self.backend, self.mode = backend, mode

    def before_run(self, runner: Runner) -> None:
        """Mark the backbone, which is compiled when it sees its first images.

        Raises:
            AttributeError: If the model has no backbone.
        """
        model: Any = runner.model
        model = model.module if is_model_wrapper(model) else model
        backbone = getattr(model, 'backbone', None)
        if backbone is None:
            raise AttributeError(
                f'{type(model).__name__} has no attribute backbone for '
                'CompileHook to compile: remove the hook.'
            )
        backbone.compile(backend=self.backend, mode=self.mode)

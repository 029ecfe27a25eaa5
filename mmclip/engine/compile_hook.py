"""A backbone that is compiled, and checkpoints that do not show it."""

from typing import Any

from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper
from mmengine.runner import Runner

from mmclip.registry import HOOKS


@HOOKS.register_module()
class CompileHook(Hook):
    """Compile the model's ``backbone`` with ``torch.compile``.

    mmengine's own ``compile=True`` compiles the whole training step, its log
    included, and meets torch's limit of recompilations. Names in checkpoints
    are those of a run that is not compiled.

    Args:
        backend (str): See ``torch.compile``. Defaults to ``'inductor'``,
            which needs a C++ compiler.
        mode (str | None): See ``torch.compile``. Defaults to None.
    """

    def __init__(self, backend: str = 'inductor', mode: str | None = None):
        self.backend, self.mode = backend, mode

    def before_run(self, runner: Runner) -> None:
        """Mark the backbone; it is compiled at its first images.

        Raises:
            AttributeError: If the model has no backbone.
        """
        model: Any = runner.model
        model = model.module if is_model_wrapper(model) else model
        backbone = getattr(model, 'backbone', None)
        if backbone is None:
            raise AttributeError(
                f'{type(model).__name__} has no attribute backbone, which '
                'CompileHook compiles; remove the hook.'
            )
        backbone.compile(backend=self.backend, mode=self.mode)

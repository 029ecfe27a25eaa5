"""Test one model on several data sets, in one process."""

from collections.abc import Mapping
from typing import Any

import torch
from mmengine.config import Config
from mmengine.evaluator import Evaluator
from mmengine.hooks import EMAHook
from mmengine.runner import Runner
from torch.utils.data import DataLoader

from mmclip.engine.checks.check_classes_hook import CheckClassesHook
from mmclip.engine.checks.metrics import check_metrics
from mmclip.engine.config.load import complete_dataloaders
from mmclip.engine.distributed.processes import use_gloo_without_gpu
from mmclip.engine.resume.describe_run import compare_with_run


def build_test_runner(cfg: Config) -> Runner:
    """Build a runner with its model; nothing is trained, loaded or tested.

    The weights are as the model's constructor left them, which is at random.
    An ``EMAHook`` is taken out: it would test its own copy of the weights
    instead of those that the model has.

    Args:
        cfg (Config): As :func:`mmclip.engine.config.load.load_config` gives
            it;
            its dataloaders are completed in place, and ``load_from`` and
            ``resume`` are cleared.

    Returns:
        Runner: For :func:`evaluate`. Its ``model`` is a wrapper where there
        are several processes.
    """
    cfg.load_from, cfg.resume = None, False
    cfg.setdefault('launcher', 'none')
    complete_dataloaders(cfg, pin_memory=torch.cuda.is_available())
    use_gloo_without_gpu(cfg)
    # Not cfg.runner_type: FlexibleRunner builds its model in test() only.
    runner = Runner.from_cfg(cfg)
    runner._hooks = [h for h in runner._hooks if not isinstance(h, EMAHook)]
    runner.call_hook('before_run')
    return runner


def tell_classes(
    runner: Runner, checkpoint: Mapping[str, Any], path: str
) -> None:
    """Compare what a checkpoint says with the model and the data.

    ``CheckClassesHook`` compares its classes, when a test begins.

    Args:
        runner (Runner): What :func:`build_test_runner` gave.
        checkpoint (Mapping): With ``meta``, if it says anything.
        path (str): What errors call it.

    Raises:
        CheckpointError: If it says to be of another model.
    """
    compare_with_run(runner, checkpoint, path)
    for hook in runner._hooks:
        if isinstance(hook, CheckClassesHook):
            hook.after_load_checkpoint(runner, dict(checkpoint))


def evaluate(
    runner: Runner,
    dataloader: dict[str, Any] | DataLoader,
    evaluator: dict[str, Any] | list[dict[str, Any]] | Evaluator,
) -> dict[str, float]:
    """Test the model of a runner as it is now, on one data set.

    Args:
        runner (Runner): What :func:`build_test_runner` gave.
        dataloader (dict | DataLoader): Of the data set, such as
            ``runner.cfg.test_dataloader`` or a changed copy of it; built, it
            serves several calls, and its workers stay.
        evaluator (dict | list | Evaluator): The metrics, such as
            ``runner.cfg.test_evaluator``.

    Returns:
        dict[str, float]: By name, such as ``accuracy/top1``; the same in
        every process.

    Raises:
        DataError: If an ``Accuracy`` would choose between all classes of the
            head on a data set that has only some.
    """
    _forget_results(runner)
    runner._test_dataloader = dataloader
    runner._test_evaluator = evaluator
    runner._test_loop = runner.build_test_loop(runner.cfg.get('test_cfg', {}))
    dataset = runner.test_dataloader.dataset
    check_metrics('test', dataset, runner.test_evaluator)
    return runner.test_loop.run()


def _forget_results(runner: Runner) -> None:
    """Or the log would have them beside those of the next data set."""
    hub = runner.message_hub
    for kept in (hub.log_scalars, hub.runtime_info):
        for key in [key for key in kept if key.startswith('test/')]:
            del kept[key]

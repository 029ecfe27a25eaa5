"""Testing of one model on several data sets, in one process."""

import copy
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from mmengine.config import Config
from mmengine.evaluator import Evaluator
from mmengine.runner import Runner, TestLoop
from torch.utils.data import DataLoader

from mmclip.engine.checks.check_classes_hook import CheckClassesHook
from mmclip.engine.checks.metrics import check_metrics
from mmclip.engine.config.build import naming_the_config
from mmclip.engine.config.load import complete_dataloaders
from mmclip.engine.distributed.processes import use_gloo_without_gpu
from mmclip.engine.resume.describe_run import compare_with_run
from mmclip.evaluation.test_time_augmentation import leave_out_averaging


def build_test_runner(cfg: Config) -> Runner:
    """Build a runner and its model, without loading or testing anything.

    The weights stay random, as the model's constructor left them. An
    ``EMAHook`` is removed, because it would test its own copy of the weights
    instead of the model's.

    Args:
        cfg (Config): From :func:`mmclip.engine.config.load.load_config`; its
            dataloaders are completed in place, and ``load_from`` and
            ``resume`` are cleared.

    Returns:
        Runner: For :func:`evaluate`. Its ``model`` is wrapped if there are
        several processes.
    """
    cfg.load_from, cfg.resume = None, False
    cfg.setdefault('launcher', 'none')
    complete_dataloaders(cfg, pin_memory=torch.cuda.is_available())
    use_gloo_without_gpu(cfg)
    # Not cfg.runner_type: FlexibleRunner builds its model only in test().
    with naming_the_config(cfg):
        runner = Runner.from_cfg(cfg)
    leave_out_averaging(runner)
    runner.call_hook('before_run')
    return runner


def tell_classes(
    runner: Runner, checkpoint: Mapping[str, Any], path: str
) -> None:
    """Compare a checkpoint's metadata with the model and the data.

    ``CheckClassesHook`` compares the classes when a test begins.

    Args:
        runner (Runner): From :func:`build_test_runner`.
        checkpoint (Mapping): A checkpoint, perhaps with ``meta``.
        path (str): What errors call it.

    Raises:
        CheckpointError: If its metadata describes another model.
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
    """Test a runner's model as it is now, on one data set.

    Args:
        runner (Runner): From :func:`build_test_runner`.
        dataloader (dict | DataLoader): The data, such as
            ``runner.cfg.test_dataloader`` or a changed copy of it; a built
            dataloader can be used again, and keeps its workers.
        evaluator (dict | list | Evaluator): The metrics, such as
            ``runner.cfg.test_evaluator``.

    Returns:
        dict[str, float]: Metrics by name, such as ``accuracy/top1``; the same
        in every process.

    Raises:
        DataError: If an ``Accuracy`` would choose between all classes of the
            head on a data set that has only some of them.
    """
    _forget_results(runner)
    return _build_loop(runner, dataloader, evaluator).run()


def evaluate_each(
    runner: Runner,
    dataloader: DataLoader,
    evaluator: dict[str, Any] | list[dict[str, Any]],
    states: Sequence[Callable[[], None]],
    progress: Callable[[int], object] | None = None,
) -> list[dict[str, float]]:
    """Test a runner's model in several states, every batch in all of them.

    So images are loaded once.

    Args:
        runner (Runner): From :func:`build_test_runner`.
        dataloader (DataLoader): The data.
        evaluator (dict | list): The metrics.
        states (Sequence[Callable]): Each puts other weights into the model.
        progress (Callable | None): Called with the number of states after
            each batch.

    Returns:
        list[dict[str, float]]: The metrics of each state.

    Raises:
        DataError: As :func:`evaluate` does.
    """
    loops = [_build_loop(runner, dataloader, evaluator) for _ in states]
    if any(type(loop) is not TestLoop for loop in loops):  # goes its own way
        metrics = []
        for put in states:
            put()
            metrics.append(evaluate(runner, dataloader, evaluator))
        return metrics
    dataset: Any = dataloader.dataset
    runner.call_hook('before_test')
    runner.call_hook('before_test_epoch')
    runner.model.eval()
    for i, batch in enumerate(dataloader):
        for put, loop in zip(states, loops, strict=True):
            put()
            loop.run_iter(i, copy.deepcopy(batch))  # predictions go into it
        if progress is not None:
            progress(len(states))
    metrics = []
    for loop in loops:
        _forget_results(runner)
        metrics.append(loop.evaluator.evaluate(len(dataset)))
        runner.call_hook('after_test_epoch', metrics=metrics[-1])
    runner.call_hook('after_test')
    return metrics


def _build_loop(runner: Runner, dataloader: Any, evaluator: Any) -> Any:
    """Build a test loop, and make it the runner's."""
    runner._test_dataloader = dataloader
    runner._test_evaluator = evaluator
    with naming_the_config(runner.cfg):
        loop = runner.build_test_loop(runner.cfg.get('test_cfg') or {})
    runner._test_loop = loop
    dataset = runner.test_dataloader.dataset
    check_metrics('test', dataset, runner.test_evaluator)
    return loop


def _forget_results(runner: Runner) -> None:
    """Clear the previous data set's results from the log."""
    hub = runner.message_hub
    for kept in (hub.log_scalars, hub.runtime_info):
        for key in [key for key in kept if key.startswith('test/')]:
            del kept[key]

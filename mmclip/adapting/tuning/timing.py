"""How fast this machine trains and tests a model, measured on its images."""

import copy
import itertools
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from mmengine.config import Config
from mmengine.device import get_device
from mmengine.optim import build_optim_wrapper
from mmengine.registry import MODELS, init_default_scope
from mmengine.runner import Runner

LEAST_SECONDS, LEAST_BATCHES = 3.0, 3  # that are timed
FEW = 8  # images of a slow batch


@dataclass(frozen=True)
class Speed:
    """What a machine needs for a model.

    Args:
        step (float): Seconds per training step.
        image (float): Seconds per tested image.
    """

    step: float
    image: float

    def total(self, steps: int, images: int) -> float:
        """Return the seconds of some steps and of some tested images."""
        return steps * self.step + images * self.image


def measure_speed(cfg: Config) -> Speed:
    """Time some steps and tests of a config, with loading of the images.

    Nothing is kept of the steps.

    Args:
        cfg (Config): A config that trains, with ``test_pipeline``.
    """
    init_default_scope('mmpretrain')
    model = MODELS.build(copy.deepcopy(cfg.model)).to(get_device())
    wrapper = build_optim_wrapper(model, copy.deepcopy(cfg.optim_wrapper))
    train = copy.deepcopy(cfg.train_dataloader)
    test = copy.deepcopy(train)
    test.dataset.pipeline = cfg.test_pipeline
    model.train()
    step = _time(train, lambda batch: model.train_step(batch, wrapper))
    model.eval()
    with torch.inference_mode():
        tested = _time(test, model.test_step)
    return Speed(step, tested / train.batch_size)


def _time(loader: Any, run: Callable[[Any], Any]) -> float:
    """Return the seconds of a batch, once the work has settled.

    Workers have some batches ready before the first is needed, so these are
    not timed. If already a few images of them take long, the time of a few
    images is scaled.
    """
    batches = iter(Runner.build_dataloader(loader, seed=0))

    def run_some(number: int) -> None:
        batch = next(batches)
        run({key: batch[key][:number] for key in batch})

    number = loader.batch_size
    begin = _now()
    for _ in range(2 * loader.num_workers + 1):
        run_some(FEW)
        if _now() - begin > LEAST_SECONDS:
            number = min(FEW, number)
            break
    begin = _now()
    for i in itertools.count(1):  # the sampler has no end
        run_some(number)
        passed = _now() - begin
        if i >= LEAST_BATCHES and passed > LEAST_SECONDS:
            return passed / i * loader.batch_size / number
    raise AssertionError


def _now() -> float:
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter()

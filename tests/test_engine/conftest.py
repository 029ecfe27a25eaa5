"""A run of a few iterations, in this process."""

import functools
import uuid
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from mmengine.evaluator import BaseMetric
from mmengine.logging import MessageHub
from mmengine.model import BaseModel
from mmengine.optim import AmpOptimWrapper, OptimWrapper, OptimWrapperDict
from mmengine.runner import Runner
from torch.utils.data import Dataset

from tests.test_engine.runs import images, whole
from tests.test_engine.splits import root

__all__ = ['images', 'root', 'whole']  # fixtures


class Numbers(Dataset):
    """A number of samples, the i-th with the value i."""

    def __init__(self, number: int = 8):
        self.number = number

    def __len__(self) -> int:
        return self.number

    def __getitem__(self, index: int) -> dict:
        sample = SimpleNamespace(img_path=f'{index}.png')
        return dict(inputs=torch.tensor([float(index)]), data_samples=sample)


class Linear(BaseModel):
    """Its loss is NaN where the inputs are those of ``nan_at``."""

    def __init__(self, nan_at: float = -1.0):
        super().__init__()
        self.layer = torch.nn.Linear(1, 1)
        self.nan_at = nan_at

    def forward(self, inputs, data_samples=None, mode='tensor'):
        outputs = self.layer(torch.stack(inputs))
        if mode != 'loss':
            return outputs
        poison = torch.where(torch.stack(inputs) == self.nan_at, torch.nan, 1)
        return dict(loss=(poison * outputs).square().mean())


class Scripted(BaseMetric):
    """Scores that are given, one for each epoch of two iterations."""

    def __init__(self, scores: list[float]):
        super().__init__()
        self.scores = scores

    def process(self, data_batch, data_samples):
        self.results.append(0)

    def compute_metrics(self, results):
        iteration = MessageHub.get_current_instance().get_info('iter')
        return dict(score=self.scores[(iteration + 1) // 2 - 1])


class ScaledOptimWrapper(AmpOptimWrapper):
    """Scales the loss as mmengine's does, which asserts a GPU."""

    def __init__(self, optimizer, accumulative_counts=1, **scaler):
        OptimWrapper.__init__(self, optimizer, accumulative_counts)
        self.loss_scaler = torch.amp.GradScaler('cpu', **scaler)
        self._scale_update_param = None

    def optim_context(self, model):
        return OptimWrapper.optim_context(self, model)


def loader(dataset: Dataset, batch_size: int, sampler: dict, **more) -> dict:
    return dict(
        batch_size=batch_size,
        dataset=dataset,
        sampler=sampler,
        collate_fn=dict(type='pseudo_collate'),
        **more,
    )


def train_in(
    folder: Path,
    epochs: int = 3,
    model: BaseModel | None = None,
    checkpoint: dict | None = None,
    resume: bool | str = False,
    work_dir: Path | str = 'work',
    load_from: str | None = None,
    images: int = 8,
    batch_size: int = 4,
    workers: int = 0,
    sampler: str | dict = 'DefaultSampler',
    iters: int | None = None,
    accumulate: int = 1,
    custom_hooks: list | None = None,
    scores: list[float] | None = None,
    optim_wrapper: dict | OptimWrapper | OptimWrapperDict | None = None,
    seed: int | None = 0,
    settings: dict | None = None,
    make_runner: Callable[..., Runner] = Runner,
    **hooks: dict | None,
) -> Runner:
    """Train ``Linear`` in ``folder / work_dir``; returns the runner."""
    torch.manual_seed(0)
    in_order = dict(type='DefaultSampler', shuffle=False)
    if isinstance(sampler, str):
        sampler = dict(type=sampler, shuffle=False)
    validation = {}
    if scores is not None:
        validation = dict(
            val_dataloader=loader(Numbers(), 4, in_order),
            val_cfg=dict(),
            val_evaluator=[Scripted(scores)],
        )
    runner = make_runner(
        model or Linear(),
        work_dir=str(folder / work_dir),
        train_dataloader=loader(
            Numbers(images), batch_size, sampler, num_workers=workers
        ),
        train_cfg=dict(by_epoch=True, max_epochs=epochs)
        if iters is None
        else dict(by_epoch=False, max_iters=iters),
        optim_wrapper=optim_wrapper
        or dict(
            optimizer=dict(type='SGD', lr=0.001),
            accumulative_counts=accumulate,
        ),
        custom_hooks=custom_hooks,
        **validation,
        default_hooks=dict(
            checkpoint=dict(type='mmclip.ReliableCheckpointHook', interval=1)
            | (checkpoint or {}),
            **hooks,
        ),
        resume=resume,
        load_from=load_from,
        randomness=dict(seed=seed),
        experiment_name=uuid.uuid4().hex,  # runs share what is of a name
        **(settings or {}),
    )
    runner.train()
    return runner


@pytest.fixture
def train(tmp_path) -> Callable[..., Runner]:
    """Train in ``tmp_path``; see :func:`train_in`."""
    return functools.partial(train_in, tmp_path)

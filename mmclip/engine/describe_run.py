"""``meta['clip']`` of what a run trains."""

import logging
from collections.abc import Sequence
from typing import Any

from mmengine.logging import print_log
from mmengine.runner import Runner

from mmclip.checkpoint.describe import describe_model, pipeline_of
from mmclip.checkpoint.errors import CheckpointError
from mmclip.checkpoint.meta import Clip


def describe_run(runner: Runner, said: set[str]) -> Clip | None:
    """What a training writes of its model into its checkpoints.

    Args:
        runner (Runner): In training.
        said (set[str]): What was warned of before, and is not again; added
            to.

    Returns:
        dict | None: ``meta['clip']``; None if the model has no backbone of
        ours, or cannot be described, which is said.
    """
    dataset = getattr(runner.train_dataloader, 'dataset', None)
    metainfo = getattr(dataset, 'metainfo', None) or {}
    try:
        return describe_model(
            runner.model, test_pipeline_of(runner), metainfo.get('classes')
        )
    except (CheckpointError, TypeError, ValueError) as error:
        if str(error) not in said:
            said.add(str(error))
            print_log(
                "Checkpoints are written without meta['clip'], which says "
                f'what their weights are: {error}',
                logger='current',
                level=logging.WARNING,
            )
        return None


def test_pipeline_of(runner: Any) -> Sequence[Any] | None:
    """The transforms of a runner's test or, without one, validation set."""
    for name in ('_test_dataloader', '_val_dataloader'):
        pipeline = pipeline_of(getattr(runner, name, None))
        if pipeline is not None:
            return pipeline
    return None

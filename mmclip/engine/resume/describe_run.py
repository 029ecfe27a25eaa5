"""``meta['clip']`` of checkpoints that a run writes and loads."""

import logging
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from mmengine.logging import print_log
from mmengine.runner import BaseLoop, Runner

from mmclip.checkpoint.describe import (
    compare_with_model,
    describe_model,
    pipeline_of,
    unlike_images,
    unlike_model,
)
from mmclip.checkpoint.meta import GRID, OUTPUTS, PREPROCESS, TOWER, Clip
from mmclip.errors import CheckpointError


def describe_run(runner: Runner, said: set[str]) -> Clip | None:
    """Describe a run's model for its checkpoints.

    Returns:
        dict | None: ``meta['clip']``; None if the model has none of our
        backbones, or (with a warning) cannot be described.
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
                "Checkpoints are written without meta['clip'], which "
                f'describes their weights: {error}',
                logger='current',
                level=logging.WARNING,
            )
        return None


def compare_with_run(
    runner: Runner, checkpoint: Mapping[str, Any], path: str
) -> None:
    """Refuse a checkpoint whose metadata describes another model.

    Training that starts from it may use another head, out_type and image
    size; a warning names the first two. Before a test, a warning says if
    images are prepared differently; training warns when it begins.

    Raises:
        CheckpointError: If anything differs; the message names it.
    """
    trains = isinstance(runner._train_loop, BaseLoop)
    starts = trains and not runner._resume
    names = TOWER if starts else (*TOWER, *OUTPUTS, *(GRID if trains else ()))
    clip = compare_with_model(checkpoint, runner.model, path, names)
    if clip and starts:
        if unlike := unlike_model(clip, runner.model, OUTPUTS):
            runner.logger.warning(
                f'{path} was trained for other outputs: {"; ".join(unlike)}.'
            )
    elif not trains:
        warn_of_images(runner)


def warn_of_images(runner: Runner, names: Iterable[str] = PREPROCESS) -> None:
    """Warn if images are not prepared as the weights expect."""
    unlike = unlike_images(runner.model, test_pipeline_of(runner), names)
    if unlike:
        runner.logger.warning(
            'Images are not prepared as the weights expect, which costs '
            f'accuracy: {"; ".join(unlike)} (mean and std for pixels in 0..1; '
            'a data_preprocessor has them times 255).'
        )


def test_pipeline_of(runner: Any) -> Sequence[Any] | None:
    """Return the transforms of a runner's test or else validation set."""
    for name in ('_test_dataloader', '_val_dataloader'):
        pipeline = pipeline_of(getattr(runner, name, None))
        if pipeline is not None:
            return pipeline
    return None

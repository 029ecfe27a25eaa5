"""``meta['clip']`` of what a run trains, and of what it is given."""

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


def compare_with_run(
    runner: Runner, checkpoint: Mapping[str, Any], path: str
) -> None:
    """Refuse a checkpoint that says to be of another model than a runner's.

    A training that starts from it may have another head, out_type and image
    size, and is told of the first two. For a test, images that are prepared
    in another way are warned of; a training does so when it begins.

    Args:
        runner (Runner): About to load it.
        checkpoint (Mapping): As it was read.
        path (str): What errors call it.

    Raises:
        CheckpointError: Naming all that differs.
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
    """Say which values images are prepared with here, and were for weights.

    Args:
        runner (Runner): With a model that has its weights.
        names (Iterable[str]): Of the facts to compare. Defaults to all.
    """
    unlike = unlike_images(runner.model, test_pipeline_of(runner), names)
    if unlike:
        runner.logger.warning(
            'Images are prepared in another way than for the weights, which '
            f'costs accuracy: {"; ".join(unlike)} (mean and std of pixels in '
            '0..1; a data_preprocessor has them times 255).'
        )


def test_pipeline_of(runner: Any) -> Sequence[Any] | None:
    """The transforms of a runner's test or, without one, validation set."""
    for name in ('_test_dataloader', '_val_dataloader'):
        pipeline = pipeline_of(getattr(runner, name, None))
        if pipeline is not None:
            return pipeline
    return None

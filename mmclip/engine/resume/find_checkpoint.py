"""A search for the checkpoint that an interrupted run resumes from."""

import math
import re
import time
from collections.abc import Mapping
from logging import Logger
from pathlib import Path

from mmengine.config import Config

from mmclip.checkpoint.files.paths import check_file
from mmclip.checkpoint.files.reading import OpenedPath, Weights, open_weights
from mmclip.checkpoint.files.run_state import is_step
from mmclip.errors import CheckpointError


def find_newest_checkpoint(
    folder: str | Path, filename_tmpl: str | None, logger: Logger
) -> OpenedPath | None:
    """Find the checkpoint written last that can be resumed from.

    This is not the one with the most iterations, which may be from an earlier
    run in the same folder.

    Returns:
        OpenedPath | None: The file; None if there is none at all.

    Raises:
        CheckpointError: If there are some, but none can be resumed from.
    """
    paths = list_checkpoints(folder, filename_tmpl)
    written, newest, passed_over = {}, None, []
    for path in paths:
        weights, written[path] = _look_at(path)
        if written[path] == max(written.values()):
            newest = weights  # the others are closed
    for path in sorted(paths, key=lambda path: written[path], reverse=True):
        try:
            if newest is None or newest.path != path:
                check_file(path)
                newest = open_weights(path)
            check_resumable(newest.content, str(path))
            newest.check_sums()
        except (CheckpointError, OSError) as error:
            passed_over.append(str(error))
            logger.warning(f'Passed over: {error}')
        else:
            logger.info(f'Resume from {path}.')
            return OpenedPath(newest)
    if passed_over:
        raise CheckpointError(
            f'None of the {len(paths)} checkpoints in {folder} can be resumed '
            f'from; move them away to start from scratch. {passed_over[0]}'
        )
    logger.warning(
        f'Nothing to resume from in {folder}: there is no epoch_N.pth or '
        'iter_N.pth. Training starts from scratch.'
    )
    return None


def has_checkpoints(cfg: Config) -> bool:
    """Tell whether a run of a config has left a checkpoint, good or bad."""
    hook: Mapping = cfg.get('default_hooks', {}).get('checkpoint') or {}
    folder = checkpoint_folder(cfg.work_dir, hook.get('out_dir'))
    return bool(list_checkpoints(folder, hook.get('filename_tmpl')))


def checkpoint_folder(work_dir: str, out_dir: str | None) -> str:
    """Return the folder that mmengine's ``CheckpointHook`` writes to."""
    if out_dir is None or out_dir == work_dir:
        return work_dir
    return f'{out_dir.rstrip("/")}/{Path(work_dir).name}'


def list_checkpoints(
    folder: str | Path, filename_tmpl: str | None
) -> list[Path]:
    """List files named like a run's checkpoints, good or bad."""
    if '://' in str(folder):
        raise CheckpointError(
            f'--resume cannot search {folder}, which is not a local folder: '
            'pass the file, --resume CHECKPOINT.'
        )
    templates = ['epoch_{}.pth', 'iter_{}.pth']
    if filename_tmpl is not None:
        templates.append(filename_tmpl)
    names = re.compile('|'.join(map(as_pattern, templates)))
    return [p for p in Path(folder).glob('*') if names.fullmatch(p.name)]


def as_pattern(filename_tmpl: str) -> str:
    """Make a regular expression for the names that a template gives."""
    return re.sub(r'\\\{[^}]*\\\}', r'\\d+', re.escape(filename_tmpl))


def check_resumable(checkpoint: Mapping, path: str) -> None:
    """Check that a run can resume from a checkpoint."""
    meta, problem = checkpoint.get('meta'), None
    needed = {'meta', 'state_dict', 'optimizer', 'message_hub'}
    if missing := needed - set(checkpoint):
        problem = f'it lacks {", ".join(sorted(missing))}'
    elif not isinstance(meta, Mapping):
        problem = 'its meta is not a dict'
    elif not is_step(meta.get('epoch')) or not is_step(meta.get('iter')):
        problem = "its meta['epoch'] or meta['iter'] is not a whole number"
    elif not isinstance(meta.get('seed'), int | None):
        problem = "its meta['seed'] is not a number"
    elif not isinstance(checkpoint['message_hub'], Mapping):
        problem = 'its message_hub is not a dict'
    if problem is not None:
        raise CheckpointError(
            f'{path} cannot be resumed from: {problem}. To start from its '
            'weights, set load_from.'
        )


def _look_at(path: Path) -> tuple[Weights | None, tuple[float, int]]:
    """Open a checkpoint, and return when and at which iteration it was made.

    Unreadable ones count as the newest, so that they are reported.
    """
    weights = None
    try:
        check_file(path)
        weights = open_weights(path)
        meta = weights.meta
        local = time.mktime(time.strptime(meta['time'], '%Y%m%d_%H%M%S'))
        when = float(meta.get('written', local)), int(meta['iter'])
    except (CheckpointError, OSError, KeyError, TypeError, ValueError):
        when = math.inf, 0
    return weights, when

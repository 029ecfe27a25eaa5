"""Several processes without a GPU."""

import atexit
import gc
import multiprocessing
from datetime import timedelta

import torch
from mmengine.config import Config


def use_gloo_without_gpu(cfg: Config) -> None:
    """Let a distributed run go on CPUs where there is no GPU.

    mmengine selects a GPU whatever the backend, unless the process group
    exists before the runner; and it hands a device number to the model
    wrapper, which gloo refuses. ``env_cfg.dist_cfg.timeout`` is, as in
    mmengine, the seconds after which a process that does not answer is an
    error in the others.
    """
    if cfg.launcher != 'pytorch' or torch.cuda.is_available():
        return
    seconds = cfg.get('env_cfg', {}).get('dist_cfg', {}).get('timeout')
    torch.distributed.init_process_group(
        'gloo', timeout=seconds and timedelta(seconds=seconds)
    )
    atexit.register(_end_gloo_threads)
    wrapper = cfg.get('model_wrapper_cfg') or dict(
        type='MMDistributedDataParallel',
        broadcast_buffers=False,
        find_unused_parameters=cfg.get('find_unused_parameters', False),
    )  # mmengine's defaults
    cfg.model_wrapper_cfg = dict(wrapper, device_ids=None)


def _end_gloo_threads() -> None:
    """Join gloo's threads while there is an interpreter.

    One that lets go of a tensor afterwards aborts the process, and a run that
    is done counts as failed. The group's destructor joins them, and a wrapped
    model, which is part of a cycle, holds the group. Data workers are ended
    before: a loader that is collected with a cycle waits ten seconds for
    them, since the thread that would tell them is gone.
    """
    for worker in multiprocessing.active_children():
        worker.terminate()
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()
    gc.collect()

"""Distributed runs without a GPU."""

import atexit
import gc
import multiprocessing
from datetime import timedelta

import torch
from mmengine.config import Config


def use_gloo_without_gpu(cfg: Config) -> None:
    """Let a distributed run use CPUs if there is no GPU.

    mmengine selects a GPU whatever the backend, unless the process group
    exists before the runner, and it gives the model wrapper a device number,
    which gloo refuses. As in mmengine, ``env_cfg.dist_cfg.timeout`` is the
    number of seconds after which a silent process is an error in the others.
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
    """Join gloo's threads while the interpreter still runs.

    A thread that frees a tensor later aborts the process, so that a finished
    run counts as failed. The group's destructor joins the threads, but a
    wrapped model, part of a reference cycle, keeps the group alive. Data
    workers are ended first: otherwise, collecting their loader in a cycle
    waits ten seconds for them, since the thread that stops them is gone.
    """
    for worker in multiprocessing.active_children():
        worker.terminate()
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()
    gc.collect()

"""Several processes without a GPU."""

import atexit

import torch
from mmengine.config import Config


def use_gloo_without_gpu(cfg: Config) -> None:
    """Let a distributed run go on CPUs where there is no GPU.

    mmengine selects a GPU whatever the backend, unless the process group
    exists before the runner; and it hands a device number to the model
    wrapper, which gloo refuses.
    """
    if cfg.launcher != 'pytorch' or torch.cuda.is_available():
        return
    torch.distributed.init_process_group('gloo')
    # Threads of gloo that still run when Python ends abort the process now
    # and then, and a run that is done would count as failed.
    atexit.register(_leave)
    wrapper = cfg.get('model_wrapper_cfg') or {}
    cfg.model_wrapper_cfg = {
        'type': 'MMDistributedDataParallel',
        **wrapper,
        'device_ids': None,
    }


def _leave() -> None:
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()

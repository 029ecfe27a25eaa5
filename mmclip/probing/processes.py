"""Several processes that probe together."""

import os

import torch
from mmengine.config import Config
from mmengine.dist import init_dist
from mmengine.utils.dl_utils import set_multi_processing

from mmclip.engine.distributed.processes import use_gloo_without_gpu
from mmclip.errors import ArgumentError


def start_processes(cfg: Config) -> None:
    """Join the process group, if there is one, of this machine.

    Raises:
        ArgumentError: If there are several machines: they would write to
            files of which each has its own view.
    """
    if cfg.launcher == 'none':
        return
    if os.environ.get('LOCAL_WORLD_SIZE') != os.environ.get('WORLD_SIZE'):
        raise ArgumentError(
            'Probing supports a single machine: start the processes there.'
        )
    # As mmengine's runner does; its init_dist would start each data worker
    # as a new interpreter.
    workers = (cfg.get('env_cfg') or {}).get('mp_cfg') or {}
    set_multi_processing(**workers, distributed=True)
    use_gloo_without_gpu(cfg)
    if not torch.distributed.is_initialized():
        init_dist('pytorch', backend='nccl')

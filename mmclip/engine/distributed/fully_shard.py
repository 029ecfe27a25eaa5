"""Sharded training (FSDP2) that writes ordinary checkpoints."""

import copy
import time
from collections.abc import Callable
from typing import Any

import mmengine
import torch
from mmengine._strategy import DDPStrategy
from mmengine.device import get_device
from mmengine.dist import broadcast, is_distributed, is_main_process
from mmengine.runner import FlexibleRunner
from mmengine.runner.checkpoint import save_checkpoint
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor

from mmclip.errors import ConfigError
from mmclip.models.vit import VisionTransformer
from mmclip.registry import RUNNERS, STRATEGIES


@RUNNERS.register_module()
class StrategyRunner(FlexibleRunner):
    """mmengine's ``FlexibleRunner``, made to behave like its ``Runner``.

    ``Runner`` calls ``before_run`` first, but ``FlexibleRunner`` only after it
    has loaded a checkpoint: too late for ``mmclip.ReliableCheckpointHook``,
    which finds the file to resume from, and for ``EMAHook``'s averages. Also,
    the epoch and iteration that hooks give for a checkpoint are kept; the best
    one, for example, is written when the next epoch has begun.
    """

    _ran = False
    _meta: dict[str, Any]  # of the checkpoint being written

    def load_or_resume(self) -> None:
        """Load the checkpoint that the config or the hooks name."""
        self.call_hook('before_run')
        self._ran = True
        super().load_or_resume()

    def resume(
        self,
        filename: str,
        resume_optimizer: bool = True,
        resume_param_scheduler: bool = True,
        map_location: str | Callable = 'cpu',
    ) -> None:
        """Resume on the CPU, since a GPU may not hold a whole optimizer.

        Arguments are those of mmengine's runners.
        """
        super().resume(
            filename, resume_optimizer, resume_param_scheduler, map_location
        )

    def save_checkpoint(
        self, *args: Any, meta: dict | None = None, **kwargs: Any
    ) -> None:
        """Write a checkpoint; arguments are those of mmengine's runners."""
        self._meta = dict(meta or {})
        super().save_checkpoint(*args, meta=meta, **kwargs)

    def call_hook(self, fn_name: str, **kwargs: Any) -> None:
        """Call all hooks, ``before_run`` only once."""
        if fn_name == 'before_run' and self._ran:
            return
        if fn_name == 'before_save_checkpoint':
            kwargs['checkpoint']['meta'].update(self._meta)
        super().call_hook(fn_name, **kwargs)


@STRATEGIES.register_module()
class FullyShardStrategy(DDPStrategy):
    """Training with torch's ``fully_shard`` (FSDP2). Experimental.

    It has only been run on CPUs so far.

    Each process keeps its share of the weights, gradients, optimizer state
    and ``EMAHook`` averages; a block of the backbone is gathered while it is
    needed. Names and shapes of parameters and layer-wise learning rate decay
    stay the same. Checkpoints are the same as in data-parallel training:
    either can resume from the other's, on any number of processes with the
    same total batch size.

    It needs ``runner_type='mmclip.StrategyRunner'``, as in
    configs/_base_/fsdp.py.
    """

    def _wrap_model(self, model: nn.Module) -> nn.Module:
        """Shard the blocks of the backbones, then everything else."""
        if not is_distributed():
            raise ConfigError(
                'Sharded training needs a process group, even for one '
                'process: start it with mmclip launch --nproc_per_node '
                'NUMBER_OF_GPUS train CONFIG.'
            )
        device = get_device()
        model = self.convert_model(model.to(device))
        for tensor in model.state_dict().values():
            broadcast(tensor)  # seeds may differ between processes
        mesh = init_device_mesh(device, (self.world_size,))
        for backbone in model.modules():
            if isinstance(backbone, VisionTransformer):
                for layer in backbone.layers:
                    fully_shard(layer, mesh=mesh)
        fully_shard(model, mesh=mesh)
        for module in model.modules():
            module.register_load_state_dict_pre_hook(_shard_on_load)
        # EMAHook copies the model, but torch cannot copy sharded modules.
        model.__deepcopy__ = lambda memo: copy_tensors(model)  # type: ignore
        model.register_forward_hook(_reshard_in_evaluation)
        return model

    def save_checkpoint(
        self,
        filename: str,
        *,
        save_optimizer: bool = True,
        save_param_scheduler: bool = True,
        extra_ckpt: dict | None = None,
        callback: Callable | None = None,
    ) -> None:
        """Gather all shards, in all processes, and write them.

        Arguments are those of mmengine's strategies.
        """
        checkpoint: dict[str, Any] = dict(extra_ckpt or {})
        checkpoint['state_dict'] = self.model.state_dict()
        if save_optimizer and hasattr(self, 'optim_wrapper'):
            checkpoint['optimizer'] = self.optim_state_dict()
        if save_param_scheduler and hasattr(self, 'param_schedulers'):
            checkpoint['param_schedulers'] = self.scheduler_state_dict()
        checkpoint['meta'] = dict(
            checkpoint.get('meta', {}),
            seed=self.seed,
            time=time.strftime('%Y%m%d_%H%M%S'),
            mmengine=mmengine.__version__,
        )
        if callback is not None:
            callback(checkpoint)
        checkpoint = gather(checkpoint)
        if is_main_process():
            save_checkpoint(checkpoint, filename)

    def load_optim_state_dict(self, state_dict: dict) -> None:
        """Keep this process's share of a whole optimizer's state."""
        groups = self.optim_wrapper.param_groups
        params = [param for group in groups for param in group['params']]
        state = {
            index: {
                key: shard_like(params[index], value)
                for key, value in values.items()
            }
            for index, values in state_dict['state'].items()
        }
        super().load_optim_state_dict(dict(state_dict, state=state))


def gather(tree: Any) -> Any:
    """Copy nested dicts and lists, with whole tensors on the CPU.

    All processes take part; only the main process keeps the result.
    """
    if isinstance(tree, DTensor):
        whole = tree.full_tensor()
        return whole.cpu() if is_main_process() else None
    if isinstance(tree, Tensor):
        return tree.cpu()
    if isinstance(tree, list):
        return [gather(value) for value in tree]
    if isinstance(tree, dict):
        copied = copy.copy(tree)  # keeps a state dict's metadata
        copied.update((key, gather(value)) for key, value in tree.items())
        return copied
    return tree


def copy_tensors(module: nn.Module) -> nn.Module:
    """Copy weights and buffers into a tree of plain modules."""
    copied = nn.Module()
    for name, child in module.named_children():
        copied.add_module(name, copy_tensors(child))
    for name, param in module.named_parameters(recurse=False):
        copied.register_parameter(name, nn.Parameter(param.detach().clone()))
    for name, buffer in module.named_buffers(recurse=False):
        persistent = name not in module._non_persistent_buffers_set
        copied.register_buffer(name, buffer.clone(), persistent)
    copied.register_load_state_dict_pre_hook(_shard_on_load)
    return copied


def _shard_on_load(
    module: nn.Module, state_dict: dict, prefix: str, *_: Any
) -> None:
    """Let ``load_state_dict`` take whole tensors."""
    for name, param in module.named_parameters(recurse=False):
        key = f'{prefix}{name}'
        if key in state_dict:  # otherwise a strict load reports it
            state_dict[key] = shard_like(param, state_dict[key])


def shard_like(param: Tensor, given: Any) -> Any:
    """Shard a whole tensor like a parameter of the same shape."""
    if (
        not isinstance(param, DTensor)
        or not isinstance(given, Tensor)
        or isinstance(given, DTensor)
        or given.shape != param.shape
    ):
        return given
    return distribute_tensor(
        given.to(param.device), param.device_mesh, param.placements
    )


def _reshard_in_evaluation(model: Any, *_: Any) -> None:
    """Free the gathered weights that torch keeps for a backward pass.

    EMAHook swaps the shards after validation.
    """
    if not torch.is_grad_enabled():
        model.reshard()

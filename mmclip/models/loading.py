"""What backbones do before and while weights are loaded, and when saved.

The functions with ``prefix`` are for ``register_load_state_dict_pre_hook`` and
``register_state_dict_post_hook``.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from itertools import chain
from typing import Any

import torch
from mmengine.logging import print_log
from torch import nn

from mmclip.errors import CheckpointError
from mmclip.pos_embed import PATCH_GRID, resize_pos_embed, source_grid

CALLER, INIT_CFG = 'caller', 'init_cfg'
_loaded_by: ContextVar[str | None] = ContextVar('loaded_by', default=None)


@contextmanager
def loaded_by(who: str) -> Iterator[None]:
    """Build backbones without drawing the weights of their blocks.

    Drawing 300 million numbers takes seconds. Until they are loaded, the
    blocks compute NaN.

    Args:
        who (str): ``CALLER``, who loads all weights, or ``INIT_CFG``, for
            backbones whose ``init_cfg`` does, by ``mmclip.PretrainedCLIP``.
    """
    token = _loaded_by.set(who)
    try:
        yield
    finally:
        _loaded_by.reset(token)


def blocks_are_loaded(init_cfg: Any) -> bool:
    """Return whether a backbone's blocks need no random weights."""
    if _loaded_by.get() != INIT_CFG or not isinstance(init_cfg, dict):
        return _loaded_by.get() == CALLER
    kind = init_cfg.get('type')
    name = kind if isinstance(kind, str) else getattr(kind, '__name__', '')
    return name.rpartition('.')[2] == 'PretrainedCLIP' and not any(
        part.startswith('layers') for part in init_cfg.get('fresh', ())
    )


def allocate(module: nn.Module) -> None:
    """Give the parameters of a module on 'meta' memory, but no values."""
    device = torch.get_default_device()
    for part in module.modules():
        for name, param in part.named_parameters(recurse=False):
            empty = torch.empty_like(param, device=device)
            part.register_parameter(
                name, nn.Parameter(empty, param.requires_grad)
            )


def mark_unloaded(blocks: nn.Module) -> None:
    """Set biases and norms to NaN, so that no block is used unloaded."""
    with torch.no_grad():
        for param in blocks.parameters():
            if param.ndim == 1:
                param.fill_(torch.nan)


def is_unloaded(blocks: nn.Module) -> bool:
    """Return whether blocks still are as :func:`mark_unloaded` left them."""
    flat = next(param for param in blocks.parameters() if param.ndim == 1)
    return not flat.is_meta and bool(flat.isnan().all())


def refuse_whole_models(
    module: nn.Module, state_dict: dict, prefix: str, *_: Any
) -> None:
    """Refuse a whole model's weights, which mmengine would only warn about.

    Raises:
        CheckpointError: If all of the backbone's weights have the names that
            they have in a whole model.
    """
    whole = f'{prefix}backbone.'
    if not any(key.startswith(whole) for key in state_dict):
        return
    names = chain(module.named_parameters(), module.named_buffers())
    if not any(prefix + name in state_dict for name, _ in names):
        raise CheckpointError(
            f'The keys begin with {whole!r}, but those of a '
            f"{type(module).__name__} do not: add prefix='backbone.' to its "
            "init_cfg, or use mmclip.PretrainedCLIP instead of 'Pretrained'."
        )


def tell_patch_grid(
    module: Any, state_dict: Any, prefix: str, local_metadata: dict
) -> None:
    """Store the grid in the metadata where torch keeps its versions."""
    local_metadata[PATCH_GRID] = list(module.grid)


def resize_pos_embed_on_load(
    module: Any, state_dict: dict, prefix: str, local_metadata: dict, *_: Any
) -> None:
    """Resize a checkpoint's position embedding to the backbone's grid."""
    name = f'{prefix}pos_embed'
    if name not in state_dict or state_dict[name].ndim != 3:
        return  # the caller's strict check reports it
    source = source_grid(
        state_dict[name].shape[1] - module.num_prefix_tokens,
        module.grid,
        local_metadata.get(PATCH_GRID),
        name,
    )
    if source == module.grid:
        return
    print_log(
        f'Resized the position embedding {name} from a {source[0]}x'
        f'{source[1]} to a {module.grid[0]}x{module.grid[1]} patch grid '
        '(bicubic, antialias).',
        logger='current',
    )
    state_dict[name] = resize_pos_embed(
        state_dict[name], source, module.grid, module.num_prefix_tokens
    )

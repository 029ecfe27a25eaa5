"""Hooks that backbones run when their weights are loaded and saved.

They are for ``register_load_state_dict_pre_hook`` and
``register_state_dict_post_hook``.
"""

from itertools import chain
from typing import Any

from mmengine.logging import print_log
from torch import nn

from mmclip.errors import CheckpointError
from mmclip.pos_embed import PATCH_GRID, resize_pos_embed, source_grid


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

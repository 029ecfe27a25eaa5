"""Patch grids of position embeddings, kept with the weights.

``load_state_dict`` sees tensors and the metadata that torch keeps with them.
Our backbones write their grid into that metadata, and so does our reader for
files that have it in ``meta['clip']`` only.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from mmclip.checkpoint.meta import patch_grid, read_clip
from mmclip.checkpoint.state_dict import metadata_of, without_prefix
from mmclip.checkpoint.towers.tower import OTHER
from mmclip.pos_embed import IMAGE_SIZE, PATCH_GRID

_POS_EMBED = 'pos_embed'
# Possible prefixes of the tensors of the tower that meta['clip'] describes.
_WRAPPERS = {'module', 'backbone', '_orig_mod'}


def tell_grid(checkpoint: dict[str, Any], where: str) -> dict[str, Any]:
    """Copy a checkpoint's patch grid to where ``load_state_dict`` looks.

    Args:
        checkpoint (dict): The checkpoint as it was read; changed in place.
        where (str): Its name in errors, such as its path.

    Raises:
        CheckpointError: If its ``meta['clip']`` is malformed.
    """
    clip = read_clip(checkpoint, where)
    state_dict = checkpoint.get('state_dict')
    if not isinstance(state_dict, dict) or not _has_names(state_dict):
        return checkpoint  # refused when it is loaded
    names = [key for key in state_dict if _is_of_the_tower(key)]
    if clip is None and any(told_grid(state_dict, key) for key in names):
        return checkpoint
    grid = patch_grid(clip)
    told = without_prefix(state_dict, '')
    if grid is not None:
        for key in names:
            set_grid(told, grid, key)
    if clip is not None and clip['backbone']['type'] == OTHER:
        for key in state_dict:
            module, is_tower, _ = f'.{key}'.partition('.tower.')
            if is_tower and _WRAPPERS.issuperset(module.split('.')[1:]):
                _tell(told, module[1:], IMAGE_SIZE, clip['img_size'])
    checkpoint['state_dict'] = told
    return checkpoint


def set_grid(
    state_dict: Any, grid: Sequence[int], key: str = _POS_EMBED
) -> None:
    """Record the grid of a position embedding in a state dict, in place.

    Args:
        state_dict (OrderedDict): As :func:`without_prefix` returns it.
        grid (tuple[int, int]): Rows and columns of patches.
        key (str): The position embedding's key. Defaults to ``'pos_embed'``.
    """
    module = key.removesuffix(_POS_EMBED).removesuffix('.')
    _tell(state_dict, module, PATCH_GRID, list(grid))


def told_grid(state_dict: Mapping[str, Any], key: str = _POS_EMBED) -> Any:
    """Return the grid of a position embedding that a state dict records.

    Args:
        state_dict (Mapping): A state dict, with or without torch's metadata.
        key (str): The position embedding's key. Defaults to ``'pos_embed'``.

    Returns:
        The grid, or None if none is recorded.
    """
    module = key.removesuffix(_POS_EMBED).removesuffix('.')
    known = metadata_of(state_dict).get(module)
    return known.get(PATCH_GRID) if isinstance(known, dict) else None


def _tell(state_dict: Any, module: str, name: str, value: Any) -> None:
    known = state_dict._metadata.get(module)
    known = known if isinstance(known, dict) else {}
    state_dict._metadata[module] = known | {name: value}


def _has_names(state_dict: Mapping[Any, Any]) -> bool:
    return all(isinstance(key, str) for key in state_dict)


def _is_of_the_tower(key: str) -> bool:
    *modules, name = key.split('.')
    return name == _POS_EMBED and _WRAPPERS.issuperset(modules)

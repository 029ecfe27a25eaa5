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
    """Copy a checkpoint's patch grid to where ``load_state_dict`` looks."""
    clip = read_clip(checkpoint, where)
    state_dict = checkpoint.get('state_dict')
    if clip is None or not isinstance(state_dict, dict):
        return checkpoint
    if not all(isinstance(key, str) for key in state_dict):
        return checkpoint  # refused when it is loaded
    grid, is_other = patch_grid(clip), clip['backbone']['type'] == OTHER
    checkpoint['state_dict'] = told = without_prefix(state_dict, '')
    for key in state_dict:
        *modules, name = key.split('.')
        if grid and name == _POS_EMBED and _WRAPPERS.issuperset(modules):
            set_grid(told, grid, key)
        module, is_tower, _ = f'.{key}'.partition('.tower.')
        wrappers = module.split('.')[1:]
        if is_other and is_tower and _WRAPPERS.issuperset(wrappers):
            _tell(told, module[1:], IMAGE_SIZE, clip['img_size'])
    return checkpoint


def set_grid(
    state_dict: Any, grid: Sequence[int], key: str = _POS_EMBED
) -> None:
    """Record the grid of a position embedding in a state dict, in place."""
    module = key.removesuffix(_POS_EMBED).removesuffix('.')
    _tell(state_dict, module, PATCH_GRID, list(grid))


def told_grid(state_dict: Mapping[str, Any]) -> Any:
    """Return the grid that a tower's state dict records."""
    known = metadata_of(state_dict).get('')
    return known.get(PATCH_GRID) if isinstance(known, dict) else None


def _tell(state_dict: Any, module: str, name: str, value: Any) -> None:
    known = state_dict._metadata.get(module)
    known = known if isinstance(known, dict) else {}
    state_dict._metadata[module] = known | {name: value}

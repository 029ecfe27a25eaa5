"""The layers of open_clip's and timm's towers, from stem to projection."""

import re
from typing import Any

# Of open_clip's own towers. Without a number: the stem, 0.
_BLOCK = re.compile(r'transformer\.resblocks\.(\d+)\.|layer([1-4])\.(\d+)\.')
_TIMM_BLOCK = re.compile(
    r'(trunk\.)?(layers\.\d+\.(blocks|downsample)|blocks)\.'  # Swin's, others'
)
_TAIL = ('ln_post', 'proj', 'attnpool', 'attn_pool', 'head')


def layers_of(
    tower: Any, *, stages: bool = False
) -> tuple[dict[str, int], int]:
    """Return the layer of each parameter, by its name, and of what follows.

    Layer 0 is the stem; then come the blocks; the last is what follows them.
    Those of timm's models are timm's.

    Args:
        tower (nn.Module): open_clip's or timm's module.
        stages (bool): Count the stages of hierarchical towers instead of
            their blocks. Defaults to False.

    Returns:
        tuple[dict[str, int], int]: The layers, and the last, which holds no
        parameter where nothing follows the blocks, as in PE-Spatial.
    """
    is_timm = hasattr(tower, 'pretrained_cfg')  # or in open_clip's wrapper
    trunk = tower if is_timm else getattr(tower, 'trunk', None)
    if trunk is not None:
        from timm.models._manipulate import group_parameters

        matcher = trunk.group_matcher(coarse=stages)
        layers = {
            name if is_timm else f'trunk.{name}': layer
            for name, layer in group_parameters(
                trunk, matcher, reverse=True
            ).items()
        }
    else:
        layers = _own_layers(tower, stages)
    last = max(layers.values(), default=0)
    for name, _ in tower.named_parameters():
        layers.setdefault(name, last)  # as the projection that open_clip adds
    blocks = {k: v for k, v in layers.items() if _TIMM_BLOCK.match(k)}
    if not blocks:
        return layers, last
    # timm has a final norm in the last block's layer, and its 1.0.21 has EVA's
    # pre-norm behind it.
    last = max(blocks.values()) + 1
    later = {k: last for k, v in layers.items() if v >= last - 1}
    stem = {k: 0 for k in layers if 'norm_pre' in k.split('.')}
    return layers | later | stem | blocks, last


def _own_layers(tower: Any, stages: bool) -> dict[str, int]:
    places: dict[str, tuple[int, ...]] = {}
    for name, _ in tower.named_parameters():
        if name.startswith(_TAIL):
            places[name] = (10**6,)
        elif match := _BLOCK.match(name):
            block, stage, number = match.groups()
            places[name] = (int(block or stage) + 1,)
            if stage and not stages:
                places[name] += (int(number),)
        else:
            places[name] = (0,)
    order = sorted(set(places.values()))
    return {name: order.index(place) for name, place in places.items()}

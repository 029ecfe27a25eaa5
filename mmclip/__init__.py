"""CLIP image encoders (towers) as backbones for every OpenMMLab package.

Importing mmclip is quick, so that commands answer at once. It registers with
mmengine and mmpretrain as soon as these are imported.
"""

from typing import TYPE_CHECKING, Any

from mmclip.post_import import hide_mmcv_lite, when_imported
from mmclip.requirements import check
from mmclip.version import __version__

if TYPE_CHECKING:
    from mmclip.api import load
    from mmclip.from_images import adapt

__all__ = ['__version__', 'adapt', 'load']

check()
# Registers the schemes of checkpoint paths, all read safely.
when_imported('mmengine.runner', 'mmclip.checkpoint.schemes')
# Switches off mmpretrain's multimodal models, before anything uses them.
when_imported('mmpretrain.utils.dependency', 'mmclip.multimodal')
# Registers names for mmpretrain's list_models and get_model.
when_imported('mmpretrain.apis.model', 'mmclip.zoo')
# Registers a head that is one of mmsegmentation's.
when_imported(
    'mmseg.models.decode_heads.decode_head',
    'mmclip.segmentation.zero_shot_seg_head',
)
del when_imported, check


def __getattr__(name: str) -> Any:
    """Import what a notebook needs when it is first used."""
    if name == 'load':
        with hide_mmcv_lite():
            from mmclip.api import load

        return load
    if name == 'adapt':
        from mmclip.from_images import adapt

        return adapt
    raise AttributeError(f'module mmclip has no attribute {name!r}')
